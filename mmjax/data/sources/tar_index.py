"""Where the members of tar shards lie: read from their headers once, and kept in one file for the whole set.

A sample is the members of one key: `a/0001.jpg` and `a/0001.seg.png` are the fields "jpg" and "seg.png" of the key
`a/0001` (webdataset's rule: the key ends at the first dot of the file's name). They need not stand side by side.

An index takes 10 bytes a member and 4 a sample, on disk and, as far as it is read, in memory; it is mapped, so that
processes share one copy.
"""

import bisect
import concurrent.futures
import itertools
import json
import os
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8, UInt32

from mmjax.core.errors import UserError
from mmjax.data.sources.shards import File
from mmjax.data.sources.source import Problem
from mmjax.data.sources.tar_headers import BLOCK, Malformed, Member, Read, member

# Extensions that an index tells apart; a byte holds one.
EXTENSIONS = 255
# Members of a kind of problem that are named; all are counted.
NAMED = 10
MAGIC = b"mmjax tar index 1\n"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# Seconds between saves of an index that is being built.
SAVE_EVERY = 60.0


class Shard(NamedTuple):
    """What the headers of one shard say.

    Members stand in the order of their samples. `block` is where a member's data begin, in blocks of 512 bytes; `size`
    is in bytes, at most 2^32 - 1; `gap` blocks of headers stand before the data; `ext` is a place in `extensions`.
    `first` is each sample's first member. `notes`: kind of problem -> [count, the first names].
    """

    block: UInt32[np.ndarray, " m"]
    size: UInt32[np.ndarray, " m"]
    first: UInt32[np.ndarray, " n"]
    gap: UInt8[np.ndarray, " m"]
    ext: UInt8[np.ndarray, " m"]
    extensions: list[str]
    notes: dict[str, list]


COLUMNS = {"block": np.uint32, "size": np.uint32, "first": np.uint32, "gap": np.uint8, "ext": np.uint8}


def split(name: str) -> tuple[str, str] | None:
    """A member's (key, extension in lower case), or None for hidden files and names without an extension."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem and extension else None


def scan(read: Read, size: int) -> Shard:
    """Reads the headers of a shard of `size` bytes.

    What stands before a broken place is kept. Of equal names the first counts.

    Raises:
      UserError: the shard is compressed.
    """
    head = read(0, BLOCK)
    for magic, packing in PACKED.items():
        if head.startswith(magic):
            raise UserError(f"compressed with {packing}, where no member can be found by its place: decompress it first")
    columns, at, last = _Columns(), 0, "its start"
    while True:
        try:
            found = member(read, at)
        except Malformed as error:
            columns.note(error.kind, f"{error}, after {last}")
            break
        if found is None:
            break
        last, at = found.name, found.next
        if found.folder:
            continue
        if found.offset + found.size > size and found.regular:
            columns.note("cut off", found.name)
            break
        columns.add(found)
    return columns.shard()


def _refusal(found: Member, parts: tuple[str, str] | None) -> str:
    """Why a member is left out, or an empty string."""
    if not found.regular:
        return "link, device or other special file"
    if found.name.startswith("/") or ".." in found.name.split("/"):
        return "unsafe name"
    if found.offset >= 2**32 * BLOCK:
        return "beyond 2 TiB of a shard"
    return "" if parts else "hidden file or no extension"


class _Columns:
    """A shard's members as they come."""

    def __init__(self):
        self._rows = {"block": array("I"), "size": array("I"), "gap": array("B"), "ext": array("B"), "sample": array("I")}
        self._samples: dict[str, int] = {}
        self._extensions: dict[str, int] = {}
        self._seen: set[int] = set()
        self._notes: dict[str, list] = {}

    def note(self, kind: str, name: str) -> None:
        entry = self._notes.setdefault(kind, [0, []])
        entry[0] += 1
        if len(entry[1]) < NAMED:
            entry[1].append(name[:300])

    def add(self, found: Member) -> None:
        parts = split(found.name)
        if reason := _refusal(found, parts):
            return self.note(reason, found.name)
        key, extension = parts
        ext = self._extensions.setdefault(extension, len(self._extensions))
        if ext >= EXTENSIONS:
            del self._extensions[extension]
            return self.note(f"more than {EXTENSIONS} extensions", found.name)
        sample = self._samples.setdefault(key, len(self._samples))
        place = sample * 256 + ext
        if place in self._seen:
            return self.note("repeated name", found.name)
        self._seen.add(place)
        values = (found.offset // BLOCK, min(found.size, 2**32 - 1), (found.offset - found.start) // BLOCK, ext, sample)
        for row, value in zip(self._rows.values(), values, strict=True):
            row.append(value)
        return None

    def shard(self) -> Shard:
        rows = {name: np.array(row, row.typecode) for name, row in self._rows.items()}
        sample = rows.pop("sample")
        if (sample[1:] < sample[:-1]).any():  # members of a key stand apart
            order = np.argsort(sample, kind="stable")
            sample, rows = sample[order], {name: row[order] for name, row in rows.items()}
        first = np.searchsorted(sample, np.arange(len(self._samples))).astype(np.uint32)
        return Shard(first=first, extensions=list(self._extensions), notes=self._notes, **rows)


class Window:
    """Reads a shard from its start to its end, `ahead` bytes a time: a request costs more than the bytes it brings."""

    def __init__(self, fetch: Read, size: int, ahead: int):
        self._fetch, self._size, self._ahead = fetch, size, ahead
        self._start, self._data = 0, b""

    def __call__(self, start: int, end: int) -> bytes:
        end = min(end, self._size)
        if start >= end:
            return b""
        if not self._start <= start <= end <= self._start + len(self._data):
            self._start, self._data = start, self._fetch(start, min(self._size, max(end, start + self._ahead)))
        return self._data[start - self._start : end - self._start]


class Index:
    """The index file of a set of shards, mapped.

    Attributes:
      files: the shards in order.
      notes: name of a shard -> its problems (see Shard).
      extensions: what `ext` counts.
      block, size, first, gap, ext: the columns of Shard, all shards in a row; `first` counts from its shard's own start.

    Raises:
      ValueError: the file is no index.
      OSError: it cannot be read.
    """

    def __init__(self, path: Path):
        data = np.asarray(np.memmap(path, np.uint8, "r"))
        begin = len(MAGIC) + 8
        if data[: len(MAGIC)].tobytes() != MAGIC:
            raise ValueError(f"{path} is no index")
        end = begin + int.from_bytes(data[len(MAGIC) : begin].tobytes(), "little")
        head = json.loads(data[begin:end].tobytes())
        self.files = [File(*row) for row in zip(*head["files"], strict=True)]
        self.extensions, self.notes = head["extensions"], head["notes"]
        self._members = [0, *itertools.accumulate(head["members"])]
        self._samples = [0, *itertools.accumulate(head["samples"])]
        for name, dtype in COLUMNS.items():
            rows = self._samples[-1] if name == "first" else self._members[-1]
            begin, end = end, end + rows * np.dtype(dtype).itemsize
            setattr(self, name, data[begin:end].view(dtype))
        if end != len(data):
            raise ValueError(f"{path} is cut off")

    def __len__(self) -> int:
        """How many samples there are."""
        return self._samples[-1]

    def locate(self, sample: int) -> tuple[int, int, int]:
        """A sample's shard, its first member and the one behind its last."""
        shard = bisect.bisect_right(self._samples, sample) - 1
        start, end = self._members[shard], self._members[shard + 1]
        if sample + 1 < self._samples[shard + 1]:
            end = start + int(self.first[sample + 1])
        return shard, start + int(self.first[sample]), end

    def shard(self, number: int) -> Shard:
        """One shard's part."""
        members, samples = (slice(*starts[number : number + 2]) for starts in (self._members, self._samples))
        columns = {name: getattr(self, name)[samples if name == "first" else members] for name in COLUMNS}
        return Shard(extensions=self.extensions, notes=self.notes.get(self.files[number].name, {}), **columns)

    def having(self, extensions: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Of each sample, whether it has a member of one of `extensions`."""
        wanted = np.zeros(256, bool)
        wanted[[self.extensions.index(name) for name in extensions if name in self.extensions]] = True
        result = np.zeros(len(self), bool)
        for number, (start, end) in enumerate(itertools.pairwise(self._samples)):
            if start < end:
                ext = self.ext[self._members[number] : self._members[number + 1]]
                np.logical_or.reduceat(wanted[ext], self.first[start:end], out=result[start:end])
        return result

    def problems(self) -> list[Problem]:
        """What was wrong with the shards, one Problem a kind."""
        found: dict[str, Problem] = {}
        for shard, notes in self.notes.items():
            for kind, (count, names) in notes.items():
                before = found.get(kind, Problem(kind, 0, ()))
                names = (*before.names, *(f"{shard}: {name}" for name in names))[:NAMED]
                found[kind] = Problem(kind, before.count + count, names)
        return list(found.values())


def write(path: Path, shards: Mapping[File, Shard]) -> None:
    """Writes an index beside `path` and renames: a reader never sees half of one, and keeps the one that it has mapped."""
    counts = Counter()
    for shard in shards.values():
        counts.update(dict(zip(shard.extensions, np.bincount(shard.ext, minlength=256).tolist(), strict=False)))
    numbers = {name: i for i, (name, _) in enumerate(counts.most_common(EXTENSIONS))}
    head = {
        "files": list(zip(*shards, strict=True)),
        "samples": [len(shard.first) for shard in shards.values()],
        "members": [len(shard.ext) for shard in shards.values()],
        "extensions": list(numbers),
        "notes": {file.name: shard.notes for file, shard in shards.items() if shard.notes},
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(MAGIC) + 8 + len(text)) % 8)  # so that the columns are aligned
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with open(draft, "wb") as file:
            file.write(MAGIC + len(text).to_bytes(8, "little") + text)
            for name, dtype in COLUMNS.items():
                for shard in shards.values():
                    column = getattr(shard, name)
                    if name == "ext":
                        column = _renumbered(shard, numbers)
                    file.write(column.astype(dtype, copy=False).data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _renumbered(shard: Shard, numbers: Mapping[str, int]) -> UInt8[np.ndarray, " m"]:
    """The shard's `ext` by the numbers of the whole set; rare extensions beyond a byte's worth become EXTENSIONS."""
    table = np.full(256, EXTENSIONS, np.uint8)
    table[: len(shard.extensions)] = [numbers.get(name, EXTENSIONS) for name in shard.extensions]
    return table[shard.ext]


def load(path: Path, files: Sequence[File], scanned: Callable[[File], Shard], threads: int) -> tuple[Index, int]:
    """The index of `files` at `path`, and how many of them were read for it: those that it did not hold as they are now.

    What has been read is saved once a minute, and also when something fails, so that nothing is read twice.

    Args:
      scanned: reads a shard; called in `threads` threads.
    """
    index = opened(path)
    if index is not None and index.files == list(files):
        return index, 0
    held = {} if index is None else _parts(index)
    missing = [file for file in files if file not in held]
    saved = time.monotonic()
    try:
        for file, shard in _scanned(missing, scanned, threads):
            held[file] = shard
            if time.monotonic() - saved > SAVE_EVERY:
                held = _parts(_saved(path, files, held))
                saved = time.monotonic()
    finally:
        index = _saved(path, files, held)
    return index, len(missing)


def opened(path: Path) -> Index | None:
    """The index at `path`, or None where there is none: not even one of another version or a damaged one."""
    try:
        return Index(path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _parts(index: Index) -> dict[File, Shard]:
    return {file: index.shard(i) for i, file in enumerate(index.files)}


def _saved(path: Path, files: Sequence[File], held: Mapping[File, Shard]) -> Index:
    write(path, {file: held[file] for file in files if file in held})
    return Index(path)


def _scanned(files: Sequence[File], scanned: Callable[[File], Shard], threads: int) -> Iterable[tuple[File, Shard]]:
    """Shards as they are read, in any order. After the first failure no other is begun, and those under way are given."""
    from tqdm import tqdm

    failures = []

    def attempt(file: File) -> Shard | None:
        try:
            return None if failures else scanned(file)
        except Exception as error:  # raised below, once what was read meanwhile is safe
            failures.append(error)
            return None

    pool = concurrent.futures.ThreadPoolExecutor(threads, "mmjax-tar-index")
    try:
        waiting = {pool.submit(attempt, file): file for file in files}
        done = concurrent.futures.as_completed(list(waiting))
        for future in tqdm(done, "webdataset: indexing", len(files), unit="shard", delay=1, disable=None):
            file = waiting.pop(future)  # so that what is done is not kept
            if (shard := future.result()) is not None:
                yield file, shard
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        raise failures[0]
