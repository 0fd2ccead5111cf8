"""Sets of shards as a user names them: brace ranges, patterns, folders and lists, on a disk or in a bucket."""

import os
import re
import stat
from collections.abc import Iterable
from typing import NamedTuple

from mmjax.core.errors import UserError
from mmjax.data.sources import files

MOST = 1_000_000
# What tells a file of a bucket from a later one of the same name and size; each kind of bucket has one of these.
STAMPS = ("etag", "ETag", "generation", "md5Hash", "mtime", "updated", "LastModified", "last_modified", "created")


class File(NamedTuple):
    """A shard as it is listed: another `size` (bytes) or `stamp` (when it was written, its etag) is another shard."""

    name: str
    size: int
    stamp: str


def braces(pattern: str) -> list[str]:
    """`{000..041}` and `{a,b}` spelt out, in order, as a shell does: numbers keep the width of one with leading zeros.

    Raises:
      UserError: a range runs backwards, or there are more than a million names.
    """
    found = re.search(r"\{(\d{1,18})\.\.(\d{1,18})\}|\{([^{}]*,[^{}]*)\}", pattern)
    if not found:
        return [pattern]
    first, last, words = found.groups()
    if words is None:
        width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
        numbers = range(int(first), int(last) + 1)
        if not 0 < len(numbers) <= MOST:
            raise UserError(f"{pattern}: {found[0]} names {len(numbers)} shards; a range is {{00..41}}, at most {MOST} names")
        middles = [f"{number:0{width}}" for number in numbers]
    else:
        middles = words.split(",")
    ends = braces(pattern[found.end() :])
    if len(middles) * len(ends) > MOST:
        raise UserError(f"{pattern} names more than {MOST} shards")
    return [pattern[: found.start()] + middle + end for middle in middles for end in ends]


def named(paths: Iterable[str], suffix: str) -> list[str]:
    """The shards that `paths` name, in order, each once. Of a folder, its files that end in `suffix`, by name.

    Args:
      paths: of `files.plain`.

    Raises:
      UserError: a pattern or a folder has none, or there are no paths.
    """
    result = []
    for path in paths:
        for one in braces(path):
            if "*" in one or "?" in one:
                found = files.matches(one)
            elif not one.endswith(suffix) and files.is_folder(one):
                found = [f"{one}/{name}" for name in files.children(one) if name.endswith(suffix)]
            else:
                found = [one]
            if not found:
                raise UserError(f"no shard {one if '*' in one or '?' in one else f'{one}/*{suffix}'}")
            result += found
    if not result:
        raise UserError("no shard is named: the list is empty")
    return list(dict.fromkeys(result))


def listed(paths: list[str]) -> list[File]:
    """The shards with what tells whether they have changed; of a bucket each folder is listed once.

    Raises:
      UserError: some are missing; it names three.
    """
    found = _on_disk(paths) if all("://" not in path for path in paths) else _in_buckets(paths)
    missing = [path for path in paths if path not in found]
    if missing:
        raise UserError(f"{len(missing)} of {len(paths)} shards are not there (or no plain files): {', '.join(missing[:3])}")
    return [File(path, *found[path]) for path in paths]


def _on_disk(paths: list[str]) -> dict[str, tuple[int, str]]:
    result = {}
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            result[path] = (status.st_size, str(status.st_mtime_ns))
    return result


def _in_buckets(paths: list[str]) -> dict[str, tuple[int, str]]:
    result = {}
    for folder in dict.fromkeys(map(files.parent, paths)):
        if not files.is_folder(folder):
            continue
        import fsspec

        system, inside = fsspec.core.url_to_fs(folder)
        system.invalidate_cache()
        for entry in system.ls(inside, detail=True):
            stamp = next((str(entry[key]) for key in STAMPS if entry.get(key)), "")
            if entry["type"] == "file":
                result[f"{folder}/{entry['name'].rsplit('/', 1)[-1]}"] = (entry["size"], stamp)
    return result
