"""`data check`: reads the records of one or several splits through the decoders of training, and says what they hold.

What it finds is a plain dict (`facts`), which report/dataset.py draws and the command line prints:

  records, checked, bytes_kept (memory of the hashes)
  splits: {name: {"source", "records", "checked", "fields", "formats", "modes", "scripts": {what: records},
    "broken": [{"kind", "count", "records": [[id, error], ...]}], "broken_records": records that have any trouble, and all
      that the source left out before it numbered its records (kinds "left out: ...", named by their places),
    "ids": {"repeated": ids that occur again, "records": [id, ...]},
    "equal": pictures, sounds and videos by their bytes: {"contents": that occur again, "copies", "records": [[id, ...], ...]},
    "pictures" (and videos): {"count", "width", "height", "aspect", "megapixels", "flat", "near"} or None,
    "sounds": {"count", "seconds", "rates", "total_hours"} or None,
    "captions": {"count", "distinct", "characters", "words", "most": [[caption, times], ...]} or None}}
  leaks: of twins.leaks, with ids for numbers
  near_complete: False where crowds of near duplicates were compared in part only

Quantities are {"quantiles": {"min", "1 %", "25 %", "median", "75 %", "99 %", "max"}, "edges": [...], "counts": [...],
"beyond": n}: counts between edges, which end at the 99 % quantile.
"""

import collections
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from mmjax.core import keys, registry
from mmjax.core.errors import UserError
from mmjax.data.crew import Crew
from mmjax.data.look import look
from mmjax.data.sources import SOURCES
from mmjax.data.sources.source import Problem, Source, problems_of
from mmjax.data.twins import Twins, leaks, repeated

CHUNK = 64  # records a process is given at once
NAMED, KINDS = 100, 50  # records named a kind of trouble; kinds kept apart
BINS = 30
QUANTILES = {"min": 0.0, "1 %": 0.01, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "99 %": 0.99, "max": 1.0}
NAMES = 5  # records that are named of what is repeated or leaked


class Found(NamedTuple):
    """What `check` found.

    Attributes:
      facts: see the module.
      cards: split -> look's cards of records at even steps.
      pairs: split -> (two cards, bits between them) of near duplicates.
    """

    facts: dict[str, Any]
    cards: dict[str, list[dict[str, Any]]]
    pairs: dict[str, list[tuple[dict[str, Any], dict[str, Any], int]]]


def check(
    splits: Mapping[str, Mapping[str, Any]], sample: int | None = None, workers: int | None = None, shown: int = 36
) -> Found:
    """Reads all records of each split, or `sample` of each drawn at random, in processes.

    Args:
      splits: name -> {"name": ..., **keywords} of SOURCES. Leaks are looked for between each two.
      workers: processes; as many as cores by default.
      shown: cards a split.

    Raises:
      UserError: a bad spec, or a source without a record.
    """
    workers = workers or os.cpu_count() or 1
    sources = {name: registry.build(SOURCES, spec, where=name) for name, spec in splits.items()}
    seen = {name: _read(name, source, sample, workers, shown) for name, source in sources.items()}
    twins = Twins({name: part.rows for name, part in seen.items()})
    shared = leaks({k: part.rows for k, part in seen.items()}, {k: part.captions for k, part in seen.items()}, twins)
    facts: dict[str, Any] = {"splits": {}, "near_complete": twins.complete}
    pairs = {}
    for name, source in sources.items():
        near = twins.within(name)
        same = _Same(*(repeated(column) for column in _hashes(seen[name])))
        leaked = [leak["examples"] for leak in shared if leak["in"] == name]
        again = {card["number"]: card for card in cards(source, _wanted(seen[name], same, near[1], leaked), workers)}
        own = _facts(seen[name], near[0], same, again)
        facts["splits"][name] = {"source": dict(splits[name]), "records": len(source), **own}
        pairs[name] = [(again[a], again[b], bits) for a, b, bits in near[1] if a in again and b in again]
        for examples in leaked:
            examples |= {what: _ids(numbers, again) for what, numbers in examples.items()}
    facts["leaks"] = shared
    for total in ("records", "checked"):
        facts[total] = sum(split[total] for split in facts["splits"].values())
    facts["bytes_kept"] = sum(part.rows.nbytes + part.captions.nbytes for part in seen.values())
    return Found(facts, {name: part.cards for name, part in seen.items()}, pairs)


def cards(source: Source, numbers: Sequence[int], workers: int = 1) -> list[dict[str, Any]]:
    """look's cards of these records, in their order, without those that cannot be read."""
    chunks = [(frozenset(part), part) for i in range(0, len(numbers), CHUNK) if (part := numbers[i : i + CHUNK])]
    workers = max(1, min(workers, len(chunks)))
    return [card for seen, _ in Crew(look, source, workers).each(chunks, lambda _: None) for card in seen.cards]


def even(records: int, n: int) -> list[int]:
    """`n` numbers below `records`, from the first to the last at even steps; all where there are no more."""
    return sorted({int(i) for i in np.linspace(0, records - 1, min(n, records)).round()})


class _Split(NamedTuple):
    """What was seen of a split: look.Seen of all its chunks."""

    rows: Shaped[np.ndarray, " n"]
    captions: Shaped[np.ndarray, " m"]
    counts: dict[str, collections.Counter]
    broken: "_Broken"
    cards: list[dict[str, Any]]


def _read(name: str, source: Source, sample: int | None, workers: int, shown: int) -> _Split:
    from tqdm import tqdm

    if not len(source):
        raise UserError(f"{name} holds no record")
    numbers: Any = range(len(source))
    if sample is not None and sample < len(source):
        numbers = np.sort(keys.rng(0, "check").choice(len(source), sample, replace=False, shuffle=False)).tolist()
    wanted = frozenset(numbers[i] for i in even(len(numbers), shown))
    chunks = ((wanted.intersection(part), part) for i in range(0, len(numbers), CHUNK) if (part := numbers[i : i + CHUNK]))
    rows, captions, cards, broken = [], [], [], _Broken(problems_of(source))
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    with tqdm(total=len(numbers), desc=f"check {name}", unit=" records", disable=None) as bar:
        for seen, dead in Crew(look, source, min(workers, -(-len(numbers) // CHUNK))).each(chunks, bar.update):
            rows.append(seen.rows)
            captions.append(seen.captions)
            cards += seen.cards
            for what, counter in seen.counts.items():
                counts[what].update(counter)
            for kind, key, error in [*seen.broken, *(("record: " + d.reason, f"#{d.number}", d.reason) for d in dead)]:
                broken.add(kind, key, error)
    return _Split(np.concatenate(rows), np.concatenate(captions), dict(counts), broken, cards)


class _Broken:
    """Troubles by kind, with the first records of each; memory bounded whatever the data are.

    Args:
      problems: what the source left out, whether or not its records are sampled.
    """

    def __init__(self, problems: Sequence[Problem]):
        self._count: collections.Counter = collections.Counter()
        self._named: dict[str, list[list[str]]] = collections.defaultdict(list)
        for kind, count, names in problems:
            self._count[f"left out: {kind}"] += count
            self._named[f"left out: {kind}"] += [[name, f"left out, not a record: {kind}"] for name in names]
        self.records = self._count.total()
        self._last = ""

    def add(self, kind: str, key: str, error: str) -> None:
        if kind not in self._count and len(self._count) >= KINDS:
            kind = "other"
        self._count[kind] += 1
        self.records += key != self._last  # the troubles of one record come one after the other
        self._last = key
        if len(self._named[kind]) < NAMED:
            self._named[kind].append([key, error])

    def table(self) -> list[dict[str, Any]]:
        return [{"kind": kind, "count": n, "records": self._named[kind]} for kind, n in self._count.most_common()]


class _Same(NamedTuple):
    """What is repeated: twins.repeated of the hashes of ids, of contents and of captions."""

    ids: Any
    contents: Any
    captions: Any


def _hashes(seen: _Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return seen.rows["id"], _held(seen)["content"], seen.captions["hash"]


def _held(seen: _Split) -> Shaped[np.ndarray, " k"]:
    """The rows of records whose picture, sound or video could be decoded."""
    return seen.rows[(seen.rows["width"] > 0) | (seen.rows["seconds"] > 0)]


def _wanted(seen: _Split, same: _Same, near: Sequence[Any], leaked: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of records that are read again, to be named or shown."""
    numbers = [n for a, b, _ in near for n in (a, b)]
    numbers += [seen.rows["number"][at[0]] for at in same.ids[2][:NAMES]]
    numbers += [n for at in same.contents[2][:NAMES] for n in _held(seen)["number"][at[:NAMES]]]
    numbers += [seen.captions["number"][at[0]] for at in same.captions[2][:NAMES]]
    numbers += [n for examples in leaked for some in examples.values() for n in some[:NAMES]]
    return sorted({int(n) for n in numbers})


def _facts(seen: _Split, near: int, same: _Same, again: Mapping[int, Any]) -> dict[str, Any]:
    rows, captions, broken = seen.rows, seen.captions, seen.broken
    pictures, sounds = rows[rows["width"] > 0], rows[rows["seconds"] > 0]
    unread = sum(trouble["count"] for trouble in broken.table() if trouble["kind"].startswith("record: "))
    groups = [_ids(_held(seen)["number"][at].tolist(), again) for at in same.contents[2][:NAMES]]
    equal = {"contents": same.contents[0], "copies": same.contents[1], "records": groups}
    return {
        "checked": len(rows) + unread,
        **{what: dict(seen.counts.get(what, {})) for what in ("fields", "formats", "modes", "scripts")},
        "broken": broken.table(),
        "broken_records": broken.records,
        "ids": {"repeated": same.ids[0], "records": _ids([int(rows["number"][at[0]]) for at in same.ids[2]], again)},
        "equal": equal,
        "pictures": _pictures(pictures, near) if len(pictures) else None,
        "sounds": _sounds(sounds) if len(sounds) else None,
        "captions": _captions(captions, same.captions, again) if len(captions) else None,
    }


def _ids(numbers: Sequence[int], again: Mapping[int, Any]) -> list[str]:
    return [again[n]["id"] if n in again else f"#{n}" for n in numbers[:NAMES]]


def _pictures(rows: Shaped[np.ndarray, " n"], near: int) -> dict[str, Any]:
    width, height = rows["width"].astype(float), rows["height"].astype(float)
    return {
        "count": len(rows),
        "width": quantity(width),
        "height": quantity(height),
        "aspect": quantity(width / height),
        "megapixels": quantity(width * height / 1e6),
        "flat": int((rows["phash"] == 0).sum()),
        "near": near,
    }


def _sounds(rows: Shaped[np.ndarray, " n"]) -> dict[str, Any]:
    rates = {int(rate): int(count) for rate, count in zip(*np.unique(rows["rate"], return_counts=True), strict=True)}
    return {
        "count": len(rows),
        "seconds": quantity(rows["seconds"].astype(float)),
        "rates": rates,
        "total_hours": float(rows["seconds"].sum(dtype=float) / 3600),
    }


def _captions(captions: Shaped[np.ndarray, " n"], said: Any, again: Mapping[int, Any]) -> dict[str, Any]:
    most = []
    for at in said[2][:NAMES]:
        number = int(captions["number"][at[0]])
        # Which of its record's captions this is: its place among those of the number, which lie together and in order.
        place = int(at[0] - np.searchsorted(captions["number"], number))
        if number in again:
            most.append([again[number]["texts"][place], len(at)])
    return {
        "count": len(captions),
        "distinct": len(captions) - said[1],
        "characters": quantity(captions["characters"].astype(float)),
        "words": quantity(captions["words"].astype(float)),
        "most": most,
    }


def quantity(values: Shaped[np.ndarray, " n"]) -> dict[str, Any]:
    """Quantiles and a histogram up to the 99 % quantile (see the module); of whole numbers, each bar holds as many."""
    quantiles = {name: float(np.quantile(values, q, method="inverted_cdf")) for name, q in QUANTILES.items()}
    low, high = quantiles["min"], quantiles["99 %"]
    if (values == values.round()).all():
        width = math.ceil((high - low + 1) / BINS)
        edges = low + width * np.arange(math.ceil((high - low + 1) / width) + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    inside = values[values < edges[-1]] if edges[-1] > high else values[values <= edges[-1]]
    counts = np.histogram(inside, edges)[0].tolist()
    return {"quantiles": quantiles, "edges": edges.tolist(), "counts": counts, "beyond": len(values) - len(inside)}
