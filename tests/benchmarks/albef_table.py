"""What ALBEF's objectives bring on grids of emoji: matching's order of a shortlist against the contrast's own, three seeds.

    launch/table.sh albef --seeds 0 1 2

`albef.py:small` is trained with all three objectives and, as many steps, with the contrast alone. Candidates are the 1,000
grids of validation and their 4,000 captions; the shortlist is the recipe's. A run whose results are there is not run again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from vqa_table import ROOT, mean, train

RUNS = {
    "all": ("ITC + ITM + MLM", []),
    "itc": (
        "ITC alone",
        # Its matching head has learned nothing: one pair a query is read, and what it says is not shown.
        [*(f"--config.task.weights.{term}=0" for term in ("matching", "masked_tokens")), "--config.eval.sets.0.shortlist=1"],
    ),
}
ROWS = {"all": {"itc": "the contrast", "itm": "matching, on its shortlist", "sum": "their sum"}, "itc": {"itc": "the contrast"}}
NUMBERS = ("t2i/R@1", "t2i/R@5", "i2t/R@1", "i2t/R@5")


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", default=str(ROOT / "runs" / "albef_table"))
    args = parser.parse_args()
    print(f"\n| trained with | s | ordered by | {' | '.join(NUMBERS)} |\n{'|---' * (3 + len(NUMBERS))}|")
    for run in args.runs:
        what, more = RUNS[run]
        for seed in args.seeds:
            if not Path(f"{args.out}/{run}_{seed}/results.json").exists():
                train("albef.py:small", f"{args.out}/{run}_{seed}", seed, args.steps, *more)
        found = [json.loads(Path(f"{args.out}/{run}_{seed}/results.json").read_text()) for seed in args.seeds]
        seconds = np.mean([each["train_seconds"] for each in found])
        for head, name in ROWS[run].items():
            cells = (mean([each["validation"][f"{head}/{number}"] for each in found]) for number in NUMBERS)
            print(f"| {what} | {seconds:.0f} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
