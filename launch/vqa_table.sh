#!/bin/sh
# Trains the models that read picture and text together on emoji_vqa under one budget, and prints the README's table.
# Arguments are those of tests/benchmarks/vqa_table.py, e.g. --seeds 0 1 2 --models vilt lxmert.
set -eu
cd "$(dirname "$0")/.."
./launch/setup.sh
.venv/bin/mmjax data get emoji_vqa
# Large pages, as in quickstart.sh.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
exec .venv/bin/python tests/benchmarks/vqa_table.py "$@"
