"""Region features of an object detector, by image: tsv of bottom-up attention and of LXMERT, h5, and an npz an image.

What is in them (Anderson et al. 2018, arXiv:1707.07998): a picture's regions as vectors, with their boxes. Sources of COCO's
pictures take them by `regions={"path": ..., "count": 36}`, and their records then have

- regions float32 (S, F), the features, and boxes float32 (S, 4), x1, y1, x2, y2 as shares of the picture's width and height.
  S is `count`; where a picture has fewer, the rest are zeros: a region whose box has no area is padding.
- region_objects and region_attributes int32 (S,), region_object_scores and region_attribute_scores float32 (S,), where the
  file has them (LXMERT's tsv): what the detector took each for, and how sure it was.

Pictures are found by number: "COCO_val2014_000000000042.jpg", "000000000042" and 42 are one.
"""

import array
import base64
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.index import spans_of
from mmjax.data.sources.source import Record

HEAD = 1 << 13  # bytes of a line read at a time: all columns but the last
EDGE = 1.5  # pixels that a box may stick out by: detectors round
# The columns of a tsv without a header, by their number. What stands in the last two is base64 of float32.
COLUMNS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        *("image_id", "image_h", "image_w", "region_objects", "region_object_scores"),
        *("region_attributes", "region_attribute_scores", "num_boxes", "boxes", "features"),
    ),
}
KINDS = {
    "region_objects": (np.int64, np.int32),  # in the file, in a record
    "region_object_scores": (np.float32, np.float32),
    "region_attributes": (np.int64, np.int32),
    "region_attribute_scores": (np.float32, np.float32),
}
# Names under which npz and h5 have them.
NAMES = {
    "features": ("features", "image_features", "x"),
    "boxes": ("boxes", "norm_bb", "spatial_features", "bbox", "image_bb"),
    "image_w": ("image_w", "image_width"),
    "image_h": ("image_h", "image_height"),
}


class Found(NamedTuple):
    """A picture's regions as a file has them.

    Attributes:
      features: (n, F).
      boxes: (n, 4), in pixels where there is a size, else as shares.
      size: the picture's width and height.
      labels: of KINDS.
    """

    features: Shaped[np.ndarray, "n F"]
    boxes: Shaped[np.ndarray, "n 4"]
    size: tuple[float, float] | None
    labels: Mapping[str, Shaped[np.ndarray, " n"]] = {}


class Regions:
    """Regions by image, ready for a record: see above.

    Args:
      path: a .tsv, .h5 or .hdf5 file, or a folder of npz, one an image; NAMES says what is read of the latter two. h5: a group
        an image, or one array of all (with pos_boxes, first row and last + 1, where pictures differ in number).
      count: S; a picture with more regions is a broken record.
      width: F, checked where it is given.
      ids: of an h5 with one array of all: a json file {image: row}; None takes the dataset "ids" in it. (The pickle that is
        handed around with these files runs whatever it holds when it is read: write it out as json once.)

    Raises:
      UserError: no such file, or one of another kind.
    """

    def __init__(self, path: str, count: int = 36, width: int | None = None, ids: str | None = None):
        path = files.need(path, "regions")
        if count < 1:
            raise UserError(f"regions: count {count} has to be at least 1")
        self._path, self._count, self._width = path, count, width
        if path.lower().endswith(".tsv"):
            self._found = _Tsv(path)
        elif path.lower().endswith((".h5", ".hdf5")):
            self._found = _H5(path, ids)
        elif files.is_folder(path):
            self._found = _Npz(path)
        else:
            raise UserError(f"regions: {path} is no .tsv, no .h5 and no folder of npz files")

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, image: object) -> bool:
        return key(image) in self._found

    def __getitem__(self, image: object) -> Record:
        """The fields of an image's record.

        Raises:
          ValueError: there is no such image, or its regions are not as they should be.
        """
        name = key(image)
        if name not in self._found:
            raise ValueError(f"image {image} has no regions in {self._path}")
        try:
            return self._record(self._found.read(name))
        except ValueError as error:
            raise ValueError(f"regions of image {image}: {error}") from None

    def _record(self, found: Found) -> Record:
        n, count = len(found.boxes), self._count
        features = np.asarray(found.features)
        if features.ndim != 2 or len(features) != n or found.boxes.ndim != 2 or found.boxes.shape[1] < 4:
            raise ValueError(f"features {list(features.shape)} and boxes {list(found.boxes.shape)} are not (n, F) and (n, 4)")
        if self._width is not None and features.shape[1] != self._width:
            raise ValueError(f"features are {features.shape[1]} wide, not {self._width}: set width=")
        if n > count:
            raise ValueError(f"{n} regions, more than count {count}: raise count")
        if not np.isfinite(features).all():
            raise ValueError("a feature is no number")
        record = {"regions": np.zeros((count, features.shape[1]), np.float32), "boxes": np.zeros((count, 4), np.float32)}
        record["regions"][:n], record["boxes"][:n] = features, _shares(found.boxes[:, :4], found.size)
        for name, values in found.labels.items():
            record[name] = np.zeros(count, KINDS[name][1])
            record[name][:n] = values
        return record


def key(image: object) -> str:
    """What an image is found by: its number where its name ends in one, else its name, without folder and suffix."""
    name = re.sub(r"\.[A-Za-z]\w*$", "", str(image).rpartition("/")[2])
    number = re.search(r"\d+$", name)
    return str(int(number[0])) if number else name


def _shares(boxes: Shaped[np.ndarray, "n 4"], size: tuple[float, float] | None) -> Float[np.ndarray, "n 4"]:
    """Boxes as shares of the picture.

    Raises:
      ValueError: one lies outside of it, or has no area.
    """
    boxes = np.asarray(boxes, np.float64)
    sides = np.array([*(size or (1.0, 1.0))] * 2)
    edge = EDGE if size else 1e-2
    if not np.isfinite(boxes).all() or (boxes < -edge).any() or (boxes > sides + edge).any():
        bad = boxes[(~np.isfinite(boxes) | (boxes < -edge) | (boxes > sides + edge)).any(1)][0]
        what = f"a picture of {sides[0]:g} x {sides[1]:g}" if size else "the picture (without its size they are shares of it)"
        raise ValueError(f"box {np.round(bad, 3).tolist()} lies outside of {what}")
    boxes = (boxes / sides).clip(0, 1)
    flat = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if flat.any():
        raise ValueError(f"box {np.round(boxes[flat][0], 4).tolist()} (x1, y1, x2, y2 as shares) has no area")
    return boxes.astype(np.float32)


class _Tsv:
    """A line an image, found by its place: of a line all but the features is read once, and the rest when it is asked for."""

    def __init__(self, path: str):
        starts, lengths, self._rows = array.array("Q"), array.array("I"), {}
        with files.open_binary(path) as file:
            first = file.readline(LIMITS.bytes).rstrip(b"\r\n").split(b"\t")
            self._columns = COLUMNS.get(len(first))
            if self._columns is None:
                raise UserError(
                    f"{path}: its first line has {len(first)} columns: bottom-up attention's tsv has 6, LXMERT's 10"
                )
            try:
                n = int(first[self._columns.index("num_boxes")])
                width = _decoded(first[-1], n, np.float32).size / n
            except ValueError as error:
                raise UserError(f"{path}: its first line has no {', '.join(self._columns)}: {error}") from None
            for start, end, name in _lines(path, file, self._columns, width):
                self._rows[name] = len(starts)
                starts.append(start)
                lengths.append(end - start)
        self._spans = spans_of(path, starts, lengths)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def read(self, name: str) -> Found:
        cells = dict(zip(self._columns, self._spans[self._rows[name]].rstrip(b"\r\n").split(b"\t"), strict=True))
        n = int(cells["num_boxes"])
        arrays = {name: _decoded(cells[name], n, np.float32).reshape(n, -1) for name in ("boxes", "features")}
        labels = {name: _decoded(cells[name], n, kinds[0]) for name, kinds in KINDS.items() if name in cells}
        return Found(arrays["features"], arrays["boxes"], (float(cells["image_w"]), float(cells["image_h"])), labels)


def _decoded(cell: bytes, n: int, dtype: type) -> Shaped[np.ndarray, " _"]:
    """base64 of numbers, some for each of n regions."""
    try:
        content = base64.b64decode(cell, validate=True)
    except ValueError as error:
        raise ValueError(f"{cell[:20]!r}... is no base64: {error}") from None
    if n < 1 or not content or len(content) % (n * np.dtype(dtype).itemsize):
        raise ValueError(f"{len(content)} bytes are no {np.dtype(dtype)} of {n} regions")
    return np.frombuffer(content, dtype)


def _lines(path: str, file: files.File, columns: tuple[str, ...], width: float) -> Iterator[tuple[int, int, str]]:
    """(start, end, image) of each line; the features' length follows from their width, and they are skipped."""
    size, at = file.seek(0, io.SEEK_END), 0
    while at < size:
        cells = _head(file, at, len(columns))
        try:
            n = int(dict(zip(columns, cells, strict=True))["num_boxes"])
        except ValueError:
            raise UserError(f"{path} byte {at}: no line of {', '.join(columns)}: {b' '.join(cells)[:40]!r}") from None
        features = at + sum(len(cell) + 1 for cell in cells[:-1])
        end = _end(file, features, features + 4 * ((int(4 * n * width) + 2) // 3), size)
        yield at, end, key(cells[0].decode("utf-8", "replace"))
        at = end


def _head(file: files.File, at: int, columns: int) -> list[bytes]:
    """The cells of the line that begins at `at`, of the last one the beginning."""
    file.seek(at)
    head = b""
    while head.count(b"\t") < columns - 1 and b"\n" not in head and (more := file.read(HEAD)):
        head += more
    return head.partition(b"\n")[0].split(b"\t")


def _end(file: files.File, start: int, guess: int, size: int) -> int:
    """Where the line ends that `start` is in: at the guess, or, where no line ends there, where reading finds it."""
    file.seek(guess)
    if guess >= size or (after := file.read(2)).startswith(b"\n"):
        return min(size, guess + 1)
    if after == b"\r\n":
        return guess + 2
    file.seek(start)
    return start + len(file.readline(LIMITS.bytes))


class _H5:
    """A group an image, or one array of all."""

    def __init__(self, path: str, ids: str | None):
        self._path, self._lock, self._file = path, threading.Lock(), None
        names = set(self._open())
        self._whole = next((name for name in NAMES["features"] if name in names), None)
        if self._whole is None:
            self._rows = {key(name): name for name in names}
        else:
            self._rows = {key(image): int(row) for image, row in self._ids(ids).items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def read(self, name: str) -> Found:
        with self._lock:
            file, row = self._open(), self._rows[name]
            if self._whole is None:
                return _named({field: np.asarray(values) for field, values in file[row].items()})
            at = slice(*file["pos_boxes"][row]) if "pos_boxes" in file else row
            fields = [field for names in NAMES.values() for field in names if field in file]
            found = {field: np.asarray(file[field][at if file[field].ndim > 1 else row]) for field in fields}
        return _named(found)

    def _ids(self, ids: str | None) -> Mapping[str, int]:
        file = self._open()
        if ids is not None:
            found = json.loads(files.read(files.need(ids, "regions"), LIMITS.bytes))
            if isinstance(found, Mapping):
                return found
            raise UserError(f"regions: {ids} is no json object {{image: row}}")
        if "ids" not in file:
            raise UserError(
                f"regions: {self._path} holds all pictures in one array and no 'ids': name a json {{image: row}} as ids="
            )
        named = [name.decode() if isinstance(name, bytes) else str(name) for name in file["ids"][:]]
        return {name: row for row, name in enumerate(named)}

    def _open(self) -> Any:
        """The file, opened once a process."""
        if self._file is None:
            try:
                import h5py
            except ImportError:
                raise UserError("h5 files need h5py: run `pip install 'mmjax[regions]'`") from None
            try:
                self._file = h5py.File(self._path, "r")
            except OSError as error:
                raise UserError(f"regions: {self._path} is no h5 file: {error}") from None
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


class _Npz:
    """A file an image."""

    def __init__(self, path: str):
        self._rows = {key(name): f"{path}/{name}" for name in files.walk(path) if name.endswith(".npz")}
        if not self._rows:
            raise UserError(f"regions: {path} holds no .npz file")

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def read(self, name: str) -> Found:
        content = io.BytesIO(files.read(self._rows[name], LIMITS.bytes))
        try:
            with np.load(content, allow_pickle=False) as arrays:
                return _named({field: arrays[field] for field in arrays.files})
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{self._rows[name]} is no npz: {error}") from None


def _named(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> Found:
    """What an npz or a group of an h5 holds, by NAMES.

    Raises:
      ValueError: there are no features or no boxes.
    """
    found = {}
    for what, names in NAMES.items():
        name = next((name for name in names if name in arrays), None)
        if name is None and what in ("features", "boxes"):
            raise ValueError(f"no {what} ({', '.join(names)}) among {', '.join(sorted(arrays))}")
        found[what] = None if name is None else arrays[name]
        if what == "boxes":
            shares = name in ("norm_bb", "spatial_features")
    features, boxes = found["features"], found["boxes"]
    if features.ndim == 2 and len(features) != len(boxes) == features.shape[1]:
        features = features.T  # an npz of the grid's code has a column a region
    sized = not shares and found["image_w"] is not None and found["image_h"] is not None
    size = (float(found["image_w"]), float(found["image_h"])) if sized else None
    return Found(features, boxes, size, {name: arrays[name] for name in KINDS if name in arrays})
