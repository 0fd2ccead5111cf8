"""Peak dense bf16 operations per second of a chip, for model flops utilisation."""

# device_kind as jax reports it -> operations/s. TPUs: Google Cloud's system architecture pages of v4, v5e, v5p, v6e. GPUs:
# NVIDIA's A100 and H100 data sheets (SXM, without sparsity); the H200's compute is the H100's.
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}
