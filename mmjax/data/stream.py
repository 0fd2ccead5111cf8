"""The stream: which records batch k holds, as a function of (seed, k), and an iterator that makes them ahead of time.

Grain does the arithmetic of indices (shuffle, repeat, mixture, batches, slices by host) over plain record numbers; rows
turn numbers into arrays. Batch k is the same for any number of hosts, threads and worker processes, so that resuming a
run takes nothing but its step.

Sources of a mixture are drawn from in proportion to their weights, in a fixed interleaving, and each is shuffled anew
in each of its epochs.

Groups of a mixture: a group number means its source's group, so two sources never share one by accident (numbers are
xored with a constant of the source's place in the list). Entries that name the same "groups", e.g. drawings of the
same captions in several styles, share their numbers: equal captions are then positives across them.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmjax.core import keys, registry
from mmjax.core.errors import UserError, suggest
from mmjax.data import workers as processes
from mmjax.data.rows import FIELDS, Batch, Loader, stack
from mmjax.data.sources import SOURCES
from mmjax.data.sources.source import Source, group_of
from mmjax.data.transforms import TRANSFORMS

Spec = Mapping[str, Any]
ENTRY = ("source", "weight", "groups", "block")
DEFAULT_FIELDS = ("image", "text", "group", "label")


class Stream:
    """Training batches without an end.

    A batch is a dict of numpy arrays: image uint8 (B, H, W, 3), text int32 (B, T), group int32 (B,), label int32 (B,;
    -1 unknown), and on the host only the strings id, caption and broken ("" or "ID: reason" of the record that this row
    replaces). B is the host's share of `batch_size`; concatenated in the order of hosts they are the global batch.

    Args:
      sources: list of {"source": {"name": ..., **keywords}, "weight": 1.0, "groups": None, "block": 1}. Consecutive records of
        a block stay together in the shuffle: in a source that is in order, near neighbours then are each other's
        negatives in a contrastive batch.
      transforms: list of {"name": ..., **keywords}, applied in order.
      batch_size: of all hosts together.
      fields: which of rows.FIELDS the batch holds.
      seed: of the order, the transforms and replacements.
      workers: processes that make batches; 0 makes them in threads of this one. (Pillow and tokenizers work in threads;
        processes help where transforms hold the interpreter's lock.)
      host, hosts: this host's number and how many there are.
      max_broken: the share of broken records that a run accepts; the training loop counts with rows.BrokenCount.

    Attributes:
      sources: what tells these data from others: {"name", "path" (or the data set's name), "records"} of each source. With
        another number of records, batch k is another.

    Raises:
      UserError: a bad spec, or data that are not there.
    """

    def __init__(
        self,
        sources: Sequence[Spec],
        transforms: Sequence[Spec],
        batch_size: int,
        fields: Sequence[str] = DEFAULT_FIELDS,
        seed: int = 0,
        workers: int = 0,
        host: int = 0,
        hosts: int = 1,
        max_broken: float = 0.01,
    ):
        check({"sources": sources, "transforms": transforms, "batch_size": batch_size, "fields": fields, "hosts": hosts})
        import grain  # imports jax

        self.max_broken, self._workers = max_broken, workers
        built = [_source(entry["source"]) for entry in sources]
        self.sources = [_known(entry["source"], len(source)) for entry, source in zip(sources, built, strict=True)]
        loader = Loader(built, _build(transforms), fields, _salts(sources), seed)
        # Records of all sources are numbered in one row, so that what travels through Grain is one integer.
        starts = [0, *itertools.accumulate(len(source) for source in built)]
        orders = [
            _order(first, end - first, entry.get("block", 1), int(keys.rng(seed, "order", i).integers(2**32)))
            for i, (entry, first, end) in enumerate(zip(sources, starts[:-1], starts[1:], strict=True))
        ]
        weights = [float(entry.get("weight", 1.0)) for entry in sources]
        numbers = grain.MapDataset.mix(orders, weights) if len(orders) > 1 else orders[0]
        rows = batch_size // hosts
        load = functools.partial(_load, loader, starts, batch_size, host * rows)
        self._numbers, self._load = numbers.batch(rows, batch_fn=list)[host::hosts], load
        self._batches = self._numbers.map_with_index(load)

    def batch_at(self, k: int) -> Batch:
        """This host's rows of global batch k (k >= 0)."""
        return self._batches[k]

    def sample(self, n: int) -> Batch:
        """The first `n` rows of this host's batch 0 at most: what a batch is like, at the price of a few records."""
        return self._load(0, self._numbers[0][:n])

    def batches(self, start: int = 0) -> Iterator[tuple[int, Batch]]:
        """(k, batch k) for k = start, start + 1 ..., made ahead of time. Close it (or drop it) to stop its workers."""
        with contextlib.closing(processes.ahead(self._batches[start:], self._workers)) as ahead:
            yield from zip(itertools.count(start), ahead)


def epoch(
    source: Spec,
    transforms: Sequence[Spec],
    batch_size: int,
    fields: Sequence[str] = DEFAULT_FIELDS,
    host: int = 0,
    hosts: int = 1,
) -> "Epoch":
    """Evaluation batches: every record of one source once and in order. See Epoch for the rest."""
    check_epoch({"source": source, "transforms": transforms, "batch_size": batch_size, "fields": fields, "hosts": hosts})
    return Epoch(_source(source), _build(transforms), batch_size, fields, host, hosts)


class Epoch:
    """`len(epoch)` batches, as often as it is iterated; every host makes the same number of equal shape.

    Batches are those of Stream, with a bool "mask" (B,): False for the rows that fill the last batch and for broken
    records, which are named in "broken" and not replaced. So each example counts once.

    Args:
      source, transforms: built ones; `epoch` builds them from specs.
      batch_size: of all hosts together.
    """

    def __init__(self, source: Any, transforms: Sequence[Any], batch_size: int, fields: Sequence[str], host: int, hosts: int):
        self._loader = Loader([source], transforms, fields, [0], seed=0)
        self._size, self._batch_size = len(source), batch_size
        self._rows = batch_size // hosts
        self._first = host * self._rows

    def __len__(self) -> int:
        return -(-self._size // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        import grain

        return processes.ahead(grain.MapDataset.range(len(self)).map(self._batch), workers=0)

    def row(self, i: int) -> dict[str, Any]:
        """Record i as a batch holds it, to be looked at.

        Raises:
          UserError: it cannot be read.
        """
        row, reason = self._loader.attempt(0, i, i)
        if row is None:
            raise UserError(f"broken record {reason}")
        return row

    def _batch(self, k: int) -> Batch:
        rows = []
        for i in range(k * self._batch_size + self._first, k * self._batch_size + self._first + self._rows):
            row, reason = self._loader.attempt(0, i, i) if i < self._size else (None, "")
            rows.append({**self._filler, "broken": reason, "mask": False} if row is None else {**row, "mask": True})
        return stack(rows)

    @functools.cached_property
    def _filler(self) -> dict[str, Any]:
        """The first record that can be read, in place of one that is not there: its shapes are right."""
        for i in range(self._size):
            row, reason = self._loader.attempt(0, i, i)
            if row is not None:
                return {**row, "id": "", "caption": ""}
        raise UserError(f"no record of the evaluation source can be read; the last: {reason}")


def check(spec: Spec, where: str = "data") -> None:
    """Raises UserError unless `spec` can be the keywords of Stream; touches no data.

    Args:
      spec: the config's keywords; those that the program adds (batch_size, seed, host, hosts) may be absent.
      where: the spec's place in the config, for messages.
    """
    registry.check({"stream": Stream}, {"name": "stream", **spec}, where)
    if not spec.get("sources"):
        raise UserError(f"{where}: sources is empty: list at least one {{'source': {{'name': ...}}, 'weight': 1.0}}")
    for i, entry in enumerate(spec["sources"]):
        at = f"{where}.sources[{i}]"
        for key in entry:
            if key not in ENTRY:
                raise UserError(f"{at}: takes {', '.join(ENTRY)}, not {key!r}.{suggest(key, ENTRY)}")
        if not entry.get("weight", 1.0) > 0:
            raise UserError(f"{at}: weight {entry['weight']} is not above 0: leave the source out instead")
        registry.check(SOURCES, entry.get("source", {}), f"{at}.source")
    _check_common(spec, where)


def check_epoch(spec: Spec, where: str = "evaluation") -> None:
    """As `check`, for the keywords of `epoch`."""
    registry.check({"epoch": epoch}, {"name": "epoch", **spec}, where)
    registry.check(SOURCES, spec.get("source", {}), f"{where}.source")
    _check_common(spec, where)


def _check_common(spec: Spec, where: str) -> None:
    for i, transform in enumerate(spec.get("transforms", ())):
        registry.check(TRANSFORMS, transform, f"{where}.transforms[{i}]")
    for name in spec.get("fields", ()):
        if name not in FIELDS:
            raise UserError(f"{where}.fields: unknown {name!r}; there are: {', '.join(FIELDS)}.{suggest(name, FIELDS)}")
    hosts = spec.get("hosts", 1)
    size = spec.get("batch_size", hosts)
    if size < 1 or size % hosts:
        near = max(1, size // hosts) * hosts
        raise UserError(f"{where}: batch_size {size} is not a positive multiple of {hosts} hosts: use {near} or {near + hosts}")


def _source(spec: Spec) -> Source:
    source = registry.build(SOURCES, spec)
    if not len(source):
        raise UserError(f"source {spec['name']!r} holds no record")
    return source


def _known(spec: Spec, records: int) -> dict[str, Any]:
    where = next((str(spec[key]) for key in ("path", "dataset") if spec.get(key) is not None), "")
    return {"name": spec["name"], "path": where, "records": records}


def _order(first: int, size: int, block: int, seed: int) -> Any:
    """A MapDataset without an end of the numbers first ... first + size - 1, shuffled by blocks anew in each epoch."""
    import grain

    if not 1 <= block <= size:
        raise UserError(f"data.sources: block {block} is not between 1 and the source's {size} records")
    epochs = max(1, 2**48 // size)  # without an end, yet countable: Grain's own endless length overflows in slices
    blocks = grain.MapDataset.range(size // block).shuffle(seed=seed).repeat(epochs)
    numbers = grain.MapDataset.range(size // block * block).repeat(epochs)
    return numbers.map_with_index(functools.partial(_member, blocks, first, size, block, seed))


def _member(blocks: Any, first: int, size: int, block: int, seed: int, position: int, _: int) -> int:
    """The record at a position."""
    return first + (_start(blocks, size, block, seed, position // block) + position % block) % size


@functools.lru_cache(maxsize=1024)  # the shuffle and a generator cost as much as a row's resize: once a block, not a record
def _start(blocks: Any, size: int, block: int, seed: int, i: int) -> int:
    """Where the stream's block i starts. Each epoch cuts the source at another place, so no record is always left over."""
    cut = 0 if block == 1 else int(keys.rng(seed, "cut", i // (size // block)).integers(size))
    return blocks[i] * block + cut


def _build(transforms: Sequence[Spec]) -> list[Any]:
    return [registry.build(TRANSFORMS, spec) for spec in transforms]


def _salts(sources: Sequence[Spec]) -> list[int]:
    """A number space for groups per entry: its name's where it has one, else its own; the first entry's is as it is."""
    names = [entry.get("groups") or f"source {i}" for i, entry in enumerate(sources)]
    return [0 if name == names[0] else group_of(name) for name in names]


def _load(loader: Loader, starts: Sequence[int], batch_size: int, first: int, k: int, numbers: Sequence[int]) -> Batch:
    """Global batch k's rows from `first` on, whose record numbers are `numbers`."""
    rows = []
    for j, number in enumerate(numbers):
        source = next(i for i, end in enumerate(starts[1:]) if number < end)
        rows.append(loader.row(source, number - starts[source], k * batch_size + first + j))
    return stack(rows)
