"""The verbs `convert` and `export` of the command line: weights in and out, and programs out.

mmjax export  --checkpoint=DIR --to=DIR --format=stablehlo|onnx [--tower=image|text]
mmjax convert --from=DIR_OR_FILE --to=DIR --format=mmjax|hf|open_clip|npz [--like=NAME]
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError


def add_parsers(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Adds the verbs; each sets `run`."""
    verb = verbs.add_parser("export", parents=[common], help=export.__doc__)
    verb.add_argument("--checkpoint", required=True, help="a workdir, its checkpoints/STEP or a converted folder")
    verb.add_argument("--to", required=True, help="a folder that is not there yet")
    verb.add_argument("--format", required=True, help="stablehlo or onnx")
    verb.add_argument("--tower", help="image, text or audio; all that the checkpoint has by default")
    verb.set_defaults(run=export)

    verb = verbs.add_parser("convert", parents=[common], help=convert.__doc__)
    verb.add_argument("--from", dest="source", required=True, help="a folder or file of weights, or a checkpoint of mmjax")
    verb.add_argument("--to", required=True, help="a folder that is not there yet")
    verb.add_argument("--format", required=True, help="mmjax, hf (Hugging Face), open_clip or npz (big_vision)")
    verb.add_argument("--like", help="a published name, for what neither a config nor shapes tell (heads, activation)")
    verb.set_defaults(run=convert)


def export(args: argparse.Namespace) -> None:
    """Writes each tower as a program of any batch size: StableHLO for cpu, cuda and tpu, or ONNX."""
    _quiet()
    from mmjax.convert import export as programs
    from mmjax.convert import save
    from mmjax.tasks import build as tasks
    from mmjax.tasks.task import Binder

    meta, leaves = save.load(args.checkpoint)
    config = meta["config"]
    model, task = tasks.build(config)
    fields = [name for name in ("image", "text", "audio") if name in config["batch"]]
    if args.tower is not None and args.tower not in fields:
        raise UserError(f"--tower={args.tower}: this checkpoint has: {', '.join(fields)}")

    def method(name: str) -> Any:
        return lambda params, stats, rows: getattr(task, name)(Binder(model, stats), params, rows)

    towers = {
        name: programs.tower(method(name), leaves, name, config["batch"][name])
        for name in ([args.tower] if args.tower else fields)
    }
    names = programs.write(towers, meta, args.to, args.format)
    print(f"{args.to}: {', '.join(names)}")


def _quiet() -> None:
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)


def convert(args: argparse.Namespace) -> None:
    """Translates weights, with their preprocessing and tokenizer, from one project's files to another's."""
    _quiet()
    from mmjax.convert import save

    if args.format not in save.FORMATS:
        raise UserError(f"--format={args.format}: choose one of: {', '.join(save.FORMATS)}")
    if save.is_checkpoint(args.source):
        if args.format == "mmjax":
            raise UserError(f"--from={args.source} is a checkpoint of mmjax already")
        family, count = save.foreign_folder(args.source, args.to, args.format)
        print(f"{family.name}: {count} tensors, {args.format}: {args.to}")
        return
    if args.format == "mmjax":
        _read(args, args.to)
        print(f"checkpoint: {args.to}")
        return
    parent = Path(args.to).expanduser().absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    between = tempfile.mkdtemp(prefix=".convert.", dir=parent)
    try:
        _read(args, f"{between}/mmjax")
        family, count = save.foreign_folder(f"{between}/mmjax", args.to, args.format)
    finally:
        shutil.rmtree(between, ignore_errors=True)
    print(f"{family.name}: {count} tensors, {args.format}: {args.to}")


def _read(args: argparse.Namespace, to: str) -> None:
    from mmjax.convert import save
    from mmjax.convert.recognise import recognise

    found = recognise(args.source, args.like)
    counts = save.summary(found)
    print(f"{args.source}: {found.family.name} with the names of {found.family.format}")
    for name, entry in found.entries.items():
        layer = "" if entry.layer is None else f" [{entry.layer}]"
        print(f"  {name} -> {' + '.join(entry.own)}{layer}" + ("" if entry.row.how == "same" else f"  ({entry.row.how})"))
    for name, why in found.dropped.items():
        print(f"  {name} left out: {why}")
    print(f"{counts['tensors']} tensors -> {counts['leaves']} leaves, {counts['parameters']:,} parameters")
    meta = save.mmjax_folder(found, to, args.source)
    print(f"stored as {', '.join(meta['converted']['dtypes'])}; preprocessing: {found.preprocessing.transforms}, pixels "
          f"{found.preprocessing.pixels}; tokenizer: {'yes' if meta['tokenizer'] else 'none, texts need one'}")  # fmt: skip
