"""Runs what needs several devices, all files in one process with 8 fake ones."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = ["eight_devices.py", "cross_modal.py", "fusion.py", "ring.py", "topology.py", "albef.py"]


def test_on_eight_fake_devices():
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(str(HERE / file) for file in FILES)],
        env=env,
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
