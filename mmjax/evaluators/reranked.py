"""Retrieval in two steps: a shortlist by the contrastive head, put in order by a model that reads both (ALBEF, BLIP)."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float, Int

from mmjax.core import pin
from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.evaluators.embed import Embedder
from mmjax.evaluators.retrieval import Retrieval, scores
from mmjax.metrics import retrieval
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS, row_parts, share
from mmjax.tasks.task import Binder, Task


class Reranked(Retrieval):
    """Recall by three heads, both ways; only pairs of a shortlist are fused, and what it misses stays behind it.

    "itc" is the cosine alone; "itm" orders the shortlist by the matching head's log odds of yes (ALBEF, arXiv 2107.07651,
    section 4, with k 128 or 256); "sum" by these plus the scaled cosine (BLIP's code adds the cosine itself).

    Args:
      set, source: as of Retrieval.
      shortlist: k, the best candidates of each query.
      images, pairs: of a tile on each data part of the mesh: so many pictures are encoded, so many pairs fused at once.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        *,
        set: str,
        source: dict,
        shortlist: int = 128,
        images: int = 8,
        pairs: int = 128,
    ):
        super().__init__(model, task, mesh, common, set=set, source=source)
        if min(shortlist, images, pairs) < 1:
            raise UserError(f"eval set {set!r}: shortlist {shortlist}, images {images}, pairs {pairs}: each is at least 1")
        self._k, self._tile, self._mesh, self._share = shortlist, (images, pairs), mesh, share(mesh)

        def scale(bind: Binder, params: dict, rows: Mapping[str, jax.Array]) -> jax.Array:
            return jnp.broadcast_to(bind(params).scale(), rows["group"].shape)

        self._embed = Embedder(model, {"image": task.image, "caption": task.text, "scale": scale}, mesh)

        def match(params: dict, stats: dict, rows: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            with pin.on(mesh, PINS):
                # Each part of the mesh has its own pictures: places count from the first of them.
                part = jnp.arange(len(rows["at"])) // pairs
                found = task.matched(Binder(model, stats), params, rows | {"at": rows["at"] + part * images})
                return jnp.float32(found), rows["pair"]

        self._match = jax.jit(match, out_shardings=NamedSharding(mesh, PINS["whole"]))

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"itc/t2i/R@1": ..., "itm/...", "sum/...", "shortlist": k, "fused": pairs, "candidates": pictures}}."""
        z = self._embed(params, stats, self._epoch, keep=("group", "item", "text"))
        ids, z["text"] = z["text"], z.pop("caption")
        first = retrieval.distinct(z["item"])
        itc = self._rank(z, first, min(self._k, len(z["group"])))
        # Of all pairs of a picture and a caption, those of either shortlist, once each and in the order of pictures.
        captions = len(z["group"])
        codes = {
            "t2i": itc["t2i"].top * captions + np.arange(captions)[:, None],
            "i2t": np.arange(len(first))[:, None] * captions + itc["i2t"].top,
        }
        wanted = np.unique(np.concatenate([code.ravel() for code in codes.values()]))
        odds = self._odds(params, stats, z["row"][first], ids, wanted // captions, wanted % captions)
        heads = {"itc": itc, "itm": {}, "sum": {}}
        for way, code in codes.items():
            itm = odds[np.searchsorted(wanted, code)]
            picture, caption = code // captions, code % captions
            cosine = np.einsum("qkd,qkd->qk", z["image"][first][picture], z["text"][caption])
            heads["itm"][way] = retrieval.rerank(itc[way], itm)
            heads["sum"][way] = retrieval.rerank(itc[way], itm + z["scale"][0] * cosine)
        about = {name: value for name, value in self._file(z, first, heads["itm"]).items() if "/" not in name}
        found = {f"{head}/{name}": value for head, ways in heads.items() for name, value in scores(ways).items()}
        return {self.set: found | about | {"shortlist": min(self._k, len(z["group"])), "fused": len(wanted)}}

    def _odds(
        self,
        params: dict,
        stats: dict,
        records: Int[np.ndarray, " D"],
        ids: Int[np.ndarray, "M T"],
        picture: Int[np.ndarray, " P"],
        caption: Int[np.ndarray, " P"],
    ) -> Float[np.ndarray, " P"]:
        """Log odds of yes of each pair; pairs come in the order of pictures, so that each is read and encoded about once."""
        parts, hosts, host = row_parts(self._mesh.shape), self._share["hosts"], self._share["host"]
        odds, tiles = np.full(len(picture), np.nan, np.float32), list(cut(picture, *self._tile))
        for at in range(0, len(tiles), parts):
            here = tiles[at : at + parts] + [slice(0, 0)] * max(0, at + parts - len(tiles))
            rows = [
                self._rows(records, ids, picture, caption, tile) for tile in here[host * parts // hosts :][: parts // hosts]
            ]
            placed = place.batch({name: np.concatenate([row[name] for row in rows]) for name in rows[0]}, self._mesh)
            found, pair = (np.asarray(x) for x in self._match(params, stats, placed))
            odds[pair[pair >= 0]] = found[pair >= 0]
        return odds

    def _rows(self, records, ids, picture, caption, tile: slice) -> dict[str, np.ndarray]:
        """One part's tile, filled up to its shape; "pair" is -1 where it is filling."""
        images, pairs = self._tile
        seen = np.unique(picture[tile])
        shown = [self._epoch.row(int(records[d]))["image"] for d in seen] or [self._epoch.row(int(records[0]))["image"]]
        chosen, count = caption[tile], tile.stop - tile.start
        return {
            "image": np.stack(shown + [shown[-1]] * (images - len(shown))),
            "text": np.concatenate([ids[chosen], np.repeat(ids[:1], pairs - count, 0)]),
            "at": np.pad(np.searchsorted(seen, picture[tile]), (0, pairs - count)).astype(np.int32),
            "pair": np.pad(np.arange(tile.start, tile.stop), (0, pairs - count), constant_values=-1).astype(np.int32),
        }


def cut(picture: Int[np.ndarray, " P"], images: int, pairs: int) -> Iterator[slice]:
    """Stretches of at most `pairs` pairs and of at most `images` pictures; pairs are in the order of pictures."""
    start = 0
    while start < len(picture):
        changes = np.flatnonzero(np.diff(picture[start : start + pairs]))
        stop = start + (changes[images - 1] + 1 if len(changes) >= images else min(pairs, len(picture) - start))
        yield slice(start, int(stop))
        start = int(stop)
