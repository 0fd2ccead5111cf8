#!/bin/sh
# Trains what a table of the README compares, on grids of emoji and two CPU cores, and prints it: "vqa", "statements" or "albef",
# then the arguments of tests/benchmarks/vqa_table.py, statements_table.py or albef_table.py.
#   launch/table.sh vqa --seeds 0 1 2 --models vilt lxmert
set -eu
cd "$(dirname "$0")/.."
table="tests/benchmarks/${1:?vqa, statements or albef}_table.py"
sets=emoji_vqa
[ "$1" != statements ] || sets="$sets emoji_pairs emoji_entailment"
shift
./launch/setup.sh
for name in $sets; do .venv/bin/mmjax data get $name; done
# Large pages, as in quickstart.sh.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
exec .venv/bin/python "$table" "$@"
