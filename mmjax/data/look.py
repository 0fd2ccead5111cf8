"""What `data check` notes of one record: sizes, hashes, the script of its captions, and what is wrong with it.

Of a record stay ROW and, per caption, CAPTION: 48 and 24 bytes, so a million captioned pictures take 72 MB. Equal hashes
of 64 bits stand for equal contents: among a hundred million different ones a pair agrees by chance once in 3,700 times.
"""

import collections
import functools
import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from mmjax.core.errors import printable
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.source import Record, Source

ROW = np.dtype(
    [("number", "u8"), ("id", "u8"), ("content", "u8"), ("phash", "u8")]
    + [("width", "u4"), ("height", "u4"), ("seconds", "f4"), ("rate", "u4")]
)
CAPTION = np.dtype([("number", "u8"), ("hash", "u8"), ("characters", "u4"), ("words", "u4")])
LONGEST = 10_000  # characters; a longer caption is a file that went astray
THUMBNAIL = 192  # pixels: the longer side of a card's picture
FRAMES = 6  # of a card's film strip
SOUND = 16_000  # Hz of a card's sound

SIDE, KEPT = 32, 8
# Rows 1 to 8 of the DCT-II of 32 samples: frequencies without the mean.
COSINES = np.cos(np.pi / SIDE * np.outer(np.arange(1, KEPT + 1), np.arange(SIDE) + 0.5)).astype(np.float32)
FLAT = 2.0  # grey levels: a picture whose low frequencies are no stronger has noise for a hash

Counts = dict[str, collections.Counter]


class Seen(NamedTuple):
    """What was noted of a chunk of records.

    Attributes:
      rows: ROW of each record that could be read; no picture has content, phash and sizes 0, no sound seconds 0.
      captions: CAPTION of each caption.
      counts: what -> {name: records}: "fields", "formats" and "modes" of pictures, "scripts" (of captions).
      broken: (kind, id, the error in full).
      cards: of records asked for: {"number", "id", "text" (its first caption), "texts", and what of these can be decoded:
        "image" (H, W, 3), small; "audio" (n,) and "rate"; "video" (F, H, W, 3), small}.
    """

    rows: Shaped[np.ndarray, " n"]
    captions: Shaped[np.ndarray, " m"]
    counts: Counts
    broken: list[tuple[str, str, str]]
    cards: list[dict[str, Any]]


def look(source: Source, shown: frozenset[int], numbers: Iterable[int]) -> Seen:
    """Reads and decodes records; a work of crew.Crew.

    Args:
      shown: the numbers of those that a card is wanted of.
    """
    rows, captions, broken, cards = [], [], [], []
    counts: Counts = collections.defaultdict(collections.Counter)
    for number in numbers:
        name = f"#{number}"
        try:
            record = {"id": name, **source[number]}
            name = str(record["id"])
            counts["fields"].update(record.keys())
            said = captions_of(record)
        except Exception as error:  # whatever a file can do to a reader
            broken.append(trouble("record", name, error))
            continue
        text = said[0] if said else str(record.get("label", ""))
        card = {"number": number, "id": name, "text": text, "texts": said}
        row = np.zeros((), ROW)
        row["number"], row["id"] = number, hash64(name.encode())
        for field, examine in EXAMINE.items():
            if field in record and record.get("present", {}).get(field, True):
                decoder = _decoder(field)  # a package that is missing stops the check
                try:
                    card |= examine(decoder, record, row, counts)
                except Exception as error:
                    broken.append(trouble(field, name, error))
        rows.append(row)
        for text in said:
            captions.append((number, hash64(text.encode("utf-8", "surrogatepass")), len(text), len(text.split())))
            counts["scripts"].update(scripts(text))
            broken += [(f"caption: {what}", name, f"{text[:80]!r}") for what in wrong_with(text)]
        if number in shown:
            cards.append(card)
    return Seen(np.array(rows, ROW), np.array(captions, CAPTION), dict(counts), broken, cards)


def captions_of(record: Record) -> list[str]:
    """The record's captions: "texts", else "text", else its "question" with the first of its answers; or none.

    Raises:
      TypeError: they are no strings.
    """
    asked = [" ".join([record["question"], *record.get("answers", ())[:1]])] if "question" in record else []
    texts = list(record["texts"]) if "texts" in record else [record["text"]] if "text" in record else asked
    texts = [text.decode() if isinstance(text, bytes) else text for text in texts]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption is no string")
    return texts


def wrong_with(text: str) -> list[str]:
    """What no caption should be: empty, endless, with NUL or replacement characters, or UTF-8 that was read as Latin-1."""
    found = [] if text.strip() else ["empty"]
    found += ["longer than 10,000 characters"] * (len(text) > LONGEST)
    found += ["holds a NUL character"] * ("\0" in text)
    found += ["holds U+FFFD, which stands for undecodable bytes"] * ("\ufffd" in text)
    if not text.isascii():
        for encoding in ("latin-1", "cp1252"):
            try:
                text.encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            found.append("UTF-8 that was read as Latin-1")
            break
    return found


def scripts(text: str) -> set[str]:
    """The scripts of its letters, by the first word of their Unicode names: {"Latin", "Han"}; {"no letters"} where none is."""
    return {name for c in set(text) if (name := _script(c))} or {"no letters"}


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    first = unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0]
    return "Han" if first in ("CJK", "KANGXI") else first.capitalize()


def phash(picture: UInt8[np.ndarray, "_ _ 3"]) -> int:
    """A perceptual hash of 64 bits: rescaled and slightly altered copies differ in few of them. 0 for a picture without detail.

    Grey, 32 x 32 pixels, DCT-II; of the 8 x 8 lowest frequencies without the means, which lie above their median
    (Zauner 2010, section 3.2.2; phash.org).
    """
    grey = Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    low = COSINES @ np.asarray(grey, np.float32) @ COSINES.T / (SIDE * SIDE / 4)
    if np.abs(low).max() < FLAT:
        return 0
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def hash64(content: bytes) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def trouble(where: str, name: str, error: Exception) -> tuple[str, str, str]:
    """(kind, id, the error in full): the kind is the error without what differs from file to file."""
    text = printable(re.sub(" at 0x[0-9a-f]+", "", " ".join(f"{type(error).__name__}: {error}".split()))[:300])
    kind = re.sub(r"(['\"]).*?\1|(?<!\w)/\S+|[\w/+-]+\.\w{1,5}\b", "...", text)  # quoted words, paths, file names
    kind = re.sub(r"\b[0-9]+\b", "N", kind)
    return f"{where}: {kind}", name, text


def _image(decoder: Any, record: Record, row: Any, counts: Counts) -> dict[str, Any]:
    encoded = record["image"]
    if isinstance(encoded, np.ndarray):
        row["content"] = hash64(repr(encoded.shape).encode() + encoded.tobytes())
        counts["formats"]["array"] += 1
    else:
        row["content"] = hash64(encoded)
        _count_format(encoded, counts)
    picture = np.asarray(decoder({"image": encoded})["image"])
    row["height"], row["width"] = picture.shape[:2]
    row["phash"] = phash(picture)
    return {"image": _thumbnail(picture)}


def _audio(decoder: Any, record: Record, row: Any, counts: Counts) -> dict[str, Any]:
    encoded = record["audio"]
    if isinstance(encoded, bytes):
        row["content"] = hash64(encoded)
        import soundfile

        with soundfile.SoundFile(io.BytesIO(encoded)) as sound:
            row["rate"] = sound.samplerate
            counts["formats"][f"{sound.format} {sound.channels} ch"] += 1
    else:
        row["content"], row["rate"] = hash64(np.asarray(encoded["samples"]).tobytes()), encoded["rate"]
        counts["formats"]["samples"] += 1
    sound = decoder({"audio": encoded})
    row["seconds"] = len(sound["audio"]) / sound["rate"]
    return {"audio": sound["audio"], "rate": sound["rate"]}


def _video(decoder: Any, record: Record, row: Any, counts: Counts) -> dict[str, Any]:
    video = record["video"]
    if isinstance(video, np.ndarray):
        encoded = video.tobytes()
    else:
        encoded = video if isinstance(video, bytes) else files.read(str(video), LIMITS.bytes)
    row["content"] = hash64(encoded)
    frames = decoder({"video": video if isinstance(video, np.ndarray) else encoded}, np.random.default_rng(0))["video"]
    row["height"], row["width"] = frames.shape[1:3]
    row["phash"] = phash(frames[len(frames) // 2])
    counts["formats"]["array" if isinstance(video, np.ndarray) else _container(encoded)] += 1
    return {"video": np.stack([_thumbnail(frame) for frame in frames])}


EXAMINE = {"image": _image, "audio": _audio, "video": _video}


@functools.cache
def _decoder(field: str) -> Any:
    """The transform that training decodes the field with; made once a process."""
    from mmjax.data.transforms import audio, image, video

    if field == "image":
        return image.Decode()
    return audio.DecodeAudio(SOUND) if field == "audio" else video.Frames({}, FRAMES)


def _count_format(encoded: bytes, counts: Counts) -> None:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded)) as picture:  # of its size
            counts["formats"][picture.format] += 1
            counts["modes"][picture.mode] += 1
    except Exception:  # what Pillow does not know; the decoder says whether it is readable
        counts["formats"]["SVG" if b"<svg" in encoded[:4096] else "unknown"] += 1


def _container(encoded: bytes) -> str:
    """A video file's kind, by its first bytes."""
    head = encoded[:12]
    if head[4:8] == b"ftyp":
        return "MP4"
    riff = head[8:12].decode("latin-1").strip()
    kinds = {b"\x1aE\xdf\xa3": "Matroska/WebM", b"GIF8": "GIF", b"\x89PNG": "PNG", b"RIFF": riff}
    return kinds.get(head[:4], "unknown")


def _thumbnail(picture: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """A copy of at most THUMBNAIL pixels a side."""
    small = Image.fromarray(picture)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(small)
