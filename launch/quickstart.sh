#!/usr/bin/env bash
# From nothing to a trained dual encoder and a page that shows what it learned, on a CPU. Run again, it resumes or finds its work done.
#   launch/quickstart.sh [--config.seed=1 ...]      (WORKDIR chooses the folder, default runs/quickstart)
set -euo pipefail
cd "$(dirname "$0")/.."
launch/setup.sh .venv
# Large pages: XLA takes and returns a hundred megabytes a step on a CPU, and the page faults cost a sixth of the time.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
.venv/bin/mmjax data get openmoji
exec .venv/bin/mmjax train --config=configs/quickstart.py --workdir="${WORKDIR:-runs/quickstart}" "$@"
