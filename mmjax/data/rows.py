"""From records to the rows of a batch: load and transform one, name and replace a broken one, stack many."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from mmjax.core import keys
from mmjax.core.errors import UserError
from mmjax.data.sources.source import Source, group_of
from mmjax.data.workers import note

Batch = dict[str, Shaped[np.ndarray, "B ..."]]
Row = dict[str, Any]


class Field(NamedTuple):
    """A record's field that goes to the device: its dtype, its axes ("|" between choices), and how to mend another."""

    dtype: type
    axes: str
    mend: str


FIELDS = {
    "image": Field(np.uint8, "HWC|SC", "list decode and a resize, or patches, in the transforms"),
    "audio": Field(np.float32, "N|MF", "list decode_audio and fit_audio, or a log-mel after them, in the transforms"),
    "video": Field(np.uint8, "FHWC", "list frames with a resize among its transforms"),
    "text": Field(np.int32, "T", "list tokenise in the transforms"),
    "text_segments": Field(np.int32, "T", "give tokenise a pair"),
    "text_cut": Field(np.int32, "", "list tokenise in the transforms"),
    "mlm_labels": Field(np.int32, "T", "list tokenise and mask_tokens in the transforms"),
    "question": Field(np.int32, "T", "list tokenise with field='question' in the transforms"),
    "question_segments": Field(np.int32, "T", "give tokenise a pair"),
    "question_cut": Field(np.int32, "", "list tokenise with field='question' in the transforms"),
    "answer_scores": Field(np.float32, "A", "list answers in the transforms"),
    "candidates": Field(np.int32, "AT", "list candidates in the transforms"),
    "image_b": Field(np.uint8, "HWC", "list second_image in the transforms"),
    "regions": Field(np.float32, "SF", "give the source its regions"),
    "boxes": Field(np.float32, "S4", "give the source its regions"),
    "regions_b": Field(np.float32, "SF", "give a source of two pictures their regions"),
    "boxes_b": Field(np.float32, "S4", "give a source of two pictures their regions"),
    "region_targets": Field(np.float32, "SF", "list mask_regions in the transforms"),
    "region_masked": Field(np.float32, "S", "list mask_regions in the transforms"),
    "region_objects": Field(np.int32, "S", "give the source regions with the detector's objects"),
    "region_object_scores": Field(np.float32, "S", "give the source regions with the detector's objects"),
    "region_attributes": Field(np.int32, "S", "give the source regions with the detector's attributes"),
    "region_attribute_scores": Field(np.float32, "S", "give the source regions with the detector's attributes"),
    "group": Field(np.int32, "", "groups are whole numbers in [0, 2^31)"),
    "label": Field(np.int32, "", "labels are whole numbers"),
    "item": Field(np.int32, "", "items are whole numbers in [0, 2^31)"),
}
ABSENT = {"label": -1, "item": -1}  # what stands for fields that a record need not have
STRINGS = ("id", "caption", "broken")
ATTEMPTS = 8
# Characters of STRINGS, which people read: a batch's strings are all as wide as its longest.
SHOWN = 1000
# Broken records that an error names.
LATEST = 3


class Loader:
    """Makes rows from the records of several sources.

    Args:
      sources: what `number` of a source means.
      transforms: applied in order.
      fields: names of FIELDS; ABSENT says what those have that a record lacks.
      salts: a source's number space for groups: 31 bits, xored to them. Sources of one salt share their groups.
      seed: of the transforms' random numbers and of replacements.
    """

    def __init__(
        self, sources: Sequence[Source], transforms: Sequence[Any], fields: Sequence[str], salts: Sequence[int], seed: int
    ):
        self.sources, self._transforms, self._fields = sources, transforms, tuple(fields)
        self._salts, self._seed = salts, seed

    def attempt(self, source: int, number: int, position: int, attempt: int = 0) -> tuple[Row | None, str]:
        """The row of a record, or None and "ID: reason" where the source or a transform fails.

        Args:
          source, number: which record.
          position: the row's place in the stream: with `attempt` it decides the transforms' random numbers.
        """
        name = f"#{number}"
        try:
            note(f"record {number} of data.sources[{source}]")
            record = {"id": name, **self.sources[source][number]}
            name = str(record["id"])
            note(f"{name} (record {number} of data.sources[{source}])")
            rng = keys.rng(self._seed, "transform", position, attempt)
            for transform in self._transforms:
                record = transform(record, rng)
            return self._row(record, self._salts[source]), ""
        except Exception as error:  # whatever a file can do to a decoder
            # One line, and the same wherever it happens: without the addresses of objects.
            reason = re.sub(" at 0x[0-9a-f]+", "", f"{name}: {type(error).__name__}: {error}")
            return None, " ".join(reason.split())[:SHOWN]

    def row(self, source: int, number: int, position: int) -> Row:
        """The row of a record, or of another of the same source where it is broken.

        The other is drawn from (seed, position, attempt), so that the same batch has the same replacements wherever it
        is made; "broken" names what it stands for.

        Raises:
          UserError: as many as ATTEMPTS draws in a row were broken.
        """
        broken = []
        for attempt in range(ATTEMPTS):
            row, reason = self.attempt(source, number, position, attempt)
            if row is not None:
                return {**row, "broken": "; ".join(broken)}
            broken.append(reason)
            rng = keys.rng(self._seed, "replace", position, attempt)
            number = int(rng.integers(len(self.sources[source])))
        raise UserError(f"source {source}: {ATTEMPTS} records in a row are broken, the last: {broken[-1]}")

    def _row(self, record: Row, salt: int) -> Row:
        caption, known = record.get("caption", record.get("text", "")), str(record["id"])
        caption = caption if isinstance(caption, str) else ""
        row = {"id": known[:SHOWN], "caption": caption[:SHOWN], "broken": ""}
        for name in self._fields:
            if name == "group":
                value = self._group(record, caption or known) ^ salt
            else:
                value = record.get(name, ABSENT[name]) if name in ABSENT else record[name]
            row[name] = _typed(name, value)
        return row

    @staticmethod
    def _group(record: Row, caption: str) -> int:
        group = int(record["group"]) if "group" in record else group_of(caption)
        if not 0 <= group < 2**31:
            raise ValueError(f"group {group} is not in [0, 2^31)")
        return group


def _typed(name: str, value: Any) -> np.ndarray | int:
    field = FIELDS[name]
    if type(value) is int and not field.axes:
        return value
    array = np.asarray(value)
    axes = field.axes.split("|")
    if array.ndim not in map(len, axes) or not np.can_cast(array.dtype, field.dtype, "same_kind"):
        what = f"{type(value).__name__} of {array.dtype} {array.shape}"
        wanted = " or ".join(f"({', '.join(letters)})" for letters in axes)
        raise ValueError(f"field {name!r} is {what}, not {np.dtype(field.dtype)} {wanted}: {field.mend}")
    return array


def stack(rows: Sequence[Row]) -> Batch:
    """Rows -> a batch: each field with a leading axis B, strings as numpy arrays of str.

    Raises:
      UserError: the rows of a field differ in shape.
    """
    batch = {}
    for name in rows[0]:
        values, field = [row[name] for row in rows], FIELDS.get(name)
        try:
            batch[name] = np.array(values, field.dtype if field else None)
        except ValueError:
            shapes = sorted({np.shape(value) for value in values})
            raise UserError(f"field {name!r} has shapes {shapes[:3]} in one batch: {FIELDS[name].mend}") from None
    return batch


def split(batch: Batch) -> tuple[Batch, Batch]:
    """A batch -> (what goes to the device, the strings that stay on the host)."""
    strings = {name: value for name, value in batch.items() if value.dtype.kind == "U"}
    return {name: value for name, value in batch.items() if name not in strings}, strings


class BrokenCount:
    """Counts broken records and stops a run whose data are worse than it said.

    Each process notes what it reads; now and then all of them exchange what they `take`, and each adds the same, so that
    all stop together.

    Args:
      limit: the share of records that may be broken, e.g. 0.01.
      window: over how many of the latest records at least. More than limit x window broken ones among them are an error,
        also before the window is full, so that a small sample alone cannot stop a run.

    Attributes:
      total: all broken records so far.
    """

    def __init__(self, limit: float, window: int = 10_000):
        self.total = 0
        self._limit, self._window = limit, window
        self._noted: tuple[int, list[str]] = (0, [])
        self._added: deque[tuple[int, int]] = deque()
        self._latest: list[str] = []

    def note(self, broken: Shaped[np.ndarray, " B"]) -> list[str]:
        """Remembers a batch's "broken" strings and returns those that are not empty."""
        names = [str(name) for name in broken if name]
        rows, before = self._noted
        self._noted = rows + len(broken), before + names
        return names

    def take(self) -> list[Any]:
        """What was noted since the last call: [records, broken ones, the latest names]."""
        (rows, names), self._noted = self._noted, (0, [])
        return [rows, len(names), names[-LATEST:]]

    def add(self, *taken: list[Any]) -> None:
        """Counts what the processes took.

        Raises:
          UserError: there are too many broken records; it names some.
        """
        rows, broken = sum(t[0] for t in taken), sum(t[1] for t in taken)
        self.total += broken
        self._added.append((rows, broken))
        self._latest = [*self._latest, *(name for t in taken for name in t[2])][-LATEST:]
        while sum(rows for rows, _ in self._added) - self._added[0][0] >= self._window:
            self._added.popleft()
        rows, broken = (sum(numbers) for numbers in zip(*self._added, strict=True))
        window = max(rows, self._window)
        if broken > self._limit * window:
            raise UserError(
                f"{broken} broken records among the latest {rows}, over max_broken {self._limit} of {window}: "
                f"mend the data or raise max_broken\nthe latest: {'; '.join(self._latest)}"
            )
