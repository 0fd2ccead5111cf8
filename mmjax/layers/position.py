"""Position tables: sine and cosine in one and two dimensions, and a learned grid resized to another."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmjax.core.errors import UserError
from mmjax.layers.norm import wide


def sincos_1d(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """Row t is [sin(t w), cos(t w)] with w_i = 10000^(-2i/D) (Vaswani et al. 2017, section 3.5, halves concatenated).

    Raises:
      UserError: an odd width.
    """
    if width % 2:
        raise UserError(f"width {width} is odd: sine and cosine positions need an even one")
    return _sincos(np.arange(length), width // 2)


def sincos_2d(rows: int, columns: int, width: int) -> Float[np.ndarray, "S D"]:
    """Row by row, half of D for the column and half for the row of each patch (MoCo v3, Chen et al. 2021).

    Raises:
      UserError: a width that 4 does not divide.
    """
    if width % 4:
        raise UserError(f"width {width} is not divisible by 4, as two-dimensional sine and cosine positions need")
    y, x = (axis.ravel() for axis in np.mgrid[:rows, :columns])
    return np.concatenate([_sincos(x, width // 4), _sincos(y, width // 4)], axis=1)


def _sincos(position: np.ndarray, count: int) -> np.ndarray:
    angle = position[:, None] * 10000.0 ** (-np.arange(count) / count)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def resize(
    table: Float[Array, "_ D"], old: tuple[int, int], new: tuple[int, int], method: str = "bicubic"
) -> Float[Array, "_ D"]:
    """A learned table for a grid of `old` (rows, columns), interpolated to the grid `new`.

    Rows before the grid's (the class token's) are kept. Where the grid shrinks, the kernel is widened (antialiased).

    Args:
      table: (extra + rows * columns, D).
      method: "bicubic", "bilinear", or "torch": bicubic as torch.nn.functional.interpolate has it (DINOv2), with a = -3/4, the
        edge repeated, and not antialiased.
    """
    if old == new:
        return table
    extra = table.shape[0] - old[0] * old[1]
    patches = wide(table[extra:]).reshape(*old, -1)
    if method == "torch":
        rows, columns = (jnp.asarray(_cubic(*sides), patches.dtype) for sides in zip(old, new, strict=True))
        patches = jnp.einsum("ij,kl,jld->ikd", rows, columns, patches)
    else:
        patches = jax.image.resize(patches, (*new, patches.shape[-1]), method)
    patches = patches.reshape(new[0] * new[1], -1)
    return jnp.concatenate([table[:extra], patches.astype(table.dtype)])


def _cubic(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Weights of the old places in each new one: Keys' cubic with a = -3/4 over the four nearest."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(at).astype(int)
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        x = np.abs(at - first - step)
        near = (1.25 * x - 2.25) * x * x + 1
        far = -0.75 * (((x - 5) * x + 8) * x - 4)
        np.add.at(weights, (np.arange(new), np.clip(first + step, 0, old - 1)), np.where(x <= 1, near, far))
    return weights
