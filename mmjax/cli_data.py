"""The verb `data` of the command line: what there is, what one has, and what is wrong with it.

mmjax data list
mmjax data get NAME
mmjax data make  SRC --out=DIR [--split=train] [--tokenizer=words|wordpiece|bpe [--vocabulary=8192]] [--workers=N]
mmjax data check SRC [--splits=NAME=SRC ...] [--sample=N] [--out=check.html] [--strict] [--workers=N]
mmjax data show  SRC [--n=36] [--out=show.png]
mmjax data answers SRC [--least=9] [--out=answers.txt]

SRC is a path, whose kind is detected and said, a prepared set's name, or a source as it stands in a config, which may also be
given by --source='{"name": "csv", "path": "..."}'.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError

Spec = Mapping[str, Any]


def add_parsers(verb: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Gives the verb its sub-commands; each sets `run`."""
    what = verb.add_subparsers(dest="what", required=True, metavar="list|get|make|check|show|answers")
    what.add_parser("list", help="shipped data sets", parents=[common]).set_defaults(run=list_)
    get = what.add_parser("get", help="prepare a shipped data set", parents=[common])
    get.add_argument("dataset")
    get.set_defaults(run=get_)
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("src", nargs="?", metavar="SRC", help="a path, a prepared set's name, or a source as in a config")
    source.add_argument("--source", help="""the source as in a config: '{"name": "csv", "path": "..."}'""")
    source.add_argument("--workers", type=int, help="processes; as many as cores by default")

    verb = what.add_parser("make", help="any source into a tfds folder of ArrayRecord shards", parents=[common, source])
    verb.add_argument("--out", required=True, help="the folder; the same call goes on where an earlier one was interrupted")
    verb.add_argument("--split", default="train", help="the split's name there")
    verb.add_argument("--tokenizer", metavar="KIND", help="train tokenizer.json on the captions: words, wordpiece or bpe")
    verb.add_argument("--vocabulary", type=int, help="tokens of --tokenizer at most, 8192 by default")
    verb.set_defaults(run=make)

    verb = what.add_parser("check", help="what a source holds and what is wrong with it", parents=[common, source])
    verb.add_argument("--splits", action="append", default=[], metavar="NAME=SRC", help="another split, to look for leaks")
    verb.add_argument("--sample", type=int, help="read so many records of each split, drawn at random")
    verb.add_argument("--out", default="check.html", help="the page")
    verb.add_argument("--strict", action="store_true", help="exit with status 1 where anything is broken")
    verb.set_defaults(run=check)

    verb = what.add_parser("show", help="a contact sheet of records at even steps", parents=[common, source])
    verb.add_argument("--n", type=int, default=36, help="records")
    verb.add_argument("--out", default="show.png", help="the sheet")
    verb.set_defaults(run=show)

    verb = what.add_parser("answers", help="the list of answers of a source of questions", parents=[common, source])
    verb.add_argument("--least", type=int, default=9, help="questions that an answer needs")
    verb.add_argument("--out", default="answers.txt", help="the list, one a line, the most frequent first")
    verb.set_defaults(run=answers)


def list_(args: argparse.Namespace) -> None:
    """Lists the shipped data sets."""
    from mmjax.data import builders

    print(builders.table())


def get_(args: argparse.Namespace) -> None:
    """Prepares a shipped data set."""
    from mmjax.data import builders

    print(builders.prepare(args.dataset))


def make(args: argparse.Namespace) -> None:
    """Writes a source into shards, and trains a tokenizer on its captions where one is asked for."""
    from mmjax.data.make import SPECIALS
    from mmjax.data.make import make as make_shards

    if args.vocabulary is not None and args.tokenizer is None:
        raise UserError("--vocabulary is of a tokenizer: add --tokenizer=words, wordpiece or bpe")
    tokenizer = args.tokenizer and (args.tokenizer, 8192 if args.vocabulary is None else args.vocabulary)
    manifest = make_shards(_spec(args), args.out, workers=_workers(args), split=args.split, tokenizer=tokenizer)
    split, folder = manifest["splits"][args.split], str(Path(args.out).expanduser().absolute())
    shards = split["shards"]
    written, size = manifest["counts"][args.split], sum(shard["bytes"] for shard in shards)
    rows = [
        ("records", f"{written:,} of {split['records']:,}, split {args.split!r}"),
        ("shards", f"{len(shards)} of up to {split['shard']:,} records; {_bytes(size)}"),
        ("fields", ", ".join(manifest["schema"])),
        ("broken", f"{split['broken']:,}, left out"),
    ]
    if tokenizer:
        note = manifest["tokenizer"]
        rows.append(("tokenizer", f"{note['kind']}, {note['tokens']:,} tokens, of the captions of split {note['split']!r}"))
    print(_table(rows))
    for key, reason in list(split["broken_records"].items())[:5]:
        print(f"  {key}: {reason}")
    source = {"name": "tfds", "path": folder, "split": args.split}
    print(f"manifest: {args.out}/manifest.json; source: {json.dumps(source, ensure_ascii=False)}")
    if tokenizer:
        transform = {"name": "tokenise", "tokenizer": f"{folder}/tokenizer.json", "length": 77}
        print(f"in data.transforms and eval.transforms: {json.dumps(transform, ensure_ascii=False)}")
        eos = SPECIALS.index("[EOS]")
        print(f"model.text.vocab={note['tokens']}; where the model pools at the last token, model.text.eos_id={eos}")


def check(args: argparse.Namespace) -> None:
    """Reads a source, prints what it found, and writes the page."""
    from mmjax.data.inspect import check as inspect
    from mmjax.report.dataset import write

    spec = _spec(args)
    splits = _all_splits(spec)
    for text in args.splits:
        name, equals, src = text.partition("=")
        if not equals or not name or name.lstrip().startswith("{"):
            raise UserError(f"--splits={text}: write --splits=NAME=SRC")
        splits[name] = _parse(src)
    if args.sample is not None and args.sample < 1:
        raise UserError(f"--sample={args.sample} has to be at least 1")
    found = inspect(splits, sample=args.sample, workers=_workers(args))
    for name, facts in found.facts["splits"].items():
        print(f"\n{name}\n{_table(_summary(facts))}")
        _print_trouble(facts)
    for leak in found.facts["leaks"]:
        print(f"\nof the {leak['records']:,} records of {leak['in']!r}, in {leak['from']!r} too:\n{_table(_leak(leak))}")
    title = str(spec.get("path", spec.get("dataset", spec["name"])))
    page = write(args.out, found.facts, found.cards, found.pairs, f"Check of {Path(title).name or title}")
    print(f"\n{_bytes(found.facts['bytes_kept'])} of hashes for {found.facts['checked']:,} records; page: {page}")
    broken = sum(facts["broken_records"] + facts["ids"]["repeated"] for facts in found.facts["splits"].values())
    if args.strict and broken:
        print(f"mmjax data check: {broken:,} records are in trouble (--strict)", file=sys.stderr)
        sys.exit(1)


def show(args: argparse.Namespace) -> None:
    """Draws a contact sheet: pictures, spectrograms of sounds, film strips of videos."""
    from mmjax.core import registry
    from mmjax.data.inspect import cards, even
    from mmjax.data.sources import SOURCES
    from mmjax.report.sheet import contact_sheet
    from mmjax.report.strip import picture_of

    if args.n < 1:
        raise UserError(f"--n={args.n} has to be at least 1")
    source = registry.build(SOURCES, _spec(args), where="source")
    if not len(source):
        raise UserError("the source holds no record")
    numbers = even(len(source), args.n)
    seen = cards(source, numbers, _workers(args) or 1)
    for card in seen:
        print(f"{card['id']}: {card['text'][:120]!r}")
    if len(seen) < len(numbers):
        print(f"{len(numbers) - len(seen)} of {len(numbers)} records cannot be read: see mmjax data check")
    drawn = [(picture, card["text"]) for card in seen if (picture := picture_of(card)) is not None]
    if not drawn:
        raise UserError("no record has a picture, a sound or a video that can be decoded: see mmjax data check")
    contact_sheet([picture for picture, _ in drawn], [text for _, text in drawn], cell=192).save(args.out)
    print(f"{len(drawn)} of {len(source):,} records: {args.out}")


def answers(args: argparse.Namespace) -> None:
    """Writes the list of a source's answers, which the transform `answers` takes."""
    from mmjax.core import registry
    from mmjax.data import answers as lists
    from mmjax.data.sources import SOURCES

    found = lists.vocabulary(registry.build(SOURCES, _spec(args), where="source"), args.least)
    lists.save(args.out, found)
    path = str(Path(args.out).expanduser().absolute())
    print(f"{len(found):,} answers of at least {args.least} questions: {', '.join(found[:8])}{', ...' * (len(found) > 8)}")
    print(f"in data.transforms and eval.transforms: {json.dumps({'name': 'answers', 'answers': path}, ensure_ascii=False)}")


def _spec(args: argparse.Namespace) -> Spec:
    if (args.src is None) == (args.source is None):
        raise UserError("""give either SRC, e.g. a path, or --source='{"name": ...}'""")
    return _parse(args.src if args.source is None else args.source)


def _parse(src: str) -> Spec:
    """A source's spec from its literal, or from a path whose kind is detected and said."""
    if src.lstrip().startswith(("{", "[")) and not Path(src).exists():
        for read in (json.loads, ast.literal_eval):
            try:
                spec = read(src)
            except (ValueError, SyntaxError, TypeError):
                continue
            if isinstance(spec, dict):
                return spec
            raise UserError("a source is one dict, not a list: the sources of a mixture are looked at one by one")
        raise UserError(f"""{src[:80]!r} is neither json nor a Python literal such as '{{"name": "csv", "path": "..."}}'""")
    from mmjax.data.sources.detect import found

    spec, why = found(src)
    print(f"{why}: {json.dumps(spec, ensure_ascii=False)}", file=sys.stderr)
    return spec


def _all_splits(spec: Spec) -> dict[str, Spec]:
    """The source itself; of a tfds set whose split is not said, all its splits."""
    if spec.get("name") != "tfds" or "split" in spec:
        return {spec.get("split", "all"): spec}
    from mmjax.data import store

    folder = store.locate(spec["dataset"]) if "dataset" in spec else Path(spec["path"]).expanduser()
    info = folder / "dataset_info.json"
    names = [split["name"] for split in json.loads(info.read_text())["splits"]] if info.exists() else ["train"]
    return {name: {**spec, "split": name} for name in sorted(names, key=lambda name: name != "train")}


def _workers(args: argparse.Namespace) -> int | None:
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers={args.workers} has to be at least 1")
    return args.workers


def _summary(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "records", f"{facts['checked']:,} read of {facts['records']:,}"
    yield "fields", _counts(facts["fields"])
    if found := facts["pictures"]:
        yield "formats", _counts(facts["formats"] | facts["modes"])
        for side in ("width", "height", "aspect"):
            yield side, _quantiles(found[side])
        yield "near duplicates", f"{found['near']:,} pictures look like another of other bytes"
    if found := facts["sounds"]:
        yield "seconds", f"{_quantiles(found['seconds'])}; {found['total_hours']:.2f} hours"
        yield "rates", _counts({f"{rate} Hz": count for rate, count in found["rates"].items()})
    if facts["equal"]["copies"]:
        groups = "; ".join(" = ".join(ids) for ids in facts["equal"]["records"][:3])
        more = "; ..." if facts["equal"]["contents"] > 3 else ""
        yield "equal files", f"{facts['equal']['copies']:,} copies of {facts['equal']['contents']:,}: {groups}{more}"
    if found := facts["captions"]:
        yield "captions", f"{found['count']:,}, {found['distinct']:,} distinct"
        yield "characters", _quantiles(found["characters"])
        yield "words", _quantiles(found["words"])
        yield "scripts", _counts(facts["scripts"])
    yield "in trouble", f"{facts['broken_records']:,} records"


def _print_trouble(facts: Mapping[str, Any]) -> None:
    for trouble in facts["broken"]:
        keys = ", ".join(key for key, _ in trouble["records"][:5])
        print(f"  {trouble['count']:6,}  {trouble['kind']}: {keys}{', ...' if trouble['count'] > 5 else ''}")
        print(f"          the first: {trouble['records'][0][1]}")
    if facts["ids"]["repeated"]:
        print(f"  {facts['ids']['repeated']:6,}  ids that occur more than once: {', '.join(facts['ids']['records'])}")


def _leak(leak: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, what in {"equal": "equal pictures", "near": "near duplicates", "captions": "equal captions"}.items():
        some = leak["examples"][key]
        yield what, f"{leak[key]:,}" + (f": {', '.join(some)}{', ...' * (leak[key] > len(some))}" if some else "")


def _quantiles(quantity: Mapping[str, Any]) -> str:
    found = quantity["quantiles"]
    if found["min"] == found["max"]:
        return f"{found['min']:.4g}"
    most = f"1 % to 99 %: {found['1 %']:.4g} to {found['99 %']:.4g}"
    return f"{found['min']:.4g} to {found['max']:.4g}, median {found['median']:.4g}, {most}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered[:12]) + (", ..." if len(ordered) > 12 else "")


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"  {name:16} {value}" for name, value in rows)
