"""The command line: wires the rooms together.

mmjax train    --config=FILE.py[:arg] --workdir=DIR [--config.a.b=value ...]
mmjax evaluate --checkpoint=DIR [--config.a.b=value ...]
mmjax check    --config=FILE.py[:arg] [--devices=N] [--sheet=FILE.png] [--config.a.b=value ...]
mmjax data     list | get NAME | make SRC --out=DIR | check SRC | show SRC
mmjax predict  embed | retrieve | classify | answer | match --checkpoint=DIR ...
mmjax export   --checkpoint=DIR --to=DIR --format=stablehlo|onnx [--tower=image|text]
mmjax convert  --from=DIR_OR_FILE --to=DIR --format=mmjax|hf|open_clip|npz [--like=NAME]
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmjax import cli_convert, cli_data, cli_predict
from mmjax.core.config import load, plain
from mmjax.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 bad input (one to three lines), 143 stopped by SIGTERM with all saved."""
    args = _parser().parse_args(_join_overrides(sys.argv[1:] if argv is None else list(argv)))
    try:
        args.run(args)
    except UserError as error:
        if args.debug:
            raise
        _end(f"mmjax {args.verb}: {error}", 2)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:  # whoever read our output, as `| head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if type(error).__name__ == "Interrupted":  # train's; jax is imported only by the verbs that need it
            _end(str(error), 143)
        if args.debug:
            raise
        _end(f"mmjax {args.verb}: {type(error).__name__}: {error}\n(add --debug for the traceback)", 1)


def train(args: argparse.Namespace) -> None:
    """Trains, resumes, or finds the work done; then writes the report."""
    config = plain(load(args.config, args.overrides))
    _start_jax()
    from mmjax.sharding import processes
    from mmjax.train import loop

    _say(processes.table())
    run = loop.setup(config, args.workdir)
    suite = _make_suite(run.config, run.plan)
    results = loop.finished(run)
    if results is None:
        results = loop.train(run, suite, _travels(config), init=_init(run))
        _report(args.workdir, suite, results)
    else:
        _say(f"already trained to step {config['steps']}; --config.steps=N goes on from there")
    _print_results(args.workdir, results)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluates a checkpoint with the config that it carries; rewrites results.json and the report beside it."""
    _start_jax()
    import jax

    from mmjax.checkpoint import store
    from mmjax.sharding import mesh as meshes
    from mmjax.train import loop

    folder = store.find(args.checkpoint)
    meta = store.meta(folder)
    config = _with_overrides(meta["config"], args.overrides)
    # Results go into the workdir; beside the checkpoint where it was copied out of one.
    workdir = str(folder.parent.parent if folder.parent.name == "checkpoints" else folder)
    plan = loop.plan(config, meshes.make(config["mesh"]))
    wanted = "ema" if config["eval"]["params"] == "ema" else "params"
    like, places = ({k: tree[k] for k in (wanted, "stats")} for tree in (plan.abstract(), plan.shardings()))
    state = store.restore(folder, like, places, parts=(wanted, "stats"))
    for transform in config["eval"]["transforms"] if meta.get("answers") else ():
        transform |= {"answers": meta["answers"]} if "answers" in transform else {}
    with _tokenizer(config, meta["tokenizer"]):
        suite = _make_suite(config, plan)
    step = int(folder.name)
    results = suite(state[wanted], state["stats"], step)
    results |= {"step": step, "train_seconds": meta["train_seconds"], "seed": meta["seed"]}
    if jax.process_index() == 0:
        store.write_json(f"{workdir}/results.json", results)
    _report(workdir, suite, results)
    _print_results(workdir, results)


def check(args: argparse.Namespace) -> None:
    """Prints what a config makes: the parameter table, bytes a device, flops; and, with data at hand, one batch."""
    config = plain(load(args.config, args.overrides))
    _start_jax()
    import jax

    from mmjax.evaluators import suite
    from mmjax.plan.check import describe
    from mmjax.sharding import mesh as meshes

    suite.check(config)
    count = args.devices or jax.device_count()
    print(describe(config, meshes.abstract(config["mesh"], count)))
    _check_data(config, args.sheet)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmjax", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--set", dest="overrides", action="append", default=[], help=argparse.SUPPRESS)

    verb = verbs.add_parser("train", parents=[common, settings], help=train.__doc__)
    verb.add_argument("--config", required=True, help="FILE.py or FILE.py:arg; --config.a.b=value changes a setting")
    verb.add_argument("--workdir", required=True, help="where checkpoints, metrics and the report go; the same resumes")
    verb.set_defaults(run=train)

    verb = verbs.add_parser("evaluate", parents=[common, settings], help=evaluate.__doc__)
    verb.add_argument("--checkpoint", required=True, help="a workdir (its newest checkpoint) or its checkpoints/STEP")
    verb.set_defaults(run=evaluate)

    verb = verbs.add_parser("check", parents=[common, settings], help=check.__doc__)
    verb.add_argument("--config", required=True)
    verb.add_argument("--devices", type=int, help="lay the mesh over so many devices that need not be here")
    verb.add_argument("--sheet", default="check.png", help="where the contact sheet of one batch goes")
    verb.set_defaults(run=check)

    verb = verbs.add_parser("data", parents=[common], help="Shipped data sets; your own made into shards, checked, shown.")
    cli_data.add_parsers(verb, common)
    cli_convert.add_parsers(verbs, common)

    verb = verbs.add_parser("predict", help="What a checkpoint says of new pictures and texts.")
    cli_predict.add_parsers(verb, common)
    return parser


def _join_overrides(argv: list[str]) -> list[str]:
    """--config.a.b=value -> --set=a.b=value, which argparse can hold."""
    joined, words = [], iter(argv)
    for word in words:
        if word.startswith("--config."):
            if "=" not in word:
                word = f"{word}={next(words, '')}"
            word = f"--set={word.removeprefix('--config.')}"
        joined.append(word)
    return joined


def _with_overrides(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    from ml_collections import ConfigDict

    from mmjax.core.config import override

    return plain(override(ConfigDict(config), overrides))


def _start_jax() -> None:
    """Joins other processes, keeps compiled programs between runs, and quiets what users cannot act on."""
    import absl.logging
    import jax

    from mmjax.sharding import processes

    absl.logging.set_verbosity(absl.logging.ERROR)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path("~/.cache/mmjax/xla").expanduser())
    jax.config.update("jax_compilation_cache_dir", cache)
    processes.connect()
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        # XLA's CPU programs forget the order of their collectives when they come from the cache, and then wait for ever.
        jax.config.update("jax_enable_compilation_cache", False)


def _make_suite(config: dict[str, Any], plan: Any) -> Any:
    from mmjax.evaluators.suite import Suite

    return Suite(config, plan.model, plan.task, plan.mesh)


def _init(run: Any) -> Any:
    """What fills a new run's model by `config.init`; None for one that starts fresh or goes on."""
    from mmjax.checkpoint import store

    if not run.config.get("init") or store.saved(run.workdir):
        return None
    from mmjax.convert.init import Init

    init = Init(run.config["init"], run.plan.model.abstract)
    for line in init.lines:
        _say(line)
    return init


def _travels(config: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint carries so that its user's preprocessing cannot differ from its training's."""
    from mmjax.data import answers
    from mmjax.data.transforms.text import tokenizer_json

    names = [t["tokenizer"] for t in config["eval"]["transforms"] if "tokenizer" in t]
    listed = [t["answers"] for t in config["eval"]["transforms"] if "answers" in t]
    return {
        "tokenizer": tokenizer_json(names[0]) if names else None,
        "answers": answers.load(listed[0]) if listed else None,
        "preprocessing": {"transforms": config["eval"]["transforms"], "pixels": config["task"].get("pixels")},
    }


@contextlib.contextmanager
def _tokenizer(config: dict[str, Any], tokenizer: str | None) -> Iterator[None]:
    """Points the evaluation's tokenise at the tokenizer that the checkpoint carries, for as long as transforms are built."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        for transform in config["eval"]["transforms"] if tokenizer is not None else ():
            if "tokenizer" in transform:
                path.write_text(tokenizer, encoding="utf-8")
                transform["tokenizer"] = str(path)
        yield


def _report(workdir: str, suite: Any, results: dict[str, Any]) -> None:
    """Process 0 writes the report; the others wait for it, since a process that is done waits for them only a while."""
    import jax
    from etils import epath

    from mmjax.report.answers import Asked
    from mmjax.report.page import write
    from mmjax.report.pictures import Gallery
    from mmjax.sharding import processes
    from mmjax.train.loop import versions

    if jax.process_index() == 0:
        about = {"device": processes.table(), "seed": str(results["seed"]), **versions()}
        galleries = [Asked(**found) if "questions" in found else Gallery(**found) for found in suite.galleries()]
        write(workdir, galleries, epath.Path(workdir).absolute().name, about)
    processes.agree(None)


def _print_results(workdir: str, results: dict[str, Any]) -> None:
    import jax

    if jax.process_index() != 0:
        return
    for name, scores in results.items():
        if isinstance(scores, dict):
            count = next((key for key in ("candidates", "questions") if key in scores), None)
            print(f"\n{name}" + (f" ({scores[count]} {count})" if count else ""))
            for key, value in scores.items():
                if key != count:
                    print(f"  {key:24} {value:.4f}" if isinstance(value, float) else f"  {key:24} {value}")
    print(f"\ntrained for {results['train_seconds']:.0f} s; results: {workdir}/results.json; report: {workdir}/report.html")


def _check_data(config: dict[str, Any], sheet: str) -> None:
    from mmjax.data.rows import split
    from mmjax.data.stream import Stream
    from mmjax.report.sheet import contact_sheet
    from mmjax.tasks import build as tasks

    try:
        looked_at = min(config["batch_size"], 36)
        data = config["data"] | {"workers": 0, "fields": tuple(config["batch"])}
        stream = Stream(**data, batch_size=looked_at, seed=config["seed"])
    except UserError as error:
        print(f"\nno data to look at: {error}")
        return
    rows, strings = split(stream.batch_at(0))
    tasks.check_batch(config, rows)
    print(f"\nbatch 0, its first {looked_at} rows:")
    for name, value in rows.items():
        print(f"  {name:8} {value.shape!s:20} {value.dtype!s:8} from {value.min()} to {value.max()}")
    for i in range(min(3, len(strings["id"]))):
        print(
            f"  {strings['id'][i]}: {strings['caption'][i]!r}" + (f" -> {rows['text'][i].tolist()}" if "text" in rows else "")
        )
    if "image" in rows:
        contact_sheet(list(rows["image"][:36]), strings["caption"][:36].tolist()).save(sheet)
        print(f"  contact sheet: {sheet}")


def _say(line: str) -> None:
    """Prints what is the same on all processes, once."""
    import jax

    if jax.process_index() == 0:
        print(line, file=sys.stderr)


def _end(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    sys.exit(status)
