"""Photographs from tar shards to batches of 224 x 224 pixels: mmjax, open_clip and torchvision, same machine, taking turns.

    python tests/benchmarks/loader.py                            # 600 photographs, 2 workers, 5 rounds: some minutes
    python tests/benchmarks/loader.py --photos=FOLDER --rounds=9 --out=loader.json

Every loader decodes JPEGs of about 500 x 375 pixels (quality 90; crops of photographs that packages carry), takes a
random resized crop (a share of 0.9 to 1 of the area, bicubic, antialiased) to 224 x 224 and makes batches of uint8. They are

    mmjax              its webdataset source and Stream, in threads of one process (the default)
    mmjax, processes   the same in worker processes
    open_clip          get_wds_dataset of open_clip_train, whose transform ends in uint8 as ours does
    open_clip, as is   the same with its own end: fp32, normalised. mmjax does that on the device
    torchvision        ImageFolder over the same JPEGs as files, its transforms, a DataLoader

Each shard is there 100 times over (hard links), so that the set has as many samples as real ones: Grain's shuffle takes 5
microseconds a sample from 60,000 on, and 60 for one of 600, whose order it has to look for among 65,536.

Captions are in the shards; no loader turns them into tokens, which would measure tokenizers. CPU time is that of a loader's
process and its workers, from one state of full queues to the next, divided by the images in between; images/s leaves out
what lay in the queues. Medians of the rounds, with the least and the most. Then it compares pixels with Pillow's and
times single batches at random places. Needs scikit-image and scikit-learn for their photographs (or --photos), psutil, and
beside mmjax for the others: torch, torchvision, open_clip_torch==3.3.0, webdataset==0.2.86, pandas. Those that are missing
are left out, and named.
"""

import argparse
import functools
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

SIZE, SCALE = 224, (0.9, 1.0)  # of the crop, open_clip's defaults
CROP = {"name": "random_resized_crop", "size": SIZE, "scale": SCALE}
PACKAGES = {
    "skimage": ("data", "astronaut.png coffee.png rocket.jpg chelsea.png motorcycle_left.png motorcycle_right.png"),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
ENDLESS = 10**9
COPIES = 100  # of a shard


# The shards.


def photographs(folder: str | None) -> list[Image.Image]:
    """A folder's pictures, or those that packages carry (whose code is not run)."""
    if folder:
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    else:
        paths = []
        for package, (inside, names) in PACKAGES.items():
            spec = importlib.util.find_spec(package)
            paths += [Path(spec.origin).parent / inside / name for name in names.split()] if spec else []
    if not paths:
        raise SystemExit("no photographs: pip install scikit-image scikit-learn, or give --photos=FOLDER")
    return [Image.open(path).convert("RGB") for path in paths]


def jpegs(photos: list[Image.Image], n: int) -> Iterator[bytes]:
    """Crops of photographs at about 500 x 375 pixels, a fifth of them upright, quality 90."""
    rng = np.random.default_rng(0)
    for i in range(n):
        photo = photos[i % len(photos)]
        size = tuple(int(side * rng.uniform(0.95, 1.05)) for side in (500, 375))
        size = size[::-1] if rng.random() < 0.2 else size
        fit = min(photo.width / size[0], photo.height / size[1])
        side = rng.uniform(min(1.0, fit), fit)  # drawn finer than it is only where the photograph is too small
        w, h = size[0] * side, size[1] * side
        left, top = rng.uniform(0, photo.width - w), rng.uniform(0, photo.height - h)
        crop = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        file = io.BytesIO()
        crop.save(file, "JPEG", quality=90)
        yield file.getvalue()


def write(folder: Path, encoded: list[bytes], shards: int) -> None:
    """shards/0.tar ... with key.jpg and key.txt, COPIES times over, and the same JPEGs as images/all/key.jpg."""
    (folder / "shards").mkdir()
    (folder / "images/all").mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"shards/{shard}.tar", "w") as tar:
            for i in range(shard, len(encoded), shards):
                (folder / f"images/all/{i:05}.jpg").write_bytes(encoded[i])
                for extension, content in (("jpg", encoded[i]), ("txt", f"photograph {i}".encode())):
                    member = tarfile.TarInfo(f"{i:05}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        for copy in range(1, COPIES):
            os.link(folder / f"shards/{shard}.tar", folder / f"shards/{copy * shards + shard}.tar")


# The loaders: an endless iterator of uint8 arrays (B, ...) each.


def stream(folder: Path, batch: int, workers: int) -> Any:
    from mmjax.data.stream import Stream

    source = {"name": "webdataset", "path": str(folder / "shards")}
    transforms = [{"name": "decode"}, CROP]
    return Stream([{"source": source}], transforms, batch, fields=("image",), workers=workers)


def mmjax(folder: Path, batch: int, workers: int, processes: bool) -> Iterator[Any]:
    os.cpu_count = lambda: workers  # Stream takes one thread a processor
    return (rows["image"] for _, rows in stream(folder, batch, workers if processes else 0).batches())


def open_clip(folder: Path, batch: int, workers: int, as_is: bool) -> Iterator[Any]:
    tv = torchvision_module()
    import torch
    from open_clip.transform import image_transform
    from open_clip_train.data import get_wds_dataset

    transform = image_transform(SIZE, is_train=True)  # RandomResizedCrop, to RGB, to tensor, normalise
    if not as_is:
        transform = tv.transforms.Compose([*transform.transforms[:2], tv.transforms.PILToTensor()])
    shards = len(list((folder / "shards").glob("*.tar")))
    args = SimpleNamespace(
        train_data=f"{folder}/shards/{{0..{shards - 1}}}.tar",
        train_num_samples=ENDLESS,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=batch,
        workers=workers,
        world_size=1,
    )
    no_tokens = torch.zeros(1, 1, dtype=torch.int64)
    loader = get_wds_dataset(args, transform, is_train=True, tokenizer=functools.partial(_constant, no_tokens)).dataloader
    return (images for images, _ in loader)


def torchvision(folder: Path, batch: int, workers: int) -> Iterator[Any]:
    tv = torchvision_module()
    from torch.utils.data import DataLoader, RandomSampler

    bicubic = tv.transforms.InterpolationMode.BICUBIC
    crop = tv.transforms.RandomResizedCrop(SIZE, scale=SCALE, interpolation=bicubic)
    data = tv.datasets.ImageFolder(str(folder / "images"), tv.transforms.Compose([crop, tv.transforms.PILToTensor()]))
    sampler = RandomSampler(data, replacement=True, num_samples=ENDLESS)
    return (images for images, _ in DataLoader(data, batch, sampler=sampler, num_workers=workers))


def torchvision_module() -> Any:
    """torchvision; without its compiled part, of which there is no wheel for a CPU's torch, and which no loader here uses."""
    import torch

    torch.set_num_threads(1)
    register = torch.library.register_fake
    ignore = lambda name, *args, **kw: (lambda f: f) if str(name).startswith("torchvision::") else register(name, *args, **kw)  # noqa: E731
    torch.library.register_fake = ignore
    import torchvision

    torch.library.register_fake = register
    return torchvision


def _constant(value: Any, _: str) -> Any:
    return value


LOADERS: dict[str, Callable[..., Iterator[Any]]] = {
    "mmjax": functools.partial(mmjax, processes=False),
    "mmjax, processes": functools.partial(mmjax, processes=True),
    "open_clip": functools.partial(open_clip, as_is=False),
    "open_clip, as is": functools.partial(open_clip, as_is=True),
    "torchvision": torchvision,
}


# The measurement: a process a loader, which waits for its turn.


def serve(name: str, folder: Path, batch: int, workers: int, pipe: Any) -> None:
    """Answers each number of batches with (CPU seconds an image, images/s)."""
    multiprocessing.set_start_method("fork", force=True)  # torch's own; this process was spawned
    try:
        batches = LOADERS[name](folder, batch, workers)
        first = next(batches)
        assert len(first) == batch
        assert name.endswith("as is") or str(first.dtype).endswith("uint8")
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    queued = 4 * max(1, workers)  # batches at most that a loader has ready
    for count in iter(pipe.recv, None):
        before = settled()
        for _ in itertools.islice(batches, queued):
            pass
        began = time.perf_counter()
        for _ in itertools.islice(batches, count):
            pass
        seconds = time.perf_counter() - began
        pipe.send(((settled() - before) / batch / (count + queued), batch * count / seconds))
    os._exit(0)  # workers end with their parent; some loaders wait for theirs


def settled() -> float:
    """CPU seconds of this process and its workers so far, once they rest because all queues are full."""
    import psutil

    def spent() -> float:
        here = psutil.Process()
        return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children(recursive=True)))

    last = spent()
    while True:
        time.sleep(0.5)
        now = spent()
        if now - last < 0.03:
            return now
        last = now


def take_turns(folder: Path, args: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    context, pipes = multiprocessing.get_context("spawn"), {}
    for name in LOADERS:
        here, there = context.Pipe()
        context.Process(target=serve, args=(name, folder, args.batch, args.workers, there)).start()
        there.close()  # so that a loader that dies is noticed
        if missing := here.recv():
            print(f"{name}: left out: {missing}")
        else:
            pipes[name] = here
    results = {name: [] for name in pipes}
    for i in range(args.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(args.batches)
            result = pipe.recv()
            if i:  # the first round warms up
                results[name].append(result)
    for pipe in pipes.values():
        pipe.send(None)
    return results


# What else is asked of them.


def pixel_errors(encoded: list[bytes]) -> dict[str, dict[str, float]]:
    """Mean and largest absolute error of 255 against Pillow: the training crop, taken whole; CLIP's resize and centre crop."""
    from mmjax.data.transforms.image import Decode, RandomResizedCrop, Resize

    def shortest(picture: Image.Image) -> Image.Image:
        short = min(picture.size)
        picture = picture.resize(tuple(int(SIZE * side / short) for side in picture.size), Image.Resampling.BICUBIC)
        left, top = (round((side - SIZE) / 2) for side in picture.size)
        return picture.crop((left, top, left + SIZE, top + SIZE))

    def squash(picture: Image.Image) -> Image.Image:
        return picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)

    errors, rng = {"training": [], "evaluation": []}, np.random.default_rng(0)
    for one in encoded:
        picture = Image.open(io.BytesIO(one)).convert("RGB")
        ratio = picture.width / picture.height
        train = RandomResizedCrop(SIZE, scale=(1.0, 1.0), ratio=(ratio, ratio))
        for name, ours, theirs in (("training", train, squash), ("evaluation", Resize(SIZE, "shortest"), shortest)):
            got = ours(Decode()({"image": one}), rng)["image"].astype(int)
            errors[name].append(np.abs(got - np.asarray(theirs(picture))))
    return {name: {"mean": float(np.mean(all_)), "max": int(np.max(all_))} for name, all_ in errors.items()}


def latency(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds until the first batch of a new Stream, and for batch_at(random k)."""
    began = time.perf_counter()
    batches = stream(folder, args.batch, 0)
    batches.batch_at(0)
    first, times = time.perf_counter() - began, []
    for k in np.random.default_rng(0).integers(0, 10**6, 20).tolist():
        began = time.perf_counter()
        batches.batch_at(k)
        times.append(time.perf_counter() - began)
    return {"first": 1e3 * first, "median": 1e3 * statistics.median(times), "max": 1e3 * max(times)}


def machine() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--photos", help="a folder of photographs to take crops of")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="a turn")
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, encoded = Path(name), list(jpegs(photographs(args.photos), args.images))
        write(folder, encoded, shards=2 * args.workers)
        print(f"{len(encoded)} JPEGs of {sum(map(len, encoded)) / len(encoded) / 1e3:.0f} kB")
        print(f"{os.cpu_count()} processors, {machine()}")
        print("absolute error of 255 against Pillow:", pixel_errors(encoded[:200]))
        results = take_turns(folder, args)
        print(f"batch of {args.batch}, ms:", waits := latency(folder, args))
    summary = {"latency_ms": waits, **vars(args)}
    for name, rounds in results.items():
        cpu, speed = [1e3 * c for c, _ in rounds], [s for _, s in rounds]
        ratio = statistics.median(c / ours for c, (ours, _) in zip(cpu, results["mmjax"], strict=True)) / 1e3
        summary[name] = {"cpu_ms": cpu, "images_per_s": speed, "cpu_over_mmjax": ratio}
        said = f"{statistics.median(cpu):6.3f} CPU ms an image ({min(cpu):.3f} to {max(cpu):.3f}), {ratio:5.2f} of mmjax's"
        print(f"{name:18}{said}; {statistics.median(speed):6.0f} images/s ({min(speed):.0f} to {max(speed):.0f})")
    if args.out:
        Path(args.out).write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
