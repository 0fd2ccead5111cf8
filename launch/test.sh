#!/usr/bin/env bash
# Sets up as the quickstart does and runs all tests; further arguments go to pytest.
#   launch/test.sh [-k resume ...]
set -euo pipefail
cd "$(dirname "$0")/.."
launch/setup.sh .venv
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Most of the time goes into compiling, which keeps one core busy. A file stays on one process: its fixtures are made once.
# The order is tests/conftest.py's, longest first; xdist's own begins with the files of most tests, and so ends with the longest.
JAX_PLATFORMS=cpu .venv/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
