"""One training step: the parts of a task composed, differentiated, applied. One jitted program, state donated."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Key

from mmjax.core import keys, pin, tree
from mmjax.sharding.mesh import PINS, ROWS
from mmjax.tasks.task import Binder
from mmjax.train import chunks
from mmjax.train.state import Plan, State

Batch = dict[str, jax.Array]


def forward(plan: Plan, params: dict, stats: dict, extra: dict, rows: Batch, key: Key[Array, " B"] | None):
    """Loss of a batch: encode, relate, read.

    Returns:
      (loss, (terms, new stats, what the batch was encoded to)).
    """
    bind = Binder(plan.model, stats, extra)
    encode_key, read_key = (None, None) if key is None else keys.split(key, 2)
    z = plan.task.encode(bind, params, rows, encode_key)
    terms, aux = plan.task.relate(bind, params, z)
    terms = terms | plan.task.read(bind, params, z, aux, read_key)
    return plan.task.total(terms), (terms, bind.stats(params), z)


def gradients(plan: Plan, state: State, rows: Batch):
    """(loss, terms, new stats, gradients of the trainable leaves, z) of one batch, with the randomness of this step."""
    trainable, frozen = plan.split(state["params"])
    key = pin.pin(keys.rows(keys.key(plan.seed, "step", state["step"]), size(rows)))

    def merge(trainable):
        return _merge(trainable, frozen)

    if plan.chunk is not None and plan.chunk < size(rows):
        value, terms, grads, z = chunks.gradients(plan, trainable, merge, state["stats"], state["extra"], rows, key)
        return value, terms, state["stats"], grads, z

    def loss(trainable):
        return forward(plan, merge(trainable), state["stats"], state["extra"], rows, key)

    (value, (terms, stats, z)), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
    return value, terms, stats, grads, z


def size(rows: Batch) -> int:
    """Examples of the global batch."""
    return len(next(iter(rows.values())))


def step(plan: Plan, state: State, rows: Batch) -> tuple[State, dict[str, jax.Array]]:
    """The next state and this step's measures.

    A step whose loss or gradient is not finite changes nothing but the guard; with `bad_steps="stop"` neither does any
    step after it, so that the loop may look at the guard only when it logs and still find the last good state.

    Returns:
      (state, {"terms/NAME": float32 (2,) sum and count, and scalars loss, grad_norm, param_norm, update_norm}).
    """
    with pin.on(plan.mesh, PINS):
        loss, terms, stats, grads, z = gradients(plan, state, rows)
        trainable, frozen = plan.split(state["params"])
        grad_norm = optax.tree.norm(grads)
        updates, opt = plan.tx.update(grads, state["opt"], trainable)
        trainable = optax.apply_updates(trainable, updates)
        params = _merge(trainable, frozen)
        ema = jax.tree.map(lambda a, b: plan.ema * a + (1 - plan.ema) * b, state["ema"], params) if plan.ema else {}
        extra = plan.task.advance(params, z, state["extra"])
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    guard = _guard(state["guard"], state["step"], finite)
    apply = finite if plan.bad_steps == "skip" else guard["first_bad_step"] < 0
    new = {"params": params, "stats": stats, "ema": ema, "opt": opt, "extra": extra}
    old = {name: state[name] for name in new}
    new = jax.tree.map(lambda a, b: jnp.where(apply, a, b), new, old)
    new |= {"step": state["step"] + 1, "guard": guard}
    measures = {f"terms/{name}": jnp.stack([jnp.float32(x) for x in pair]) for name, pair in terms.items()}
    norms = {
        "loss": loss,
        "grad_norm": grad_norm,
        "param_norm": optax.tree.norm(params),
        "update_norm": optax.tree.norm(updates),
    }
    return new, measures | {name: jnp.float32(value) for name, value in norms.items()}


def compiled(plan: Plan) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """The jitted step with the state donated and kept where the rules put it."""
    places = plan.shardings()

    def one(state: State, rows: Batch):
        return step(plan, state, rows)

    rows = NamedSharding(plan.mesh, ROWS)
    return jax.jit(one, donate_argnums=0, in_shardings=(places, rows), out_shardings=(places, None))


def _guard(guard: dict[str, jax.Array], at: jax.Array, finite: jax.Array) -> dict[str, jax.Array]:
    first = jnp.where((guard["first_bad_step"] < 0) & ~finite, at, guard["first_bad_step"])
    return {"first_bad_step": first, "bad_steps": guard["bad_steps"] + (~finite).astype(jnp.int32)}


def _merge(trainable: dict, frozen: dict) -> dict[str, Any]:
    return tree.unflatten(tree.flatten(trainable) | tree.flatten(frozen))
