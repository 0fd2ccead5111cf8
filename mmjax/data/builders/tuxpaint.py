"""Tux Paint stamps: pictures with a sentence, its translations, and the sentence spoken.

Source: the Debian package tuxpaint-stamps-default 2022.06.04-1, pinned with its SHA-256 in PACKAGES below; GPL-2.

A row is a stamp that has a sentence: image is its png, or its drawing where it has none, on white, the longer side at
most 256 pixels; text is the English sentence ("A blackbird."), text_zh the Chinese one (zh_CN; empty where it has none),
translations a JSON object {locale: sentence}. Left out of it are those that only repeat the English sentence, and
Tamil, whose 59 lines are in no encoding that is known. label is the top folder of the stamp (CLASSES), id its path.

audio is the sentence spoken in French, the language with the most recordings, as an Ogg Vorbis file; audio_text is that
sentence. Recordings in the other languages are audio_es, audio_ru and so on (LANGUAGES), the few Portuguese ones wav
files. A field is empty where there is no recording; `present` says {"image": true, "audio": whether there is a French
one}. The Lithuanian recordings are letters of the alphabet.

Splits are by sentence, since sentences repeat ("A flower." has six pictures): heldout_captions holds the rows of 20% of the
sentences, `numpy.random.default_rng(0).choice(sorted lower-cased sentences, 20%, replace=False)`; train the others. A row
held out by itself would often have its sentence in training. Sentences that differ only in case are one there; group
is a function of the lower-cased sentence.

tokenizer.json numbers the words of the lower-cased training sentences, English and Chinese; a Chinese character is a word.

Measured: 950 rows with 804 sentences (774 in lower case); train 761, heldout_captions 189 of 155 sentences; 76 locales of 71
languages beside English, 773 rows with Chinese. 7,390 recordings: French 925, Russian and Romanian 918, Bulgarian and Catalan
915, Spanish 888, Belarusian 692, Greek 657, Danish 321, Lithuanian 88, Dutch 67, English 65, Brazilian Portuguese 15,
Malayalam 6. One picture stands there twice, in one split; all recordings are Ogg or wav by their first bytes, and the French
ones decode. 249 rows are letters, coins and signs ("symbols"). Left out: two sentences without a picture, 11 mirrored
pictures without a sentence. The download is 161 MB; prepared in 22 s on one core; 175 MB on disk.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.builders.draw import draw, picture
from mmjax.data.builders.fetch import Deb, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "GPL-2"
ABOUT = "pictures with a sentence, its translations and the sentence spoken, up to 256 pixels; 16 classes"
COUNTS = {"train": 761, "heldout_captions": 189}

PACKAGES = (Deb("tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"),)

SIDE = 256
CLASSES = (
    "animals",
    "clothes",
    "food",
    "hobbies",
    "household",
    "medical",
    "military",
    "naturalforces",
    "people",
    "plants",
    "seasonal",
    "space",
    "sports",
    "symbols",
    "town",
    "vehicles",
)
SPOKEN = "fr"  # under "audio"
LANGUAGES = ("be", "bg", "ca", "da", "el", "en", "es", "lt", "ml", "nl", "pt_BR", "ro", "ru")  # under "audio_..."
BROKEN = {"ta"}
HELDOUT = 0.2
STAMPS = "usr/share/tuxpaint/stamps/"


def build(folder: Path, vocabulary: int = 4096) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    rows = _rows()
    splits = split_rows(rows)
    sound = tfds.features.Tensor(shape=(), dtype=np.object_)  # encoded bytes
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        "present": {"image": np.bool_, "audio": np.bool_},
        **{name: tfds.features.Text() for name in ("text", "text_zh", "translations", "audio_text", "id")},
        **dict.fromkeys(("audio", *(f"audio_{language}" for language in LANGUAGES)), sound),
    }
    write_tfds(folder, "tuxpaint", VERSION, features, splits, __doc__, LICENCE)
    tokens = write_tokenizer(folder, [row[key] for row in splits["train"] for key in ("text", "text_zh")], vocabulary)
    write_manifest(folder, "tuxpaint", PACKAGES, LICENCE, classes=CLASSES, vocabulary=tokens)


def split_rows(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by split, as the module's docstring says."""
    captions = sorted({row["text"].lower() for row in rows})
    drawn = np.random.default_rng(0).choice(captions, round(HELDOUT * len(captions)), replace=False)
    held = set(drawn.tolist())
    return {
        "train": [row for row in rows if row["text"].lower() not in held],
        "heldout_captions": [row for row in rows if row["text"].lower() in held],
    }


def sentences(text: str) -> tuple[str, dict[str, str]]:
    """The English sentence, which is the first line, and {locale: translation} of lines `fr.utf8=Un merle.`"""
    first, *lines = [line.strip() for line in text.splitlines()]
    pairs = [(locale, said.strip()) for locale, found, said in (line.partition(".utf8=") for line in lines) if found]
    return first, {locale: said for locale, said in pairs if said not in ("", first) and locale not in BROKEN}


def _rows() -> list[dict[str, Any]]:
    """All records, in the order of their ids: the path of a stamp without its ending."""
    from tqdm import tqdm

    stamps = _stamps()
    return [_row(name, stamps[name]) for name in tqdm(sorted(stamps), desc="tuxpaint: drawing", unit="", disable=None)]


def _stamps() -> dict[str, dict[str, bytes]]:
    """Path of a stamp with a sentence and a picture -> {"txt", "png" or "svg", and a language: content}."""
    files: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for path, data in members(PACKAGES[0], STAMPS + r".*\.(png|svg|txt|ogg|wav)"):
        stem, ending = path.removeprefix(STAMPS).rsplit(".", 1)
        if ending in ("ogg", "wav"):
            spoken = re.fullmatch(r"(.*)_desc(?:_([a-z]+(?:_[A-Z]+)?))?", stem)
            if spoken is not None:  # the others are noises that a stamp makes
                files[spoken[1]][spoken[2] or "en"] = data
        else:
            files[stem][ending] = data
    return {stem: found for stem, found in files.items() if "txt" in found and ("png" in found or "svg" in found)}


def _row(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    caption, translations = sentences(files["txt"].decode())
    image = picture(files["png"], SIDE) if "png" in files else draw(files["svg"].decode(), SIDE, square=False)
    return {
        "image": image,
        "text": caption,
        "text_zh": translations.get("zh_CN", ""),
        "translations": json.dumps(translations, ensure_ascii=False),
        "audio": files.get(SPOKEN, b""),
        "audio_text": translations.get(SPOKEN, "") if SPOKEN in files else "",
        **{f"audio_{language}": files.get(language, b"") for language in LANGUAGES},
        "present": {"image": True, "audio": SPOKEN in files},
        "label": CLASSES.index(name.split("/")[0]),
        "group": group_of(caption.lower()),
        "id": name,
    }
