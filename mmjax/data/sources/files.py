"""Files as a user names them: on a disk, or in whatever fsspec reads (gs://, s3://, memory://)."""

import array
import glob
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mmjax.core.errors import UserError

Path = str | os.PathLike
File = Any  # open for reading bytes: Python's own, or fsspec's


def plain(path: Path) -> str:
    """The path as an absolute string without a trailing slash, ~ replaced; "gs://bucket/x" stays as it is."""
    path = os.fspath(path)
    return path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))


def open_binary(path: str) -> File:
    """The file, opened for reading.

    Raises:
      ValueError: it is a folder, a pipe or a device, which could be read without an end.
    """
    if "://" in path:
        system, inside = _system(path)
        return system.open(inside, "rb")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a plain file")
    return open(path, "rb")


def read(path: str, most: int) -> bytes:
    """All of a file.

    Raises:
      ValueError: it is no plain file, or longer than `most` bytes, of which no more are read.
    """
    with open_binary(path) as file:
        # Asked for a limit's worth of bytes, Python makes room for them first.
        content = file.read(most + 1 if "://" in path else min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > most:
        raise ValueError(f"{path} is longer than the limit of {most} bytes")
    return content


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    if "://" not in path:
        return os.path.exists(path)
    system, inside = _system(path)
    return system.exists(inside)


def is_folder(path: str) -> bool:
    """Whether it is there and a folder."""
    if "://" not in path:
        return os.path.isdir(path)
    system, inside = _system(path)
    return system.isdir(inside)


def parent(path: str) -> str:
    """The folder that holds it."""
    return posixpath.dirname(path)


def matches(pattern: str) -> list[str]:
    """The paths that a pattern with * or ? names, sorted."""
    if "://" not in pattern:
        return sorted(glob.glob(pattern))
    system, inside = _system(pattern)
    return sorted(system.unstrip_protocol(path) for path in system.glob(inside))


def children(folder: str) -> list[str]:
    """The names in a folder without hidden ones, sorted."""
    if "://" in folder:
        system, inside = _system(folder)
        names = [posixpath.basename(path.rstrip("/")) for path in system.ls(inside, detail=False)]
    else:
        names = os.listdir(folder)
    return sorted(name for name in names if name and not _hidden(name))


def walk(folder: str) -> Iterator[str]:
    """The files at any depth as names relative to `folder`, without hidden ones; unsorted.

    Links to folders are followed, one to each, so that circles end.
    """
    if "://" in folder:
        system, inside = _system(folder)
        prefix = system._strip_protocol(inside).rstrip("/") + "/"
        names = (system._strip_protocol(path).removeprefix(prefix) for path in system.find(inside))
        yield from (name for name in names if not any(_hidden(part) for part in name.split("/")))
        return
    linked, todo = {_place(folder)}, [""]
    while todo:
        inside = todo.pop()
        with os.scandir(os.path.join(folder, inside)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = posixpath.join(inside, entry.name)
                if _hidden(entry.name):
                    continue
                if not entry.is_dir():
                    yield name
                elif not entry.is_symlink():
                    todo.append(name)
                elif (place := _place(entry.path)) not in linked:
                    linked.add(place)
                    todo.append(name)


def _place(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def under(root: str, name: str) -> str:
    """The path of file `name` of a table, which is relative to `root` and stays in it (links are not resolved).

    An absolute name is fine where it lies in `root`: root="/" takes all.

    Args:
      root: of `plain`.

    Raises:
      ValueError: the name is an address of the web, leaves `root`, or holds a NUL byte.
    """
    if name.startswith(("http://", "https://", "ftp://")):
        raise ValueError(f"{name[:80]!r} is an address, not a file: download first (img2dataset writes tar shards)")
    if "\0" in name:
        raise ValueError(f"file name {name[:80]!r} holds a NUL byte")
    path = name if name.startswith("/") or "://" in name else f"{root}/{name}"
    scheme, bar, rest = path.rpartition("://")
    path = scheme + bar + posixpath.normpath(rest)
    if not path.startswith(root.rstrip("/") + "/"):
        raise ValueError(f"file name {name[:80]!r} leaves its root {root}: set root= to a folder that holds all files")
    return path


def need(path: Path, source: str) -> str:
    """`plain(path)` of something that is there.

    Raises:
      UserError: it is not.
    """
    path = plain(path)
    if not exists(path):
        raise UserError(f"source {source!r}: there is no {path}")
    return path


def several(path: Path, source: str, suffix: str) -> list[str]:
    """The files of a path: itself, those at any depth of a folder that end in `suffix`, or those of a pattern; sorted.

    Raises:
      UserError: there is none.
    """
    path = plain(path)
    if is_folder(path):
        found = [f"{path}/{name}" for name in sorted(walk(path)) if name.endswith(suffix)]
    else:
        found = [path] if exists(path) else matches(path)
    if not found:
        raise UserError(f"source {source!r}: there is no {suffix} file at {path}")
    return found


def _system(path: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not here
        raise UserError(f"cannot open {path}: {error}") from None


class Strings(Sequence):
    """Many strings in few objects: a million file names of 40 bytes take 48 MB, where a list takes 100."""

    def __init__(self, strings: Iterable[str]):
        content, ends = bytearray(), array.array("Q")
        for string in strings:
            content += string.encode("utf-8", "surrogateescape")
            ends.append(len(content))
        self._content, self._ends = bytes(content), np.frombuffer(ends, np.uint64) if ends else np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        start = int(self._ends[i - 1]) if i else 0
        return self._content[start : int(self._ends[i])].decode("utf-8", "surrogateescape")
