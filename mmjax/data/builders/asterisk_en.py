"""Asterisk's English prompts: sentences that a telephone says, spoken, with their transcripts.

Source: the Debian packages asterisk-core-sounds-en (transcripts) and asterisk-core-sounds-en-wav (sounds) 1.6.1-1, pinned with
their SHA-256 in PACKAGES below; CC-BY-SA-3.0. One voice, 8 kHz, one channel.

audio is the wav file, text its transcript as it is written, id its path ("digits/7"). Left out are sounds that are no
speech, whose transcripts stand in brackets ("[beep]", "(1 second of silence)"), and the one transcript without a sound.

Splits are by transcript, since some are said twice ("Thank you."): two transcripts that differ in case, punctuation and
white space alone are one. heldout_captions holds the rows of 20% of them, `numpy.random.default_rng(0).choice(sorted
transcripts, 20%, replace=False)`, train the others; heldout_captions.txt beside the data lists them. group is a function of the
transcript.

tokenizer.json numbers the words of the lower-cased training transcripts.

Measured: 553 rows of 512 transcripts, 24.3 minutes, half of them at most 1.4 s long, 90% at most 4.7 s, the longest 73 s; train
440, heldout_captions 113 of 102 transcripts. The download is 18 MB; prepared in 4 s on one core; 20 MB on disk.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.core.errors import UserError
from mmjax.data.builders.fetch import Deb, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.clips import read_lines
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "CC-BY-SA-3.0"
ABOUT = "spoken prompts of a telephone with their transcripts, one English voice, 8 kHz"
COUNTS = {"train": 440, "heldout_captions": 113}

TRANSCRIPTS = Deb("asterisk-core-sounds-en", "1.6.1-1", "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50")
SOUNDS = Deb("asterisk-core-sounds-en-wav", "1.6.1-1", "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d")
PACKAGES = (TRANSCRIPTS, SOUNDS)

SAID = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
FOLDER = "usr/share/asterisk/sounds/en_US_f_Allison/"
HELDOUT = 0.2


def build(folder: Path, vocabulary: int = 1024) -> None:
    """Writes the data set, its list of held-out rows, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    rows = _rows()
    splits = split_rows(rows)
    text = tfds.features.Text()
    sound = tfds.features.Tensor(shape=(), dtype=np.object_)  # encoded bytes
    features = {"audio": sound, "text": text, "id": text, "group": np.int64}
    write_tfds(folder, "asterisk_en", VERSION, features, splits, __doc__, LICENCE)
    held = [f"{row['id']}\t{row['text']}\n" for row in splits["heldout_captions"]]
    (folder / "heldout_captions.txt").write_text("id\tcaption\n" + "".join(held), encoding="utf-8")
    tokens = write_tokenizer(folder, [row["text"] for row in splits["train"]], vocabulary)
    write_manifest(folder, "asterisk_en", PACKAGES, LICENCE, transcripts=len({row["group"] for row in rows}), vocabulary=tokens)


def split_rows(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by split, as the module's docstring says."""
    said = sorted({words(row["text"]) for row in rows})
    held = set(np.random.default_rng(0).choice(said, round(HELDOUT * len(said)), replace=False).tolist())
    return {
        "train": [row for row in rows if words(row["text"]) not in held],
        "heldout_captions": [row for row in rows if words(row["text"]) in held],
    }


def words(text: str) -> str:
    """What two transcripts have to share to be one: letters and digits, in lower case ("Thank  you!" -> "thank you")."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower() if c != "'").split())


def _rows() -> list[dict[str, Any]]:
    """All records, in the order of their ids."""
    content = b"".join(data for _, data in members(TRANSCRIPTS, SAID))
    if not content:
        raise UserError(f"asterisk_en: {SAID} is not in the package: it is another than the one that is pinned here")
    said = {line.name: line.text for line in read_lines(gzip.decompress(content).decode(), "core-sounds-en.txt")}
    sounds = {path.removeprefix(FOLDER).removesuffix(".wav"): data for path, data in members(SOUNDS, FOLDER + r".*\.wav")}
    return [
        {"audio": sounds[name], "text": said[name], "id": name, "group": group_of(words(said[name]))}
        for name in sorted(said.keys() & sounds.keys())
    ]
