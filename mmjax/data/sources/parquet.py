"""Parquet files, such as those of Hugging Face data sets."""

import collections
import contextlib
import itertools
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.columns import Cells, choose, copies, every_caption
from mmjax.data.sources.source import Record

# Rows that are unpacked at a time: a few small bytes of a dictionary page can stand for a large value in each.
ROWS = 16
# Bytes of rows that are unpacked and kept together.
WINDOW = 64 << 20


class _Group(NamedTuple):
    """A row group: its file, its number there, its rows, how many of them are kept together and unpacked at a time."""

    path: str
    number: int
    rows: int
    window: int
    batch: int


class Parquet:
    """Parquet files with a column of images (encoded bytes, or Hugging Face's struct of bytes and path, or file names).

    A row cannot be unpacked without those before it in its row group. What was unpacked is kept, up to `cache` bytes: a set
    that is larger reads quickly in order only, and a shuffled run should read what `mmjax data make` makes of it.

    Args:
      path: a file, a folder of them, or a pattern such as "data/train-*.parquet".
      image, text, label, id: columns; None finds image by its type or name, text (label where there is no text) by name.
      root: the folder that file names are relative to; None is the table's. "/" takes absolute names.
      captions: where a row has a list of several: "sample" gives "texts", of which training draws one a step; "all" gives a
        record per caption, those of an image in one group.
      max_bytes: a larger picture is a broken record.
      cache: bytes of unpacked rows that a process keeps.

    Raises:
      UserError: no such file or column, no parquet, or a column of addresses.
    """

    def __init__(
        self,
        path: str,
        image: str | None = None,
        text: str | None = None,
        label: str | None = None,
        id: str | None = None,
        root: str | None = None,
        captions: str = "sample",
        max_bytes: int = LIMITS.bytes,
        cache: int = 1 << 30,
    ):
        paths, self._all = files.several(path, "parquet", ".parquet"), every_caption("parquet", captions)
        with _opened(paths[0]) as table:
            schema = table.schema_arrow
        typed = [field.name for field in schema if _is_image(field.type)]
        columns = choose(paths[0], schema.names, image or (typed[0] if len(typed) == 1 else None), text, label, id)
        # A window of rows may hold a picture of the limit's size beside others.
        self._columns, self._limit, self._cache = columns.used(), WINDOW + max_bytes, cache
        self._groups = self._index(paths)
        self._firsts = np.cumsum([0, *(group.rows for group in self._groups)])
        self._lock, self._kept, self._cursor = threading.Lock(), collections.OrderedDict(), None
        self._cells, self._ends = Cells(columns, files.plain(root or files.parent(paths[0])), max_bytes), None
        try:
            if self._all and columns.text is not None:
                self._ends = np.cumsum([0, *(copies(row[columns.text]) for row in self._all_rows([columns.text]))])
            if self._groups and not _is_image(schema.field(columns.image).type):
                self._cells.probe([next(self._all_rows(self._columns))])
        except UserError:
            raise
        except (ValueError, OSError) as error:
            raise UserError(f"source 'parquet': {path} cannot be read: {str(error).splitlines()[0]}") from None

    def __len__(self) -> int:
        return int((self._firsts if self._ends is None else self._ends)[-1])

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        if self._ends is None:
            return self._cells.record(self._row(i), i)
        number = int(np.searchsorted(self._ends, i, side="right")) - 1
        return self._cells.record(self._row(number), number, i - int(self._ends[number]))

    def _index(self, paths: Sequence[str]) -> list[_Group]:
        groups, total = [], 0
        for path in paths:
            with _opened(path) as table:
                missing = [name for name in self._columns if name not in table.schema_arrow.names]
                if missing:
                    raise UserError(f"{path} has no column {missing[0]!r}, which {paths[0]} has: one path= per kind of table")
                for number in range(table.metadata.num_row_groups):
                    group, size = table.metadata.row_group(number), 0
                    for k in range(group.num_columns):
                        if group.column(k).path_in_schema.split(".")[0] in self._columns:
                            size += group.column(k).total_uncompressed_size
                    total += size
                    # A dictionary's one value may stand in each row, and is no larger than all that is packed.
                    batch = min(ROWS, max(1, self._limit // max(1, size)))
                    window = max(1, WINDOW * group.num_rows // max(1, size) // batch) * batch
                    groups.append(_Group(path, number, group.num_rows, window, batch))
        if total > self._cache:
            warnings.warn(
                f"parquet: {total >> 20} MiB unpacked are over cache={self._cache >> 20} MiB: a shuffled run unpacks much of a "
                "row group for each record; `mmjax data make` makes it random-access",
                stacklevel=3,
            )
        return [group for group in groups if group.rows]

    def _all_rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for group in self._groups:
            for batch in _batches(group, columns):
                yield from batch.to_pylist()

    def _row(self, i: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._firsts, i, side="right")) - 1
        window, place = divmod(i - int(self._firsts[number]), self._groups[number].window)
        with self._lock:
            batches = self._window(number, window)
        batch, row = divmod(place, self._groups[number].batch)
        return {name: batches[batch].column(name)[row].as_py() for name in self._columns}

    def _window(self, number: int, window: int) -> list[Any]:
        """The batches of a window of a row group, from what is kept or by reading on to it."""
        key, group = (number, window), self._groups[number]
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._cursor is None or self._cursor[0] != number or self._cursor[1] > window:
            self._cursor = (number, 0, _batches(group, self._columns))
        (_, at, batches), self._cursor = self._cursor, None  # a failure leaves none
        for _ in range((window - at) * group.window // group.batch):
            next(batches)
        unpacked, size = [], 0
        for batch in itertools.islice(batches, group.window // group.batch):
            unpacked.append(batch)
            size += batch.nbytes
            if size > self._limit:
                where = f"{group.path} row group {group.number}"
                raise ValueError(f"{where}: {len(unpacked) * group.batch} rows are over the limit of {self._limit} bytes")
        self._cursor, self._kept[key] = (number, window + 1, batches), unpacked
        while len(self._kept) > 1 and sum(_size(batches) for batches in self._kept.values()) > self._cache:
            self._kept.popitem(last=False)
        return unpacked

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_kept": None, "_cursor": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _kept=collections.OrderedDict(), _cursor=None)


def _size(batches: Sequence[Any]) -> int:
    return sum(batch.nbytes for batch in batches)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A pyarrow ParquetFile that reads its columns bit by bit.

    Raises:
      UserError: it is no parquet.
    """
    import pyarrow
    import pyarrow.parquet

    with files.open_binary(path) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path} is no parquet file, or cut off: {str(error).splitlines()[0]}") from None
        yield table


def _batches(group: _Group, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of a group as pyarrow record batches of `group.batch`."""
    with _opened(group.path) as table:
        metadata = table.metadata
        if metadata.num_row_groups <= group.number or metadata.row_group(group.number).num_rows != group.rows:
            raise ValueError(f"{group.path} has changed since this run began to read it")
        yield from table.iter_batches(group.batch, [group.number], columns=columns, use_threads=False)


def _is_image(type: Any) -> bool:
    """Whether cells of this Arrow type are encoded pictures: bytes, or Hugging Face's struct of bytes and path."""
    from pyarrow import types

    if types.is_dictionary(type):
        type = type.value_type
    if types.is_struct(type):
        return any(field.name == "bytes" for field in type)
    return types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type)
