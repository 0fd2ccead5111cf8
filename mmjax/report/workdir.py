"""What a run left in its workdir, read forgivingly: a missing or torn file becomes a note, never an exception."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from etils import epath


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir's contents.

    Attributes:
      curves: metric -> {step: value} in the order of steps; a value that is not a finite number is NaN.
      results: set -> {metric: value}, and the run's scalars, as results.json has them.
      config: the resolved config, nested.
      notes: what is missing or unreadable, for the reader of the page.
    """

    curves: Mapping[str, Mapping[int, float]]
    results: Mapping[str, Any]
    config: Mapping[str, Any]
    notes: list[str]


def read(workdir: str | os.PathLike) -> Run:
    """Reads metrics.jsonl, results.json and config.json. Of lines that repeat a step (a resumed run) the later wins."""
    folder, notes = epath.Path(workdir), []
    return Run(
        curves=_curves(folder / "metrics.jsonl", notes),
        results=_object(folder / "results.json", notes, "the run has not been evaluated at its end"),
        config=_object(folder / "config.json", notes, "the settings are unknown"),
        notes=notes,
    )


def _object(path: epath.Path, notes: list[str], meaning: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append(f"{path.name} is missing: {meaning}.")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error}): {meaning}.")
    else:
        if isinstance(value, dict):
            return value
        notes.append(f"{path.name} is not an object: {meaning}.")
    return {}


def _curves(path: epath.Path, notes: list[str]) -> dict[str, dict[int, float]]:
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines()
    except OSError:
        notes.append(f"{path.name} is missing: there are no curves.")
        return {}
    curves: dict[str, dict[int, float]] = {}
    torn = 0
    for line in filter(str.strip, lines):
        try:
            record = json.loads(line)
            step = int(record.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            torn += 1
            continue
        for name, value in record.items():
            number = isinstance(value, (int, float)) and math.isfinite(value)
            curves.setdefault(name, {})[step] = float(value) if number else math.nan
    if torn:
        notes.append(f"{path.name}: {torn} unreadable line{'s' * (torn > 1)} left out.")
    return {name: dict(sorted(points.items())) for name, points in curves.items()}
