"""What the models make of statements about emoji's grids, after questions: true or not of two, entailed or not by one.

    launch/table.sh statements --seeds 0 1 2

Each model answers questions first, as its statements' recipe has it: by `:seen`, ViLT, which reads no regions, by `:small` (see
vqa_table.py). From there it learns `:pairs` (emoji_pairs) and `:entailment` (emoji_entailment). A run whose results are there
is not run again.
"""

import argparse
import json

import numpy as np
from vqa_table import ROOT, SETS, mean, resolved, run, train

RECIPES = {
    "pairs": ("visualbert", "vilt"),
    "entailment": ("visualbert", "vilt", "lxmert", "cross_encoder"),
}


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(RECIPES["entailment"]), choices=RECIPES["entailment"])
    parser.add_argument("--about", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", default=str(ROOT / "runs" / "vqa_table"))
    args = parser.parse_args()
    args.captions, args.steps = 0, None  # of what answers questions: nothing before, and the recipe's steps
    lines = [f"| statements | model | s | {' | '.join(SETS)} |", "|---" * (3 + len(SETS)) + "|"]
    for about in args.about:
        results = {}
        for model in [name for name in args.models if name in RECIPES[about]]:
            found = [results := stated(args, model, about, seed) for seed in args.seeds]
            cells = [mean([each[name]["accuracy"] for each in found]) for name in SETS]
            seconds = np.mean([each["train_seconds"] for each in found])
            lines.append(f"| {about} | {model} | {seconds:.0f} | {' | '.join(cells)} |")
        for name in ("question_only", "majority") if results else ():
            cells = [mean([results[split][f"{name}/accuracy"]]) for split in SETS]
            lines.append(f"| {about} | {name} | | {' | '.join(cells)} |")
    print("\n" + "\n".join(lines))


def stated(args: argparse.Namespace, model: str, about: str, seed: int) -> dict:
    """results.json of a model that has learned statements, trained where it is not there."""
    config, workdir = f"{model}.py:{about}", f"{args.out}/{model}_{about}_{seed}"
    before = resolved(config)["init"]["from"].removeprefix(f"runs/{model}_")
    asked = model if before == "small" else f"{model}:{before}"
    run(args, asked, seed, blind=False)
    start = f"--config.init.from={args.out}/{asked.replace(':', '_')}_{seed}"
    train(config, workdir, seed, resolved(config)["steps"], start)
    return json.loads((ROOT / workdir / "results.json").read_text())


if __name__ == "__main__":
    main()
