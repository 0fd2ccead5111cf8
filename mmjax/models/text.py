"""Text encoders: a Transformer that can be CLIP's, SigLIP's or a bag of words, and a GRU."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.block import Stack
from mmjax.layers.drop import keys, token_dropout
from mmjax.layers.embed import TokenEmbedding
from mmjax.layers.init import init as initialisers
from mmjax.layers.norm import LayerNorm
from mmjax.layers.position import sincos_1d
from mmjax.layers.recurrent import GRU


class TextTransformer(nnx.Module):
    """Tokens, positions, pre-norm blocks, a final LayerNorm and a pool.

    CLIP: causal, pool "eos", norm_eps 1e-5, act "quick_gelu", init "clip". SigLIP: pool "last", act "gelu_tanh". A bag
    of words: depth 0, pool "mean", positions "none".

    Args:
      vocab, length: number of token ids, and of positions at most.
      width, depth, heads, mlp: of the blocks; `mlp` is the hidden width.
      act: a row of layers.block.ACTIVATIONS.
      causal: whether a position sees earlier ones only.
      pool: "eos" (the first eos_id), "last", "mean", "map" or "cls" (a learned token behind the text, CoCa).
      eos_id: for pool "eos".
      pad_id: positions with this id are not attended to, averaged or taken as last; None: pads are ordinary tokens. With pool
        "cls" it is the position behind a pad that is not attended to, as open_clip's weights were trained.
      positions: "learned", "sincos" or "none".
      norm_eps: of every LayerNorm.
      final_norm: whether there is a LayerNorm before the pool.
      dropout: see layers.block.Block.
      token_dropout: rate of whole tokens hidden in training.
      attention: "plain" or "fused".
      init: "xavier" or "clip".
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
        act: str = "gelu",
        causal: bool = False,
        pool: str = "last",
        eos_id: int | None = None,
        pad_id: int | None = None,
        positions: str = "learned",
        norm_eps: float = 1e-6,
        final_norm: bool = True,
        dropout: float = 0.0,
        token_dropout: float = 0.0,
        attention: str = "plain",
        init: str = "xavier",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        _choose("pool", pool, ("eos", "last", "mean", "map", "cls"))
        _choose("positions", positions, ("learned", "sincos", "none"))
        if pool == "eos" and eos_id is None:
            raise UserError("pool 'eos' needs an eos_id: give the tokenizer's, or pool 'last', 'mean' or 'map'")
        scheme = initialisers(init, width, depth)
        self.width, self.length, self.dtype, self.dropout, self.token_dropout = width, length, dtype, dropout, token_dropout
        self.causal, self.pool, self.eos_id, self.pad_id, self.sincos = causal, pool, eos_id, pad_id, positions == "sincos"
        self.embed = TokenEmbedding(vocab, width, std=scheme.token, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(scheme.position)
        learned = positions == "learned"
        extra = int(pool == "cls")
        self.positions = nnx.Param(normal(rngs.params(), (length + extra, width), jnp.float32)) if learned else None
        self.class_token = nnx.Param(normal(rngs.params(), (width,), jnp.float32)) if extra else None
        shared = {"act": act, "norm_eps": norm_eps, "attention": attention, "dtype": dtype, "rngs": rngs}
        self.stack = Stack(depth, width, heads, mlp, dropout=dropout, init=init, remat=remat, **shared)
        self.ln_final = LayerNorm(width, eps=norm_eps, dtype=dtype) if final_norm else None
        self.map = pooling.MapPool(width, heads, mlp, **shared) if pool == "map" else None

    def __call__(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled text; taps "tokens", "pooled" and what the blocks tap. Raises UserError for too long a text."""
        x, valid = self.tokens(ids, key), self.valid(ids)
        if self.pool == "eos":
            y = pooling.eos(x, ids, self.eos_id)
        elif self.pool == "cls":
            y = x[:, -1]
        else:
            y = {"last": pooling.last, "mean": pooling.mean, "map": self.map}[self.pool](x, valid)
        return tap("pooled", y)

    def tokens(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B _ D"]:
        """Every position after the final LayerNorm, the class token last."""
        token_key, key = keys(key, 2, self.token_dropout, self.dropout)
        x = token_dropout(self.embed(ids), self.token_dropout, token_key)
        if self.class_token is not None:
            token = self.class_token[...].astype(x.dtype)
            x = jnp.concatenate([x, jnp.broadcast_to(token, (x.shape[0], 1, self.width))], axis=1)
        x = self._place(x)
        x = self.stack(x, self._mask(ids), key)
        return tap("tokens", x if self.ln_final is None else self.ln_final(x))

    def valid(self, ids: Int[Array, "B T"]) -> Bool[Array, "B T"] | None:
        """Which positions are not padding; None where pads are ordinary tokens."""
        return None if self.pad_id is None else ids != self.pad_id

    def _place(self, x: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        count = x.shape[1] - (self.class_token is not None)
        if count > self.length:
            raise UserError(f"a text of {count} tokens exceeds the text encoder's length {self.length}: cut it")
        if self.positions is not None:
            return x + self.positions[: x.shape[1]].astype(x.dtype)
        return x + jnp.asarray(sincos_1d(x.shape[1], self.width), x.dtype) if self.sincos else x

    def _mask(self, ids: Int[Array, "B T"]) -> Bool[Array, "#B 1 #S S"] | None:
        valid, count = self.valid(ids), ids.shape[1]
        if self.class_token is not None:
            count += 1
            valid = None if valid is None else jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)
        mask = None if valid is None else valid[:, None, None, :]
        if self.causal:
            causal = jnp.tril(jnp.ones((count, count), bool))[None, None]
            mask = causal if mask is None else mask & causal
        return mask


class GRUText(nnx.Module):
    """Word vectors and a GRU, as in VSE++ (Faghri et al. 2018).

    Args:
      vocab: number of token ids.
      width: of the word vectors.
      hidden: of the state, and of the output.
      pad_id: padded positions leave the state as it was.
      pool: "last" (the state after the last token) or "mean" (over the tokens' states).
      token_dropout: rate of whole tokens hidden in training.

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        vocab: int,
        width: int,
        hidden: int,
        *,
        pad_id: int | None = None,
        pool: str = "last",
        token_dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        _choose("pool", pool, ("last", "mean"))
        self.embed = TokenEmbedding(vocab, width, std=width**-0.5, dtype=dtype, rngs=rngs)
        self.gru = GRU(width, hidden, dtype=dtype, rngs=rngs)
        self.width, self.pool, self.pad_id, self.token_dropout = hidden, pool, pad_id, token_dropout

    def __call__(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled text; taps "tokens" (every state) and "pooled"."""
        x, valid = self.tokens(ids, key), self.valid(ids)
        return tap("pooled", pooling.mean(x, valid) if self.pool == "mean" else pooling.last(x, valid))

    def tokens(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> Float[Array, "B T D"]:
        """The state after every position."""
        x = token_dropout(self.embed(ids), self.token_dropout, key)
        return tap("tokens", self.gru(x, self.valid(ids)))

    def valid(self, ids: Int[Array, "B T"]) -> Bool[Array, "B T"] | None:
        """Which positions are not padding; None where pads are ordinary tokens."""
        return None if self.pad_id is None else ids != self.pad_id


def _choose(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{option}: unknown name {value!r}; choose one of: {', '.join(choices)}.{suggest(value, choices)}")
