#!/bin/sh
# Trains ALBEF on grids of emoji with all its objectives and with the contrast alone, and prints the README's table.
# Arguments are those of tests/benchmarks/albef_table.py, e.g. --seeds 0 1 2.
set -eu
cd "$(dirname "$0")/.."
./launch/setup.sh
.venv/bin/mmjax data get emoji_vqa
# Large pages, as in quickstart.sh.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
exec .venv/bin/python tests/benchmarks/albef_table.py "$@"
