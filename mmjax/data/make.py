"""Any source into a tfds folder of ArrayRecord shards: in parallel, resumable, with a manifest.

The folder holds data-SPLIT.array_record-XXXXX, dataset_info.json and features.json (what tfds reads),
and manifest.json: the schema, counts, and for each split the SHA-256 of its shards, its source's spec, and the records that
were left out. While a split is made, progress.jsonl holds the plan and a line for each shard that is whole; the same call goes
on from there. Another split may follow into the same folder, by the schema of the first. A tokenizer that is trained on the
captions lies there as tokenizer.json.

Fields are kept as the source gives them: pictures, sound and video stay encoded, and are not decoded to see whether they can be
(`mmjax data check` does). The schema is that of the first records; a later record that does not fit it is left out and
named, but for a label that is not there (-1), for whatever "present" says is missing, and for a single text where others have
several.
"""

import functools
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmjax.core import files, registry
from mmjax.core.errors import UserError, printable
from mmjax.data import tokenizers
from mmjax.data.builders.write import DRAFT, SHARD, Shard, describe, serialiser, shard_path, write_shard
from mmjax.data.crew import Crew
from mmjax.data.limits import LIMITS
from mmjax.data.sources import SOURCES
from mmjax.data.sources import files as sources_files
from mmjax.data.sources.prepared import Tfds
from mmjax.data.sources.source import Record, Source, group_of

FORMAT = 2  # of the folder, for the plan
NAME, VERSION = "data", "1.0.0"
PROBED = 64  # records, from the first on, that the schema and the shards' size are taken from
SHARD_BYTES = 128 << 20  # about: enough shards to read in parallel, few enough to list
BROKEN_NAMED = 10_000  # records left out that the manifest names; all are counted

TEXTS = ("text", "texts", "question", "answers")  # fields that a tokenizer is trained on
SPECIALS = tokenizers.MASKED

Schema = dict[str, Any]
# What stands for a field that a record's "present" says is missing.
EMPTY = {"image": b"", "bytes": b"", "text": "", "texts": [], "int": 0, "float": 0.0, "bool": False}


def make(
    spec: Mapping[str, Any],
    out: str | os.PathLike,
    workers: int | None = None,
    split: str = "train",
    shard: int | None = None,
    tokenizer: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Writes the records of a source into the folder `out`, and returns the manifest.

    Args:
      spec: {"name": ..., **keywords} of SOURCES.
      out: a folder that is not there, is empty, holds other splits made by this, or in which this same call was interrupted
        (or has ended).
      workers: processes; as many as cores by default.
      split: the split's name.
      shard: records a shard; by default so many that it takes about SHARD_BYTES.
      tokenizer: kind and vocabulary of tokenizers.train, to train one on the split's captions in lower case (as `tokenise`
        reads them); one of the same kind and vocabulary that is there already is kept.

    Raises:
      UserError: a bad spec, a folder that holds something else, no record that can be read, or a tokenizer that cannot be
        trained.
    """
    if "://" in os.fspath(out):
        raise UserError(f"--out={out}: shards are written to a disk; copy the finished folder from there")
    if not re.fullmatch(r"[\w-]+", split):
        raise UserError(f"--split={split}: a split's name is of letters, digits, _ and -")
    folder, source = Path(out).expanduser(), registry.build(SOURCES, spec, where="source")
    workers = workers or os.cpu_count() or 1
    said = json.loads(json.dumps(dict(spec), default=repr))  # as the files will have it
    wanted = {"records": len(source), "source": said}
    manifest, lines = _open(folder)
    if tokenizer is not None:
        tokenizers.check(*tokenizer, SPECIALS)
        _same_tokenizer(folder, manifest, tokenizer)
    if split in manifest["splits"]:
        _same(folder, manifest["splits"][split], wanted)
    else:
        plan, shards = _resume(folder, lines, wanted | {"format": FORMAT, "split": split})
        if plan is None:
            if not len(source):
                raise UserError(f"source {spec['name']!r} holds no record")
            plan = {"format": FORMAT, "split": split, **wanted, **_probe(source, shard, manifest.get("schema"))}
        _has_text(plan["schema"], tokenizer)
        if not lines:
            folder.mkdir(parents=True, exist_ok=True)
            _append(folder, plan)
        found = _write_all(source, folder, plan, shards, workers)
        manifest = _finish(folder, manifest, plan, found)
    return manifest if tokenizer is None else _train(folder, manifest, split, tokenizer)


def features(schema: Schema) -> dict[str, Any]:
    """The tfds features of a schema of `schema_of`."""
    import tensorflow_datasets as tfds

    kinds = {
        "image": tfds.features.Image,
        "bytes": lambda: tfds.features.Tensor(shape=(), dtype=np.bytes_),
        "text": tfds.features.Text,
        "texts": lambda: tfds.features.Sequence(tfds.features.Text()),
        "int": lambda: np.int64,
        "float": lambda: np.float32,
        "bool": lambda: np.bool_,
    }

    def feature(kind: Any) -> Any:
        if isinstance(kind, str):
            return kinds[kind]()
        if "dtype" in kind:
            return tfds.features.Tensor(shape=tuple(kind["shape"]), dtype=np.dtype(kind["dtype"]))
        return {name: feature(inner) for name, inner in kind.items()}

    return {name: feature(kind) for name, kind in schema.items()}


def schema_of(record: Mapping[str, Any]) -> Schema:
    """Field -> kind: "image" (encoded), "bytes", "text", "texts", "int", "float", "bool", {"dtype", "shape"} of an array whose
    first axis may vary, or a dict of these. A video that is named by its path is kept as bytes."""

    def kind(name: str, value: Any) -> Any:
        if name == "image":
            return "image"
        if isinstance(value, Mapping):
            return {inner: kind("", x) for inner, x in value.items()}
        if isinstance(value, bytes) or (name == "video" and isinstance(value, str | os.PathLike)):
            return "bytes"
        if isinstance(value, str):
            return "text"
        if isinstance(value, list | tuple) and all(isinstance(x, str) for x in value):
            return "texts"
        array = np.asarray(value)
        if not array.ndim:
            return {"b": "bool", "i": "int", "u": "int", "f": "float"}[array.dtype.kind]
        return {"dtype": array.dtype.name, "shape": [None, *array.shape[1:]]}

    return {name: kind(name, value) for name, value in record.items()}


def fit(record: Record, schema: Schema) -> dict[str, Any]:
    """The record as its schema has it.

    Raises:
      ValueError: it has other fields, or a field is of another kind.
    """
    record = _alike(record, schema)
    more = sorted(record.keys() - schema.keys())
    if more:
        raise ValueError(f"has a field {more[0]!r}, which the first records lack")
    present = record.get("present", {})
    fitted = {}
    for name, kind in schema.items():
        if name in record:
            fitted[name] = _fit_value(name, record[name], kind)
        elif isinstance(kind, str) and not present.get(name, True):
            fitted[name] = EMPTY[kind]
        else:
            raise ValueError(f"lacks the field {name!r}, which the first records have")
    return fitted


def _alike(record: Record, schema: Schema) -> Record:
    """The record with what it has unsaid: no label, the group of its text, a list of one text where others have several."""
    text = record.get("text")
    unsaid = {"label": -1} | ({"group": group_of(text)} if isinstance(text, str) else {})
    if "texts" in schema and "text" not in schema and isinstance(text, str):
        record = {"texts": [text]} | {name: value for name, value in record.items() if name != "text"}
    return {name: value for name, value in unsaid.items() if name in schema} | record


def _fit_value(name: str, value: Any, kind: Any) -> Any:
    if kind == "image" and isinstance(value, np.ndarray):
        encoded = io.BytesIO()
        Image.fromarray(value).save(encoded, "PNG")
        return encoded.getvalue()
    if name == "video" and kind == "bytes" and not isinstance(value, bytes):
        return sources_files.read(os.fspath(value), LIMITS.bytes)
    if isinstance(kind, dict) and "dtype" not in kind:
        return fit(value, kind)
    types = {"image": bytes, "bytes": bytes, "text": str, "texts": list | tuple}
    if isinstance(kind, str) and not isinstance(value, types.get(kind, object)):
        raise ValueError(f"field {name!r} is {type(value).__name__}, not {kind} as in the first records")
    if kind in ("image", "bytes") and not value:
        raise ValueError(f"field {name!r} is empty")
    return value


def _probe(source: Source, shard: int | None, schema_there: Schema | None) -> dict[str, Any]:
    """The schema (that of the folder where it has one), and records a shard, from the first records; read by a process, which
    they may kill."""
    numbers = range(min(PROBED, len(source)))
    [((schema, size, reason), dead)] = Crew(_read_some, source, 1).each([(None, numbers)], lambda _: None)
    if not schema:
        reason = dead[-1].reason if dead else reason
        raise UserError(f"none of the first {len(numbers)} records can be read; the last: {reason}")
    return {"schema": schema_there or schema, "shard": shard or max(1, min(SHARD, int(SHARD_BYTES / max(1, size))))}


def _read_some(source: Source, _: Any, numbers: Iterable[int]) -> tuple[Schema, float, str]:
    """The union of the records' schemas (an earlier record's kind of a field wins), their mean bytes, an error among them."""
    schema: Schema = {"id": "text"}
    sizes, reason = [], ""
    for number in numbers:
        try:
            record = {"id": f"#{number}", **source[number]}
            kinds = schema_of(record)
            schema |= {name: kind for name, kind in kinds.items() if name not in schema}
            if "texts" in schema:  # one caption is a list of one
                schema.pop("text", None)
            sizes.append(sum(len(x) if isinstance(x, bytes | str) else np.asarray(x).nbytes for x in record.values()))
        except Exception as error:
            reason = _reason(f"#{number}", error)
    return schema if sizes else {}, float(np.mean(sizes)) if sizes else 0.0, reason


def _write_all(source: Source, folder: Path, plan: dict[str, Any], shards: dict[int, Any], workers: int) -> list[Any]:
    """Writes the shards that are not among `shards`, and returns all in order."""
    from tqdm import tqdm

    size, records = plan["shard"], plan["records"]
    count, done = -(-records // size), sum(shard["records"] for shard in shards.values())
    todo = [k for k in range(count) if k not in shards]
    for path in folder.glob(f"{DRAFT}{NAME}-{plan['split']}.*"):
        path.unlink(missing_ok=True)
    paths = [str(shard_path(folder, NAME, plan["split"], k)) for k in range(count)]
    crew = Crew(functools.partial(_write_one, plan["schema"]), source, max(1, min(workers, len(todo))))
    chunks = ((paths[k], range(k * size, min(records, (k + 1) * size))) for k in todo)
    with tqdm(total=records, initial=done, desc="make", unit=" records", disable=None) as bar:
        for k, (made, dead) in zip(todo, crew.each(chunks, bar.update), strict=True):
            made["broken"] += [[f"#{number}", reason] for number, reason in dead]
            made["records"] += len(dead)
            shards[k] = made
            _append(folder, {"shard": k, **made})
    return [shards[k] for k in range(count)]


def _write_one(schema: Schema, source: Source, path: str, numbers: Iterable[int]) -> dict[str, Any]:
    """Writes one shard in a worker process; what the manifest says of it."""
    serialise, broken = serialiser(features(schema)), []

    def examples() -> Iterator[bytes]:
        for number in numbers:
            name = f"#{number}"
            try:
                record = {"id": name, **source[number]}
                name = str(record["id"])
                example = serialise(fit(record, schema))
            except Exception as error:  # whatever a file can do to a reader
                broken.append([name, _reason("", error)])
                continue
            yield example

    shard = write_shard(Path(path), examples())
    return {**shard._asdict(), "file": Path(path).name, "records": shard.examples + len(broken), "broken": broken}


def _finish(folder: Path, manifest: dict[str, Any], plan: dict[str, Any], shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes dataset_info.json and, last, manifest.json with the new split."""
    broken = [item for shard in shards for item in shard["broken"]]
    count, split = sum(shard["examples"] for shard in shards), plan["split"]
    if not count:
        raise UserError(f"none of the {plan['records']} records can be written; the last: {': '.join(broken[-1])}")
    made = {
        **{key: plan[key] for key in ("records", "source", "shard")},
        "broken": len(broken),
        "broken_records": dict(broken[:BROKEN_NAMED]),
        "shards": [{key: s[key] for key in ("file", "examples", "bytes", "sha256")} for s in shards],
    }
    splits = manifest["splits"] | {split: made}
    counts = manifest.get("counts", {}) | {split: count}
    manifest = {"format": FORMAT, "schema": plan["schema"], **manifest, "counts": counts, "splits": splits}
    written = {key: [Shard(s["examples"], s["bytes"], s["sha256"]) for s in one["shards"]] for key, one in splits.items()}
    sources = "; ".join(json.dumps(one["source"], ensure_ascii=False) for one in splits.values())
    describe(folder, NAME, VERSION, features(plan["schema"]), written, f"made by mmjax from {sources}", "")
    _save(folder, manifest)
    (folder / "progress.jsonl").unlink()
    return manifest


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    files.write(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


class _Captions:
    """The captions of a split in lower case, read anew (with a bar) each time they are gone through."""

    def __init__(self, folder: Path, split: str, fields: list[str]):
        self._source, self._fields = Tfds(path=str(folder), split=split), fields

    def __iter__(self) -> Iterator[str]:
        from tqdm import tqdm

        for number in tqdm(range(len(self._source)), desc="read captions", unit=" records", disable=None, leave=False):
            record = self._source[number]
            for field in self._fields:
                for text in [record[field]] if isinstance(record[field], str) else record[field]:
                    yield text.lower()


def _train(folder: Path, manifest: dict[str, Any], split: str, tokenizer: tuple[str, int]) -> dict[str, Any]:
    """Trains tokenizer.json, unless it is there; the manifest with a note of it."""
    path, fields = folder / "tokenizer.json", _has_text(manifest["schema"], tokenizer)
    if path.exists():
        return manifest
    kind, vocabulary = tokenizer
    print(f"training {path}: {kind}, on the captions of {manifest['counts'][split]:,} records", file=sys.stderr)
    tokens = tokenizers.train(_Captions(folder, split, fields), vocabulary, kind, SPECIALS)
    note = {"kind": kind, "vocabulary": vocabulary, "tokens": tokens.get_vocab_size(), "split": split}
    manifest = {**manifest, "tokenizer": note}
    _save(folder, manifest)  # first: a tokenizer.json without a note is somebody else's
    files.write(path, tokens.to_str(pretty=True))
    return manifest


def _has_text(schema: Schema, tokenizer: tuple[str, int] | None) -> list[str]:
    """The fields that a tokenizer is trained on, of which there has to be one where a tokenizer is wanted."""
    fields = [name for name in TEXTS if name in schema]
    if tokenizer is not None and not fields:
        raise UserError(f"--tokenizer={tokenizer[0]}: the records have no text, only {', '.join(schema)}")
    return fields


def _same_tokenizer(folder: Path, manifest: dict[str, Any], tokenizer: tuple[str, int]) -> None:
    path, note = folder / "tokenizer.json", manifest.get("tokenizer")
    if not path.exists():
        return
    if note is None:
        raise UserError(f"{path} was not trained here: move it away to train one, or leave --tokenizer out")
    if (note["kind"], note["vocabulary"]) != tuple(tokenizer):
        raise UserError(
            f"{path} is of kind {note['kind']!r} and a vocabulary of {note['vocabulary']}, and this call asks for "
            f"{tokenizer[0]!r} and {tokenizer[1]}: remove it to train anew"
        )


def _open(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest of what is whole ({"splits": {}} where nothing is), and the lines of progress.jsonl."""
    path, progress = folder / "manifest.json", folder / "progress.jsonl"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"format": FORMAT, "splits": {}}
    foreign = not (path.exists() or progress.exists()) and folder.exists() and any(folder.iterdir())
    if foreign or manifest.get("format") != FORMAT:
        raise UserError(f"--out={folder} holds something else: choose a folder that is not there yet")
    lines = []
    for line in progress.read_text(encoding="utf-8").splitlines() if progress.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:  # the last line of a call that was killed in it
            continue
    if lines and lines[0].get("split") in manifest["splits"]:  # an earlier call was killed when only this was left to do
        progress.unlink()
        lines = []
    return manifest, lines


def _resume(folder: Path, lines: list[Any], wanted: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[int, Any]]:
    """The plan that progress.jsonl holds, and {number: shard} of the shards that are whole."""
    if not lines:
        return None, {}
    if lines[0]["split"] != wanted["split"]:
        raise UserError(f"--out={folder}: its split {lines[0]['split']!r} was interrupted: finish it first, by the same call")
    _same(folder, lines[0], wanted)
    shards = {line.pop("shard"): line for line in lines[1:]}
    return lines[0], {k: shard for k, shard in shards.items() if (folder / shard["file"]).exists()}


def _same(folder: Path, plan: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if plan.get(key) != value:
            raise UserError(
                f"--out={folder} was made with {key} {plan.get(key)!r}, and this call has {value!r}: "
                "remove it to make it anew, or choose another folder"
            )


def _append(folder: Path, line: dict[str, Any]) -> None:
    path = folder / "progress.jsonl"
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _reason(name: str, error: Exception) -> str:
    """One line of at most 300 characters."""
    text = printable(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return f"{name}: {text}" if name else text
