"""Encoders of sounds."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.block import ACTIVATIONS, Stack
from mmjax.layers.norm import LayerNorm
from mmjax.layers.position import sincos_1d

POOLS = ("mean", "heard")


class WhisperEncoder(nnx.Module):
    """Whisper's encoder (Radford et al. 2022): two convolutions over the log-mel spectrogram, positions, pre-norm blocks.

    Args:
      mels: bands of the spectrogram.
      frames: S, positions after the second convolution, which halves: 1500 for 30 seconds.
      width, depth, heads, mlp: of the blocks.
      act: of the blocks; the convolutions' too.
      pool: "mean", over all positions, or "heard", over those at which there is sound: a short sound is then not drowned by
        the silence that fills its window.
      norm_eps: of every LayerNorm.
      dropout: see layers.block.Block.
      attention: "plain" or "fused".
      remat: "none", "dots" or "full".

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        mels: int,
        frames: int,
        width: int,
        depth: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu",
        pool: str = "mean",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention: str = "plain",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if pool not in POOLS:
            raise UserError(f"pool: unknown name {pool!r}; choose one of: {', '.join(POOLS)}.{suggest(pool, POOLS)}")
        self.width, self.frames, self.act, self.pool, self.dtype = width, frames, act, pool, dtype
        options = {"padding": ((1, 1),), "dtype": jnp.dtype(dtype), "rngs": rngs}
        self.conv1 = nnx.Conv(mels, width, (3,), **options)
        self.conv2 = nnx.Conv(width, width, (3,), (2,), **options)
        # Sines and cosines, which files hold as a table; a learned one from then on.
        self.positions = nnx.Param(jnp.asarray(sincos_1d(frames, width), jnp.float32))
        shared = {"act": act, "norm_eps": norm_eps, "dropout": dropout, "attention": attention}
        self.stack = Stack(depth, width, heads, mlp, key_bias=False, remat=remat, dtype=dtype, rngs=rngs, **shared)
        self.ln_post = LayerNorm(width, eps=norm_eps, dtype=dtype)

    def __call__(self, mel: Float[Array, "B mels F"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The mean over positions; taps "tokens", "pooled" and what the blocks tap."""
        return tap("pooled", pooling.mean(self.tokens(mel, key), heard(mel) if self.pool == "heard" else None))

    def tokens(self, mel: Float[Array, "B mels F"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """Every position, S = F / 2. Raises UserError for more frames than there are positions."""
        act = ACTIVATIONS[self.act]
        x = act(self.conv1(mel.swapaxes(1, 2).astype(self.dtype)))
        x = act(self.conv2(x))
        if x.shape[1] > self.frames:
            raise UserError(f"{mel.shape[2]} frames of sound exceed the audio encoder's {2 * self.frames}: cut the sound")
        x = x + self.positions[: x.shape[1]].astype(x.dtype)
        return tap("tokens", self.ln_post(self.stack(x, key=key)))


def heard(mel: Float[Array, "B mels F"]) -> Bool[Array, "B S"]:
    """Where there is sound: positions of two frames, S = ceil(F / 2), of which one has a band above the spectrogram's minimum.

    Silence that fills a window is at the minimum in every band: transforms.audio.WhisperLogMel floors its logarithm there.
    """
    frames = mel.max(1) > mel.min((1, 2))[:, None]
    frames = jnp.pad(frames, ((0, 0), (0, frames.shape[1] % 2)))
    return frames.reshape(len(mel), -1, 2).any(2)
