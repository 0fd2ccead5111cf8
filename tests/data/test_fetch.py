"""Packages are downloaded by their own clients, once, and held against their pins."""

# ruff: noqa: F811  a fixture of another file

import functools
import hashlib
import http.server
import json
import lzma
import os
import shutil
import subprocess
import threading

import pytest
from test_builders import CONTROL, deb_of, plant, tar_of  # noqa: F401

from mmjax.core.errors import UserError
from mmjax.data.builders.fetch import Deb, Npm, archive, members


def test_members_of_a_debian_package(plant):
    pin = plant(Deb, "tinypack", {"usr/share/a.txt": "hello", "usr/share/b.txt": None, "usr/share/c.bin": "x"})
    assert list(members(pin, r"usr/share/.*\.txt")) == [("usr/share/a.txt", b"hello")]


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        (Npm("@scope/tiny", "1.0", "0" * 64), "@scope/tiny@1.0 is downloaded with npm, which is not on the PATH"),
        (Deb("tiny", "1:2.0", "0" * 64), r"tiny=1:2\.0 is downloaded with apt-get, which is not on the PATH"),
    ],
)
def test_missing_client(plant, pin, message):
    with pytest.raises(UserError, match=message) as caught:
        archive(pin)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A server on this machine that stands in for the npm registry, with one package, and its checksum."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    package = {"name": "@scope/tiny", "version": "1.0.0"}
    packed = tar_of({"package/package.json": json.dumps(package).encode(), "package/data.txt": b"hello"}, "gz")
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "tiny.tgz").write_bytes(packed)
    handler = functools.partial(_Registry, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        dist = {"tarball": f"{url}tiny.tgz", "shasum": hashlib.sha1(packed).hexdigest()}
        versions = {"1.0.0": {**package, "dist": dist}}
        index = {"name": "@scope/tiny", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
        (folder / "@scope%2ftiny").write_text(json.dumps(index))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {"registry": url, "cache": str(tmp_path / "cache"), "fetch_retries": "0", "update_notifier": "false"}
        for key, value in settings.items():
            monkeypatch.setenv(f"npm_config_{key}", value)
        monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
        yield hashlib.sha256(packed).hexdigest()
        server.shutdown()


class _Registry(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):  # a scope's slash is escaped in the address, and stays so in the file's name
        return os.path.join(self.directory, path.lstrip("/"))

    def log_message(self, *args):
        pass


def test_npm_package_is_downloaded_once_and_checked(npm, monkeypatch):
    pin = Npm("@scope/tiny", "1.0.0", npm)
    assert dict(members(pin, r"package/data\.txt")) == {"package/data.txt": b"hello"}
    with pytest.raises(UserError, match=f"not the pinned file: sha256 {npm}"):
        archive(pin._replace(sha256="0" * 64))
    with pytest.raises(UserError, match=r"npm could not download @scope/tiny@2\.0\.0"):
        archive(pin._replace(version="2.0.0"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert archive(pin).name == "scope-tiny-1.0.0.tgz"


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A folder that stands in for Debian, with one package, and its checksum."""
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    packed = deb_of({"usr/share/data.txt": b"hello"})
    links = tmp_path / "links"
    for folder in (links, tmp_path / "state/lists/partial", tmp_path / "cache/archives/partial"):
        folder.mkdir(parents=True)
    (links / "tinypack.deb").write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    entry = f"{CONTROL}Filename: ./tinypack.deb\nSize: {len(packed)}\nSHA256: {digest}\n"
    (links / "Packages.xz").write_bytes(lzma.compress(entry.encode()))
    (tmp_path / "status").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{links} ./\n")
    settings = {
        "Dir::State": tmp_path / "state",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
    return digest


def test_debian_package_is_downloaded_once_and_checked(apt, monkeypatch):
    pin = Deb("tinypack", "1:2.0", apt)
    with pytest.raises(UserError, match="run `apt-get update` first; if this system has another version"):
        archive(pin)
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    assert dict(members(pin, r"usr/share/data\.txt")) == {"usr/share/data.txt": b"hello"}
    with pytest.raises(UserError, match=f"not the pinned file: sha256 {apt}"):
        archive(pin._replace(sha256="0" * 64))
    monkeypatch.setenv("PATH", "/nowhere")
    assert archive(pin).suffix == ".deb"
