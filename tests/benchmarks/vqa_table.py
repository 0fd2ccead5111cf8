"""The models that read picture and text together, side by side on emoji_vqa: one budget, near-equal parameters, three seeds.

    launch/table.sh vqa --seeds 0 1 2

Each model, ALBEF in the others' size, answers questions (`:small`) with each seed, the same batches of 128 in the same order
for all. With --captions it first learns so many steps, once, from the captions of grids (masked words, `:captions`; ALBEF all
its objectives, `albef.py:small`). Models ":seen" see by the encoder of `emoji_squares.py`, which is trained once; models
":named" are told what is in the squares. --blind trains the first model's questions once more with its pictures hidden: the
question-only baseline that was learned. A run whose results are there is not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mmjax.core.config import load, plain  # noqa: E402

MODELS = {
    "visualbert": "one stream, BERT's blocks; each modality has a segment",
    "vilt": "one stream, a ViT's blocks; each modality has a type",
    "lxmert": "two streams; cross-attention with one set of weights; the first word is read",
    "cross_encoder": "two streams; cross-attention of its own each way; the mean of both is read",
    "albef": "two towers, aligned first by contrast, matching and masked words; then the text looks at the picture",
}
READ = {"seen": "squares are regions, read by an encoder that learned to name them", "named": "what is in the squares is told"}
MODELS |= {f"{name}:{how}": what for how, what in READ.items() for name in ("cross_encoder", "lxmert", "visualbert")}
# What each begins with, where it is asked to, and what answers.
RECIPES = {name: (f"{name}.py:captions", f"{name}.py:small") for name in MODELS}
RECIPES |= {name: (None, name.replace(":", ".py:")) for name in MODELS if ":" in name}
RECIPES["albef"] = ("albef.py:small", "albef_vqa.py:small")
# ALBEF's own small size is twice as wide and deep.
TOWER = {"width": 64, "mlp": 128, "depth": 1}
SIZES = {"albef": [f"model.{part}.{key}={n}" for part in ("image", "text") for key, n in TOWER.items()]}
SIZES["albef"] += ["model.fusion=1", "optim.lr=2e-3"]
SETS = ("validation", "unseen_concepts", "unseen_style")


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[name for name in MODELS if ":" not in name], choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--captions", type=int, default=0, help="steps of masked words; 0 leaves them out")
    parser.add_argument("--steps", type=int, help="steps of questions; by default the recipe's")
    parser.add_argument("--blind", action="store_true", help="also train the first model without pictures")
    parser.add_argument("--out", default=str(ROOT / "runs" / "vqa_table"))
    args = parser.parse_args()
    runs = [(model, False) for model in args.models] + ([(args.models[0], True)] if args.blind else [])
    lines, found = [], {}
    for model, blind in runs:
        found = {seed: run(args, model, seed, blind) for seed in args.seeds}
        cells = [mean([found[seed][name]["accuracy"] for seed in args.seeds]) for name in SETS]
        seconds = np.mean([found[seed]["train_seconds"] for seed in args.seeds])
        what = "its pictures hidden" if blind else MODELS[model]
        lines.append(f"| {model} | {what} | {' | '.join(costs(model))} | {seconds:.0f} | {' | '.join(cells)} |")
    costly = ("parameters", "GFLOP an example", "MiB of a step", "s")
    head = ("model", "what differs", *costly, *(name.replace("_", " ") for name in SETS))
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    print("\n".join(lines))
    results = found[args.seeds[0]]
    for name, what in (("question_only", "the most frequent answer to the same words"), ("majority", "one answer to all")):
        cells = " | ".join(f"{results[split][f'{name}/accuracy']:.3f}" for split in SETS)
        print(f"| {name} | {what} | | | | | {cells} |")


def run(args: argparse.Namespace, model: str, seed: int, blind: bool) -> dict:
    """results.json of a model and a seed, trained where it is not there."""
    name = model.replace(":", "_")
    workdir, more = f"{args.out}/{name}{'_blind' if blind else ''}_{seed}", ["--config.init=none"]
    start, answering = RECIPES[model]
    if answering.endswith(":seen"):
        more = [f"--config.init={json.dumps({**resolved(answering)['init'], 'from': eye(args)})}"]
    if args.captions and start:
        before = f"{args.out}/{name}_captions"
        train(start, before, 0, args.captions, *sized(model))
        init = resolved(answering)["init"] or {}
        more = [f"--config.init={json.dumps({**init, 'from': before})}"]
    steps = args.steps or resolved(answering)["steps"]
    hidden = ["--config.task.blind=True"] if blind else []
    train(answering, workdir, seed, steps, *more, *sized(model), *hidden)
    return json.loads(Path(workdir, "results.json").read_text())


def eye(args: argparse.Namespace) -> str:
    """Where `emoji_squares.py` was trained, once, by its own number of steps."""
    workdir = f"{args.out}/emoji_squares"
    train("emoji_squares.py", workdir, 0, resolved("emoji_squares.py")["steps"])
    return workdir


def sized(model: str) -> list[str]:
    """What gives a model the others' size."""
    return [f"--config.{text}" for text in SIZES.get(model, [])]


def resolved(config: str, *overrides: str) -> dict:
    """A recipe, "RECIPE.py:ARGUMENT", with overrides KEY=VALUE."""
    return plain(load(str(ROOT / "configs" / config), overrides))


def train(config: str, workdir: str, seed: int, steps: int, *more: str) -> None:
    """Runs the command line; a tenth of the steps warm up."""
    budget = [f"--config.steps={steps}", f"--config.optim.schedule.warmup={steps // 10}", f"--config.seed={seed}"]
    words = [sys.executable, "-m", "mmjax", "train", f"--config=configs/{config}", f"--workdir={workdir}", *budget, *more]
    print(" ".join(words[2:]), flush=True)
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def costs(model: str) -> list[str]:
    """Parameters, GFLOP an example (forward and backward), and MiB that a step needs beside its state, by XLA's account."""
    from mmjax.core import tree
    from mmjax.sharding import mesh as meshes
    from mmjax.tasks import build as tasks
    from mmjax.train import loop, step

    config = resolved(RECIPES[model][1], *SIZES.get(model, []))
    plan = loop.plan(config, meshes.make({"data": 1}))
    parameters = sum(leaf.size for leaf in tree.flatten(plan.model.abstract["params"]).values())
    compiled = step.compiled(plan).lower(plan.abstract(), tasks.abstract_batch(config)).compile()
    flops = loop.model_flops(config, plan) / config["batch_size"]
    return [f"{parameters:,}", f"{flops / 1e9:.3f}", f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.0f}"]


def mean(values: list[float]) -> str:
    """The mean, and the spread from least to most where there are several."""
    spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
