"""LXMERT (Tan and Bansal 2019, arXiv 1908.07490): a cross-modal encoder with heads for masked objects."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.core.errors import UserError, suggest
from mmjax.layers.norm import wide
from mmjax.models.cross_encoder import CrossEncoder
from mmjax.models.heads import NORMAL, Transform, built

OBJECTS = ("feature", "label", "attribute")


class ObjectsHead(nnx.Module):
    """What a masked region was (section 3.1.2): one Transform, then a linear map for each of `outputs` {name: width}."""

    def __init__(self, width: int, outputs: Mapping[str, int], *, dtype: str = "float32", rngs: nnx.Rngs, **options: Any):
        for name in outputs:
            if name not in OBJECTS:
                choices = f"choose among: {', '.join(OBJECTS)}.{suggest(name, OBJECTS)}"
                raise UserError(f"model.heads.objects: there is no {name!r}; {choices}")
        self.transform = Transform(width, width, dtype=dtype, rngs=rngs, **options)
        self.outputs = nnx.Dict(
            {
                name: nnx.Linear(width, size, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)
                for name, size in outputs.items()
                if size
            }
        )

    def __call__(self, x: Float[Array, "B S D"]) -> dict[str, Float[Array, "B S _"]]:
        """Features and logits by name, in float32 at least."""
        x = self.transform(x)
        return {name: wide(linear(x)) for name, linear in self.outputs.items()}


class Lxmert(CrossEncoder):
    """A language encoder (9 layers), an object-relationship encoder (5), a cross-modality encoder (5).

    As a CrossEncoder: `text` is a bert without its pooler, `image` is {"name": "regions", "depth": 5, ...}, or another image
    encoder for patches; both directions of cross-attention have one set of weights, as in the authors' code; the joint vector
    is BERT's pooler of the text's first state.

    Args:
      heads: also "objects": {"feature": 2048, "label": 1600, "attribute": 400}, any of them, for masked regions.
      others: see CrossEncoder.
    """

    HEADS = (*CrossEncoder.HEADS, "objects")

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        cross: Mapping[str, Any],
        *,
        heads: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        cross = {"shared": True, **cross}
        super().__init__(image, text, cross, joint="text", heads=heads, dtype=dtype, remat=remat, rngs=rngs)

    def add_heads(self, heads: Mapping[str, Any] | None, width: int, **options: Any) -> None:
        """Those of Headed, and "objects"."""
        super().add_heads(heads, width, **options)
        outputs = (heads or {}).get("objects")
        self.objects_head = ObjectsHead(width, outputs, **{"act": "gelu", "norm_eps": 1e-12} | options) if outputs else None

    def objects(self, states: Float[Array, "B S D"]) -> dict[str, Float[Array, "B S _"]]:
        """Of the picture's states {"feature": (B, S, F), "label": logits, "attribute": logits}, those that the config names.

        Raises UserError without the head.
        """
        return built(self.objects_head, "objects")(states)
