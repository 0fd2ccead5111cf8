"""Transforms of sound: float32 (n,) samples in [-1, 1] from `decode_audio` on, their "rate" beside them; then log-mel."""

import functools
import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS

Record = dict[str, Any]
Samples = Float32[np.ndarray, " n"]

RATES = (1_000, 768_000)  # Hz: what else a header says is an error or an attack
BLOCK = 1 << 18  # samples of all channels that are in memory at once


class DecodeAudio:
    """A record's "audio" -> float32 (n,), one channel (the mean of all), at one rate, which is noted under "rate".

    "audio" is encoded bytes (whatever soundfile reads: wav, flac, ogg, opus, mp3, aiff, by content and not by name), or
    {"samples": (n,) or (n, channels), "rate": Hz}. It is decoded and resampled (soxr, high quality) a block at a time, so that
    memory is bounded by the result, whatever the file's rate and channels.

    Args:
      rate: Hz of the result.
      max_seconds, max_bytes: a longer sound, a larger field is an error, raised before it is decoded.
    """

    def __init__(self, rate: int = 16_000, max_seconds: float = LIMITS.seconds, max_bytes: int = LIMITS.bytes):
        _need_soundfile()
        self._rate, self._max_seconds, self._max_bytes = rate, max_seconds, max_bytes

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        audio = record["audio"]
        if isinstance(audio, dict):
            samples, rate = np.asarray(audio["samples"], np.float32), int(audio["rate"])
            block = samples[:, None] if samples.ndim == 1 else samples
            samples = self._resample(iter([block]), rate, len(block))
        else:
            samples = self._decode(audio)
        if not len(samples):
            raise ValueError("the sound has no samples")
        if not np.isfinite(samples).all():
            raise ValueError("the sound has samples that are not finite")
        return {**record, "audio": samples, "rate": self._rate}

    def _decode(self, encoded: bytes) -> Samples:
        import soundfile

        if len(encoded) > self._max_bytes:
            raise ValueError(f"{len(encoded)} bytes of sound, over the limit of {self._max_bytes}")
        try:
            with soundfile.SoundFile(io.BytesIO(encoded)) as sound:
                size = max(1, BLOCK // sound.channels)
                blocks = (sound.read(size, "float32", always_2d=True) for _ in itertools.count())
                return self._resample(blocks, sound.samplerate, sound.frames)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"no sound that soundfile reads: {error.error_string}") from None

    def _resample(self, blocks: Iterator[Float32[np.ndarray, "_ _"]], rate: int, frames: int) -> Samples:
        """Blocks (frames, channels), until one is empty, as one channel at the result's rate. `frames` is the header's."""
        import soxr

        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"a rate of {rate} Hz is not in [{RATES[0]}, {RATES[1]}]")
        if frames > self._max_seconds * rate:
            raise ValueError(f"{frames / rate:.0f} s of sound, over the limit of {self._max_seconds:.0f}")
        stream = None if rate == self._rate else soxr.ResampleStream(rate, self._rate, 1, dtype="float32")
        done, parts = 0, []
        for block in blocks:
            if not len(block):
                break
            done += len(block)
            if done > self._max_seconds * rate:  # the header said less
                raise ValueError(f"over the limit of {self._max_seconds:.0f} s of sound")
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(1)
            parts.append(stream.resample_chunk(np.ascontiguousarray(mono)) if stream else mono)
        if stream and done:
            parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class FitAudio:
    """Makes "audio" of a length: a longer one is cut, a shorter one is filled with silence at its end.

    Args:
      seconds: the length.
      part: which part of a longer one stays: "random" (training), "start" or "centre".
    """

    def __init__(self, seconds: float, part: str = "start"):
        if part not in ("random", "start", "centre"):
            raise UserError(f"fit_audio: part {part!r} is none of 'random', 'start', 'centre'")
        self._seconds, self._part = seconds, part

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        samples, length = record["audio"], round(self._seconds * record["rate"])
        spare = len(samples) - length
        if spare <= 0:
            return {**record, "audio": np.pad(samples, (0, -spare))}
        start = {"start": 0, "centre": spare // 2}[self._part] if self._part != "random" else int(rng.integers(spare + 1))
        return {**record, "audio": samples[start : start + length]}


class WhisperLogMel:
    """Samples at 16 kHz -> float32 (mels, frames), 100 frames a second, as Whisper was trained on (Radford et al. 2022, 2.2).

    Cut or filled to `seconds`; windows of 25 ms (Hann, 400 samples) every 10 ms, centred, the ends mirrored; power; mel
    bands of Slaney's scale and area from 0 to 8 kHz; log10, at most 8 below the sound's maximum; (x + 4) / 4.

    Args:
      mels: bands: 80, and 128 for Whisper large-v3.
      seconds: Whisper's encoder takes 30.
    """

    def __init__(self, mels: int = 80, seconds: float = 30.0):
        self._mels, self._length = mels, round(seconds * 16_000)
        if self._length <= 200:
            raise UserError(f"whisper_log_mel: {seconds} seconds are no more than half a window of 0.025")

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        samples = _at_16khz(record)[: self._length]
        padded = np.pad(np.pad(samples, (0, self._length - len(samples))), 200, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][: self._length // 160]
        log = np.full((len(frames), self._mels), -10.0)  # silence
        heard = len(frames) if len(samples) > self._length - 201 else -(-(len(samples) + 200) // 160)
        # float64: bands down to 1e-8 of the loudest count, and float32's transform keeps 1e-7 of the amplitude only.
        spectrum = np.abs(np.fft.rfft(frames[:heard] * _hann(400, periodic=True), axis=1)) ** 2
        log[:heard] = np.log10(np.maximum(1e-10, spectrum @ slaney_filters(self._mels)))
        log = np.maximum(log, log.max() - 8.0)
        return {**record, "audio": ((log + 4.0) / 4.0).T.astype(np.float32)}


class AstLogMel:
    """Samples at 16 kHz -> float32 (mels, frames), 100 frames a second, as AST takes them (Gong et al. 2021, section 3.1).

    Kaldi's filter banks: windows of 25 ms (mean removed, pre-emphasis 0.97, symmetric Hann) every 10 ms; power of a transform
    of 512; triangles on Kaldi's mel scale from 20 Hz to 8 kHz; natural logarithm; cut or filled with 0 to `frames`; then
    (x - mean) / (2 std). AST's own arrays are (frames, mels): ours are transposed, as Whisper's.

    Args:
      mels: bands.
      frames: AST on AudioSet takes 1024.
      mean, std: of the training set, by default AudioSet's.
    """

    def __init__(self, mels: int = 128, frames: int = 1024, mean: float = -4.2677393, std: float = 4.5689974):
        self._mels, self._frames, self._mean, self._std = mels, frames, mean, std

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        samples = _at_16khz(record)[: 400 + 160 * (self._frames - 1)].astype(np.float64)
        if len(samples) < 400:
            raise ValueError(f"{len(samples)} samples are less than a window of 400")
        frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
        frames = frames - frames.mean(1, keepdims=True)
        frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], 1)  # the first sample's predecessor is itself
        spectrum = np.abs(np.fft.rfft(frames * _hann(400, periodic=False), 512, axis=1)) ** 2
        log = np.zeros((self._frames, self._mels), np.float32)
        log[: len(frames)] = np.log(np.maximum(np.finfo(np.float32).eps, spectrum @ kaldi_filters(self._mels)))
        return {**record, "audio": ((log - self._mean) / (2 * self._std)).T.astype(np.float32)}


@functools.lru_cache(maxsize=8)
def slaney_filters(mels: int) -> Float[np.ndarray, "201 M"]:
    """Weights of the 201 bins of 0 to 8 kHz in each mel band: triangles over Hz, each of area 1 (Slaney 1998).

    The scale is linear to 1 kHz (15 mel) and logarithmic above, 27 mel to a factor of 6.4.
    """
    top = 15 + 27 * np.log(8.0) / np.log(6.4)
    mel = np.linspace(0, top, mels + 2)
    hertz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
    return _triangles(np.linspace(0, 8000, 201), hertz) * (2 / (hertz[2:] - hertz[:-2]))


@functools.lru_cache(maxsize=8)
def kaldi_filters(mels: int) -> Float[np.ndarray, "257 M"]:
    """Weights of the 257 bins of 0 to 8 kHz in each mel band: triangles over mel, mel(f) = 1127 ln(1 + f / 700) (Kaldi)."""
    bins, ends = (1127 * np.log1p(np.asarray(hertz) / 700) for hertz in (np.linspace(0, 8000, 257), [20, 8000]))
    return _triangles(bins, np.linspace(*ends, mels + 2))


def _triangles(bins: Float[np.ndarray, " K"], corners: Float[np.ndarray, " C"]) -> Float[np.ndarray, "K M"]:
    """M = C - 2 triangles over the bins, the i-th from corner i up to 1 at corner i + 1 and down to corner i + 2."""
    rise = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rise, fall))


@functools.lru_cache(maxsize=8)
def _hann(length: int, periodic: bool) -> Float[np.ndarray, " length"]:
    return np.hanning(length + 1)[:-1] if periodic else np.hanning(length)


def _at_16khz(record: Record) -> Samples:
    if record.get("rate") != 16_000:
        raise ValueError(f"the sound's rate is {record.get('rate')}, not 16000 Hz: list decode_audio with rate 16000 before")
    return record["audio"]


def _need_soundfile() -> None:
    try:
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
    except ImportError as error:
        raise UserError(f"sound needs {error.name}: run `pip install 'mmjax[audio]'`") from None
