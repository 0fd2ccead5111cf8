"""How a loss over all pairs of the global batch meets every pair without holding their logits at once.

A loss gives a `body`, which works on one block of rows (images) and one of columns (texts) and adds to accumulators that
lead with the axis of their rows or columns. A Walk calls it for every block: over tiles on one device, or around the ring
of the mesh's data axes, where columns and their accumulators travel and rows stay. Neither is differentiated: a loss says
what its gradient is and walks again for it, so that nothing of the size of the logits is kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmjax.core import pin
from mmjax.core.errors import UserError, suggest
from mmjax.sharding.mesh import ROWS, AnyMesh, row_parts

DTYPES = (None, "bfloat16", "float16", "float32")
FORMS = ("auto", "dense", "tiled", "ring")
# Rows and columns of a tile: its logits stay in a core's cache (see tests/benchmarks/contrastive.py).
TILE = 1024
# "auto" is dense while a device would hold at most so many logits. On one device by measurement: from a batch of 1,024 on
# tiles took less time than dense on a CPU (tests/benchmarks/contrastive.py). Over devices as a limit of memory, 256 MiB in
# float32: below it one gather is taken to be better than many hops, which no real network has measured here.
DENSE_ALONE, DENSE_SPLIT = 2**20, 2**26

# (shared, rows, columns, row accumulators, column accumulators, which pairs are real) -> both accumulators
Body = Callable[[Any, Any, Any, Any, Any, jax.Array | None], tuple[Any, Any]]


class Walk(NamedTuple):
    """A way over all pairs; static and hashable.

    Attributes:
      tile: rows and columns of a block, at most.
      dtype: that embeddings are multiplied and travel in; None: as they come. Logits and gradients stay in float32.
      mesh: whose data axes are the ring, or None on one device.
    """

    tile: int
    dtype: str | None = None
    mesh: AnyMesh | None = None

    def __call__(self, body: Body, shared: Any, rows: Any, columns: Any, row_sums: Any, column_sums: Any) -> tuple[Any, Any]:
        """The accumulators after every pair of blocks was met once.

        Args:
          body: see the module.
          shared: scalars, the same for all pairs.
          rows, columns: pytrees whose leaves lead with the batch axis.
          row_sums, column_sums: what the accumulators start from; their leaves lead with the batch axis too.
        """
        if self.mesh is None:
            return _tiles(body, self.tile, shared, rows, columns, row_sums, column_sums)
        return _ring(body, self.tile, self.mesh, shared, rows, columns, row_sums, column_sums)


def choose(form: str, tile: int, dtype: str | None, batch: int) -> Walk | None:
    """The walk that a config's words mean on the mesh at hand (core.pin), or None for dense.

    Raises:
      UserError: an unknown form or dtype, a tile that is no positive number, "tiled" where the batch is split over devices,
        or a batch that does not divide over the ring.
    """
    if form not in FORMS:
        raise UserError(f"task.loss: form {form!r} is not one of: {', '.join(FORMS)}.{suggest(form, FORMS)}")
    if not isinstance(tile, int) or tile < 1:
        raise UserError(f"task.loss: tile {tile!r} is not a positive number of rows: leave it out for {TILE}")
    if dtype not in DTYPES:
        raise UserError(f"task.loss: dtype {dtype!r} is not one of: {', '.join(map(str, DTYPES))}")
    mesh = pin.mesh()
    parts = 1 if mesh is None else row_parts(mesh.shape)
    if form == "tiled" and parts > 1:
        raise UserError(
            f"task.loss: form 'tiled' is for one device and the batch is split over {parts}: use 'ring', whose blocks are "
            f"tiled on each device, or 'auto'"
        )
    few = batch * batch // parts <= (DENSE_ALONE if parts == 1 else DENSE_SPLIT)
    if form == "dense" or (form == "auto" and few):
        return None
    if batch % parts:
        raise UserError(f"task.loss: a ring of {parts} devices needs a batch that they divide, not {batch}")
    return Walk(tile, dtype, mesh if parts > 1 else None)


def _tiles(body: Body, tile: int, shared: Any, rows: Any, columns: Any, row_sums: Any, column_sums: Any) -> tuple[Any, Any]:
    """Two nested scans: each strip of rows meets every tile of columns."""
    count, width = (len(jax.tree.leaves(side)[0]) for side in (rows, columns))
    row_tiles, column_tiles = _fold((rows, row_sums), count, tile), _fold((columns, column_sums), width, tile)

    def strip(column_sums, across):
        (rows, row_sums), real_rows = across

        def step(row_sums, along):
            (columns, real_columns), column_sums = along
            real = _both(real_rows, real_columns)
            return body(shared, rows, columns, row_sums, column_sums, real)

        row_sums, column_sums = jax.lax.scan(step, row_sums, ((columns, real_columns), column_sums))
        return column_sums, row_sums

    (columns, column_sums), real_columns = column_tiles
    column_sums, row_sums = jax.lax.scan(strip, column_sums, row_tiles)
    return _unfold(row_sums, count), _unfold(column_sums, width)


def _ring(
    body: Body, tile: int, mesh: AnyMesh, shared: Any, rows: Any, columns: Any, row_sums: Any, column_sums: Any
) -> tuple[Any, Any]:
    """Each device's columns travel both ways round, half of them each way, and their accumulators with them.

    On N devices a half hops N - 1 times. Its accumulators set out with it at its first stop and hop home from its last,
    N - 1 times too; the device's own block comes at the end.
    """
    parts, axes = row_parts(mesh.shape), ROWS[0]

    def hop(x, way):
        return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, [(i, (i + way) % parts) for i in range(parts)]), x)

    def local(shared, rows, columns, row_sums, column_sums):
        half = len(jax.tree.leaves(columns)[0]) // 2
        cuts = ((1, slice(half, None)), (-1, slice(None, half))) if half else ((1, slice(None)),)
        ways = [way for way, _ in cuts]

        def stop(carry, _):
            row_sums, travelling, sums = carry
            travelling = [hop(block, way) for block, way in zip(travelling, ways, strict=True)]
            for i, way in enumerate(ways):
                row_sums, sums[i] = _tiles(body, tile, shared, rows, travelling[i], row_sums, sums[i])
                sums[i] = hop(sums[i], way)
            return (row_sums, travelling, sums), None

        cut = [[jax.tree.map(lambda x, at=at: x[at], tree) for _, at in cuts] for tree in (columns, column_sums)]
        (row_sums, _, sums), _ = jax.lax.scan(stop, (row_sums, *cut), length=parts - 1)
        column_sums = jax.tree.map(lambda *halves: jnp.concatenate(halves[::-1]), *sums)
        return _tiles(body, tile, shared, rows, columns, row_sums, column_sums)

    every, split = PartitionSpec(), ROWS
    around = jax.shard_map(local, mesh=mesh, in_specs=(every, split, split, split, split), out_specs=(split, split))
    return around(shared, rows, columns, row_sums, column_sums)


def _fold(tree: Any, count: int, tile: int) -> tuple[Any, jax.Array | None]:
    """Leaves (count, ...) as (tiles, rows of a tile, ...), padded where the tiles, made as equal as can be, do not divide.

    Returns:
      (the tree, which rows are real: (tiles, rows of a tile), or None where none is padding).
    """
    tiles = -(-count // tile)
    each = -(-count // tiles)
    pad = tiles * each - count

    def fold(x):
        x = jnp.pad(x, ((0, pad), *((0, 0),) * (x.ndim - 1))) if pad else x
        return x.reshape(tiles, each, *x.shape[1:])

    return jax.tree.map(fold, tree), (jnp.arange(tiles * each) < count).reshape(tiles, each) if pad else None


def _unfold(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], tree)


def _both(rows: jax.Array | None, columns: jax.Array | None) -> jax.Array | None:
    if rows is None or columns is None:
        return rows[:, None] if columns is None and rows is not None else columns
    return rows[:, None] & columns
