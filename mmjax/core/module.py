"""The wall around flax.nnx: a module's definition here, its arrays in plain nested dicts there.

NNX defines modules; nothing outside this file splits or merges them, and none of its transforms or its Optimizer is
used (measured on 12 tiny blocks: one AdamW step 2.0 ms this way, 23.9 ms with nnx.jit and nnx.Optimizer). A Model has
an abstract shape, makes its arrays from a key, and binds arrays to a live module whose methods are called plainly:

    model = define(lambda key: DualEncoder(..., rngs=rngs(key)))
    params, stats = model.init(key)
    y, out = model.bind(params, stats).image(x)
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import nnx

from mmjax.core import tap, tree

Dict = dict[str, Any]


class Model:
    """A module's definition without its arrays.

    Attributes:
      abstract: {"params": ..., "stats": ...}, nested dicts of ShapeDtypeStruct. Statistics are the running means and
        variances of BatchNorm.
    """

    def __init__(self, make: Callable[[jax.Array], nnx.Module], frozen: Collection[str] = ()):
        self._make, self._frozen = make, frozenset(frozen)
        module = nnx.eval_shape(lambda: make(jax.random.key(0)))
        self._graph, params, stats = self._split(module)
        self.abstract: Dict = {"params": params, "stats": stats}

    def freeze(self, frozen: Collection[str]) -> "Model":
        """The same model, in which a BatchNorm whose scale and bias are in `frozen` (leaf paths) runs in inference mode."""
        return self if frozenset(frozen) == self._frozen else Model(self._make, frozen)

    def init(self, key: jax.Array) -> tuple[Dict, Dict]:
        """Fresh (params, stats). Call it inside jax.jit with out_shardings to place them as they are made."""
        return self._split(self._make(key))[1:]

    def bind(self, params: Dict, stats: Dict | None = None) -> Any:
        """The live module over these arrays. It belongs to the trace it is made in: bind again in each."""
        return nnx.merge(self._graph, _state(params), _state(stats if stats is not None else {}))

    def stats(self, module: Any) -> Dict:
        """The statistics of a bound module, as its forward passes left them."""
        return self._split(module)[2]

    def _split(self, module: nnx.Module) -> tuple[Any, Dict, Dict]:
        for path, part in nnx.iter_modules(module):
            if hasattr(part, "frozen"):  # layers with running statistics declare it
                part.frozen = {"/".join(map(str, (*path, leaf))) for leaf in ("scale", "bias")} <= self._frozen
        graph, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
        return graph, _plain(params), _plain(stats)


def define(make: Callable[[jax.Array], nnx.Module]) -> Model:
    """Wraps `make(key) -> nnx.Module` as a Model. `make` must be pure: the same key gives the same arrays."""
    return Model(make)


def rngs(key: jax.Array) -> nnx.Rngs:
    """Keys for the constructors of nnx layers."""
    return nnx.Rngs(params=key)


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, keys: nnx.Rngs) -> nnx.Module:
    """`depth` copies of a block as one module whose arrays have a leading layer axis; run it with `scan`."""
    return nnx.vmap(lambda key: make(rngs(key)))(jax.random.split(keys.params(), depth))


def scan(
    blocks: nnx.Module,
    call: Callable[[Any, Any, Any], Any],
    carry: Any,
    xs: Any = None,
    *,
    name: str = "blocks",
    remat: str = "none",
) -> Any:
    """Runs a stacked module layer by layer with jax.lax.scan, so that compile time does not grow with depth.

    Args:
      blocks: from `stack`.
      call: (block, carry, x) -> carry, where `x` is this layer's slice of `xs` (keys, drop rates).
      carry: the first layer's input.
      xs: a pytree with a leading layer axis, or None.
      name: where the layers' taps are recorded, with a leading layer axis.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
    """
    graph, arrays = nnx.split(blocks)
    zeros = tap.zeros_under(name)

    def body(carry, layer):
        state, x, zeros = layer
        block = nnx.merge(graph, state)
        with tap.frame(zeros) as out:
            carry = call(block, carry, x)
        return carry, (out, nnx.state(block, nnx.BatchStat))

    if remat != "none":
        # prevent_cse is needless under scan, whose loop already keeps XLA from merging the two passes.
        body = jax.checkpoint(body, prevent_cse=False, policy=REMAT[remat])
    carry, (out, stats) = jax.lax.scan(body, carry, (arrays, xs, zeros))
    nnx.update(blocks, stats)  # what the layers' BatchNorms recorded; nothing where they have none
    if out:
        tap.tap(name, out)
    return carry


REMAT = {"none": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}


def _plain(state: Any) -> Dict:
    return tree.unflatten({"/".join(map(str, p)): leaf for p, leaf in _leaves(nnx.to_pure_dict(state))})


def _leaves(node: Mapping, path: tuple = ()):
    for k, v in node.items():
        yield from _leaves(v, (*path, k)) if isinstance(v, Mapping) else [((*path, k), v)]


def _state(plain: Mapping) -> nnx.State:
    # nnx numbers the items of a list with ints; everywhere else paths are strings.
    def keyed(node):
        return {int(k) if k.isdigit() else k: keyed(v) if isinstance(v, Mapping) else v for k, v in node.items()}

    return nnx.State(keyed(plain))
