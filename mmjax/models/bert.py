"""BERT (Devlin et al. 2019) and its relatives: tokens, positions and segments, post-norm blocks, a pool."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.block import Stack
from mmjax.layers.drop import keys, token_dropout
from mmjax.layers.embed import TokenEmbedding
from mmjax.layers.norm import LayerNorm

POOLS = ("cls", "pooler", "mean", "before_end")


class Bert(nnx.Module):
    """BERT's encoder; with pool "mean" a sentence encoder such as MiniLM (Reimers and Gurevych 2019).

    Args:
      vocab, length: number of token ids, and of positions at most.
      width, depth, heads, mlp: of the blocks.
      segments: rows of the segment (token type) table.
      act: a row of layers.block.ACTIVATIONS.
      pool: "cls" (the first position), "pooler" (a tanh layer on it), "mean" (over what is no padding) or "before_end" (the
        token before the closing one, where VisualBERT's questions have their [MASK]).
      pooler: whether the tanh layer exists; files hold it where the pool is another, too.
      pad_id: positions with this id are neither attended to nor averaged.
      offset: row of the position table that the first position takes (RoBERTa pad_id + 1).
      norm_eps: of every LayerNorm.
      dropout: see layers.block.Block.
      token_dropout: rate of whole tokens hidden in training.
      attention: "plain" or "fused".
      remat: "none", "dots" or "full".

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        vocab: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        mlp: int,
        *,
        segments: int = 2,
        act: str = "gelu",
        pool: str = "cls",
        pooler: bool = True,
        pad_id: int = 0,
        offset: int = 0,
        norm_eps: float = 1e-12,
        dropout: float = 0.0,
        token_dropout: float = 0.0,
        attention: str = "plain",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if pool not in POOLS:
            raise UserError(f"pool: unknown name {pool!r}; choose one of: {', '.join(POOLS)}.{suggest(pool, POOLS)}")
        if pool == "pooler" and not pooler:
            raise UserError("pool 'pooler' needs pooler=True")
        self.width, self.length, self.dtype, self.dropout, self.token_dropout = width, length, dtype, dropout, token_dropout
        self.pool, self.pad_id, self.offset = pool, pad_id, offset
        self.embed = TokenEmbedding(vocab, width, std=0.02, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(0.02)
        self.positions = nnx.Param(normal(rngs.params(), (length + offset, width), jnp.float32))
        self.segments = nnx.Param(normal(rngs.params(), (segments, width), jnp.float32))
        self.ln_embed = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.stack = Stack(
            depth,
            width,
            heads,
            mlp,
            act=act,
            norm_eps=norm_eps,
            dropout=dropout,
            attention=attention,
            post_norm=True,
            remat=remat,
            dtype=dtype,
            rngs=rngs,
        )
        self.pooler = nnx.Linear(width, width, kernel_init=normal, dtype=jnp.dtype(dtype), rngs=rngs) if pooler else None

    def __call__(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled text; taps "tokens", "pooled" and what the blocks tap. Raises UserError for too long a text."""
        return tap("pooled", self.pooled(self.tokens(ids, key), ids))

    def pooled(self, x: Float[Array, "B T D"], ids: Int[Array, "B T"]) -> Float[Array, "B D"]:
        """What `pool` makes of the positions of a text."""
        if self.pool == "mean":
            return pooling.mean(x, self.valid(ids))
        if self.pool == "before_end":
            return pooling.last(x[:, :-1], self.valid(ids)[:, 1:])
        return x[:, 0] if self.pool == "cls" else jnp.tanh(self.pooler(x[:, 0]))

    def tokens(
        self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None, segments: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]:
        """Every position after the last block; `segments` numbers the texts of a pair, all 0 by default."""
        token_key, key = keys(key, 2, self.token_dropout, self.dropout)
        x = self.embedded(ids, token_key, segments)
        return tap("tokens", self.stack(x, self.valid(ids)[:, None, None, :], key))

    def embedded(
        self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None, segments: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]:
        """What the blocks begin with: tokens, positions and segments, added and normalised; the key is for token dropout."""
        count = ids.shape[1]
        if count > self.length:
            raise UserError(f"a text of {count} tokens exceeds the text encoder's length {self.length}: cut it")
        x = token_dropout(self.embed(ids), self.token_dropout, key)
        table = self.segments[...]
        x = x + (table[0] if segments is None else jnp.take(table, segments, axis=0)).astype(x.dtype)
        return self.ln_embed(x + self.positions[self.offset : self.offset + count].astype(x.dtype))

    def valid(self, ids: Int[Array, "B T"]) -> Bool[Array, "B T"]:
        """Which positions are not padding."""
        return ids != self.pad_id
