#!/usr/bin/env bash
# Everything that a GPU can show, in one call: the tests of numerics, then throughput, utilisation and memory beside open_clip,
# the contrastive losses at large batches, and the quickstart where its data are prepared.
#   launch/gpu.sh [OUT]        (needs jax with cuda; torch and open_clip_torch for the comparison; writes OUT/*)
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} XLA_PYTHON_CLIENT_PREALLOCATE=false TF_CPP_MIN_LOG_LEVEL=2
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$out/device.csv"
measure() { # NAME ARGUMENTS...
    timeout 120 python3 tests/benchmarks/throughput.py --rounds=5 "${@:2}" --out="$out/$1.json" 2>&1 | tail -n 4 | tee -a "$out/throughput.txt"
}
for attention in plain fused; do
    measure clip_b32_1024_$attention --config=configs/clip_b32.py --batch=1024 --attention=$attention
    measure clip_b16_256_$attention --config=configs/clip_b16.py --batch=256 --attention=$attention
done
measure clip_l14_128_fused --config=configs/clip_l14.py --batch=128 --remat=full --attention=fused
# The tests' tolerances are those of float32 products; a GPU takes TF32 where it is not told otherwise.
JAX_PLATFORMS=cuda JAX_DEFAULT_MATMUL_PRECISION=highest timeout 240 python3 -m pytest -q -n 12 --dist=loadfile \
    tests/layers tests/losses tests/models tests/train/test_step.py tests/train/test_chunks.py 2>&1 | tail -n 40 | tee "$out/tests.txt"
timeout 120 python3 tests/benchmarks/contrastive.py --batches 8192 32768 --rounds=3 --out="$out/contrastive.json" 2>&1 | tail -n 25
python3 -m mmjax train --config=configs/quickstart.py --workdir="$out/quickstart" 2>&1 | tail -n 3
