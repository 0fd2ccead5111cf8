#!/usr/bin/env bash
# Makes a virtual environment with the pinned versions and this checkout; a second call finds it made.
#   launch/setup.sh [FOLDER]     (default .venv; PYTHON chooses the interpreter, default python3)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "mmjax needs Python 3.11 or later; $python is $("$python" --version). Set PYTHON=python3.12, for example." >&2
    exit 1
}
# The folder belongs to what is installed: an environment of a checkout that was moved or linked would run the other one's code.
stamp=$venv/.installed-$({ pwd -P && cat requirements.txt setup.py; } | cksum | cut -d' ' -f1)
[ -f "$stamp" ] && exit 0
echo "installing pinned versions into $venv (a minute or two) ..." >&2
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" || {
    echo "could not make $venv: Debian's Python needs 'apt-get install python3-venv'" >&2
    exit 1
}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
rm -f "$venv"/.installed-*
touch "$stamp"
