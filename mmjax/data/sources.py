"""Random-access sources of records: `len(source)` and `source[i]` are all that the stream asks of them.

A record is a dict: image (encoded bytes, or uint8 (H, W, 3)), text (str), id (str; its index where absent), group (int
in [0, 2^31); records of equal groups are positives of each other; `group_of` the text where absent) and label (int; -1
or absent where unknown). Records are shared between epochs and threads: nobody writes into one.

Sources travel to worker processes by pickle and may be read by several threads at once.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw

from mmjax.core import keys
from mmjax.core.errors import UserError, suggest
from mmjax.data import store, transforms

Record = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """What the stream asks of a source."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Record: ...


def group_of(text: str) -> int:
    """A group number that is a function of the caption alone (CRC-32, folded to 31 bits).

    Captions that repeat, in one set or in two, are thereby positives of each other. 31 bits, because jax keeps integers
    in 32 unless told otherwise. Two different captions meet in a number once in 2^31 pairs.
    """
    return zlib.crc32(text.encode()) & 0x7FFFFFFF


class Tfds:
    """A split of a tfds folder of ArrayRecord files, read without TensorFlow.

    Args:
      dataset: a prepared set's name under MMJAX_DATA, e.g. "openmoji" or "openmoji/1.0.0".
      path: instead of `dataset`, the folder that holds dataset_info.json.
      split: e.g. "train", or a slice of one: "train[:1000]", "train[90%:]".
      cache: keep each record in memory, decoded, once it is read (a set of small pictures; each worker process keeps
        its own copy).

    Raises:
      UserError: there is no such data set or split.
    """

    def __init__(self, dataset: str | None = None, path: str | None = None, split: str = "train", cache: bool = False):
        if (dataset is None) == (path is None):
            raise UserError("source 'tfds' takes either dataset= (a prepared set's name) or path= (a tfds folder)")
        folder = store.locate(dataset) if dataset is not None else Path(path).expanduser()
        if not (folder / "dataset_info.json").exists():
            raise UserError(f"source 'tfds': no dataset_info.json in {folder}: is it the folder of a version (.../1.0.0)?")
        import tensorflow_datasets as tfds  # a slow import that most sources can do without

        builder = tfds.builder_from_directory(str(folder))
        name = split.split("[")[0]
        if name not in builder.info.splits:
            choices = list(builder.info.splits)
            raise UserError(f"{folder} has no split {name!r}; it has: {', '.join(choices)}.{suggest(name, choices)}")
        features = builder.info.features
        self._texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
        images = {key: tfds.decode.SkipDecoding() for key, f in features.items() if isinstance(f, tfds.features.Image)}
        self._data = builder.as_data_source(split, decoders=images)
        self._cache: dict[int, Record] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self._data):  # what tfds raises there is no IndexError, which ends a for loop
            raise IndexError(i)
        if self._cache is not None and i in self._cache:
            return self._cache[i]
        record = dict(self._data[i])
        for key in self._texts:
            record[key] = record[key].decode()
        if self._cache is not None:
            self._cache[i] = record = transforms.Decode()(record)
        return record

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None if self._cache is None else {}}


class Synthetic:
    """Drawings of one coloured shape each, such as "a small red circle on blue": data for tests and debug runs.

    The label is the shape (order of SHAPES); where the shape stands is not in the caption. There are 240 captions.

    Args:
      n: how many.
      size: pixels a side.
      seed: another seed gives other drawings.
    """

    SHAPES = ("circle", "square", "triangle", "ring")
    COLOURS = {
        "red": (220, 40, 40),
        "green": (40, 160, 60),
        "blue": (50, 80, 220),
        "yellow": (240, 210, 50),
        "black": (20, 20, 20),
        "white": (245, 245, 245),
    }
    SIZES = {"small": 0.3, "large": 0.6}  # of the side

    def __init__(self, n: int = 256, size: int = 32, seed: int = 0):
        self._n, self._size, self._seed = n, size, seed

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < self._n:
            raise IndexError(i)
        rng = keys.rng(self._seed, "synthetic", i)
        label, extent = int(rng.integers(len(self.SHAPES))), list(self.SIZES)[rng.integers(len(self.SIZES))]
        colour, ground = rng.choice(list(self.COLOURS), 2, replace=False)
        side = self.SIZES[extent] * self._size
        x, y = rng.uniform(0, self._size - 1 - side, 2)
        text = f"a {extent} {colour} {self.SHAPES[label]} on {ground}"
        picture = Image.new("RGB", (self._size, self._size), self.COLOURS[ground])
        _draw(ImageDraw.Draw(picture), self.SHAPES[label], (x, y, x + side, y + side), self.COLOURS[colour])
        return {
            "image": np.asarray(picture),
            "text": text,
            "id": f"synthetic-{i}",
            "group": group_of(text),
            "label": label,
        }


def _draw(draw: ImageDraw.ImageDraw, shape: str, box: tuple[float, ...], colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=colour)
    else:
        draw.ellipse(box, outline=colour, width=max(1, round((right - left) / 5)))


class Memory:
    """Records that are already here: a list of dicts."""

    def __init__(self, records: Sequence[Record]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> Record:
        return self._records[i]


SOURCES = {"tfds": Tfds, "synthetic": Synthetic, "memory": Memory}
