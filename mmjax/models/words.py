"""A bag of words and neighbours: the text encoder of small sets, whose parts say the same in every caption."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core.errors import UserError
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.drop import keep, keys
from mmjax.layers.embed import TokenEmbedding
from mmjax.layers.norm import LayerNorm


class BagOfWords(nnx.Module):
    """The mean of word vectors and of vectors of pairs of neighbours, then a LayerNorm (fastText, Joulin et al. 2017).

    A sum of parts cannot learn a caption by heart, and so it generalises to new combinations of known words; pairs tell
    "light skin tone, dark skin tone" from its reverse. A pair's vector is found by a hash of its two ids and begins at
    zero, so that a pair never seen adds nothing but for collisions.

    Args:
      vocab: number of token ids.
      width: of the vectors.
      pairs: size of the table of pairs; 0 for words alone.
      pad_id: the padding's id.
      unknown_id: for `word_dropout`.
      word_dropout: share of words that training replaces by `unknown_id` (Bowman et al. 2016), which so comes to mean
        "any word": captions with a word that training never saw then still say the rest.

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        vocab: int,
        width: int,
        *,
        pairs: int = 0,
        pad_id: int = 0,
        unknown_id: int | None = None,
        word_dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if word_dropout and unknown_id is None:
            raise UserError("word_dropout needs unknown_id: give the tokenizer's")
        self.embed = TokenEmbedding(vocab, width, std=0.02, dtype=dtype, rngs=rngs)
        self.pairs = nnx.Param(jnp.zeros((pairs, width), jnp.float32)) if pairs else None
        self.ln = LayerNorm(width, dtype=dtype)
        self.width, self.pad_id, self.unknown_id, self.word_dropout = width, pad_id, unknown_id, word_dropout

    def __call__(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled text; taps "tokens" and "pooled"."""
        return tap("pooled", self.ln(pooling.mean(self.tokens(ids, key), self.valid(ids))))

    def tokens(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B T D"]:
        """What each position adds: its word, and its pair with the word before."""
        (key,) = keys(key, 1, self.word_dropout)
        if key is not None:
            kept = keep(key, self.word_dropout, ids.shape[1:])
            ids = jnp.where(~kept & self.valid(ids), self.unknown_id, ids)
        x = self.embed(ids)
        if self.pairs is not None:
            table = self.pairs[...]
            x = x.at[:, 1:].add(table[_hash(ids[:, :-1], ids[:, 1:], len(table))].astype(x.dtype))
        return tap("tokens", x)

    def valid(self, ids: Int[Array, "B T"]) -> Bool[Array, "B T"]:
        """Which positions are not padding."""
        return ids != self.pad_id


def _hash(first: Int[Array, "B T"], second: Int[Array, "B T"], size: int) -> Int[Array, "B T"]:
    """A number below `size` per pair of ids: multiplicative hashing (Knuth, volume 3, section 6.4) of both in one word."""
    mixed = first.astype(jnp.uint32) * jnp.uint32(2654435761) + second.astype(jnp.uint32) * jnp.uint32(2246822519)
    return ((mixed ^ (mixed >> 15)) % jnp.uint32(size)).astype(jnp.int32)
