"""Records that no file holds: those of a list, and drawings and tones made on the spot."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mmjax.core import keys
from mmjax.data.sources.source import Record, group_of


class Synthetic:
    """Drawings of one coloured shape each, such as "a small red circle on blue": data for tests and debug runs.

    The label is the shape (order of SHAPES); where the shape stands is not in the caption. There are 240 captions. A question
    asks the colour of the shape or of the ground, and answers holds its name.

    Args:
      n: how many.
      size: pixels a side.
      seed: another seed gives other drawings.
    """

    SHAPES = ("circle", "square", "triangle", "ring")
    COLOURS = {
        "red": (220, 40, 40),
        "green": (40, 160, 60),
        "blue": (50, 80, 220),
        "yellow": (240, 210, 50),
        "black": (20, 20, 20),
        "white": (245, 245, 245),
    }
    SIZES = {"small": 0.3, "large": 0.6}  # of the side

    def __init__(self, n: int = 256, size: int = 32, seed: int = 0):
        self._n, self._size, self._seed = n, size, seed

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < self._n:
            raise IndexError(i)
        rng = keys.rng(self._seed, "synthetic", i)
        label, extent = int(rng.integers(len(self.SHAPES))), list(self.SIZES)[rng.integers(len(self.SIZES))]
        colour, ground = rng.choice(list(self.COLOURS), 2, replace=False)
        side = self.SIZES[extent] * self._size
        x, y = rng.uniform(0, self._size - 1 - side, 2)
        text = f"a {extent} {colour} {self.SHAPES[label]} on {ground}"
        picture = Image.new("RGB", (self._size, self._size), self.COLOURS[ground])
        _draw(ImageDraw.Draw(picture), self.SHAPES[label], (x, y, x + side, y + side), self.COLOURS[colour])
        asked, answer = [(self.SHAPES[label], colour), ("ground", ground)][i % 2]
        return {
            "image": np.asarray(picture),
            "text": text,
            "question": f"what colour is the {asked}?",
            "answers": [str(answer)],
            "id": f"synthetic-{i}",
            "group": group_of(text),
            "label": label,
        }


def _draw(draw: ImageDraw.ImageDraw, shape: str, box: tuple[float, ...], colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=colour)
    else:
        draw.ellipse(box, outline=colour, width=max(1, round((right - left) / 5)))


class Tones:
    """Beeps such as "three long high tones", at 8 kHz: sounds for tests and debug runs. There are 18 captions.

    Args:
      n: how many.
      seed: another seed gives others.
    """

    COUNTS = ("one", "two", "three")
    LENGTHS = {"short": 0.03, "long": 0.09}  # seconds
    PITCHES = {"low": 200.0, "middle": 800.0, "high": 3000.0}  # Hz, within a tenth
    RATE = 8000

    def __init__(self, n: int = 256, seed: int = 0):
        self._n, self._seed = n, seed

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < self._n:
            raise IndexError(i)
        rng = keys.rng(self._seed, "tones", i)
        count, length, pitch = (list(part)[rng.integers(len(part))] for part in (self.COUNTS, self.LENGTHS, self.PITCHES))
        time = np.arange(round(self.LENGTHS[length] * self.RATE)) / self.RATE
        beep = np.sin(2 * np.pi * self.PITCHES[pitch] * rng.uniform(0.9, 1.1) * time)
        samples = np.tile(np.concatenate([beep, np.zeros(160)]), self.COUNTS.index(count) + 1)
        text = f"{count} {length} {pitch} tone{'' if count == 'one' else 's'}"
        audio = {"samples": samples.astype(np.float32), "rate": self.RATE}
        return {"audio": audio, "text": text, "id": f"tones-{i}", "group": group_of(text)}


class Memory:
    """Records that are already here: a list of dicts."""

    def __init__(self, records: Sequence[Record]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> Record:
        return self._records[i]
