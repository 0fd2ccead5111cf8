"""Normalisation. Statistics are computed in float32 (float64 for such input) and the result is cast to `dtype`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.core.errors import UserError


def wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` in float32 at least: what norms, softmax and losses are computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def unit(x: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
    """Vectors of length 1, in float32 at least; the floor keeps the gradient of an all-zero vector (an empty text) finite."""
    z = wide(x)
    return z * jax.lax.rsqrt(jnp.maximum(jnp.square(z).sum(-1, keepdims=True), 1e-24))


class LayerNorm(nnx.Module):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts (Ba et al. 2016)."""

    def __init__(self, width: int, *, eps: float = 1e-6, dtype: str = "float32"):
        self.scale, self.bias = _param(1.0, width), _param(0.0, width)
        self.eps, self.dtype = eps, dtype

    def __call__(self, x: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
        """Returns the normalised array in `dtype`."""

        # The backward pass keeps `x` alone and normalises again, which is cheaper than to write and read what it would need.
        @jax.checkpoint
        def normalise(x, scale, bias):
            return (_standardise(wide(x), (-1,), self.eps) * scale + bias).astype(self.dtype)

        return normalise(x, self.scale[...], self.bias[...])


class GroupNorm(nnx.Module):
    """Normalises each example over positions and `width / groups` channels (Wu and He 2018)."""

    def __init__(self, width: int, *, groups: int = 32, eps: float = 1e-5, dtype: str = "float32"):
        if width % groups:
            raise UserError(f"width {width} is not divisible by groups {groups}: use groups that divide every width")
        self.scale, self.bias = _param(1.0, width), _param(0.0, width)
        self.groups, self.eps, self.dtype = groups, eps, dtype

    def __call__(self, x: Float[Array, "B *grid D"], train: bool = False) -> Float[Array, "B *grid D"]:
        """Returns the normalised array in `dtype`; `train`, which BatchNorm needs, makes no difference."""
        y = wide(x).reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
        y = _standardise(y, (1, 3), self.eps).reshape(x.shape)
        return (y * self.scale[...] + self.bias[...]).astype(self.dtype)


class BatchNorm(nnx.Module):
    """Normalises each channel over batch and positions (Ioffe and Szegedy 2015), with PyTorch's running statistics.

    In training the batch's own mean and biased variance normalise, and the running mean and variance move by
    `momentum` towards the batch's mean and unbiased variance. Inference, and a frozen layer always, uses the running ones.

    Attributes:
      frozen: set by core.module, where scale and bias are not trained.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1, dtype: str = "float32"):
        self.scale, self.bias = _param(1.0, width), _param(0.0, width)
        self.mean = nnx.BatchStat(jnp.zeros(width, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(width, jnp.float32))
        self.eps, self.momentum, self.dtype, self.frozen = eps, momentum, dtype, False

    def __call__(self, x: Float[Array, "B *grid D"], train: bool) -> Float[Array, "B *grid D"]:
        """Returns the normalised array in `dtype`; `train` uses and records the batch's statistics."""
        y = wide(x)
        mean, var = self.mean[...], self.var[...]
        if train and not self.frozen:
            axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
            mean = y.mean(axes)
            var = jnp.square(y - mean).mean(axes)
            self._record(mean, var * (count / max(count - 1, 1)))
        y = (y - mean) * jax.lax.rsqrt(var + self.eps)
        return (y * self.scale[...] + self.bias[...]).astype(self.dtype)

    def _record(self, mean: Float[Array, " D"], var: Float[Array, " D"]) -> None:
        for running, batch in ((self.mean, mean), (self.var, var)):
            old = running[...]
            running[...] = (old + self.momentum * (jax.lax.stop_gradient(batch) - old)).astype(old.dtype)


def _param(value: float, width: int) -> nnx.Param:
    return nnx.Param(jnp.full(width, value, jnp.float32))


def _standardise(x: Float[Array, "..."], axes: Sequence[int], eps: float) -> Float[Array, "..."]:
    # Two passes: mean(x^2) - mean(x)^2 loses half of float32's digits where the mean is large.
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + eps)
