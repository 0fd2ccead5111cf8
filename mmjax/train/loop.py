"""The loop: every task, every mesh."""

import contextlib
import dataclasses
import importlib.metadata
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

import mmjax
from mmjax.checkpoint import store
from mmjax.core import flops
from mmjax.core.config import differences
from mmjax.core.errors import UserError
from mmjax.data.rows import BrokenCount, split
from mmjax.data.stream import Stream
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place, processes
from mmjax.tasks import build as tasks
from mmjax.train import fit
from mmjax.train import state as states
from mmjax.train import step as steps
from mmjax.train.cache import Cache, encoded
from mmjax.train.log import Log, Progress, check_client
from mmjax.train.peaks import PEAK

# Records that are read before anything compiles, to see that the data are what the config says.
SAMPLE = 8
# (params, stats, step) -> {set: {metric: value}}
Evaluate = Callable[[dict, dict, int], dict[str, dict[str, float]]]


class Interrupted(Exception):
    """SIGTERM came; the state of the last step is saved. The command line exits with 143, as a shell expects."""


@dataclasses.dataclass
class Run:
    """A run as it stands: what `setup` made of a config."""

    config: dict[str, Any]
    workdir: str
    plan: states.Plan
    stream: Stream


def setup(config: dict[str, Any], workdir: str) -> Run:
    """Builds all of a run but its arrays, and checks it against what the workdir already holds.

    Raises:
      UserError: before any compilation, for whatever in the config cannot work.
    """
    _one_config(config)
    mesh = meshes.make(config["mesh"])
    meshes.check_batch(config["batch_size"], mesh.shape)
    static = plan(config, mesh)
    check_client(config)
    _same_run(config, workdir)
    stream = Stream(
        **config["data"],
        batch_size=config["batch_size"],
        fields=tuple(config["batch"]),
        seed=config["seed"],
        **meshes.share(mesh),
    )
    tasks.check_batch(config, split(stream.sample(SAMPLE))[0])
    return Run(config, workdir, static, stream)


def plan(config: dict[str, Any], mesh: Mesh) -> states.Plan:
    """What the step is compiled from: model, task, optimizer and placements, all checked, no array made.

    Raises:
      UserError: a part that the tables do not know, a rule that covers nothing, a split that does not divide.
    """
    tasks.check(config)
    model, task = tasks.build(config)
    made = states.plan(config, model, task, mesh)
    made.placements()
    fit.check(config, made.abstract()["params"], _rows(config, made))
    return made


def finished(run: Run) -> dict[str, Any] | None:
    """results.json of a run that has reached its last step, been evaluated there and has its report; otherwise None.

    All processes call it; what process 0 finds is the answer of all.
    """
    path = epath.Path(run.workdir) / "results.json"
    there = path.exists() and (path.parent / "report.html").exists()
    results = processes.agree(json.loads(path.read_text()) if there else {})
    return results if results.get("step") == run.config["steps"] else None


def train(
    run: Run, evaluate: Evaluate, meta: Mapping[str, Any], show: bool = True, init: Callable[[dict], dict] | None = None
) -> dict[str, Any]:
    """Trains to the last step, or resumes there.

    Args:
      run: from `setup`.
      evaluate: called at `config.eval.every` and at the end.
      meta: what travels in each checkpoint beside the state (tokenizer, preprocessing).
      show: whether to print progress.
      init: gives a new run's {"params", "stats"} for the fresh ones; see Plan.make.

    Returns:
      results.json's content.

    Raises:
      Interrupted: after SIGTERM, once the checkpoint is complete.
      UserError: the loss is not finite, or too many records are broken.
    """
    return _Loop(run, evaluate, meta, show, init).run()


class _Loop:
    def __init__(self, run: Run, evaluate: Evaluate, meta: Mapping[str, Any], show: bool, init: Callable | None):
        self.config, self.plan, self.stream = run.config, run.plan, run.stream
        self.workdir, self.evaluate, self.init = run.workdir, evaluate, init
        about = {"config": run.config, "seed": run.config["seed"], "sources": run.stream.sources, "versions": versions()}
        self.meta = dict(meta) | about
        self.main = jax.process_index() == 0
        self.store = store.Store(run.workdir, keep=run.config["keep"])
        self.window: list[dict[str, jax.Array]] = []
        self.broken = BrokenCount(run.stream.max_broken)
        self.seconds, self.began = 0.0, None  # spent before `began`, the moment that the clock was started
        self.show, self.aloud = show, show and self.main  # what is this process's own, and what is the same on all
        self.results: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        total = self.config["steps"]
        self.state, start = self._start()
        store.write_config(self.workdir, self.config) if self.main else None
        self.log = Log(self.workdir, self.config) if self.main else None
        self.progress = Progress(total, start, self.aloud)
        try:
            with _sigterm() as stop:
                self._steps(start, total, stop)
                self._save(total)
                self.store.wait()
            self._evaluate(total)
        finally:
            self.progress.close()
            self.store.close()
            if self.log:
                self.log.close()
        return self.results

    def _start(self) -> tuple[states.State, int]:
        """The state to go on from, and its step."""
        latest, total = self.store.latest(), self.config["steps"]
        before = store.meta(self.store.folder / str(latest)) if latest is not None else {}
        _same_data(self.stream.sources, before.get("sources"), self.workdir)
        if latest is None:
            return self.plan.make(self.init), 0
        if latest > total:
            raise UserError(
                f"{self.workdir} is trained to step {latest}, past steps {total}: set --config.steps, or another --workdir"
            )
        if self.aloud:
            print(f"resuming from step {latest} in {self.workdir}", file=sys.stderr)
        self.seconds = before["train_seconds"]
        state = self.store.restore(latest, self.plan.abstract(), self.plan.shardings())
        if self.plan.bad_steps == "stop":  # a run that passed over bad steps may go on as one that stops at them
            first = state["guard"]["first_bad_step"]
            state["guard"]["first_bad_step"] = jax.device_put(np.full((), -1, np.int32), first.sharding)
        return state, latest

    def _steps(self, start: int, total: int, stop: list) -> None:
        if start >= total:
            return
        config, self.began = self.config, time.monotonic()
        if config.get("cache"):
            self.stream = Cache(self.stream, self.plan, self.state["params"], self.state["stats"], config["cache"])
            if start == 0 and config.get("fit"):
                rows = self.stream.rows
                self.state = self.plan.filled(self.state, lambda arrays: fit.fit(config["fit"], self.plan, rows, arrays))
        one = steps.compiled(self.plan)
        self.peak = PEAK.get(jax.devices()[0].device_kind, 0) * self.plan.mesh.size
        self.flops = model_flops(config, self.plan) if self.peak else 0  # a second trace of the step, for nothing but mfu
        batches = place.Ahead(self.stream.batches(start), lambda item: _placed(item, self.plan.mesh))
        self.mark, self.waited = time.monotonic(), 0.0
        try:
            items = iter(batches)
            for step in range(start, total):
                before = time.monotonic()
                rows, broken = next(items)
                self.waited += time.monotonic() - before
                self._name(self.broken.note(broken))
                self.state, measures = one(self.state, rows)
                if step == start:  # compiled now: speed is that of the steps that follow
                    jax.block_until_ready(measures)
                    self.mark, self.waited, self.timed = time.monotonic(), 0.0, step + 1
                self.window.append(measures)
                done = step + 1
                stopped = bool(stop) and jax.process_count() == 1
                if done % config["log_every"] == 0 or done == total:
                    stopped = self._meet(bool(stop))
                    self._log(done)
                if stopped:
                    self._save(done)
                    self.store.wait()
                    raise Interrupted(f"stopped by SIGTERM after step {done}, which is saved: the same command resumes")
                if done % config["save_every"] == 0 and done < total:
                    self._save(done)
                if config["eval"]["every"] and done % config["eval"]["every"] == 0 and done < total:
                    self._evaluate(done)
        finally:
            self.seconds, self.began = self._spent(), None
            batches.close()

    def _name(self, broken: list[str]) -> None:
        """Names this process's broken records."""
        line = f"replaced unreadable records: {'; '.join(broken)}"
        if broken and self.aloud:
            self.progress.say(line)
        elif broken and self.show:
            print(line, file=sys.stderr)

    def _meet(self, stop: bool) -> bool:
        """Exchanges with the other processes what each alone knows, so that all stop together; whether any was told to.

        It costs a collective, hence at log steps only.
        """
        told = processes.gather([stop, self.broken.take()])
        self.broken.add(*(taken for _, taken in told))
        return any(stop for stop, _ in told)

    def _spent(self) -> float:
        """Seconds of training so far, those of earlier processes included, evaluations not."""
        return self.seconds + (time.monotonic() - self.began if self.began is not None else 0.0)

    def _log(self, done: int) -> None:
        window, self.window = jax.device_get(self.window), []
        self._check_guard()
        now, n, timed = time.monotonic(), len(window), done - self.timed
        span = max(now - self.mark, 1e-9)
        sums = {name: sum(w[name] for w in window) for name in window[0]}
        scalars = {name: float(value) / n for name, value in sums.items() if np.ndim(value) == 0}
        terms = {name.removeprefix("terms/"): float(pair[0] / (pair[1] or 1)) for name, pair in sums.items() if np.ndim(pair)}
        weights = self.plan.task.weights
        scalars |= {f"loss/{name}" if name in weights else name: value for name, value in terms.items()}
        speed = timed * self.config["batch_size"] / span
        scalars |= {
            "learning_rate": float(self.plan.rate(done - 1)),
            "examples_per_s": speed,
            "examples_per_s_chip": speed / self.plan.mesh.size,
            "data_wait": self.waited / span,
            "broken_records": float(self.broken.total),
            "bad_steps": float(jax.device_get(self.state["guard"]["bad_steps"])),
        }
        if self.peak:
            scalars["mfu"] = self.flops * timed / span / self.peak
        self.mark, self.waited, self.timed = now, 0.0, done
        self.progress.to(done, scalars)
        if self.log:
            self.log.write(done, scalars)

    def _save(self, done: int) -> None:
        """Saves unless the state is that of a run gone bad."""
        self._check_guard()
        if self.store.latest() == done:
            return
        self.store.save(done, self.state, self.meta | {"train_seconds": self._spent()})

    def _check_guard(self) -> None:
        first = int(jax.device_get(self.state["guard"]["first_bad_step"]))
        if first < 0 or self.plan.bad_steps == "skip":
            return
        ids = ", ".join(map(str, self.stream.batch_at(first)["id"][:8]))
        self.store.wait()
        good = self.store.latest()
        raise UserError(
            f"the loss or a gradient is not finite at step {first} (counted from 0); its examples begin with {ids}.\n"
            f"The last good checkpoint is {f'step {good}' if good is not None else 'none yet'}; nothing after step {first} was "
            f"applied.\nLower optim.lr, set optim.clip, or pass over such steps with --config.bad_steps=skip."
        )

    def _evaluate(self, done: int) -> None:
        before = time.monotonic()
        params = self.state["ema"] if self.config["eval"]["params"] == "ema" else self.state["params"]
        sets = self.evaluate(params, self.state["stats"], done)
        if self.log and sets:
            self.log.write(done, {f"{name}/{key}": float(v) for name, found in sets.items() for key, v in found.items()})
        self.results = sets | {"step": done, "train_seconds": round(self.seconds, 1), "seed": self.config["seed"]}
        if self.began is not None:  # evaluations are no training time
            self.began += time.monotonic() - before
            self.mark += time.monotonic() - before
        elif self.main:
            store.write_json(f"{self.workdir}/results.json", self.results)


def model_flops(config: Mapping[str, Any], plan: states.Plan) -> int:
    """Operations of one training step, forward and backward, without what remat computes again."""
    if config["remat"] != "none":
        model, task = tasks.build({**config, "remat": "none"})
        plan = dataclasses.replace(plan, model=model.freeze(plan.frozen), task=task)
    return flops.count(lambda state, rows: steps.gradients(plan, state, rows)[3], plan.abstract(), _rows(config, plan))


def _rows(config: Mapping[str, Any], plan: states.Plan) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what a step reads. Raises UserError where `config.cache` has nothing to keep."""
    rows = tasks.abstract_batch(config)
    if not config.get("cache"):
        return rows
    state = plan.abstract()
    return jax.eval_shape(lambda *parts: encoded(plan, *parts), state["params"], state["stats"], rows)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"mmjax": mmjax.__version__, "python": sys.version.split()[0], **found}


def _one_config(config: Mapping[str, Any]) -> None:
    """Refuses processes that were started with different configs: they would wait for each other's programs for ever."""
    told = processes.gather(config)
    for number, theirs in enumerate(told):
        if lines := differences(told[0], theirs):
            raise UserError(
                f"process {number} was started with another config than process 0: {'; '.join(lines[:6])}.\n"
                f"Start all of them with the same command."
            )


def _same_run(config: Mapping[str, Any], workdir: str) -> None:
    """Refuses a workdir whose model, seed or batch is another; says aloud what else changed."""
    path = epath.Path(workdir) / "config.json"
    if not path.exists() or not store.saved(workdir):
        return
    old = json.loads(path.read_text())
    lines = differences(old, json.loads(json.dumps(config)))
    # Batch k is a function of the seed and the batch size: with others it would be neither run.
    if other := [line for line in lines if line.startswith(("model.", "seed:", "batch_size:"))]:
        raise UserError(f"{workdir} holds another run; {'; '.join(other[:6])}.\nGive another --workdir, or the old settings.")
    for line in lines if jax.process_index() == 0 else ():
        print(f"resuming with a changed config: {line}", file=sys.stderr)


def _same_data(here: list[dict[str, Any]], before: list[dict[str, Any]] | None, workdir: str) -> None:
    """Refuses sources of another length than the checkpoint's, or than process 0's: batch k would be another.

    A list of more or fewer sources is a changed config, which was said aloud. All processes call it, and all refuse.

    Args:
      here: Stream.sources of this process.
      before: those of the checkpoint; None where there is none, or where it did not note them.
    """
    told = processes.gather(here)
    for number, theirs in enumerate(told):
        for mine, other in zip(told[0], theirs, strict=False):
            if mine["records"] != other["records"]:
                raise UserError(
                    f"{_source(other)} has {other['records']} records on process {number} and {mine['records']} on process 0: "
                    f"give each host the same data"
                )
    if before is None or len(before) != len(told[0]):
        return
    for i, (now, then) in enumerate(zip(told[0], before, strict=True)):
        if now["records"] != then["records"]:
            raise UserError(
                f"data.sources[{i}], {_source(now)}, has {now['records']} records; {workdir} was trained on {then['records']} "
                f"of {_source(then)}, so its batches would be others: bring them back, or give another --workdir"
            )


def _source(known: Mapping[str, Any]) -> str:
    return f"{known['name']} {known['path']}".strip()


def _placed(item: tuple[int, dict[str, np.ndarray]], mesh: Mesh):
    rows, strings = split(item[1])
    return place.batch(rows, mesh), strings["broken"]


@contextlib.contextmanager
def _sigterm():
    """Collects SIGTERM in the list that it yields, so that the loop may finish its step and save."""
    seen: list[int] = []
    try:
        old = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    except ValueError:  # not the main thread: the caller handles signals
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, old)
