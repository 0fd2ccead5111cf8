"""The map between another project's tensors and ours: a table of rows, read in both directions.

A row says which foreign tensor is which of our leaves, and what lies between them:

    Row("text_model.encoder.layers.{layer}.mlp.fc1.weight", "params/text_encoder/stack/blocks/mlp/fc1/kernel", "linear")

{layer} is the leading axis of our stacked leaf; any other {i} stands for the same number on both sides. Rows are expanded
over the leaves of a model, so that a row for what this model lacks (a class token) says nothing. After that every leaf has
exactly one row and every foreign name exactly one leaf; a foreign tensor beyond them needs a rule that drops it.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.core.errors import UserError, suggest


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that is read when it is asked for.

    Attributes:
      shape, dtype: of the array.
      read: gives it; of a memory-mapped file a view, no copy.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def tensor(array: Any) -> Tensor:
    """A Tensor of what is in memory."""
    array = np.asarray(array)
    return Tensor(array.shape, array.dtype, lambda: array)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
      foreign: pattern of a tensor's name.
      own: pattern of a leaf's path, or of the several leaves that the tensor splits into.
      how: a row of TRANSFORMS.
      heads: for the transforms that need to know them.
    """

    foreign: str
    own: str | tuple[str, ...]
    how: str = "same"
    heads: int = 0


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row as it applies to one foreign tensor of one model: which leaves, and which layer of them."""

    own: tuple[str, ...]
    layer: int | None
    row: Row


def linear(foreign: str, own: str, bias: bool = True) -> list[Row]:
    """PyTorch's Linear."""
    rows = [Row(f"{foreign}.weight", f"{own}/kernel", "linear")]
    return [*rows, Row(f"{foreign}.bias", f"{own}/bias")] if bias else rows


def norm(foreign: str, own: str) -> list[Row]:
    """PyTorch's LayerNorm."""
    return [Row(f"{foreign}.weight", f"{own}/scale"), Row(f"{foreign}.bias", f"{own}/bias")]


def batch_norm(foreign: str, own: str) -> list[Row]:
    """PyTorch's BatchNorm, whose statistics are leaves under "stats"; `own` begins with "params/"."""
    stats = own.replace("params/", "stats/", 1)
    running = [Row(f"{foreign}.running_mean", f"{stats}/mean"), Row(f"{foreign}.running_var", f"{stats}/var")]
    return [*norm(foreign, own), *running]


def _axes(*axes: int) -> tuple[Callable, Callable]:
    back = tuple(np.argsort(axes).tolist())
    return lambda x, heads: [x.transpose(axes)], lambda parts, heads: parts[0].transpose(back)


def _lead(count: int) -> tuple[Callable, Callable]:
    """`count` leading axes of size 1, which are ours no more."""
    return (
        lambda x, heads: [x.reshape(x.shape[count:])],
        lambda parts, heads: parts[0].reshape((1,) * count + parts[0].shape),
    )


def _piled(count: int) -> tuple[Callable, Callable]:
    """Matrices (out, in), or biases, on top of each other."""
    return (
        lambda x, heads: [part.T for part in np.split(x, count)],
        lambda parts, heads: np.concatenate([part.T for part in parts]),
    )


# name -> (a foreign array to ours, ours to a foreign array). Arrays are single layers here.
TRANSFORMS: dict[str, tuple[Callable[[np.ndarray, int], list[np.ndarray]], Callable[[list[np.ndarray], int], np.ndarray]]] = {
    "same": (lambda x, heads: [x], lambda parts, heads: parts[0]),
    "linear": _axes(1, 0),  # (out, in) -> (in, out)
    "conv": _axes(2, 3, 1, 0),  # OIHW -> HWIO
    "conv_1d": _axes(2, 1, 0),  # OIK -> KIO
    "row": _lead(1),
    "rows": _lead(2),
    # A square table: (rows, columns, D) -> (rows x columns, D).
    "grid": (
        lambda x, heads: [x.reshape(-1, x.shape[-1])],
        lambda parts, heads: parts[0].reshape(math.isqrt(len(parts[0])), -1, parts[0].shape[-1]),
    ),
    "qkv": _piled(3),
    # Query and value of three biases, of which the key's is zeros.
    "q0v": (
        lambda x, heads: [x[: len(x) // 3], x[-(len(x) // 3) :]],
        lambda parts, heads: np.concatenate([parts[0], np.zeros_like(parts[0]), parts[1]]),
    ),
    # Flax's attention kernels: (D, N, H) and (N, H, D), biases (N, H).
    "heads_in": (
        lambda x, heads: [x.reshape(*x.shape[:-2], -1)],
        lambda parts, heads: parts[0].reshape(*parts[0].shape[:-1], heads, -1),
    ),
    "heads_out": (
        lambda x, heads: [x.reshape(-1, x.shape[-1])],
        lambda parts, heads: parts[0].reshape(heads, -1, parts[0].shape[-1]),
    ),
}


def expand(table: Iterable[Row], own: Mapping[str, Any]) -> dict[str, Entry]:
    """The entry of every foreign name that a model needs.

    Args:
      table: of a family.
      own: our leaves by path (params/... and stats/...), arrays or shapes.

    Raises:
      RuntimeError: a leaf without a row, or with two; a name with two. The table is wrong then.
    """
    entries: dict[str, Entry] = {}
    covered: dict[str, Row] = {}
    for row in table:
        paths = (row.own,) if isinstance(row.own, str) else row.own
        pattern = _regex(paths[0])
        for path in own:
            if (match := pattern.fullmatch(path)) is None:
                continue
            names = tuple(other.format_map(match.groupdict() | {"layer": "{layer}"}) for other in paths)
            for name in names:
                if name not in own:
                    raise RuntimeError(f"the row of {row.foreign!r} needs {name!r} beside {path!r}")
                if name in covered:
                    raise RuntimeError(f"{name!r} has two rows: {covered[name].foreign!r} and {row.foreign!r}")
                covered[name] = row
            stacked = "{layer}" in row.foreign
            for layer in range(own[path].shape[0]) if stacked else (None,):
                foreign = row.foreign.format_map(match.groupdict() | {"layer": layer})
                if foreign in entries:
                    raise RuntimeError(f"{foreign!r} has two rows")
                entries[foreign] = Entry(names, layer, row)
    if missing := [path for path in own if path not in covered]:
        raise RuntimeError(f"no row for {missing[0]!r}")
    return entries


def read(entries: Mapping[str, Entry], found: Mapping[str, Tensor], own: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Our leaves over foreign tensors, each to be read when it is asked for; shapes are checked now.

    Raises:
      UserError: tensors are missing, or of another shape.
    """
    if missing := [name for name in entries if name not in found]:
        raise UserError(f"{where}: {_some(missing)} missing.{suggest(missing[0], found)}")
    leaves: dict[str, list[tuple[str, Entry, int]]] = {}
    for name, entry in entries.items():
        for part, path in enumerate(entry.own):
            leaves.setdefault(path, []).append((name, entry, part))
    result, wrong = {}, []
    for path, parts in leaves.items():
        dtypes = {found[name].dtype for name, _, _ in parts}
        if len(dtypes) > 1:
            raise UserError(
                f"{where}: the layers of {path} are stored in {', '.join(sorted(map(str, dtypes)))}: store one dtype"
            )
        for name, entry, part in parts:
            shape = _shape(found[name].shape, entry)[part]
            want = tuple(own[path].shape[1:] if entry.layer is not None else own[path].shape)
            if shape != want:
                wrong.append(f"{name} {found[name].shape} gives {shape}, and {path} is {want}")
        result[path] = _leaf([(found[name], entry, part) for name, entry, part in parts], tuple(own[path].shape))
    if wrong:
        raise UserError(
            f"{where}: another shape than its config says: {'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}"
        )
    return result


def write(entries: Mapping[str, Entry], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Foreign tensors of our leaves, each contiguous and read when it is asked for; those of one leaf stand together."""
    last: dict[str, np.ndarray] = {}  # the leaves of the tensor that was read last, of which the next is mostly another layer

    def read(path: str) -> np.ndarray:
        if path not in last:
            last[path] = leaves[path].read()
        return last[path]

    def load(entry: Entry) -> np.ndarray:
        for path in [path for path in last if path not in entry.own]:
            del last[path]
        parts = [read(path) if entry.layer is None else read(path)[entry.layer] for path in entry.own]
        return np.ascontiguousarray(_back(entry, parts))

    def one(entry: Entry) -> Tensor:
        # No array is made to know a shape.
        hollow = [np.broadcast_to(np.int8(0), leaves[path].shape[entry.layer is not None :]) for path in entry.own]
        shape = _back(entry, hollow).shape
        # ascontiguousarray makes a vector of a scalar.
        return Tensor(shape, leaves[entry.own[0]].dtype, lambda: load(entry).reshape(shape))

    return {name: one(entry) for name, entry in entries.items()}


def _back(entry: Entry, parts: list[np.ndarray]) -> np.ndarray:
    return TRANSFORMS[entry.row.how][1](parts, entry.row.heads)


def rest(entries: Mapping[str, Entry], found: Mapping[str, Tensor], drop: Sequence[str], where: str) -> list[str]:
    """The foreign names that no entry reads, every one of which a rule of `drop` (regexes) has to allow.

    Raises:
      UserError: one is not allowed.
    """
    left = [name for name in found if name not in entries]
    if unknown := [name for name in left if not any(re.fullmatch(rule, name) for rule in drop)]:
        raise UserError(f"{where}: {_some(unknown)} of no known meaning.{suggest(unknown[0], entries)}")
    return left


def _leaf(parts: Sequence[tuple[Tensor, Entry, int]], shape: tuple[int, ...]) -> Tensor:
    dtype = parts[0][0].dtype

    def whole() -> np.ndarray:
        def part(tensor: Tensor, entry: Entry, i: int) -> np.ndarray:
            return TRANSFORMS[entry.row.how][0](tensor.read(), entry.row.heads)[i]

        if parts[0][1].layer is None:
            return part(*parts[0])
        stacked = np.empty(shape, dtype)
        for one in parts:
            stacked[one[1].layer] = part(*one)
        return stacked

    return Tensor(shape, dtype, whole)


def _shape(shape: tuple[int, ...], entry: Entry) -> list[tuple[int, ...]]:
    """What a transform makes of a shape, found on an array without memory; what it cannot take stays as it is."""
    try:
        hollow = np.broadcast_to(np.int8(0), shape)
        return [part.shape for part in TRANSFORMS[entry.row.how][0](hollow, entry.row.heads)]
    except ValueError:
        return [shape] * len(entry.own)


def _regex(pattern: str) -> re.Pattern[str]:
    """{i} stands for a number; the same name twice for the same number."""
    seen: set[str] = set()

    def group(match: re.Match) -> str:
        name = match[1]
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else rf"(?P<{name}>\d+)"

    parts = re.split(r"(\{\w+\})", pattern)
    return re.compile("".join(group(found) if (found := re.fullmatch(r"\{(\w+)\}", x)) else re.escape(x) for x in parts))


def _some(names: Sequence[str]) -> str:
    return f"{names[0]!r}{f' and {len(names) - 1} more' if len(names) > 1 else ''} {'are' if len(names) > 1 else 'is'}"
