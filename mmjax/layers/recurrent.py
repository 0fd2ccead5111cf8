"""The gated recurrent unit (Cho et al. 2014), with PyTorch's gates."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float


class GRU(nnx.Module):
    """One layer, one direction, from a zero state:

        r, z = sigmoid(W_r x + b_r + U_r h + c_r), sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r (U_n h + c_n))
        h' = (1 - z) n + z h

    `input` holds W and b, `hidden` U and c; the three gates lie side by side in the order r, z, n. All start uniform
    within 1 / sqrt(hidden), as PyTorch's do.
    """

    def __init__(self, width: int, hidden: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        limit = hidden**-0.5

        def uniform(key, shape, dtype=jnp.float32, out_sharding=None):
            return jax.random.uniform(key, shape, dtype, -limit, limit)

        options = {"kernel_init": uniform, "bias_init": uniform, "dtype": jnp.dtype(dtype), "rngs": rngs}
        self.input = nnx.Linear(width, 3 * hidden, **options)
        self.hidden = nnx.Linear(hidden, 3 * hidden, **options)

    def __call__(self, x: Float[Array, "B T D"], mask: Bool[Array, "B T"] | None = None) -> Float[Array, "B T hidden"]:
        """The state after each position; where `mask` is False it stays what it was."""
        kernel, bias = self.hidden.kernel[...].astype(x.dtype), self.hidden.bias[...].astype(x.dtype)
        valid = jnp.ones(x.shape[:2], bool) if mask is None else mask

        def step(h, now):
            gates, valid = now
            a = jnp.split(gates, 3, axis=-1)
            b = jnp.split(h @ kernel + bias, 3, axis=-1)
            r, z = jax.nn.sigmoid(a[0] + b[0]), jax.nn.sigmoid(a[1] + b[1])
            n = jnp.tanh(a[2] + r * b[2])
            h = jnp.where(valid[:, None], (1 - z) * n + z * h, h)
            return h, h

        start = jnp.zeros((x.shape[0], kernel.shape[0]), x.dtype)
        _, states = jax.lax.scan(step, start, (self.input(x).swapaxes(0, 1), valid.swapaxes(0, 1)))
        return states.swapaxes(0, 1)
