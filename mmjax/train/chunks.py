"""Gradients of a batch that is encoded in chunks, equal to those of the whole batch.

GradCache (Gao et al. 2021, arXiv 2101.06983), for any task through the seam: encode the chunks without gradient; relate
the whole batch; read chunk by chunk, which gives what the loss asks of each embedding; encode each chunk once more and
push that through. Activations of one chunk exist at a time, at the price of a second encoding. It equals the whole batch
because an example's randomness is its own (core.keys.rows) and a term is a sum and a count: the gradient of a weighted
mean is that of its sum over the count of the whole batch, which is known before any chunk is differentiated. A task
without `relate` needs no first encoding: that is plain accumulation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmjax.core import keys
from mmjax.core.flops import again
from mmjax.core.pin import pin
from mmjax.sharding.mesh import row_parts
from mmjax.tasks.task import Binder, Task, Terms, divisor
from mmjax.train.state import Plan


class Cut(NamedTuple):
    """How the global batch is cut: each device walks over its own rows, so that no row ever changes its device.

    Attributes:
      parts: into which the data axes split the batch.
      chunks, each: so many chunks of so many rows on each device.
      rest: rows on each device that are left for a last, smaller chunk.
    """

    parts: int
    chunks: int
    each: int
    rest: int

    @staticmethod
    def of(batch: int, chunk: int, parts: int) -> "Cut":
        """Chunks of at most `chunk` examples of a global `batch`, all equal where that divides."""
        here = batch // parts
        count = -(-here // (chunk // parts))
        if here % count == 0:
            return Cut(parts, count, here // count, 0)
        return Cut(parts, here // (chunk // parts), chunk // parts, here % (chunk // parts))

    def each_chunk(self, fn: Callable, carry: Any, *xs: Any) -> tuple[Any, Any, Any]:
        """Runs `fn(carry, *chunk) -> (carry, rows, sums)` over the chunks of `xs`, whose leaves lead with the batch axis.

        Returns:
          (carry, rows with the batch axis whole again, sums added up).
        """
        fold = [self._fold(x) for x in jax.tree.leaves(xs)]
        tree = jax.tree.structure(xs)

        def step(carry, chunk):
            carry, rows, sums = fn(carry, *jax.tree.unflatten(tree, [pin(x) for x in chunk]))
            return carry, (rows, sums)

        carry, (rows, sums) = jax.lax.scan(step, carry, [head for head, _ in fold])
        sums = jax.tree.map(lambda x: x.sum(0), sums)
        last = None
        if self.rest:
            carry, (last, more) = step(carry, [rest for _, rest in fold])
            sums = jax.tree.map(jnp.add, sums, more)
        return carry, jax.tree.map(self._unfold, rows, *([last] if self.rest else [])), sums

    def _fold(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        x = x.reshape(self.parts, -1, *x.shape[1:])
        head = x[:, : self.chunks * self.each].reshape(self.parts, self.chunks, self.each, *x.shape[2:])
        head = pin(head.swapaxes(0, 1).reshape(self.chunks, -1, *x.shape[2:]), "chunks")
        return head, x[:, self.chunks * self.each :].reshape(-1, *x.shape[2:]) if self.rest else None

    def _unfold(self, head: jax.Array, rest: jax.Array | None = None) -> jax.Array:
        x = head.reshape(self.chunks, self.parts, self.each, *head.shape[2:]).swapaxes(0, 1)
        x = x.reshape(self.parts, -1, *head.shape[2:])
        if rest is not None:
            x = jnp.concatenate([x, rest.reshape(self.parts, -1, *rest.shape[1:])], axis=1)
        return pin(x.reshape(-1, *head.shape[2:]))


class Parts(NamedTuple):
    """A task's three parts as functions of parameters and arrays alone, each with a live model of its own trace."""

    task: Task
    encode: Callable
    relate: Callable
    read: Callable


def parts(plan: Plan, merge: Callable[[Any], dict], stats: dict, extra: dict) -> Parts:
    """`merge` makes all parameters of the trainable ones."""
    task = plan.task

    def bind():
        return Binder(plan.model, stats, extra)

    return Parts(
        task,
        lambda params, rows, key: task.encode(bind(), merge(params), rows, key),
        lambda params, z: task.relate(bind(), merge(params), z),
        lambda params, z, aux, key: task.read(bind(), merge(params), z, aux, key),
    )


def gradients(plan: Plan, params: Any, merge: Callable, stats: dict, extra: dict, rows: dict, key: jax.Array):
    """(loss, terms, gradients with respect to `params`, z) of a batch, `plan.chunk` examples at a time."""
    cut = Cut.of(len(key), plan.chunk, row_parts(plan.mesh.shape))
    task, encode, relate, read = seam = parts(plan, merge, stats, extra)
    encode_key, read_key = keys.split(key, 2)
    if not task.relates:
        return _accumulate(cut, seam, params, rows, encode_key, read_key)
    _, z, _ = cut.each_chunk(lambda _, *chunk: (None, again(encode)(params, *chunk), ()), None, rows, encode_key)

    def related(params, floats):
        terms, aux = relate(params, _join(floats, z))
        return (_sums(task, terms), _floats(aux)), (terms, aux)

    _, pull, (terms, aux) = jax.vjp(related, params, _floats(z), has_aux=True)
    by = _factors(task, terms | _counts(cut, lambda *chunk: read(params, *chunk), z, aux, read_key))

    def reading(grads, z, aux, key):
        def one(params, z_floats, aux_floats):
            terms = read(params, _join(z_floats, z), _join(aux_floats, aux), key)
            return _sums(task, terms), terms

        sums, pull, terms = jax.vjp(one, params, _floats(z), _floats(aux), has_aux=True)
        moved, *wanted = pull(_at(by, sums))
        return _add(grads, moved), wanted, terms

    grads, (z_wanted, aux_wanted), read_terms = cut.each_chunk(reading, _zeros(params), z, aux, read_key)
    moved, more = pull((_at(by, _sums(task, terms)), aux_wanted))
    grads, z_wanted = _add(grads, moved), _add(z_wanted, more)

    def encoding(grads, rows, key, wanted):
        _, pull = jax.vjp(lambda params: _floats(encode(params, rows, key)), params)
        return _add(grads, pull(wanted)[0]), (), ()

    grads, _, _ = cut.each_chunk(encoding, grads, rows, encode_key, z_wanted)
    terms = terms | read_terms
    return task.total(terms), terms, grads, z


def _accumulate(cut: Cut, seam: Parts, params: Any, rows: dict, encode_key: jax.Array, read_key: jax.Array):
    """The same for a task whose examples do not meet: its z is never whole."""
    task, encode, _, read = seam

    def terms_of(params, rows, encode_key, read_key):
        return read(params, encode(params, rows, encode_key), {}, read_key)

    by = _factors(task, _counts(cut, lambda *chunk: terms_of(params, *chunk), rows, encode_key, read_key))

    def one(grads, *chunk):
        def summed(params):
            terms = terms_of(params, *chunk)
            return _sums(task, terms), terms

        sums, pull, terms = jax.vjp(summed, params, has_aux=True)
        return _add(grads, pull(_at(by, sums))[0]), (), terms

    grads, _, terms = cut.each_chunk(one, _zeros(params), rows, encode_key, read_key)
    return task.total(terms), terms, grads, {}


def _counts(cut: Cut, terms_of: Callable[..., Terms], *xs: Any) -> Terms:
    """The terms' counts over all chunks, each under a sum of 0. Counts hang on data alone, so that the compiler drops the
    model from this pass; were a count to need it, it would be run."""

    def one(_, *chunk):
        counts = again(lambda *chunk: {name: count for name, (_, count) in terms_of(*chunk).items()})(*chunk)
        return None, (), counts

    _, _, counts = cut.each_chunk(one, None, *xs)
    return {name: (jnp.zeros_like(count), count) for name, count in counts.items()}


def _factors(task: Task, terms: Terms) -> dict[str, jax.Array]:
    """What a term's sum counts in the loss: see Task.total."""
    return {name: weight / divisor(terms[name][1]) for name, weight in task.weights.items()}


def _sums(task: Task, terms: Terms) -> dict[str, jax.Array]:
    """The sums that make up the loss."""
    return {name: terms[name][0] for name in task.weights if name in terms}


def _at(by: dict[str, jax.Array], sums: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: by[name].astype(value.dtype) for name, value in sums.items()}


def _floats(tree: Any) -> list[jax.Array]:
    """The leaves that a gradient can reach."""
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def _join(floats: list[jax.Array], tree: Any) -> Any:
    """`tree` with its floating leaves taken from `floats`."""
    new = iter(floats)
    return jax.tree.map(lambda x: next(new) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
