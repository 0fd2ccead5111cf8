"""The Vision Transformer (Dosovitskiy et al. 2021), with the options that make it CLIP's or SigLIP's image tower.

CLIP (Radford et al. 2021): pool "cls", pre_norm, no patch_bias, norm_eps 1e-5, act "quick_gelu", init "clip".
SigLIP (Zhai et al. 2023): pool "map", no class_token, norm_eps 1e-6, act "gelu_tanh".
CoCa (Yu et al. 2022) in open_clip: as CLIP, with pool "query".
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mmjax.core.errors import UserError
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.block import Stack
from mmjax.layers.conv import ConvStem
from mmjax.layers.drop import keys, patch_dropout
from mmjax.layers.embed import PatchEmbedding, grid
from mmjax.layers.norm import LayerNorm
from mmjax.layers.position import resize, sincos_2d


class ViT(nnx.Module):
    """Patches, positions, a class token, pre-norm blocks, a final LayerNorm and a pool.

    Args:
      size, patch: pixels of a side of the picture and of a patch; other picture sizes resize the positions.
      width, depth, heads, mlp: of the blocks; `mlp` is the hidden width.
      act: a row of layers.block.ACTIVATIONS.
      pool: "cls" (the class token), "mean", "map" (a learned probe attends) or "query" (layers.pool.QueryPool, whose first
        vector is the picture's, and whose vectors are its tokens), over all tokens.
      queries, query_width, query_heads: of pool "query"; `width` by default.
      positions: "learned" or "sincos".
      resize: how learned positions come to another picture size: a method of layers.position.resize.
      class_token: whether a learned token stands before the patches.
      stem: "patch" (one strided convolution) or "conv" (layers.conv.ConvStem: a few small ones with BatchNorm).
      pre_norm: a LayerNorm before the blocks.
      patch_bias: whether the patch embedding has a bias.
      norm_eps: of every LayerNorm.
      layer_scale: see layers.block.Block (DINOv2).
      dropout: see layers.block.Block.
      patch_dropout: rate of patches left out in training.
      attention: "plain" or "fused".
      init: "xavier" or "clip".
      remat: "none", "dots" or "full".

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu",
        pool: str = "cls",
        queries: int = 256,
        query_width: int | None = None,
        query_heads: int = 8,
        positions: str = "learned",
        resize: str = "bicubic",
        class_token: bool = True,
        stem: str = "patch",
        pre_norm: bool = False,
        patch_bias: bool = True,
        norm_eps: float = 1e-6,
        layer_scale: bool = False,
        dropout: float = 0.0,
        patch_dropout: float = 0.0,
        attention: str = "plain",
        init: str = "xavier",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if pool not in POOLS:
            raise UserError(f"pool: unknown name {pool!r}; choose one of: {', '.join(POOLS)}")
        if positions not in ("learned", "sincos"):
            raise UserError(f"positions: unknown name {positions!r}; choose one of: learned, sincos")
        if resize not in ("bicubic", "bilinear", "torch"):
            raise UserError(f"resize: unknown name {resize!r}; choose one of: bicubic, bilinear, torch")
        if stem not in ("patch", "conv"):
            raise UserError(f"stem: unknown name {stem!r}; choose one of: patch, conv")
        if pool == "cls" and not class_token:
            raise UserError("pool 'cls' reads the class token: set class_token=True, or pool 'mean' or 'map'")
        self.grid = grid(size, patch)
        self.inner, self.dtype, self.resize = width, dtype, resize
        self.width = (query_width or width) if pool == "query" else width
        self.pool, self.patch_dropout, self.dropout = pool, patch_dropout, dropout

        def normal(*shape: int) -> nnx.Param:
            return nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), shape, jnp.float32))

        if stem == "conv":
            self.patches = ConvStem(patch, width, dtype=dtype, rngs=rngs)
        else:
            self.patches = PatchEmbedding(patch, width, bias=patch_bias, dtype=dtype, rngs=rngs)
        self.class_token = normal(width) if class_token else None
        self.positions = normal(self.grid**2 + class_token, width) if positions == "learned" else None
        self.ln_pre = LayerNorm(width, eps=norm_eps, dtype=dtype) if pre_norm else None
        shared = {"act": act, "norm_eps": norm_eps, "attention": attention, "dtype": dtype, "rngs": rngs}
        self.stack = Stack(depth, width, heads, mlp, layer_scale=layer_scale, dropout=dropout, init=init, remat=remat, **shared)
        several = {name: value for name, value in shared.items() if name != "act"}
        query = pool == "query"
        self.query = pooling.QueryPool(width, queries, self.width, query_heads, **several) if query else None
        self.ln_post = LayerNorm(self.width, eps=norm_eps, dtype=dtype)
        self.map = pooling.MapPool(width, heads, mlp, **shared) if pool == "map" else None

    def __call__(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled picture; taps "tokens", "pooled" and what the blocks tap."""
        x = self.tokens(images, key)
        return tap("pooled", POOLS[self.pool](x) if self.map is None else self.map(x))

    def tokens(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """All tokens after the final LayerNorm, the class token first; with pool "query" what the queries found."""
        train = key is not None
        patch_key, key = keys(key, 2, self.patch_dropout, self.dropout)
        x = self.embedded(images, patch_key, train)
        x = self.stack(x, key=key)
        return tap("tokens", self.ln_post(x if self.query is None else self.query(x)))

    def embedded(
        self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None, train: bool = False
    ) -> Float[Array, "B S D"]:
        """What the blocks begin with: patches with their positions, after the class token; the key is for patch dropout."""
        x = self.patches(images.astype(self.dtype), train)
        table = self._positions(x.shape[1], x.shape[2])
        extra = table.shape[0] - x.shape[1] * x.shape[2]
        x = x.reshape(x.shape[0], -1, self.inner) + table[extra:]
        x = patch_dropout(x, self.patch_dropout, key)
        if self.class_token is not None:
            token = self.class_token[...].astype(self.dtype) + table[:extra].sum(0)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.inner)), x], axis=1)
        return x if self.ln_pre is None else self.ln_pre(x)

    def _positions(self, rows: int, columns: int) -> Float[Array, "S D"]:
        # A sine and cosine table has no row for the class token: its own vector says where it is.
        if self.positions is None:
            return jnp.asarray(sincos_2d(rows, columns, self.inner), self.dtype)
        return resize(self.positions[...], (self.grid, self.grid), (rows, columns), self.resize).astype(self.dtype)


POOLS = {"cls": lambda x: x[:, 0], "mean": pooling.mean, "map": None, "query": lambda x: x[:, 0]}
