#!/usr/bin/env bash
# Trains the quickstart once a seed and prints a table with mean and spread.
#   launch/seeds.sh 0 1 2        (workdirs runs/seed0 ...)
set -euo pipefail
cd "$(dirname "$0")/.."
for seed in "${@:-0}"; do
    WORKDIR=runs/seed$seed launch/quickstart.sh --config.seed="$seed"
done
.venv/bin/python - "${@:-0}" <<'PY'
import json
import statistics
import sys

runs = [json.load(open(f"runs/seed{seed}/results.json")) for seed in sys.argv[1:]]
print(f"| set | metric | {' | '.join('seed ' + seed for seed in sys.argv[1:])} | mean | spread |")
print("|---|---|" + "---|" * (len(runs) + 2))
rows = [(name, f"{way}/R@{k}") for name in ("heldout_pairs", "unseen_concepts") for way in ("t2i", "i2t") for k in (1, 5)]
for name, metric in [*rows, ("heldout_pairs", "zeroshot/top1")]:
    found = [run[name][metric] for run in runs]
    cells = " | ".join(f"{x:.3f}" for x in found)
    print(f"| {name} | {metric} | {cells} | {statistics.mean(found):.3f} | {max(found) - min(found):.3f} |")
print("train seconds:", [run["train_seconds"] for run in runs])
PY
