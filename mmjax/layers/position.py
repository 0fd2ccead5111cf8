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
      method: "bicubic" or "bilinear".
    """
    if old == new:
        return table
    extra = table.shape[0] - old[0] * old[1]
    patches = wide(table[extra:]).reshape(*old, -1)
    patches = jax.image.resize(patches, (*new, patches.shape[-1]), method).reshape(new[0] * new[1], -1)
    return jnp.concatenate([table[:extra], patches.astype(table.dtype)])
