"""What ALBEF's objectives bring on grids of emoji: the rows of its paper's Table 1, and the ablations that a config names.

    launch/table.sh albef --seeds 0 1 2 --runs all itc

`albef.py:small` is trained as many steps each time. Candidates are the 1,000 grids of validation and their 4,000 captions; the
shortlist, which matching orders, is the recipe's. Without the contrast there is no shortlist: that row has the first 100 grids
and 400 captions, all fused with all, and "few" is the whole model on these. A run whose results are there is not run again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from vqa_table import ROOT, mean, train

UNTAUGHT = ("task.distil.contrastive=0", "task.distil.masked_tokens=0")
# Its matching head has learned nothing: one pair a query is read, and what it says is not shown.
UNMATCHED = ("task.weights.matching=0", "eval.sets.0.shortlist=1")
FEW = ("eval.sets.0.source.split=validation[:400]", "eval.sets.0.shortlist=400")
RUNS = {
    "all": ("ITC + ITM + MLM, as shipped: hard negatives, a teacher for both", ()),
    "itc": ("ITC alone", ("task.weights.masked_tokens=0", *UNMATCHED)),
    "even": ("ITC + ITM + MLM, even negatives, no targets of the teacher's", ("task.hard_negatives=False", *UNTAUGHT)),
    "hard": ("the same with hard negatives", UNTAUGHT),
    "taught_itc": ("and the teacher's targets for ITC", ("task.distil.masked_tokens=0",)),
    "no_teacher": ("no momentum: neither teacher nor queue", ("task.momentum=none",)),
    "no_mlm": ("ITC + ITM", ("task.weights.masked_tokens=0",)),
    "no_itm": ("ITC + MLM", UNMATCHED),
    "no_itc": ("ITM + MLM, among 100 grids", ("task.weights.contrastive=0", "task.distil.masked_tokens=0", *FEW)),
    "few": ("ITC + ITM + MLM, among the same 100", FEW),
}
HEADS = {"itc": "the contrast", "itm": "matching, on its shortlist", "sum": "their sum"}
READ = dict.fromkeys(("itc", "no_itm"), ("itc",)) | {"no_itc": ("itm",)}
NUMBERS = ("t2i/R@1", "t2i/R@5", "i2t/R@1", "i2t/R@5")


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", default=["all", "itc"], choices=list(RUNS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", default=str(ROOT / "runs" / "albef_table"))
    args = parser.parse_args()
    print(f"\n| trained with | s | ordered by | {' | '.join(NUMBERS)} |\n{'|---' * (3 + len(NUMBERS))}|")
    for run in args.runs:
        what, more = RUNS[run]
        for seed in args.seeds:
            if not Path(f"{args.out}/{run}_{seed}/results.json").exists():
                train("albef.py:small", f"{args.out}/{run}_{seed}", seed, args.steps, *(f"--config.{text}" for text in more))
        found = [json.loads(Path(f"{args.out}/{run}_{seed}/results.json").read_text()) for seed in args.seeds]
        seconds = np.mean([each["train_seconds"] for each in found])
        for head in READ.get(run, HEADS):
            cells = (mean([each["validation"][f"{head}/{number}"] for each in found]) for number in NUMBERS)
            print(f"| {what} | {seconds:.0f} | {HEADS[head]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
