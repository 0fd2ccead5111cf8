"""Flags of the world's 194 states with facts about each: capital, continent, neighbours, languages.

Source, npm packages, pinned with their SHA-256 in FACTS and FLAGS below: world-countries 5.1.0 (facts; ODbL-1.0),
flag-icons 7.5.0 (flags; MIT).

A row is a state that world-countries calls independent: image is its flag, 128 x 96 pixels whatever the true
proportions; text "the flag of Estonia" and text_zh the name in Chinese; name, capital (three for South Africa, parted by ", "),
continent and region ("Europe", "Northern Europe"), borders (names of the states it touches by land, empty for islands)
and languages (both parted by ", "), code (ISO 3166-1 alpha-3), translations (a JSON object {ISO 639-3 language: name}).
label is the continent, 5 classes; id is the code.

Splits: heldout holds 20% of the states, `numpy.random.default_rng(0).choice(194, 39, replace=False)` in the order of
their codes; train the others. Facts belong to one state, so its row cannot be in both. What a held-out state can show is
what flags share: those of a continent, of a language, of a religion. Its name cannot be known from others, and
retrieval by text on it is at chance. Some flags are nearly the same: Egypt and Iraq, Indonesia and Monaco, Chad and Romania.

tokenizer.json numbers the words of the lower-cased training rows: captions in English and Chinese, and all facts.

Measured: 194 rows; train 155, heldout 39 (Europe 13, Asia 10, Africa 7, Americas 5, Oceania 4). No two pictures are
equal. The download is 7 MB; prepared in 2 s on one core; 0.7 MB on disk.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.builders.draw import draw
from mmjax.data.builders.fetch import Npm, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "facts ODbL-1.0 (world-countries), flags MIT (flag-icons)"
ABOUT = "flags of 194 states with capital, continent, borders and languages, 128 x 96 pixels; 5 classes"
COUNTS = {"train": 155, "heldout": 39}

FACTS = Npm("world-countries", "5.1.0", "329eb6ef4099ffb590219c9beb634bf489a5e4b10d8ab0ac52a58ebf7b9f8495")
FLAGS = Npm("flag-icons", "7.5.0", "c0b80bf0e08006a60f56621d6bc49f8c7131f4d1fef6737a165a673431f4b518")
PACKAGES = (FACTS, FLAGS)

WIDTH, HEIGHT = 128, 96
CLASSES = ("Africa", "Americas", "Asia", "Europe", "Oceania")
WORDS = ("text", "text_zh", "capital", "continent", "region", "borders", "languages")
HELDOUT = 0.2


def build(folder: Path, vocabulary: int = 4096) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    made = splits()
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        **dict.fromkeys((*WORDS, "name", "code", "translations", "id"), text),
    }
    write_tfds(folder, "flags_facts", VERSION, features, made, __doc__, LICENCE)
    tokens = write_tokenizer(folder, [row[key] for row in made["train"] for key in WORDS], vocabulary)
    write_manifest(folder, "flags_facts", PACKAGES, LICENCE, classes=CLASSES, vocabulary=tokens)


def splits() -> dict[str, list[dict[str, Any]]]:
    """The records of each split."""
    rows = _rows()
    held = set(np.random.default_rng(0).choice(len(rows), round(HELDOUT * len(rows)), replace=False).tolist())
    return {
        "train": [row for i, row in enumerate(rows) if i not in held],
        "heldout": [row for i, row in enumerate(rows) if i in held],
    }


def _rows() -> list[dict[str, Any]]:
    """All records, in the order of their codes."""
    ((_, data),) = members(FACTS, r"package/countries\.json")
    countries = sorted(json.loads(data), key=lambda country: country["cca3"])
    flags = {Path(path).stem: svg.decode() for path, svg in members(FLAGS, r"package/flags/4x3/[a-z]{2}\.svg")}
    names = {country["cca3"]: country["name"]["common"] for country in countries}
    return [_row(country, names, flags) for country in countries if country["independent"]]


def _row(country: dict[str, Any], names: dict[str, str], flags: dict[str, str]) -> dict[str, Any]:
    name = country["name"]["common"]
    caption = f"the flag of {name}"
    translations = {language: entry["common"] for language, entry in sorted(country["translations"].items())}
    return {
        "image": draw(flags[country["cca2"].lower()], WIDTH, square=False),
        "text": caption,
        "text_zh": translations["zho"],
        "name": name,
        "capital": ", ".join(country["capital"]),
        "continent": country["region"],
        "region": country["subregion"],
        "borders": ", ".join(sorted(names[code] for code in country["borders"])),
        "languages": ", ".join(sorted(country["languages"].values())),
        "code": country["cca3"],
        "translations": json.dumps(translations, ensure_ascii=False),
        "label": CLASSES.index(country["region"]),
        "group": group_of(caption),
        "id": country["cca3"],
    }
