"""VisualBERT (Li et al. 2019, arXiv 1908.03557): BERT over one stream, a text and then what a picture shows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core import keys as random
from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.core.tap import frame, tap, under
from mmjax.layers.embed import PatchEmbedding, grid
from mmjax.layers.norm import wide
from mmjax.models.bert import Bert
from mmjax.models.encoders import build as encoder
from mmjax.models.heads import NORMAL, Headed, built
from mmjax.models.regions import Visual, picture, present, regions
from mmjax.models.tiles import Tiles

# Segments of what is seen: one picture takes 1, as the published weights have it; of two the first takes 0, the second 1.
ONE, TWO = (1,), (0, 1)


@dataclasses.dataclass(frozen=True)
class Regions:
    """Visual tokens from a detector's regions; their boxes say which are there, and no region is told its place.

    Attributes:
      features: F, the width of region features (2048, 36 of them, in the paper's VQA).
      positions: rows of the table of visual positions. All regions take the first; published weights hold as many as texts.
    """

    features: int
    positions: int = 1

    def embedding(self, width: int, dtype: str, rngs: nnx.Rngs) -> nnx.Module:
        """What `tokens` maps to D with."""
        return linear(self.features, width, dtype=dtype, rngs=rngs)

    def tokens(self, embedding: nnx.Module, visual: Visual, key: Key[Array, " B"] | None) -> Float[Array, "B S D"]:
        """Raises UserError for features or boxes that are missing or of another shape."""
        return embedding(regions(visual, self.features)[0])

    def valid(self, visual: Visual, count: int) -> Bool[Array, "B S"]:
        """Which tokens are not padding."""
        return present(visual["boxes"])

    def places(self, table: Float[Array, "P D"]) -> Float[Array, "S D"]:
        """What is added to the tokens."""
        return table[:1]


@dataclasses.dataclass(frozen=True)
class Patches:
    """Visual tokens from the patches of a picture, each with its place: no detector, and no published weights.

    Attributes:
      size, patch: pixels of a side of the picture and of a patch.
    """

    size: int
    patch: int

    @property
    def positions(self) -> int:
        return grid(self.size, self.patch) ** 2

    def embedding(self, width: int, dtype: str, rngs: nnx.Rngs) -> nnx.Module:
        """What `tokens` maps to D with."""
        return PatchEmbedding(self.patch, width, dtype=dtype, rngs=rngs)

    def tokens(self, embedding: nnx.Module, visual: Visual, key: Key[Array, " B"] | None) -> Float[Array, "B S D"]:
        """Raises UserError where there is no picture, or one of another size."""
        images = picture(visual)
        if images.shape[1:3] != (self.size, self.size):
            height, width = images.shape[1:3]
            raise UserError(f"pictures are {height} x {width} and model.visual.size is {self.size}: resize them, or change it")
        y = embedding(images)
        return y.reshape(len(y), -1, y.shape[-1])

    def valid(self, visual: Visual, count: int) -> Bool[Array, "B S"]:
        """All are."""
        return jnp.ones((len(visual["image"]), count), bool)

    def places(self, table: Float[Array, "P D"]) -> Float[Array, "S D"]:
        """What is added to the tokens."""
        return table


@dataclasses.dataclass(frozen=True)
class Tiled:
    """Visual tokens from the tiles of a picture, in the words of an encoder that sees each alone: see models.tiles.Tiles.

    Attributes:
      eye, side, regions: Tiles' keywords; the width of `regions` is the text's, D, and it tells each tile its place.
    """

    eye: Mapping[str, Any]
    side: int
    regions: Mapping[str, Any]
    positions: ClassVar[int] = 1  # as of regions

    def embedding(self, width: int, dtype: str, rngs: nnx.Rngs) -> nnx.Module:
        """Whose `tokens` are D wide. Raises UserError for regions of another width."""
        tiles = Tiles(self.eye, self.side, self.regions, dtype=dtype, rngs=rngs)
        if tiles.width != width:
            raise UserError(f"model.visual.regions.width is {tiles.width} and the text's {width}: set both to one number")
        return tiles

    def tokens(self, embedding: nnx.Module, visual: Visual, key: Key[Array, " B"] | None) -> Float[Array, "B S D"]:
        """Raises UserError where there is no picture, or one that does not divide into tiles."""
        return embedding.tokens(picture(visual), key)

    def valid(self, visual: Visual, count: int) -> Bool[Array, "B S"]:
        """All are."""
        return jnp.ones((len(visual["image"]), count), bool)

    def places(self, table: Float[Array, "P D"]) -> Float[Array, "S D"]:
        """What is added to the tokens."""
        return table


def linear(width: int, out: int, *, dtype: str, rngs: nnx.Rngs, **_: Any) -> nnx.Linear:
    """VisualBERT's head of answers and of verdicts."""
    return nnx.Linear(width, out, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)


class Grounding(nnx.Module):
    """Which region a phrase means: query(phrase) key(region) / sqrt(H) (the paper's section 4.4, entities of Flickr30k)."""

    def __init__(self, width: int, head: int, *, dtype: str, rngs: nnx.Rngs):
        self.query, self.key = (linear(width, head, dtype=dtype, rngs=rngs) for _ in range(2))

    def __call__(
        self, text: Float[Array, "B T D"], visual: Float[Array, "B S D"], valid: Bool[Array, "B S"]
    ) -> Float[Array, "B T S"]:
        """Logits in float32 at least; where `valid` is False the lowest number there is."""
        q, k = self.query(text), self.key(visual)
        dtype = jnp.promote_types(q.dtype, jnp.float32)
        logits = jnp.einsum("bth,bsh->bts", q, k, preferred_element_type=dtype) * q.shape[-1] ** -0.5
        return jnp.where(valid[:, None, :], logits, jnp.finfo(dtype).min)


class VisualBert(Headed):
    """BERT whose stream goes on, after the text, with visual tokens; pretrained by masked words and sentence-image prediction.

    A visual token is its vector mapped to D, plus a position and a segment, and then goes through BERT's own LayerNorm and
    blocks. The joint vector is the text encoder's pool over the text's positions: "pooler", or for questions "before_end".

    Args:
      text: a spec of Bert.
      visual: a spec of PARTS["visual"]: regions, or a picture's patches or tiles.
      heads: {"words": True, "match": True, "answers": A (a linear map), "verdicts": n (of two pictures, NLVR2),
        "grounding": H (of regions to phrases)}; see models.heads.Headed.
      dtype: that all is computed in.
      remat: "none", "dots" or "full", for the blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = {"text": {"bert": Bert}, "visual": {"regions": Regions, "patches": Patches, "tiles": Tiled}}
    HEADS = (*Headed.HEADS, "verdicts", "grounding")
    ANSWERS = staticmethod(linear)

    def __init__(
        self,
        text: Mapping[str, Any],
        visual: Mapping[str, Any],
        *,
        heads: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        self.text_encoder = encoder(self.PARTS["text"], text, where="model.text", dtype=dtype, remat=remat, rngs=rngs)
        self.visual = registry.build(self.PARTS["visual"], visual, where="model.visual")
        width, heads = self.text_encoder.width, heads or {}
        self.visual_embedding = self.visual.embedding(width, dtype, rngs)
        self.visual_positions = nnx.Param(NORMAL(rngs.params(), (self.visual.positions, width), jnp.float32))
        segments = max(len(TWO), len(self.text_encoder.segments[...]))  # published weights hold as many as texts
        self.visual_segments = nnx.Param(NORMAL(rngs.params(), (segments, width), jnp.float32))
        options = {name: text[name] for name in ("act", "norm_eps") if name in text}
        self.add_heads(heads, width, dtype=dtype, rngs=rngs, **options)
        verdicts, grounding = heads.get("verdicts"), heads.get("grounding")
        self.verdict_head = linear(width, verdicts, dtype=dtype, rngs=rngs) if verdicts else None
        self.grounding_head = Grounding(width, grounding, dtype=dtype, rngs=rngs) if grounding else None

    def fuse(
        self,
        visual: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """A text and a picture in one stream, and the tapped intermediates. A key means training.

        Args:
          visual: {"regions": (B, S, F), "boxes": (B, S, 4)}, where a box without area is padding, or {"image": (B, height,
            width, 3)}.
          text: token ids; padding is looked at by nothing.
          segments: numbers of the texts of a pair.

        Returns:
          {"joint": (B, D), "text": (B, T, D), "visual": (B, S, D)}. Taps "tokens" (text, then visual), "joint",
          "blocks" and "visual", what tiles tap.

        Raises:
          UserError: what `visual` lacks or has of another shape; too long a text.
        """
        with frame() as out:
            states = self._stream({"visual": visual}, ONE, text, key, segments)
        return states, out

    def fuse_two(
        self,
        first: Visual,
        second: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """As `fuse`, with two pictures in the stream, told apart by their segments, for `verdict`; taps "first", "second"."""
        with frame() as out:
            states = self._stream({"first": first, "second": second}, TWO, text, key, segments)
        return states, out

    def verdict(self, joint: Float[Array, "B D"]) -> Float[Array, "B verdicts"]:
        """Logits of what the text is to two pictures. Raises UserError without the head."""
        return wide(built(self.verdict_head, "verdicts")(joint))

    def ground(self, states: Mapping[str, Float[Array, "B ..."]], visual: Visual) -> Float[Array, "B T S"]:
        """Logits over regions for each position of the text, from `fuse`'s states. Raises UserError without the head."""
        valid = self.visual.valid(visual, states["visual"].shape[1])
        return built(self.grounding_head, "grounding")(states["text"], states["visual"], valid)

    def table(self) -> Float[jax.Array, "V E"]:
        return self.text_encoder.embed.embedding[...]

    def _stream(self, seen: Mapping[str, Visual], rows: Sequence[int], text, key, segments) -> dict[str, jax.Array]:
        bert = self.text_encoder
        token_key, key, *looks = [None] * (2 + len(seen)) if key is None else random.split(key, 2 + len(seen))
        x = [bert.embedded(text, token_key, segments)]
        valid = [bert.valid(text)]
        for (name, visual), row, look in zip(seen.items(), rows, looks, strict=True):
            with under(name):
                y = self.visual.tokens(self.visual_embedding, visual, look)
            place = self.visual.places(self.visual_positions[...]) + self.visual_segments[row]
            x.append(bert.ln_embed(y + place.astype(y.dtype)))
            valid.append(self.visual.valid(visual, y.shape[1]))
        mask = jnp.concatenate(valid, axis=1)[:, None, None, :]
        tokens = tap("tokens", bert.stack(jnp.concatenate(x, axis=1), mask, key))
        told, shown = tokens[:, : text.shape[1]], tokens[:, text.shape[1] :]
        return {"joint": tap("joint", bert.pooled(told, text)), "text": told, "visual": shown}
