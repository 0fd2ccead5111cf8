"""Emoji in four drawing styles with labels in 28 languages, 64 x 64 pixels.

Source, all npm packages, pinned with their SHA-256 in STYLES and LABELS below: @iconify-json/noto 1.2.9 (Noto Emoji;
Apache-2.0), @iconify-json/twemoji 1.2.5 (Twemoji; CC-BY-4.0), @iconify-json/openmoji 1.2.29 (OpenMoji; CC-BY-SA-4.0),
@iconify-json/fluent-emoji-flat 1.2.6 (Fluent Emoji, flat; MIT), emojibase-data 17.0.0 (labels and tags after Unicode's
CLDR; MIT).

A row is one emoji in one style: text is its English label, text_zh the Chinese one, tags and tags_zh are words parted by
", ", translations is a JSON object {language: label} of all 28 languages; style is the style's name, label the Unicode
group (openmoji.CLASSES, 9 classes), group a function of the English label: drawings of an emoji in several styles are
positives of each other. Drawings with a skin tone are left out: 7,635 more that differ from one here in a colour. The
26 regional indicators (letters) have no group and so label -1; the 9 components (hair, tones) are drawn in no style.

There are three ways to hold out, and one training split that serves all of them:

- heldout_rows, by row: 10% of the rows that remain after the two below. Most of their emoji are in train in another
  style: it says how well a known concept is recognised in a style that is known too.
- unseen_concepts, by concept: all rows in the three training styles of 10% of the concepts. A concept is an emoji
  without its sign of gender (openmoji.concept), so that "man running" does not stand in for "woman running".
- unseen_style, by drawing style: all Fluent drawings of the other concepts. Fluent has the fewest emoji (no flags), so
  that training keeps the most.
- unseen_both: Fluent drawings of the unseen concepts.

Drawn by `rng = numpy.random.default_rng(0)`: `rng.choice(sorted concepts, 10%, replace=False)`, then of the rest of the
three styles, in the order of ids, `rng.choice(len(rest), 10%, replace=False)`. The split is not openmoji's: a model that
was trained on that set has seen drawings of these unseen concepts.

tokenizer.json numbers the words of the lower-cased English and Chinese training labels; a Chinese character is a word.

Measured: 7,152 rows (OpenMoji 1,940, Twemoji 1,940, Noto 1,678, Fluent 1,594) of 1,940 emoji, 1,832 concepts; train 4,503,
heldout_rows 500 (of 492 the emoji is in train), unseen_concepts 555 of 183 concepts, unseen_style 1,432, unseen_both 162.
75 pictures are drawn for another emoji too (the flag of a territory is its state's; families in Noto): so 10 rows of
unseen_concepts and 5 of heldout_rows look exactly like one in train. No broken or blank picture. The download is 14 MB;
prepared in 18 s on one core; 21 MB on disk.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.builders.draw import draw, icon_svg
from mmjax.data.builders.fetch import Npm, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.openmoji import CLASSES, concept
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "Noto Apache-2.0, Twemoji CC-BY-4.0, OpenMoji CC-BY-SA-4.0, Fluent MIT, labels MIT and Unicode"
ABOUT = "emoji in four drawing styles, labels in English and Chinese, 64 x 64 pixels; 9 classes"
COUNTS = {"train": 4503, "heldout_rows": 500, "unseen_concepts": 555, "unseen_style": 1432, "unseen_both": 162}

STYLES = {
    "noto": Npm("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "twemoji": Npm("@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    "openmoji": Npm("@iconify-json/openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"),
    "fluent": Npm(
        "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
    ),
}
LABELS = Npm("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
PACKAGES = (*STYLES.values(), LABELS)

SIZE = 64
HELD_STYLE = "fluent"
SHARE = 0.1
GROUPS = (0, 1, 3, 4, 5, 6, 7, 8, 9)  # emojibase's numbers of CLASSES; 2 are components


def build(folder: Path, vocabulary: int = 8192) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    rows = _rows()
    splits = split_rows(rows)
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        **dict.fromkeys(("text", "text_zh", "tags", "tags_zh", "translations", "style", "id"), text),
    }
    write_tfds(folder, "emoji4", VERSION, features, splits, __doc__, LICENCE)
    tokens = write_tokenizer(folder, [row[key] for row in splits["train"] for key in ("text", "text_zh")], vocabulary)
    facts = {"concepts": len({_concept(row) for row in rows}), "classes": CLASSES, "vocabulary": tokens}
    write_manifest(folder, "emoji4", PACKAGES, LICENCE, **facts)


def split_rows(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows (in the order of their ids) by split, as the module's docstring says."""
    rng = np.random.default_rng(0)
    concepts = sorted({_concept(row) for row in rows})
    unseen = set(rng.choice(concepts, round(SHARE * len(concepts)), replace=False).tolist())
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in COUNTS}
    rest = []
    for row in rows:
        if _concept(row) in unseen:
            splits["unseen_both" if row["style"] == HELD_STYLE else "unseen_concepts"].append(row)
        else:
            (splits["unseen_style"] if row["style"] == HELD_STYLE else rest).append(row)
    held = set(rng.choice(len(rest), round(SHARE * len(rest)), replace=False).tolist())
    for i, row in enumerate(rest):
        splits["heldout_rows" if i in held else "train"].append(row)
    return splits


def _concept(row: dict[str, Any]) -> str:
    return concept(row["id"].partition("/")[2])


def _rows() -> list[dict[str, Any]]:
    """All records, in the order of their ids, STYLE/CODE."""
    from tqdm import tqdm

    entries, rows = labels(), []
    for style in STYLES:
        svgs = drawings(style)
        for code, entry in tqdm(entries.items(), desc=f"emoji4: drawing {style}", unit="", disable=None):
            if code in svgs:
                rows.append({"image": draw(svgs[code], SIZE), "style": style, "id": f"{style}/{code}", **entry})
    return sorted(rows, key=lambda row: row["id"])


def drawings(style: str) -> dict[str, str]:
    """Code points without the selector FE0F -> svg, of a style of STYLES."""
    files = {Path(path).stem: json.loads(data) for path, data in members(STYLES[style], r"package/(icons|chars)\.json")}
    return {_plain(code): icon_svg(files["icons"]["icons"][name], files["icons"]) for code, name in files["chars"].items()}


def labels() -> dict[str, dict[str, Any]]:
    """Code points without the selector FE0F -> the fields of a record that its drawing does not decide."""
    tables = {
        path.split("/")[1]: {_plain(entry["hexcode"]): entry for entry in json.loads(data)}
        for path, data in members(LABELS, r"package/[a-z-]+/data\.json")
    }
    english, chinese = tables["en"], tables["zh"]
    return {
        code: {
            "text": entry["label"],
            "text_zh": chinese[code]["label"],
            "tags": ", ".join(entry.get("tags", ())),
            "tags_zh": ", ".join(chinese[code].get("tags", ())),
            "translations": json.dumps({key: tables[key][code]["label"] for key in sorted(tables)}, ensure_ascii=False),
            "label": GROUPS.index(entry["group"]) if entry.get("group") in GROUPS else -1,
            "group": group_of(entry["label"]),
        }
        for code, entry in english.items()
    }


def _plain(code: str) -> str:
    return "-".join(point for point in code.upper().split("-") if point != "FE0F")
