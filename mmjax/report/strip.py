"""Sound and video as pictures: a spectrogram, a film strip."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.report.pictures import colour

WINDOW, RANGE = 512, 80.0  # samples of a window; decibels from black to bright
BANDS, COLUMNS = 96, 192  # of a spectrogram's picture
EDGE = 8  # pixels between and around frames


def spectrogram(samples: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "96 192 3"]:
    """The short-time power spectrum in decibels, 80 dB down from the loudest; time to the right, frequency upwards.

    Hann windows of 512 samples, as many as fit the picture's columns; linear frequency, from 0 to half the rate.
    """
    padded = np.pad(np.asarray(samples, np.float32), WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - WINDOW), COLUMNS).astype(int)
    frames = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW).astype(np.float32)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2)[:, : WINDOW // 2]
    # Neighbouring frequencies in one row of the picture: the loudest of them.
    edges = np.linspace(0, power.shape[1], BANDS + 1).astype(int)
    loudest = np.maximum.reduceat(power, edges[:-1], axis=1)
    decibels = 10 * np.log10(np.maximum(loudest, 1e-12) / max(float(loudest.max()), 1e-12))
    levels = np.maximum(decibels, -RANGE).T[::-1]
    # Silence has no loudest part: it is dark throughout.
    low, high = (-RANGE, 0.0) if loudest.max() > 1e-10 else (0.0, 1.0)
    return np.array(colour(levels.astype(np.float64), low, high).convert("RGB"))


def film(frames: UInt8[np.ndarray, "F _ _ 3"], columns: int = 3) -> UInt8[np.ndarray, "_ _ 3"]:
    """Frames in their order on a black strip, `columns` a row."""
    height, width = frames.shape[1] + EDGE, frames.shape[2] + EDGE
    rows = -(-len(frames) // columns)
    strip = np.zeros((rows * height + EDGE, min(columns, len(frames)) * width + EDGE, 3), np.uint8)
    for i, frame in enumerate(frames):
        top, left = EDGE + i // columns * height, EDGE + i % columns * width
        strip[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return strip


def picture_of(card: Mapping[str, Any]) -> UInt8[np.ndarray, "_ _ _"] | None:
    """What shows a record: its "image", else the film strip of its "video", else the spectrogram of its "audio"; or None."""
    if "image" in card:
        return card["image"]
    if "video" in card:
        return film(card["video"])
    return spectrogram(card["audio"]) if "audio" in card else None
