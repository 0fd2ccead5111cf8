"""What random access to tar shards costs: the index in bytes, building and loading it, one record, and the first batch.

    python tests/benchmarks/tar_index.py --shards=10000 --samples=100 --folder=/tmp/tars

Makes one shard of `samples` pictures (noise, about 500 x 375, with txt and json) and `shards` hard links to it, so that
10,000 shards of a million samples take 10 MB of disk. Building is measured on `built` real copies, loading and reading on
all. "stream" is what a run waits for: from building a Stream (decode, random resized crop to 224) to batch 0, and then single
batches at random places; "cold" in a process that has just begun, its imports done, "warm" once more in the same one. All
files are in the page cache: a cold disk or a bucket adds its own latency. Linux (/proc) only.
"""

import argparse
import concurrent.futures
import io
import json
import multiprocessing
import os
import pickle
import shutil
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax.data.sources.tar import WebDataset
from mmjax.data.stream import Stream


def shard(path: Path, samples: int) -> None:
    """Writes a tar of `samples` x (jpg, txt, json), as img2dataset does."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)).astype(int)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        file = io.BytesIO()
        noisy = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(file, "jpeg", quality=90)
        for i in range(samples):
            caption = f"caption number {i}"
            content = {"jpg": file.getvalue(), "txt": caption.encode(), "json": json.dumps({"caption": caption}).encode()}
            for extension, data in content.items():
                info = tarfile.TarInfo(f"{i:09}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def memory() -> dict[str, int]:
    """Bytes of this process's own and of mapped files, as far as they are in memory."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def latency(source: WebDataset, n: int) -> dict[str, float]:
    """Microseconds a record, of `n` random ones."""
    order, times = np.random.default_rng(1).integers(0, len(source), n).tolist(), []
    for i in order:
        began = time.perf_counter()
        source[i]
        times.append((time.perf_counter() - began) * 1e6)
    return {"median_us": round(statistics.median(times), 1), "p99_us": round(sorted(times)[int(0.99 * n)], 1)}


def timed(make):
    """(what `make` returns, seconds of the clock, seconds of CPU)."""
    began, cpu = time.perf_counter(), time.process_time()
    result = make()
    return result, round(time.perf_counter() - began, 3), round(time.process_time() - cpu, 3)


def loaded(folder: Path) -> dict:
    """What a process that has just begun finds: the index is there, the shards have been listed by nobody."""
    before = memory()
    source, clock, cpu = timed(lambda: WebDataset(folder))
    after = memory()
    result = {"load": {"seconds": clock, "cpu_seconds": cpu}}
    result["load"] |= {f"{name}_a_sample": round((after[name] - before[name]) / len(source), 2) for name in after}
    order = np.random.default_rng(0).integers(0, len(source), 256).tolist()
    _, clock, _ = timed(lambda: [source[i] for i in order])
    result["first 256 random records"] = {"seconds": clock}
    result["read, all shards"] = latency(source, 5000)
    return result


def first_batch(folder: Path, batch: int) -> dict:
    """Seconds of the clock and of CPU until batch 0 of a run, and milliseconds of batches at random places."""
    import grain  # noqa: F401  # what a run imports anyway

    source, result = {"source": {"name": "webdataset", "path": str(folder)}}, {}
    transforms = [{"name": "decode"}, {"name": "random_resized_crop", "size": 224}]
    for name in ("cold", "warm"):
        stream, built, built_cpu = timed(lambda: Stream([source], transforms, batch, fields=("image",)))
        _, first, first_cpu = timed(lambda stream=stream: stream.batch_at(0))
        result[name] = {"build_seconds": built, "batch_0_seconds": first, "cpu_seconds": round(built_cpu + first_cpu, 3)}
    times = []
    for k in np.random.default_rng(0).integers(0, 10**6, 20).tolist():
        began = time.perf_counter()
        stream.batch_at(k)
        times.append((time.perf_counter() - began) * 1e3)
    return result | {"batch_at_ms": {"median": round(statistics.median(times), 1), "max": round(max(times), 1)}}


def measure(folder: Path, shards: int, samples: int, built: int) -> dict:
    """All numbers, of a folder that is empty."""
    few, many = folder / "few", folder / "many"
    few.mkdir()
    many.mkdir()
    shard(few / "00000.tar", samples)
    size = (few / "00000.tar").stat().st_size
    for k in range(1, built):
        shutil.copyfile(few / "00000.tar", few / f"{k:05}.tar")
    for k in range(shards):
        os.link(few / "00000.tar", many / f"{k:05}.tar")
    result = {"shards": shards, "samples": shards * samples, "shard_bytes": size}
    source, clock, cpu = timed(lambda: WebDataset(few))
    result["build"] = {"samples": len(source), "seconds": clock, "cpu_us_a_sample": round(cpu / len(source) * 1e6, 1)}
    result["read, one shard"] = latency(WebDataset(few / "00000.tar"), 2000)
    source, clock, _ = timed(lambda: WebDataset(many))
    result["build, all links"] = {"samples": len(source), "seconds": clock}
    (index,) = many.glob("*.index")
    result["index"] = {"bytes": index.stat().st_size, "bytes_a_sample": round(index.stat().st_size / len(source), 2)}
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        result |= fresh.submit(loaded, many).result()
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        result["stream"] = fresh.submit(first_batch, many, 64).result()
    pickled, clock, _ = timed(lambda: pickle.dumps(source))
    _, unpickled, _ = timed(lambda: pickle.loads(pickled))
    result["pickle"] = {"bytes": len(pickled), "seconds": clock, "load_seconds": unpickled}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100, help="a shard")
    parser.add_argument("--built", type=int, default=20, help="shards that are copies, for the time of building")
    parser.add_argument("--folder", help="where to put them, for the time being")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for name, value in measure(Path(folder), args.shards, args.samples, args.built).items():
            print(f"{name}: {value}", flush=True)


if __name__ == "__main__":
    main()
