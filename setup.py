"""mmjax: install with `pip install -e .`; the scripts in launch/ install the pinned versions of requirements.txt first."""

from pathlib import Path

from setuptools import find_packages, setup

# Clips: decoded by libraries that carry their own codecs.
clips = {"audio": ["soundfile>=0.13", "soxr>=1.0"], "video": ["av>=18"]}
regions = ["h5py>=3.11"]  # of region features in h5
extras = {
    **clips,
    "regions": regions,
    "gcs": ["gcsfs"],
    "s3": ["s3fs"],
    "cuda": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    "test": [
        *clips["audio"],
        *clips["video"],
        *regions,
        "pytest>=8",
        "pytest-xdist>=3.7",
        "hypothesis>=6",
        "beartype>=0.18",
        "ruff>=0.5",
        "sentencepiece>=0.2.1",  # trains what the reader of its files is held against
    ],
    "parity": ["torch==2.13.0", "transformers>=5", "safetensors", "tokenizers", "huggingface-hub", "regex", "tqdm"],
    "predict": ["usearch>=2.16"],
    "wandb": ["wandb"],
}
# What one machine can have at once: an accelerator's jax is chosen by name.
extras["all"] = sorted({need for name in ("test", "parity", "wandb", "gcs", "s3") for need in extras[name]})

setup(
    name="mmjax",
    version="0.1.0",
    description="Multimodal models in JAX, from two CPU cores to a TPU pod, from one config file",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["mmjax", "mmjax.*"]),
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "grain>=0.2.18",
        "tensorflow-datasets>=4.9.10",
        "array_record>=0.8",
        "ml_collections>=1.1",
        "clu>=0.0.12",
        # No wheel elsewhere: Pillow then resizes.
        "cykooz-resizer>=4.0.1; platform_machine == 'x86_64' or sys_platform != 'linux'",
        "flatbuffers>=24",  # jax.export writes with it
        "fsspec>=2025.1",
        "jaxtyping>=0.3.11",
        "numpy>=2",
        "pillow>=11",
        "pyarrow>=20",
        "resvg-py==0.5.0",
        "scipy>=1.15",  # L-BFGS of the linear probe
        "simplejpeg>=1.8",
        "tensorboardX>=2.6.4",
        "tokenizers>=0.22",
        "tqdm>=4.66",
    ],
    extras_require=extras,
    entry_points={"console_scripts": ["mmjax = mmjax.cli:main"]},
)
