"""Torch's pickles of tensors, by a reader that admits tensors and dicts of them, and refuses everything else by its name.

Both formats: the zip archive of today, and the stream of torch before 1.6. Nothing of a file is ever called: a pickle's
names are looked up in ADMITTED, whose functions only note down shapes and strides.
"""

import collections
import io
import math
import mmap
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from mmjax.convert.table import Tensor
from mmjax.core.errors import UserError

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
MAGIC = 0x1950A86A20F9469CFC6C  # the first object of the older format
PROTOCOL = 1001
# What reading a file that is cut off or forged ends in.
BROKEN = (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, EOFError, LookupError, AttributeError, TypeError, ValueError)
BROKEN += (OSError,)


class Storage(NamedTuple):
    """Where a tensor's numbers lie."""

    dtype: np.dtype
    key: str
    count: int


class Strided(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one under "state_dict" or "model".

    Raises:
      UserError: the file is broken, or holds anything but tensors; it names what.
    """
    try:
        return _zip(path) if zipfile.is_zipfile(path) else _stream(path)
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: no pickle of tensors, or cut off ({type(error).__name__}: {error})") from None


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, path: Path):
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        raise UserError(f"{self._path}: the pickle asks for {module}.{name}, which is no tensor: refused, nothing was run")

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(part is not None for part in view):
            raise UserError(f"{self._path}: the pickle refers to {kind!r}, which is no tensor's storage: refused")
        return Storage(dtype, str(key), int(count))


def _tensor(storage: Storage, offset: int, shape: tuple, stride: tuple, *_: Any) -> Strided:
    return Strided(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _parameter(data: Strided, *_: Any) -> Strided:
    return data


# module and name in the pickle -> what stands for it here
ADMITTED: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def held(path: Path, member: zipfile.ZipInfo) -> int:
    """Bytes that a zip's member can hold, whatever the archive claims.

    Deflate makes at most 1,032 bytes of one (zlib, Technical Details).
    """
    most = min(member.compress_size, path.stat().st_size)
    return min(member.file_size, most if member.compress_type == zipfile.ZIP_STORED else 1032 * most)


def _zip(path: Path) -> dict[str, Tensor]:
    archive = zipfile.ZipFile(path)
    heads = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(heads) != 1:
        raise UserError(f"{path}: a zip archive with {len(heads)} data.pkl: no file of torch.save")
    if archive.getinfo(heads[0]).file_size > path.stat().st_size:
        raise UserError(f"{path}: its data.pkl claims {archive.getinfo(heads[0]).file_size:,} bytes, more than the file")
    root = heads[0].removesuffix("data.pkl")
    found = _Reader(io.BytesIO(archive.read(heads[0])), path).load()

    def storage(of: Storage) -> np.ndarray:
        try:
            return np.frombuffer(archive.read(f"{root}data/{of.key}"), of.dtype)
        except BROKEN as error:
            raise UserError(f"{path}: its {of.key} cannot be read: {error}") from None

    sizes = {info.filename: held(path, info) for info in archive.infolist()}
    return _tensors(found, path, storage, lambda of: sizes.get(f"{root}data/{of.key}", 0) // of.dtype.itemsize)


def _stream(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        if _Reader(file, path).load() != MAGIC or _Reader(file, path).load() != PROTOCOL:
            raise UserError(f"{path}: no file of torch.save")
        if _Reader(file, path).load().get("little_endian") is not True:
            raise UserError(f"{path}: written on a big-endian machine: not read")
        found = _Reader(file, path).load()
        keys = _Reader(file, path).load()
        at, end = file.tell(), path.stat().st_size
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in _dict(found, path).values()}
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        count = int.from_bytes(mapped[at : at + 8], "little")
        at += 8
        if key not in dtypes:
            raise UserError(f"{path}: storage {key} belongs to no tensor")
        if at + count * dtypes[key].itemsize > end:
            raise UserError(f"{path}: storage {key} of {count:,} numbers ends beyond the file: it is cut off")
        places[key] = (at, count)
        at += count * dtypes[key].itemsize

    def storage(of: Storage) -> np.ndarray:
        return np.frombuffer(mapped, of.dtype, places[of.key][1], places[of.key][0])

    return _tensors(found, path, storage, lambda of: places.get(of.key, (0, 0))[1])


def _dict(found: Any, path: Path) -> dict[str, Strided]:
    for name in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, no dict of tensors")
    for name, value in found.items():
        if not isinstance(value, Strided):
            raise UserError(f"{path}: {name!r} is a {type(value).__name__}, no tensor: refused")
    return found


def _tensors(
    found: Any, path: Path, storage: Callable[[Storage], np.ndarray], there: Callable[[Storage], int]
) -> dict[str, Tensor]:
    result = {}
    for name, (kept, offset, shape, stride) in _dict(found, path).items():
        last = (
            offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
            if math.prod(shape)
            else offset - 1
        )
        if min((*shape, *stride, offset), default=0) < 0 or last >= there(kept):
            raise UserError(f"{path}: {name} {shape} reaches beyond its storage of {there(kept):,} numbers: cut off or forged")

        def load(name=name, kept=kept, offset=offset, shape=shape, stride=stride, last=last) -> np.ndarray:
            flat = storage(kept)
            if last >= flat.size:  # as_strided would read on in the memory behind it
                raise UserError(
                    f"{path}: {name} {shape} reaches beyond its storage of {flat.size:,} numbers: cut off or forged"
                )
            strides = [step * kept.dtype.itemsize for step in stride]
            return np.lib.stride_tricks.as_strided(flat[offset:], shape, strides, writeable=False)

        result[name] = Tensor(shape, kept.dtype, load)
    return result
