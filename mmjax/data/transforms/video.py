"""Transforms of video: some frames of it, uint8 (F, H, W, 3), each changed alike by transforms of pictures."""

import bisect
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS, Limits

Record = dict[str, Any]
Picture = UInt8[np.ndarray, "_ _ 3"]  # height, width

TICKS = 100  # a GIF's clock in 1/s: an animation of more frames than that a second is refused


class Frames:
    """A record's "video" -> `count` of its frames, uint8 (F, H, W, 3).

    "video" is encoded bytes or a path (Pillow reads animated gif, webp and png; PyAV reads the rest: mp4, webm, mkv,
    avi ...), or an array (all frames, H, W, 3). Only the frames that are asked for are kept, and each is made small by the
    transforms before the next is decoded.

    Args:
      table: TRANSFORMS' rows for pictures, which `transforms` may name; the program fills it in.
      count: F. A video of fewer frames repeats some.
      stride: None cuts the video into `count` equal segments and takes a frame of each (TSN: Wang et al. 2016, section 3.1);
        a number takes one of so many frames, and the last again where the video is too short.
      random: training: any frame of a segment, any place of the strided clip; else the middle ones.
      transforms: list of {"name": ..., **keywords}, applied to each frame with the same random numbers.
      max_pixels, max_bytes, max_seconds: a larger frame, a larger file, a longer video is an error, raised before decoding.
      max_frame_pixels: an error, where those that are wanted cannot be had without decoding more, in all frames together.
    """

    def __init__(
        self,
        table: registry.Table,
        count: int,
        stride: int | None = None,
        random: bool = False,
        transforms: Sequence[Mapping[str, Any]] = (),
        max_pixels: int = LIMITS.pixels,
        max_bytes: int = LIMITS.bytes,
        max_seconds: float = LIMITS.seconds,
        max_frame_pixels: int = LIMITS.frame_pixels,
    ):
        if count < 1 or (stride is not None and stride < 1):
            raise UserError(f"frames: count {count} and stride {stride} have to be at least 1")
        for i, spec in enumerate(transforms):
            registry.check(table, spec, f"frames.transforms[{i}]")
        self._transforms = [registry.build(table, spec) for spec in transforms]
        self._count, self._stride, self._random = count, stride, random
        self._limits = Limits(max_pixels, max_bytes, max_seconds, max_frame_pixels)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        with _open(record["video"], self._limits) as video:
            numbers = choose(len(video), self._count, self._stride, rng if self._random else None)
            seed = int(rng.integers(2**63))
            frames = {n: self._change(record, frame, seed) for n, frame in video.read(sorted(set(numbers.tolist())))}
        return {**record, "video": np.stack([frames[n] for n in numbers.tolist()])}

    def _change(self, record: Record, frame: Picture, seed: int) -> Picture:
        rng = np.random.default_rng(seed)  # anew for each frame: the same crop, flip and colours for all
        changed = {**record, "image": frame}
        for transform in self._transforms:
            changed = transform(changed, rng)
        return changed["image"]


def choose(total: int, count: int, stride: int | None = None, rng: np.random.Generator | None = None) -> Int[np.ndarray, " F"]:
    """The numbers of `count` frames of `total`, in order: one of each segment, or one of every `stride` (see Frames).

    Raises:
      ValueError: there is no frame.
    """
    if not total:
        raise ValueError("the video has no frames")
    if stride is None:
        place = 0.5 if rng is None else rng.random(count)
        return np.minimum((np.arange(count) + place) * total // count, total - 1).astype(int)
    spare = max(0, total - (count - 1) * stride - 1)
    start = spare // 2 if rng is None else int(rng.integers(spare + 1))
    return np.minimum(start + stride * np.arange(count), total - 1)


def _open(video: Any, limits: Limits) -> Any:
    """A reader: `len`, `read(sorted numbers)` and a `with` block."""
    if isinstance(video, np.ndarray):
        return _Array(video)
    file = io.BytesIO(video) if isinstance(video, bytes) else _open_path(os.fspath(video))
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > limits.bytes:
        file.close()
        raise ValueError(f"{size} bytes of video, over the limit of {limits.bytes}")
    head = file.read(12)
    file.seek(0)
    animation = head[:4] == b"GIF8" or head[:8] == b"\x89PNG\r\n\x1a\n" or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
    return (_Animation if animation else _Video)(file, limits)


def _open_path(path: str) -> Any:
    import fsspec

    if "://" not in path and not os.path.isfile(path):  # a pipe could be read for ever
        raise ValueError(f"{path} is not a file")
    return fsspec.open(path, "rb").open()


class _Reader:
    """What all readers do at the end of a `with` block."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to close."""


class _Array(_Reader):
    """Frames that are decoded already."""

    def __init__(self, frames: UInt8[np.ndarray, "_ _ _ 3"]):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        return ((n, self._frames[n]) for n in numbers)


class _Animation(_Reader):
    """An animated gif, webp or png, by Pillow: frames on a white ground."""

    def __init__(self, file: Any, limits: Limits):
        self._file, self._limits = file, limits
        try:
            self._picture = Image.open(file)
            width, height = self._picture.size
            _check_size(width, height, limits)
            if len(self) > limits.seconds * TICKS:
                raise ValueError(f"{len(self)} frames, over the limit of {limits.seconds:.0f} s at {TICKS} a second")
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        self._picture.close()
        self._file.close()

    def __len__(self) -> int:
        return getattr(self._picture, "n_frames", 1)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        width, height = self._picture.size
        _check_work(width * height * (numbers[-1] + 1), self._limits)  # each is drawn over the one before
        for n in range(numbers[-1] + 1):
            self._picture.seek(n)
            _check_size(*self._picture.size, self._limits)  # a gif's later frames may make it larger
            self._picture.load()
            if n in numbers:
                layer = self._picture.convert("RGBA")
                ground = Image.new("RGBA", layer.size, "white")
                ground.alpha_composite(layer)
                yield n, np.asarray(ground.convert("RGB"))


class _Video(_Reader):
    """A video, by PyAV (FFmpeg). Reading its packets first, undecoded, tells how many frames there are and where they start."""

    def __init__(self, file: Any, limits: Limits):
        try:
            import av
        except ImportError:
            raise UserError("video needs PyAV: run `pip install 'mmjax[video]'`") from None
        self._file, self._limits, self._work = file, limits, 0
        try:
            self._container = av.open(file)
            if not self._container.streams.video:
                raise ValueError("the file holds no video")
            self._stream = self._container.streams.video[0]
            if self._stream.codec_context is None:
                raise ValueError("there is no decoder for this video, or its header is cut off")
            self._stream.codec_context.thread_count = 1  # records are decoded side by side
            _check_size(self._stream.codec_context.width, self._stream.codec_context.height, limits)
            # A frame within may be larger than the header says; what is coded is a little larger than what is shown.
            self._stream.codec_context.options = {"max_pixels": str(2 * limits.pixels)}
            self._times, self._keys = self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()

    def __len__(self) -> int:
        return len(self._times)

    def _scan(self) -> tuple[list[int], list[int]]:
        """Times of all frames and of those that decoding may start from, sorted, in units of the stream's time base."""
        base, times, keys = float(self._stream.time_base), [], []
        for packet in self._container.demux(self._stream):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or packet.is_discard:  # the empty packet at the end; what an edit list leaves out
                continue
            times.append(time)
            if packet.is_keyframe:
                keys.append(time)
            if (time - times[0]) * base > self._limits.seconds:
                raise ValueError(f"over the limit of {self._limits.seconds:.0f} s of video")
        return sorted(times), sorted(keys)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        decoded, reached, last = iter(()), -1, None
        for n in numbers:
            time = self._times[n]
            key = bisect.bisect_right(self._keys, time) - 1
            if last is None or key > reached:  # a frame to start from lies between: skip what is before it
                start = self._keys[max(key, 0)] if self._keys else self._times[0]
                self._container.seek(start, stream=self._stream)
                decoded, last = self._decoded(), None
            if last is None or last.pts < time:
                last = next((frame for frame in decoded if frame.pts is not None and frame.pts >= time), last)
            if last is None:
                raise ValueError(f"frame {n} of {len(self)} cannot be decoded")
            reached = key
            yield n, self._picture(last)

    def _decoded(self) -> Iterator[Any]:
        """The frames from here on. One may have thousands before it that have to be decoded first."""
        for frame in self._container.decode(self._stream):
            self._work += frame.width * frame.height
            _check_work(self._work, self._limits)
            yield frame

    def _picture(self, frame: Any) -> Picture:
        _check_size(frame.width, frame.height, self._limits)
        picture = frame.to_ndarray(format="rgb24")
        return np.rot90(picture, frame.rotation // 90) if frame.rotation else picture


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise ValueError(f"{width} x {height} pixels, over the limit of {limits.pixels}")


def _check_work(pixels: int, limits: Limits) -> None:
    if pixels > limits.frame_pixels:
        raise ValueError(f"{pixels} pixels of frames to decode, over the limit of {limits.frame_pixels}")
