#!/usr/bin/env bash
# Everything that a GPU can show, in one call: the tests of numerics, then throughput, utilisation and memory beside open_clip.
#   launch/gpu.sh [OUT]        (needs jax with cuda; torch and open_clip_torch for the comparison; writes OUT/*.json)
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
mkdir -p "$out"
export PYTHONPATH=$PWD XLA_PYTHON_CLIENT_PREALLOCATE=false
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$out/device.csv"
JAX_PLATFORMS=cuda python3 -m pytest -q tests/layers tests/losses tests/models tests/train/test_step.py 2>&1 | tee "$out/tests.txt"
for batch in 256 1024; do
    python3 tests/benchmarks/throughput.py --config=configs/clip_b32.py --batch=$batch --out="$out/clip_b32_$batch.json"
done
python3 tests/benchmarks/throughput.py --config=configs/clip_b16.py --batch=256 --out="$out/clip_b16_256.json"
python3 tests/benchmarks/throughput.py --config=configs/clip_l14.py --batch=128 --remat=full --out="$out/clip_l14_128.json"
