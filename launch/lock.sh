#!/usr/bin/env bash
# Renews requirements.txt: the newest versions that setup.py admits, as == pins, for each Python named (default: python3).
#   launch/lock.sh python3.11 python3.12
# Where the Pythons get different versions, the line carries a marker.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in "${@:-python3}"; do
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[test]'
    version=$("$folder/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$folder/venv/bin/pip" freeze --exclude-editable --disable-pip-version-check >"$folder/$version.txt"
    rm -rf "$folder/venv"
done
python3 - "$folder" >requirements.txt <<'PY'
import pathlib
import sys

files = sorted(pathlib.Path(sys.argv[1]).glob("*.txt"), key=lambda p: [int(x) for x in p.stem.split(".")])
pins = {f.stem: dict(line.split("==") for line in f.read_text().split()) for f in files}
versions = list(pins)
only = {"cykooz-resizer": 'platform_machine == "x86_64" or sys_platform != "linux"'}  # what has no wheel elsewhere, as setup.py says
print("# Every package of an install with its version; launch/lock.sh renews it.")
for name in sorted({n for found in pins.values() for n in found}, key=str.lower):
    have = {v: pins[v].get(name) for v in versions}
    if len(set(have.values())) == 1:
        print("; ".join(filter(None, (f"{name}=={have[versions[0]]}", only.get(name)))))
        continue
    for i, version in enumerate(versions):  # a later Python that was not tried takes the last one's pins
        if have[version] is not None:
            first, last = i == 0, i == len(versions) - 1
            lower = "" if first else f'python_version >= "{version}"'
            upper = "" if last else f'python_version < "{versions[i + 1]}"'
            print(f"{name}=={have[version]}; {' and '.join(filter(None, (lower, upper)))}")
PY
