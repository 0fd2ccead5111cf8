"""What a run carries from step to step, as nested dicts of arrays, and how it is made in place on a mesh."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.core import keys, tree
from mmjax.core.errors import UserError, suggest
from mmjax.core.module import Model
from mmjax.sharding import mesh as meshes
from mmjax.sharding import rules as storage
from mmjax.sharding.mesh import AnyMesh
from mmjax.tasks.task import Task
from mmjax.train import optim

State = dict[str, Any]
ACCUMULATIONS = ("gradcache", "plain")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything static of a run: what the step is compiled from.

    Attributes:
      model, task: what is trained and on what.
      frozen: paths of parameters that get no gradient, no moments and no update.
      tx, rate: the optimizer over the trainable leaves and its learning rate by step.
      ema: decay of the averaged parameters, or None.
      seed: of every random number of the run.
      chunk: examples of the global batch that are encoded at a time, or None for all.
      bad_steps: "stop" or "skip": what a step whose loss or gradient is not finite leads to.
      mesh, rules: where arrays live.
    """

    model: Model
    task: Task
    frozen: frozenset[str]
    tx: optax.GradientTransformation
    rate: optax.Schedule
    ema: float | None
    seed: int
    chunk: int | None
    bad_steps: str
    mesh: AnyMesh
    rules: tree.Rules

    def split(self, params: dict) -> tuple[dict, dict]:
        """(trainable, frozen) nested dicts."""
        flat = tree.flatten(params)
        return (
            tree.unflatten({p: x for p, x in flat.items() if p not in self.frozen}),
            tree.unflatten({p: x for p, x in flat.items() if p in self.frozen}),
        )

    def init(self, key: jax.Array | None = None) -> State:
        """A fresh state; traceable, so that jit can make each leaf where it will live."""
        return self._state(*self.model.init(keys.key(self.seed, "init") if key is None else key))

    def _state(self, params: dict, stats: dict) -> State:
        return {
            "step": jnp.zeros((), jnp.int32),
            "params": params,
            "stats": stats,
            # A copy, not an alias: the step donates both.
            "ema": jax.tree.map(jnp.copy, params) if self.ema else {},
            "opt": self.tx.init(self.split(params)[0]),
            "extra": self.task.extra(params),
            "guard": {"first_bad_step": jnp.full((), -1, jnp.int32), "bad_steps": jnp.zeros((), jnp.int32)},
        }

    def abstract(self) -> State:
        """Shapes and dtypes of the state."""
        return jax.tree.map(lambda leaf: leaf, self._abstract)  # dicts of the caller's own

    @functools.cached_property
    def _abstract(self) -> State:
        # Once, and from the model's own shapes: tracing its initialisers takes up to a second, and a run asks a dozen times.
        return jax.eval_shape(self._state, self.model.abstract["params"], self.model.abstract["stats"])

    def placements(self) -> dict[str, storage.Placement]:
        """Where each leaf of the state lives, by path; one table places parameters and all that mirrors them."""
        state = self.abstract()
        params = storage.place(self.rules, state["params"], self.mesh, beside=state["extra"])
        result = {f"params/{path}": placed for path, placed in params.items()}
        for part in ("stats", "ema", "opt", "extra", "guard", "step"):
            rules = [*self.rules[:-1], *(self.task.places if part == "extra" else ()), self.rules[-1]]
            # "step" is a leaf, whose path is empty inside its part.
            for path, placed in storage.follow(rules, params, state["params"], state[part], self.mesh).items():
                result[f"{part}/{path}".rstrip("/")] = placed
        return result

    def shardings(self) -> State:
        """NamedShardings in the structure of the state."""
        return storage.shardings(self.placements(), self.abstract(), self.mesh)

    def make(self, fill: Callable[[dict], dict] | None = None) -> State:
        """A fresh state on the mesh; no leaf is ever whole on one device unless its rule says so.

        Args:
          fill: gives other {"params", "stats"} for the fresh ones, in the same places.
        """
        state = jax.jit(self.init, out_shardings=self.shardings())()
        return state if fill is None else self.filled(state, fill)

    def filled(self, state: State, fill: Callable[[dict], dict]) -> State:
        """A fresh state with what `fill` gives for its {"params", "stats"}, and what mirrors them made anew."""
        places = self.shardings()
        state = state | fill({"params": state["params"], "stats": state["stats"]})
        copies = jax.jit(
            lambda params: (jax.tree.map(jnp.copy, params) if self.ema else {}, self.task.extra(params)),
            out_shardings=(places["ema"], places["extra"]),
        )
        state["ema"], state["extra"] = copies(state["params"])
        return state


def frozen_paths(rules: tree.Rules, params: Any) -> frozenset[str]:
    """Paths whose first matching rule says true; leaves that no rule covers are trained.

    Raises:
      UserError: a rule covers no parameter, or nothing is left to train.
    """
    hits = tree.resolve(rules, tree.flatten(params), what="freeze", default=False)
    if all(hits.values()):
        raise UserError("freeze: every parameter is frozen and nothing is left to train: take back a rule")
    return frozenset(path for path, frozen in hits.items() if frozen)


def chunk(config: Mapping[str, Any], stats: Any, frozen: frozenset[str], task: Task, mesh: AnyMesh) -> int | None:
    """`config.chunk`, where chunks can equal the whole batch.

    Raises:
      UserError: plain accumulation for a task whose examples meet, a BatchNorm that trains, or a chunk that does not divide
        over the devices.
    """
    # A checkpoint of a run from before there were chunks has neither.
    size, how = config.get("chunk"), config.get("accumulation", "gradcache")
    if how not in ACCUMULATIONS:
        raise UserError(f"accumulation {how!r} is not one of: {', '.join(ACCUMULATIONS)}.{suggest(how, ACCUMULATIONS)}")
    if how == "plain" and task.relates:
        raise UserError(
            f"accumulation 'plain' sums the losses of chunks, and {type(task).__name__} compares all examples of the batch: "
            f"each would lose its negatives in other chunks. Use 'gradcache', which equals the whole batch"
        )
    if size is None:
        return None
    for path in tree.flatten(stats):
        norm = path.rpartition("/")[0]
        if not {f"{norm}/scale", f"{norm}/bias"} <= frozen:
            raise UserError(
                f"chunk {size}: the BatchNorm {norm} normalises by the whole batch, which no chunk sees, so that the result "
                f"would be another: freeze its scale and bias, choose norm 'group' (stem 'patch'), or leave chunk None"
            )
    meshes.check_batch(size, mesh.shape, where="chunk")
    return size


def plan(config: Mapping[str, Any], model: Model, task: Task, mesh: AnyMesh) -> Plan:
    """The Plan of a resolved, plain config.

    Raises:
      UserError: what `optim` or a rule table cannot mean.
    """
    optim.check(config["optim"])
    abstract = model.abstract["params"]
    frozen = frozen_paths(config["freeze"], abstract)
    rate = optim.schedule(config["optim"]["schedule"], config["optim"]["lr"], config["steps"])
    trainable = tree.unflatten({p: x for p, x in tree.flatten(abstract).items() if p not in frozen})
    return Plan(
        model=model.freeze(frozen),
        task=task,
        frozen=frozen,
        tx=optim.make(config["optim"], trainable, rate),
        rate=rate,
        ema=config["optim"]["ema"],
        seed=config["seed"],
        chunk=chunk(config, model.abstract["stats"], frozen, task, mesh),
        bad_steps=config["bad_steps"],
        mesh=mesh,
        rules=config["sharding"],
    )
