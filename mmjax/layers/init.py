"""How a Transformer's weights start: one table, chosen by name."""

import dataclasses

from flax import nnx

from mmjax.core.errors import UserError, suggest


@dataclasses.dataclass(frozen=True)
class Init:
    """Initialisers of a Transformer tower; biases start at zero.

    Attributes:
      qkv, out: attention's input and output kernels.
      up, down: the two kernels of the MLP.
      token, position: standard deviations of a text tower's token and position tables.
    """

    qkv: nnx.Initializer
    out: nnx.Initializer
    up: nnx.Initializer
    down: nnx.Initializer
    token: float
    position: float


def clip(width: int, depth: int) -> Init:
    """CLIP (Radford et al. 2021, section 2.5 and its code): kernels that write to the residual shrink by sqrt(2 depth)."""
    normal, residual = nnx.initializers.normal, width**-0.5 * (2 * max(depth, 1)) ** -0.5
    return Init(normal(width**-0.5), normal(residual), normal((2 * width) ** -0.5), normal(residual), 0.02, 0.01)


def xavier(width: int, depth: int) -> Init:
    """ViT and SigLIP (Dosovitskiy et al. 2021; Zhai et al. 2023, their code): Glorot-uniform kernels at every depth."""
    del depth
    kernel = nnx.initializers.xavier_uniform()
    return Init(kernel, kernel, kernel, kernel, width**-0.5, width**-0.5)


INITS = {"clip": clip, "xavier": xavier}


def init(name: str, width: int, depth: int) -> Init:
    """The row of `INITS` for a tower of this width and depth. Raises UserError for an unknown name."""
    if name not in INITS:
        raise UserError(f"init: unknown name {name!r}; choose one of: {', '.join(INITS)}.{suggest(name, INITS)}")
    return INITS[name](width, depth)
