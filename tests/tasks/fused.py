"""A tiny model with the face of a fusion model: an embedding, a linear map of what is seen, and all heads."""

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.layers.drop import dropout

WIDTH, VOCAB, ANSWERS = 4, 7, 3


class Fused(nnx.Module):
    """States are sums of what is told and what is seen; pictures are read by their mean colour, regions by themselves."""

    def __init__(self, rngs: nnx.Rngs, drop: float = 0.3):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (VOCAB, WIDTH)))
        self.see = nnx.Linear(3, WIDTH, rngs=rngs)
        self.word, self.yes, self.reply = (nnx.Linear(WIDTH, n, rngs=rngs) for n in (VOCAB, 2, ANSWERS))
        self.drop = drop

    def fuse(self, visual, text, key=None, segments=None):
        seen = self.see(visual["regions"] if "regions" in visual else visual["image"].mean((1, 2))[:, None])
        told = self.table[...][text]
        told = told if segments is None else told + segments[..., None]
        joint = dropout(jnp.tanh(told.mean(1) + seen.mean(1)), self.drop, key)
        return {"joint": joint, "text": told + joint[:, None], "visual": seen + joint[:, None]}, {}

    def words(self, states):
        return self.word(states)

    def match(self, joint):
        return self.yes(joint)

    def answer(self, joint):
        return self.reply(joint)
