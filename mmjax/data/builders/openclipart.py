"""Open Clip Art: drawings with their titles and keywords, up to 128 pixels.

Source: the Debian package openclipart-svg 1:0.18+dfsg-19, pinned with its SHA-256 in PACKAGES below; public domain. (The
package of the same drawings as png is five times larger and holds one of 168 megapixels; from svg, no drawing is larger
than asked for.)

Of 8,121 files 663 are links to another and 4,630 are of three topics that are mostly parts of desktop themes, plain
shapes and signs: SKIPPED. Of the 2,828 that remain, left out are those whose title is empty (22) or an address, and those
whose title COMMON or more drawings share: it names a collection ("SVG Gradient Collection by Alan Horkan, 2004.", "card",
"Various Cliparts") and not what is seen.

A row: text is the title without the name of its author and underscores, keywords and description what else the drawing
says of itself (keywords parted by ", "; a description where there is one), label the topic (the top folder, CLASSES),
id the path. Titles come in several languages, English and Italian most, and some are a file's name ("moons 03"): expect
noise. image has the drawing's own proportions on white.

Splits are by title, since titles repeat and drawings come in variants: heldout_captions holds the rows of 15% of the
titles, `numpy.random.default_rng(0).choice(sorted bare titles, 15%, replace=False)`; train the others. A bare title is
lower-cased, without final numbers and "(B and W)", so that "Tux 1" and "Tux 2" stay together. group is a function of
the lower-cased title.

tokenizer.json numbers the words of the lower-cased training titles and keywords.

Measured: 1,843 rows with 1,646 titles, 1,842 with keywords, 680 with a description; train 1,565, heldout_captions 278 of 249
titles. Left out and named in manifest.json: 6 drawings white on white, 157 that give the same picture as an earlier one. Of
heldout_captions 7 pictures look nearly like one in train (two are phases of the moon). The download is 25 MB; prepared in
20 s on one core; 11 MB on disk.
"""

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.builders.draw import NotDrawn, draw
from mmjax.data.builders.fetch import Deb, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "public domain"
ABOUT = "clip art with titles and keywords, up to 128 pixels; 19 topics"
COUNTS = {"train": 1565, "heldout_captions": 278}

PACKAGES = (Deb("openclipart-svg", "1:0.18+dfsg-19", "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"),)

SIDE = 128
SKIPPED = ("computer", "shapes", "signs_and_symbols")
COMMON = 8
HELDOUT = 0.15
CLASSES = (
    "animals",
    "buildings",
    "buttons",
    "containers",
    "decorations",
    "education",
    "electronics",
    "food",
    "geography",
    "logos",
    "office",
    "people",
    "plants",
    "recreation",
    "science",
    "special",
    "tools",
    "transportation",
    "unsorted",
)
DRAWINGS = "usr/share/openclipart/svg/"


def build(folder: Path, vocabulary: int = 8192) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    rows, left_out = _rows()
    splits = split_rows(rows)
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        **dict.fromkeys(("text", "keywords", "description", "id"), text),
    }
    write_tfds(folder, "openclipart", VERSION, features, splits, __doc__, LICENCE)
    words = [row[key] for row in splits["train"] for key in ("text", "keywords")]
    tokens = write_tokenizer(folder, words, vocabulary)
    write_manifest(folder, "openclipart", PACKAGES, LICENCE, classes=CLASSES, vocabulary=tokens, left_out=left_out)


def split_rows(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by split, as the module's docstring says."""
    titles = sorted({bare(row["text"]) for row in rows})
    held = set(np.random.default_rng(0).choice(titles, round(HELDOUT * len(titles)), replace=False).tolist())
    return {
        "train": [row for row in rows if bare(row["text"]) not in held],
        "heldout_captions": [row for row in rows if bare(row["text"]) in held],
    }


def describe(svg: str) -> dict[str, str]:
    """Title, keywords and description of a drawing, from the Dublin Core metadata in it; empty where it says none."""
    found = re.search(r"<metadata.*?</metadata>", svg, re.DOTALL)
    said = found[0] if found else ""
    title = re.search(r"<dc:title>([^<]*)</dc:title>", said)
    description = re.search(r"<dc:description[^>]*>([^<]*)</dc:description>", said)
    keywords = [_clean(word) for word in re.findall(r"<rdf:li[^>]*>([^<]*)</rdf:li>", said)]
    return {
        "text": re.sub(r"^Clipart by Nicu Buculei - |\.svg$", "", _clean(title[1])) if title else "",
        # "hash" and HASH(0x89cb06c) were left by the script that wrote the metadata.
        "keywords": ", ".join(word for word in keywords if word and word != "hash"),
        "description": re.sub(r"^HASH\(.*\)$", "", _clean(description[1])) if description else "",
    }


def _rows() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All records in the order of their ids, and {path: reason} of the drawings that are left out for what is seen."""
    from tqdm import tqdm

    drawings = {
        path.removeprefix(DRAWINGS): data.decode("utf-8", "replace")
        for path, data in members(PACKAGES[0], DRAWINGS + rf"(?!({'|'.join(SKIPPED)})/).*\.svg")
    }
    said = {path: describe(svg) for path, svg in drawings.items()}
    shared = Counter(entry["text"].lower() for entry in said.values())
    rows, left_out, seen = [], {}, {}
    for path in tqdm(sorted(drawings), desc="openclipart: drawing", unit="", disable=None):
        entry = said[path]
        if not entry["text"] or "@" in entry["text"] or shared[entry["text"].lower()] >= COMMON:
            continue
        try:
            image = draw(drawings[path], SIDE, square=False)
        except NotDrawn as error:
            left_out[path] = str(error)
            continue
        if (first := seen.setdefault(image, path)) != path:
            left_out[path] = f"the same picture as {first}"
            continue
        label, group = CLASSES.index(path.split("/")[0]), group_of(entry["text"].lower())
        rows.append({"image": image, **entry, "label": label, "group": group, "id": path.removesuffix(".svg")})
    return rows, left_out


def _clean(text: str) -> str:
    return " ".join(html.unescape(text).replace("_", " ").split())


def bare(title: str) -> str:
    """A title in lower case without final numbers and "(B and W)": drawings of one are variants of each other."""
    title = title.lower()
    return re.sub(r"[\s#-]*\d+$", "", re.sub(r"\s*\(b and w\)", "", title)) or title
