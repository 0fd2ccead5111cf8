"""Files of tensors: safetensors (shards too), npz, torch pickles and CTranslate2, all as {name: Tensor}, none read at once."""

import json
import math
import mmap
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.convert import ctranslate2, pickles
from mmjax.convert.table import Tensor
from mmjax.core.errors import UserError

# safetensors' names. Its package's numpy face refuses bfloat16, so the format (a json header before the bytes) is read here.
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HEADER = 100_000_000  # bytes that a header may have, the limit of the format's own library

# What a folder keeps its tensors in, first found.
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "model.bin",
)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the file of FILES that a folder holds.

    Raises:
      UserError: there is none, it is broken or cut off, or holds anything but tensors.
    """
    if path.is_dir():
        names = [name for name in FILES if (path / name).is_file()]
        if not names:
            raise UserError(f"{path}: no weights there; looked for {', '.join(FILES)}")
        path = path / names[0]
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.name.endswith(".index.json"):
        return sharded(path)
    with path.open("rb") as file:
        start = file.read(64)
    if ctranslate2.is_one(start):
        return ctranslate2.read(path)
    if path.suffix == ".safetensors":
        return safetensors(path)
    if path.suffix == ".npz":
        return npz(path)
    if path.suffix in (".bin", ".pt", ".pth"):
        return pickles.read(path)
    raise UserError(f"{path}: not a known kind of file; read are .safetensors, .npz, .bin, .pt and .pth")


def safetensors(path: Path) -> dict[str, Tensor]:
    """One file, memory-mapped.

    Raises:
      UserError: its header is broken or does not fit its size.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER, size - 8):
            raise UserError(f"{path}: its header claims {length:,} bytes of a file of {size:,}: cut off, or no safetensors")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            table = {name: _described(value) for name, value in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: its header cannot be read ({error}): no safetensors file") from None
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin, found = 8 + length, {}
    for name, (dtype, shape, first, end) in table.items():
        want = dtype.itemsize * math.prod(shape)
        if end - first != want or first < 0:
            raise UserError(f"{path}: {name} {shape} is {want:,} bytes by its shape and {end - first:,} by its place")
        if begin + end > size:
            raise UserError(f"{path}: {name} ends at byte {begin + end:,} of a file of {size:,}: it is cut off")
        found[name] = Tensor(shape, dtype, _view(mapped, dtype, shape, begin + first))
    return found


def sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of all shards that an index file names.

    Raises:
      UserError: a shard or a tensor is missing.
    """
    try:
        weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: no index of shards ({error})") from None
    names = sorted(set(weights.values()))
    if bad := [name for name in names if Path(name).name != name]:
        raise UserError(f"{index}: the shard {bad[0]!r} is not beside it")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise UserError(f"{index}: {len(missing)} of {len(names)} shards are missing, first {missing[0]}")
    shards = {name: safetensors(index.parent / name) for name in names}
    if lost := [name for name, shard in weights.items() if name not in shards[shard]]:
        raise UserError(f"{index}: {lost[0]!r} is not in its shard {weights[lost[0]]}")
    return {name: shards[shard][name] for name, shard in weights.items()}


def npz(path: Path) -> dict[str, Tensor]:
    """Arrays of a numpy archive, each read from it when it is asked for; objects are refused.

    Raises:
      UserError: it is no archive of plain arrays.
    """
    try:
        archive = zipfile.ZipFile(path)
        return _unstacked({name.removesuffix(".npy"): _npy(path, archive, name) for name in archive.namelist()})
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise UserError(f"{path}: no npz archive of plain arrays: {error}") from None


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One file, tensor by tensor in the order given; its bytes depend on names and values alone."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in sorted(tensors):
        end = at + math.prod(tensors[name].shape) * tensors[name].dtype.itemsize
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            file.write(np.ascontiguousarray(tensor.read()).tobytes())


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One archive, tensor by tensor."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, tensor.read(), allow_pickle=False)


def _described(value: Mapping[str, Any]) -> tuple[np.dtype, tuple[int, ...], int, int]:
    first, end = value["data_offsets"]
    shape = tuple(int(side) for side in value["shape"])
    if value["dtype"] not in DTYPES or min(shape, default=1) < 0:
        raise ValueError(f"dtype {value['dtype']}, shape {shape}")
    return DTYPES[value["dtype"]], shape, int(first), int(end)


def _view(mapped: mmap.mmap, dtype: np.dtype, shape: tuple[int, ...], at: int):
    count = math.prod(shape)
    return lambda: np.frombuffer(mapped, dtype, count, at).reshape(shape) if count else np.empty(shape, dtype)


def _unstacked(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """big_vision's scanned layers, encoderblock/x with a leading axis, as its others: encoderblock_0/x, encoderblock_1/x ..."""
    result = {}
    for name, tensor in found.items():
        before, stacked, after = name.partition("/encoderblock/")
        if not stacked:
            result[name] = tensor
            continue
        for layer in range(tensor.shape[0]):
            part = Tensor(tensor.shape[1:], tensor.dtype, lambda tensor=tensor, layer=layer: tensor.read()[layer])
            result[f"{before}/encoderblock_{layer}/{after}"] = part
    return result


def _npy(path: Path, archive: zipfile.ZipFile, name: str) -> Tensor:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in reader:
            raise ValueError(f"{name} is of npy version {version}")
        shape, _, dtype = reader[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    want, there = dtype.itemsize * math.prod(shape), pickles.held(path, archive.getinfo(name))
    if want > there:
        raise ValueError(f"{name} {shape} is {want:,} bytes by its shape and {there:,} at most in the file: cut off or forged")
    # numpy has no name for bfloat16, and stores it as two bytes of no type.
    kind = np.dtype(ml_dtypes.bfloat16) if dtype.kind == "V" and dtype.itemsize == 2 else dtype

    def load() -> np.ndarray:
        try:
            with archive.open(name) as file:
                return np.lib.format.read_array(file, allow_pickle=False).view(kind)
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise UserError(f"{path}: {name} cannot be read: {error}") from None

    return Tensor(shape, kind, load)
