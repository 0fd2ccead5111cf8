"""The members of a set of tar shards, read by their places, and where the index of these places is kept."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmjax.core.errors import UserError
from mmjax.data import store
from mmjax.data.sources import files, shards, tar_index
from mmjax.data.sources.shards import File
from mmjax.data.sources.tar_headers import BLOCK, Malformed, Member, member
from mmjax.data.sources.tar_index import Index, Shard, Window

# Bytes of other members that a read may bring along if it saves a second one.
SLACK = 64 << 10
# How an index is built: bytes a read, and reads at a time. A bucket's request takes its time, whatever it brings.
DISK, BUCKET = (8 << 10, 8), (4 << 20, 32)
# Shards that are kept open.
HANDLES = 128


class Content(NamedTuple):
    """A member that was read: its name is its key, a dot and its extension, which here is in lower case."""

    name: str
    key: str
    extension: str
    data: bytes


class Members:
    """Tar shards whose members are read by their rows in an index, by several threads and in several processes.

    Args:
      paths: what names the shards (`shards.named`), of `files.plain`.
      index: a folder for the index file; by default beside the shards, or under MMJAX_DATA/index.
      max_bytes: a larger member is not read.

    Attributes:
      index: the Index; made or brought up to date when this is built.

    Raises:
      UserError: shards are missing, unreadable or compressed.
    """

    def __init__(self, paths: Sequence[str], index: str | None, max_bytes: int):
        self._paths = shards.named(paths, ".tar")
        self._base = files.parent(self._paths[0]) + "/"
        self._max_bytes = max_bytes
        self._handle = functools.lru_cache(HANDLES)(_Handle)
        # Relative names, so that an index beside the shards is right wherever the folder is mounted.
        listed = shards.listed(self._paths)
        self.files = [file._replace(name=file.name.removeprefix(self._base)) for file in listed]
        self._index_path = self._indexed(paths, index)
        self.index = Index(self._index_path)

    def name(self, shard: int) -> str:
        """A shard's name from the folder of the first one on."""
        return self.files[shard].name

    def read(self, shard: int, rows: Iterable[int]) -> dict[int, Content]:
        """Row -> the member. Neighbours are read at once.

        Raises:
          ValueError: a member is too large, or not there.
        """
        spans = {row: self._span(shard, row) for row in rows}
        first, last = min(start for start, _ in spans.values()), max(end for _, end in spans.values())
        if last - first <= sum(end - start for start, end in spans.values()) + SLACK:
            whole = memoryview(self._fetch(shard, first, last))
            data = {row: whole[start - first : end - first] for row, (start, end) in spans.items()}
        else:
            data = {row: memoryview(self._fetch(shard, *span)) for row, span in spans.items()}
        return {row: self._checked(shard, row, content) for row, content in data.items()}

    def member(self, shard: int, row: int) -> str:
        """A member's name.

        Raises:
          ValueError: it is not there.
        """
        start, block = self._start(row), int(self.index.block[row])
        return self._parsed(shard, memoryview(self._fetch(shard, start, block * BLOCK))).name

    def _start(self, row: int) -> int:
        return (int(self.index.block[row]) - int(self.index.gap[row])) * BLOCK

    def _span(self, shard: int, row: int) -> tuple[int, int]:
        size = int(self.index.size[row])
        if size > self._max_bytes:
            name = self.member(shard, row)
            raise ValueError(f"{self.name(shard)}: {name} has {size} bytes, over the limit of {self._max_bytes} (max_bytes)")
        return self._start(row), int(self.index.block[row]) * BLOCK + size

    def _checked(self, shard: int, row: int, content: memoryview) -> Content:
        """A member that was read with its headers, once they say what the index does."""
        found = self._parsed(shard, content)
        parts = tar_index.split(found.name)
        start = int(self.index.gap[row]) * BLOCK
        if parts is None or found.offset != start or start + found.size != len(content):
            raise ValueError(self.changed(shard))
        return Content(found.name.removeprefix("./"), *parts, bytes(content[start:]))

    def _parsed(self, shard: int, content: memoryview) -> Member:
        try:
            found = member(lambda start, end: bytes(content[start:end]), 0)
        except Malformed:
            found = None
        if found is None:
            raise ValueError(self.changed(shard))
        return found

    def changed(self, shard: int) -> str:
        """What to say of a shard that does not hold what its index says."""
        return f"{self.name(shard)} has changed since it was indexed: a new run indexes it anew"

    def _fetch(self, shard: int, start: int, end: int) -> bytes:
        return self._bytes(self._paths[shard], start, end)

    def _bytes(self, path: str, start: int, end: int) -> bytes:
        if "://" not in path:
            return self._handle(path).read(start, end)
        import fsspec

        system, inside = fsspec.core.url_to_fs(path)  # each time: fsspec keeps one a process, and sees to forks
        return system.cat_file(inside, start=start, end=end)

    def _indexed(self, paths: Sequence[str], folder: str | None) -> Path:
        """Brings the index file up to date and returns where it is on this machine."""
        remote = "://" in self._base
        beside = f"{self._base}mmjax-{_tag(f'{path}/'.removeprefix(self._base) for path in paths)}.index"
        if folder is None and not remote and os.access(self._base, os.W_OK):
            place, shared = Path(beside), None
        else:
            home = store.root() / "index" if folder is None else Path(folder).expanduser()
            place, shared = home / f"{_tag(paths)}.index", beside if folder is None else None
        ahead, threads = BUCKET if remote else DISK
        paths_of = dict(zip(self.files, self._paths, strict=True))
        try:
            if shared and not _current(place, self.files):
                _copy(shared, place)
            _, count = tar_index.load(place, self.files, lambda file: self._scan(paths_of[file], file.size, ahead), threads)
        except OSError as error:
            raise UserError(f"source 'webdataset': cannot read the shards or write {place}: {error}") from None
        if shared and count:
            _share(place, shared)
        return place

    def _scan(self, path: str, size: int, ahead: int) -> Shard:
        try:
            return tar_index.scan(Window(functools.partial(self._bytes, path), size, ahead), size)
        except UserError as error:
            raise UserError(f"source 'webdataset': {path} is {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("index", "_handle")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _handle=functools.lru_cache(HANDLES)(_Handle), index=Index(state["_index_path"]))
        if self.index.files != self.files:
            raise UserError(f"{self._index_path}: another run has made a new index of changed shards: start this run again")


class _Handle:
    """A file that is open for as long as somebody reads it: the cache may drop it while another thread does."""

    _number = -1

    def __init__(self, path: str):
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, end: int) -> bytes:
        """Bytes from a place: there is no position that threads could share."""
        return os.pread(self._number, end - start, start)

    def __del__(self, close=os.close):
        if self._number >= 0:
            close(self._number)


def _tag(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _current(place: Path, listed: Sequence[File]) -> bool:
    index = tar_index.opened(place)
    return index is not None and index.files == list(listed)


def _copy(shared: str, place: Path) -> None:
    """Takes over the index that lies beside the shards, if there is one."""
    if not files.exists(shared):
        return
    import fsspec

    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        system, inside = fsspec.core.url_to_fs(shared)
        system.get_file(inside, str(draft))
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _share(place: Path, shared: str) -> None:
    """Puts the index beside the shards, where that is allowed."""
    import fsspec

    # Each kind of bucket has errors of its own for "you may not write here", and nothing is lost by any of them.
    with contextlib.suppress(Exception):
        system, inside = fsspec.core.url_to_fs(shared)
        system.put_file(str(place), inside)
