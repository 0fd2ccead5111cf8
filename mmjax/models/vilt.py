"""ViLT (Kim et al. 2021, arXiv 2102.03334): a Vision Transformer over one stream, words and then patches."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from mmjax.core import keys as random
from mmjax.core.errors import UserError
from mmjax.core.tap import frame, tap, under
from mmjax.layers.drop import keys
from mmjax.layers.norm import LayerNorm, wide
from mmjax.models.bert import Bert
from mmjax.models.encoders import build as encoder
from mmjax.models.heads import NORMAL, Headed, built
from mmjax.models.regions import Visual, picture
from mmjax.models.vit import ViT


class JointHead(nnx.Module):
    """gelu(ln(W x + b)) of width `hidden` (twice the input's by default) and a linear map: ViLT's answers and verdicts."""

    def __init__(self, width: int, out: int, hidden: int | None = None, *, dtype: str, rngs: nnx.Rngs, **_: Any):
        hidden = hidden or 2 * width
        self.dense = nnx.Linear(width, hidden, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)
        self.ln = LayerNorm(hidden, eps=1e-5, dtype=dtype)
        self.out = nnx.Linear(hidden, out, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)

    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B out"]:
        return self.out(jax.nn.gelu(self.ln(self.dense(x)), approximate=False))


class Vilt(Headed):
    """A ViT whose stream begins with words; pretrained by masked words and image-text matching.

    Args:
      image: a spec of ViT: its patches, class token and positions, and the blocks that both modalities go through.
      text: a spec of Bert with depth 0, whose embeddings the words are; its pool over them is the joint vector.
      types: modality types; the text takes 0, a picture 1 and of two pictures the second 2.
      heads: {"words": True, "match": True, "answers": A, "verdicts": n (of two pictures, NLVR2), "rank": True (of pairs, for
        retrieval)}; see models.heads.Headed.
      dtype: that all is computed in.
      remat: "none", "dots" or "full", for the blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = {"image": {"vit": ViT}, "text": {"bert": Bert}}
    HEADS = (*Headed.HEADS, "verdicts", "rank")
    ANSWERS = JointHead

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        *,
        types: int = 2,
        heads: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        shared = {"dtype": dtype, "rngs": rngs}
        self.image_encoder = encoder(self.PARTS["image"], image, where="model.image", remat=remat, **shared)
        self.text_encoder = encoder(self.PARTS["text"], text, where="model.text", remat=remat, **shared)
        width, heads = self.image_encoder.width, heads or {}
        if self.text_encoder.stack.depth or self.text_encoder.width != width:
            raise UserError(f"model.text: ViLT's words have the picture's width and no blocks: set width {width} and depth 0")
        need = 3 if heads.get("verdicts") else 2
        if types < need:
            raise UserError(f"model.types {types}: a text and {'two pictures' if need == 3 else 'a picture'} need {need}")
        self.types = nnx.Param(NORMAL(rngs.params(), (types, width), jnp.float32))
        options = {name: image[name] for name in ("act", "norm_eps") if name in image}
        self.add_heads(heads, width, **shared, **options)
        verdicts = heads.get("verdicts")
        self.verdict_head = JointHead(2 * width, verdicts, 2 * width, **shared) if verdicts else None
        self.rank_head = (
            nnx.Linear(width, 1, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs) if heads.get("rank") else None
        )

    def fuse(
        self,
        visual: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """A text and a picture in one stream, and the tapped intermediates. A key means training.

        Args:
          visual: {"image": (B, height, width, 3)}.
          text: token ids; padding is looked at by nothing.
          segments: numbers of the texts of a pair.

        Returns:
          {"joint": (B, D), "text": (B, T, D), "visual": (B, S, D), the class token first}. Taps "tokens" (text, then visual),
          "joint" and "blocks".

        Raises:
          UserError: there is no picture, or too long a text.
        """
        with frame() as out:
            states = self._pair(visual, text, 1, key, segments)
        return states, out

    def fuse_two(
        self,
        first: Visual,
        second: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """{"joint": (B, 2 D)} of the text with either picture, for `verdict`; taps "first" and "second", each as of `fuse`."""
        built(self.verdict_head, "verdicts")
        joints, train = [], [None] * 2 if key is None else random.split(key, 2)
        with frame() as out:
            for row, (name, visual) in enumerate({"first": first, "second": second}.items()):
                with under(name):
                    joints.append(self._pair(visual, text, row + 1, train[row], segments)["joint"])
        return {"joint": jnp.concatenate(joints, axis=-1)}, out

    def verdict(self, joint: Float[Array, "B two_D"]) -> Float[Array, "B verdicts"]:
        """Logits of what the text is to two pictures. Raises UserError without the head."""
        return wide(built(self.verdict_head, "verdicts")(joint))

    def rank(self, joint: Float[Array, "B D"]) -> Float[Array, " B"]:
        """How well text and picture go together. Raises UserError without the head."""
        return wide(built(self.rank_head, "rank")(joint))[:, 0]

    def table(self) -> Float[jax.Array, "V E"]:
        return self.text_encoder.embed.embedding[...]

    def _pair(self, visual, text, row, key, segments) -> dict[str, jax.Array]:
        bert, vit = self.text_encoder, self.image_encoder
        token_key, patch_key, block_key = keys(key, 3, bert.token_dropout, vit.patch_dropout, vit.dropout)
        types = self.types[...].astype(vit.dtype)
        x = bert.embedded(text, token_key, segments) + types[0]
        y = vit.embedded(picture(visual), patch_key, key is not None) + types[row]
        mask = jnp.concatenate([bert.valid(text), jnp.ones(y.shape[:2], bool)], axis=1)[:, None, None, :]
        tokens = tap("tokens", vit.ln_post(vit.stack(jnp.concatenate([x, y], axis=1), mask, block_key)))
        x, y = tokens[:, : text.shape[1]], tokens[:, text.shape[1] :]
        return {"joint": tap("joint", bert.pooled(x, text)), "text": x, "visual": y}
