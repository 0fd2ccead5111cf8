"""What a path holds: from a bare path to the spec of a source that reads it."""

import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mmjax.core.errors import UserError
from mmjax.data import store
from mmjax.data.sources import files
from mmjax.data.sources.audio import AudioFolder
from mmjax.data.sources.folders import PICTURES
from mmjax.data.sources.index import keys_of
from mmjax.data.sources.video import VideoFolder

KINDS = """a prepared set's name, a file (.csv .tsv .json .jsonl .parquet .array_record .tar or {000..123}.tar),
or a folder: of tfds, of one of those, of pictures with .txt or .json beside, of a folder a class, of sounds or videos"""
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
# Files of a folder that are looked at; its kind shows early.
LOOKED_AT = 10_000


class Found(NamedTuple):
    """A source's spec, and one line that says why it is that."""

    spec: dict[str, Any]
    why: str


def detect(path: str) -> dict[str, Any]:
    """The spec {"name": ..., "path": ...} of a source that reads what is at `path`; `found` says why as well."""
    return found(path).spec


def found(path: str) -> Found:
    """What is at a path: a file, a folder, a pattern, a brace range of tar shards, or a prepared set's name.

    Nothing but names is read, and of a json its beginning.

    Raises:
      UserError: nothing is there, or what is there could be read in no way or in several; it lists the kinds.
    """
    whole = files.plain(path)
    suffix = posixpath.splitext(whole)[1].lower()
    if any(mark in whole for mark in "*?{") and suffix in _FILES:
        return _FILES[suffix](whole)
    if files.is_folder(whole):
        return _folder(whole)
    if files.exists(whole):
        if suffix in _FILES:
            return _FILES[suffix](whole)
        raise UserError(f"{path}: a {suffix or 'suffixless'} file says nothing of what is in it. A source is {KINDS}")
    if "://" not in path and not path.startswith((".", "~", "/")) and (store.root() / path).is_dir():
        return Found({"name": "tfds", "dataset": path}, f"{path} is a prepared set in {store.root()}")
    raise UserError(f"there is no {path}. A source is {KINDS}")


def _named(name: str, what: str) -> Callable[[str], Found]:
    return lambda path: Found({"name": name, "path": path}, f"{path} is {what}")


def _json(path: str) -> Found:
    keys = keys_of(path)
    if "questions" in keys:
        return _questions(path)
    if "images" in keys and "annotations" not in keys:
        spec = {"name": "karpathy", "path": path, "split": "train"}
        return Found(spec, f"{path} is an object with 'images': Karpathy's json, of which split 'train' is taken")
    if "annotations" in keys:
        raise UserError(
            f"{path} is an object with {', '.join(keys)}: annotations alone\n"
            "of VQA v2 name the questions' json; of COCO's captions take Karpathy's dataset_coco.json"
        )
    return Found({"name": "json", "path": path}, f"{path} is a {'json object a line' if keys else 'json list'}")


def _questions(path: str) -> Found:
    """VQA v2's questions with the annotations beside them, if they go by the names under which they are published."""
    folder, name = posixpath.split(path)
    beside = posixpath.join(folder, re.sub("OpenEnded_|MultipleChoice_", "", name).replace("questions", "annotations"))
    spec = {"name": "vqa", "path": path}
    if beside != path and files.exists(beside):
        return Found({**spec, "annotations": beside}, f"{path} holds VQA v2's questions, and {beside} their answers")
    return Found(spec, f"{path} holds VQA v2's questions; no annotations are beside it")


_FILES: dict[str, Callable[[str], Found]] = {
    ".csv": _named("csv", "a table of text"),
    ".tsv": _named("csv", "a table of text"),
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _named("parquet", "a parquet table"),
    ".tar": _named("webdataset", "a tar, or several"),
    ".array_record": _named("arrayrecord", "an ArrayRecord file"),
}


def _folder(path: str) -> Found:
    top = files.children(path)
    if prepared := _prepared(path, top):
        return prepared
    names = [name for name, _ in zip(files.walk(path), range(LOOKED_AT), strict=False)]
    shards = [name for name in names if name.lower().endswith((".tar", ".parquet", ".array_record"))]
    for suffix, name in ((".tar", "webdataset"), (".parquet", "parquet"), (".array_record", "arrayrecord")):
        kind = [shard for shard in shards if shard.lower().endswith(suffix)]
        if kind:
            _one_split(path, kind, suffix)
            places = sorted({posixpath.dirname(shard) for shard in kind})
            if len(places) > 1:
                raise UserError(f"{path} holds {suffix} files in {', '.join(map(repr, places[:5]))}: name one of these folders")
            place = posixpath.join(path, places[0]).rstrip("/")
            return Found({"name": name, "path": place}, f"{place} holds {len(kind)} {suffix} files")
    return _media(path, top, names)


def _prepared(path: str, top: Sequence[str]) -> Found | None:
    """A tfds folder: that of a version, or one that holds versions, of which the newest is taken."""
    if "dataset_info.json" in top:
        return Found({"name": "tfds", "path": path}, f"{path} holds dataset_info.json")
    versions = [name for name in top if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    versions = [name for name in versions if files.exists(f"{path}/{name}/dataset_info.json")]
    if not versions:
        return None
    newest = f"{path}/{max(versions, key=lambda name: [int(part) for part in name.split('.')])}"
    return Found({"name": "tfds", "path": newest}, f"{newest} is the newest version there and holds dataset_info.json")


def _one_split(path: str, names: Sequence[str], suffix: str) -> None:
    """Refuses a folder that holds a training set beside its test set: they would become one."""
    splits = {}
    for name in names:
        for part in re.split(r"[/._-]", name.lower()):
            if part in ("train", "training", "test", "testing", "val", "valid", "validation", "dev"):
                splits.setdefault(part, name)
    if len(splits) > 1:
        part, name = min(splits.items())
        one = posixpath.join(path, posixpath.dirname(name), f"*{part}*{suffix}" if suffix else "")
        raise UserError(f"{path} holds several splits ({', '.join(sorted(splits))}): name one, such as '{one.rstrip('/')}'")


def _media(path: str, top: Sequence[str], names: Sequence[str]) -> Found:
    """A folder of pictures, sounds or videos: by the files that are most, and by what stands beside them."""
    count = {kind: sum(name.lower().endswith(suffixes) for name in names) for kind, suffixes in _MEDIA.items()}
    kind = max(count, key=count.get)
    tables = [name for name in top if name.lower().endswith(TABLES)]
    if kind != "pictures" and count[kind]:
        return Found({"name": _MEDIA_SOURCES[kind], "path": path}, f"{path} holds {count[kind]} {kind} files")
    folders = {name.split("/")[0] for name in names if "/" in name and name.lower().endswith(PICTURES)}
    _one_split(path, [f"{folder}/" for folder in folders], "")
    stems = {posixpath.splitext(name)[0] for name in names if name.lower().endswith(PICTURES)}
    beside = sum(name.endswith((".txt", ".json")) and posixpath.splitext(name)[0] in stems for name in names)
    if beside:
        why = f"{path} holds {count[kind]} pictures, {beside} with a .txt or .json beside"
        return Found({"name": "pairs_folder", "path": path}, why)
    if len(tables) == 1:
        inside = found(f"{path}/{tables[0]}")
        return inside._replace(why=f"{inside.why}, the only table in {path}")
    if tables:
        raise UserError(f"{path} holds {', '.join(tables[:6])}: say which, as {path}/{tables[0]}")
    if len(folders) > 1:
        return Found({"name": "class_folder", "path": path}, f"{path} holds pictures in {len(folders)} folders: a class each")
    held = f"{count[kind]} pictures without texts, tables or classes" if count[kind] else "nothing that is known"
    raise UserError(f"{path} holds {held}. A source is {KINDS}")


_MEDIA = {"pictures": PICTURES, "audio": AudioFolder.SUFFIXES, "video": tuple(set(VideoFolder.SUFFIXES) - set(PICTURES))}
_MEDIA_SOURCES = {"audio": "audio_folder", "video": "video_folder"}
