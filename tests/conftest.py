"""What every test stands on: the CPU, this checkout's mmjax, and annotations that are checked at run time.

Deprecation warnings of mmjax are errors by pyproject.toml. Set MMJAX_TEST_ANNOTATIONS=0 to leave annotations unchecked
(in the subprocesses of a test that measures time, for example).
"""

import gc
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the suite's time on two cores, and what is tested does not need the result to be fast.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# MLIR's emitters of fused loops take two thirds of what is left of compiling; later jaxlibs have no others. The older ones join
# products and sums where the machine can, in one program and not in another, and float64 comparisons see pixels made in float32
# differ: so none are joined. Processes that tests start inherit this.
if version("jaxlib").startswith("0.10.") and platform.machine() == "x86_64":
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()
sys.path.insert(0, str(Path(__file__).parents[1]))

# The longest files. One that begins last keeps one process at work while the others have none.
FIRST = ["test_multi.py", "test_resume.py", "test_albef_task.py", "test_configs.py", "test_two_processes.py", "test_cli.py"]
FIRST += ["test_cli_fusion.py", "test_cross_encoder.py"]


def pytest_configure(config):
    """Silences beartype's opinion of flax's own annotations."""
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")


def pytest_collection_finish():
    """What is loaded stays: left to Python's collector, it would be walked through every 700 objects, a tenth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_collection_modifyitems(items):
    """The longest files first, all others in their order."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


if os.environ.get("MMJAX_TEST_ANNOTATIONS", "1") != "0":
    from jaxtyping import install_import_hook

    # An int is a float, as Python's own typing has it (PEP 484).
    install_import_hook("mmjax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
