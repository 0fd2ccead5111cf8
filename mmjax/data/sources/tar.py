"""Tar shards of key.jpg, key.txt, key.json, as webdataset and img2dataset write them, read at random."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from mmjax.core.errors import UserError, printable
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files, tar_index
from mmjax.data.sources.columns import captions, named
from mmjax.data.sources.source import Problem, Record
from mmjax.data.sources.tar_members import Content, Members
from mmjax.data.transforms.image import Decode

IMAGES, TEXTS, LABELS = ("jpg", "jpeg", "png", "webp"), ("txt", "json"), ("cls",)
# Where a json has its caption, if no field is named.
CAPTIONS = ("caption", "text")


class Field(NamedTuple):
    """Where a record's field is: the first of `extensions` that the sample has; in a json, under the first of `keys`."""

    extensions: tuple[str, ...]
    keys: tuple[str, ...] = CAPTIONS


class WebDataset:
    """Samples of tar shards, each read from its place: any order costs the same, and shards may be fewer than hosts.

    The places are read from the shards' headers once and kept in an index file: beside the shards, or where that cannot
    be written, under MMJAX_DATA/index. A shard that changes (size, time of writing, etag) is read again. The index of a
    bucket's shards lies beside them too, and is copied to MMJAX_DATA/index.

    Nothing is extracted. Left out are links, devices, absolute names and names with ".."; what follows the place where a
    shard is cut off or broken; of a name that occurs twice in a shard, the second; samples without image or text.

    A record has image (encoded bytes), text (texts, where a json's caption is a list), label where there is one, and id:
    the picture's name in the tar, after the shard's where there are several shards.

    Args:
      path: a tar, a folder of them, a pattern ("train/*.tar"), a brace range ("gs://bucket/{00000..41455}.tar"), or a
        list of these; on a disk, or in whatever fsspec reads.
      image: the pictures' extension, or several in order of preference; by default jpg, jpeg, png, webp.
      text: the captions' extension ("txt"), or a json's field ("json:title"); by default txt, else a json's "caption"
        or "text". Without any there is no text.
      label: the class numbers' extension, or a json's field; by default cls.
      index: a folder of this machine for the index file.
      cache: keep each record in memory, decoded, once it is read (each worker process keeps its own).
      max_bytes: of one member; a record with a larger one is broken.

    Raises:
      UserError: shards are missing, unreadable or compressed, or no sample has what is asked for.
    """

    def __init__(
        self,
        path: str | os.PathLike | Sequence[str | os.PathLike],
        image: str | Sequence[str] | None = None,
        text: str | None = None,
        label: str | None = None,
        index: str | None = None,
        cache: bool = False,
        max_bytes: int = LIMITS.bytes,
    ):
        paths = [files.plain(one) for one in ([path] if isinstance(path, str | os.PathLike) else path)]
        self._members = Members(paths, index, max_bytes)
        self._cache: dict[int, Record] | None = {} if cache else None
        self._fields = {"image": _field(image, IMAGES), "text": _field(text, TEXTS), "label": _field(label, LABELS)}
        if text is None and not self._json_has_captions():
            self._fields["text"] = Field(TEXTS[:1])
        self._needed = [name for name in ("image", "text") if name == "image" or text or self._having(name).any()]
        self._select()
        if not len(self):
            raise UserError(f"source 'webdataset': {paths[0]}: {self._why_empty()}")
        if problems := self.problems:
            said = ", ".join(f"{one.count} {one.kind} (e.g. {printable(one.names[0])})" for one in problems)
            print(f"webdataset: {paths[0]}: left out: {said}", file=sys.stderr)

    def __len__(self) -> int:
        return len(self._members.index) if self._kept is None else len(self._kept)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        if self._cache is not None and i in self._cache:
            return self._cache[i]
        record = self._record(i if self._kept is None else int(self._kept[i]))
        if self._cache is not None:
            self._cache[i] = record = Decode()(record)
        return record

    @property
    def problems(self) -> list[Problem]:
        """What was left out, one Problem(kind, count, names) a kind; a name is "SHARD: MEMBER"."""
        found = self._members.index.problems()
        for name in self._needed:
            lacking = np.flatnonzero(~self._having(name))
            if len(lacking):
                places = [self._members.index.locate(int(sample))[:2] for sample in lacking[: tar_index.NAMED]]
                names = tuple(f"{self._members.name(shard)}: {self._members.member(shard, row)}" for shard, row in places)
                found.append(Problem(f"without {name}", len(lacking), names))
        return found

    def _having(self, name: str) -> Bool[np.ndarray, " n"]:
        return self._members.index.having(self._fields[name].extensions)

    def _json_has_captions(self) -> bool:
        """Whether the first json does: others hold measurements, or where a picture came from."""
        index = self._members.index
        having = index.having(("json",))
        if not having.any():
            return False
        shard, start, end = index.locate(int(having.argmax()))
        row = start + index.ext[start:end].tolist().index(index.extensions.index("json"))
        try:
            content = json.loads(self._members.read(shard, [row])[row].data)
        except (ValueError, RecursionError):
            return True  # each record says what is wrong with it
        return isinstance(content, dict) and not content.keys().isdisjoint(CAPTIONS)

    def _select(self) -> None:
        """Sets what follows from the index: the numbers of extensions, and which samples have all that is needed."""
        extensions = self._members.index.extensions
        self._numbers = {
            name: [extensions.index(one) for one in field.extensions if one in extensions]
            for name, field in self._fields.items()
        }
        kept = np.logical_and.reduce([self._having(name) for name in self._needed])
        self._kept = None if kept.all() else np.flatnonzero(kept).astype(np.min_scalar_type(len(kept)))

    def _why_empty(self) -> str:
        wanted = " and ".join(f"{name} ({', '.join(self._fields[name].extensions)})" for name in self._needed)
        if extensions := self._members.index.extensions:
            return f"no sample has {wanted}; members end in {', '.join(extensions[:8])}: say image= and text="
        said = "; ".join(f"{one.kind}: {one.names[0]}" for one in self._members.index.problems()[:3])
        return f"no sample has {wanted}: {said or 'the shards are empty'}"

    def _record(self, sample: int) -> Record:
        shard, start, end = self._members.index.locate(sample)
        present, rows = self._members.index.ext[start:end].tobytes(), {}
        for name, numbers in self._numbers.items():
            places = (present.find(number) for number in numbers)
            if (place := next((place for place in places if place >= 0), -1)) >= 0:
                rows[name] = start + place
        found = self._members.read(shard, set(rows.values()))
        if len({content.key for content in found.values()}) > 1:
            raise ValueError(self._members.changed(shard))
        name = found[rows["image"]].name
        if len(self._members.files) > 1:
            name = f"{self._members.name(shard).removesuffix('.tar')}/{name}"
        record = {"id": name}
        for field, row in rows.items():
            with named(f"{name}: {field}"):
                record |= _values(field, found[row], self._fields[field].keys, name)
        return record

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None if self._cache is None else {}, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._select()


def _field(said: str | Sequence[str] | None, default: tuple[str, ...]) -> Field:
    """ "txt" -> that extension; "json:title" -> that field of a json; several extensions in order of preference."""
    if said is None:
        return Field(default)
    extensions = [said] if isinstance(said, str) else said
    extension, _, key = extensions[0].partition(":")
    if key:
        return Field((extension.lower(),), (key,))
    return Field(tuple(one.lower().lstrip(".") for one in extensions))


def _values(field: str, content: Content, keys: Sequence[str], name: str) -> Record:
    """What a member says of a field of the record called `name`.

    Raises:
      ValueError: nothing that could be it.
    """
    if field == "image":
        if not content.data:
            raise ValueError("empty")
        return {"image": content.data}
    value = content.data.decode("utf-8-sig")
    if content.extension.endswith("json"):
        value = json.loads(value)
        if not isinstance(value, dict) or value.keys().isdisjoint(keys):
            raise ValueError(f"the json has no {' or '.join(keys)}")
        value = next(value[key] for key in keys if key in value)
    if field == "text":
        return captions(value, name, None)
    try:
        return {"label": int(str(value))}  # str: a half is no class
    except ValueError:
        raise ValueError(f"{value!r:.60} is no whole number") from None
