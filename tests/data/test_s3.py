"""Tar shards in a bucket: a real S3 server on loopback (moto's), through s3fs. Runs where both are installed."""

import io
import tarfile

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.sources.tar import WebDataset

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


def shard(path, first):
    with tarfile.open(path, "w") as tar:
        for i in range(first, first + 4):
            noise = np.random.default_rng(i).bytes(100_000)
            for name, content in ((f"{i}.jpg", noise), (f"{i}.txt", f"caption {i}".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """(the bucket's address, a folder of the same shards, the list of (method, path, range) that the server is asked)."""
    import aiobotocore.endpoint
    import fsspec

    serving = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    _, port = serving.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("MMJAX_DATA", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    asked, send = [], aiobotocore.endpoint.AioEndpoint._send

    async def noted(self, request):
        ranged = request.headers.get("Range", b"")
        asked.append((request.method, request.url.split(str(port))[1].split("?")[0], bytes(ranged or b"").decode()))
        return await send(self, request)

    monkeypatch.setattr(aiobotocore.endpoint.AioEndpoint, "_send", noted)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("shelf")
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(2):
        shard(folder / f"{k}.tar", 4 * k)
        system.put_file(str(folder / f"{k}.tar"), f"shelf/train/{k}.tar")
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://127.0.0.1:{port}"}
    yield "s3://shelf/train/{0..1}.tar", folder, asked
    del fsspec.config.conf["s3"]
    serving.stop()


def test_shards_are_read_by_ranges_and_indexed_once(bucket, tmp_path, monkeypatch):
    address, folder, asked = bucket
    asked.clear()
    source, local = WebDataset(address), WebDataset(str(folder / "{0..1}.tar"))
    assert ("PUT", "/shelf/train/") in [(method, path[:13]) for method, path, _ in asked]  # the index
    asked.clear()
    assert source[5] == local[5]
    [(method, path, ranged)] = asked
    assert (method, path) == ("GET", "/shelf/train/1.tar")
    start, end = map(int, ranged.removeprefix("bytes=").split("-"))
    assert 100_000 < end - start < 105_000  # a picture, its caption and their headers, of a shard of 400 kB
    assert list(source) == list(local)
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "another machine"))
    asked.clear()
    assert len(WebDataset(address)) == 8
    assert not [path for _, path, _ in asked if path.endswith(".tar")]  # the index lies beside the shards
    with pytest.raises(UserError, match=r"1 of 3 shards are not there .*s3://shelf/train/2.tar"):
        WebDataset("s3://shelf/train/{0..2}.tar")
