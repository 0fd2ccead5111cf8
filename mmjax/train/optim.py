"""Optimizers and schedules from optax, with per-leaf multipliers by ordered path rules."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from mmjax.core import registry, tree
from mmjax.core.errors import UserError, suggest

KEYS = ("name", "args", "lr", "schedule", "weight_decay", "decay_rules", "lr_rules", "clip", "ema")
# Biases, norms' scales, positions, class tokens, probes and the temperature are not decayed (CLIP and SigLIP alike).
NO_DECAY = [[".*(bias|scale|positions|class_token|probe)", 0.0], [".*", 1.0]]
# Where an encoder's layers are: on the leading axis of a stack, or numbered.
STACKED, NUMBERED = re.compile(r"(.*?)/?stack/blocks/.*"), re.compile(r"(.*?)/?layers/(\d+)/.*")
# What comes before its first layer; what is in neither comes after its last.
BEFORE = re.compile(r"(embed|patches|positions|class_token|segments|ln_embed|ln_pre|conv\d|stem)(/.*)?")


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError unless `config.optim` has KEYS and no others: having a name, it is not guarded by the config's lock."""
    for key in config:
        if key not in KEYS:
            raise UserError(f"optim has no key {key!r}; it has: {', '.join(KEYS)}.{suggest(key, KEYS)}")
    if missing := [key for key in KEYS if key not in config]:
        raise UserError(f"optim needs {', '.join(missing)}: override its keys one by one")


def schedule(spec: Mapping[str, Any], lr: float, steps: int) -> optax.Schedule:
    """Learning rate by step: {"name": "cosine" | "linear" | "rsqrt" | "constant", "warmup": steps, ...}."""
    return registry.build(SCHEDULES, spec, lr, steps, where="optim.schedule")


def cosine(lr: float, steps: int, *, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Linear warm-up to `lr`, then a half cosine to `end` x lr at the last step."""
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else lr, lr, warmup, max(steps, warmup + 1), end * lr)


def linear(lr: float, steps: int, *, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Linear warm-up to `lr`, then straight to `end` x lr at the last step (BERT and those that grew from it)."""
    down = optax.linear_schedule(lr, end * lr, max(1, steps - warmup))
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), down], [warmup]) if warmup else down


def rsqrt(lr: float, steps: int, *, warmup: int = 0, timescale: int = 10_000, cooldown: int = 0) -> optax.Schedule:
    """Linear warm-up, lr * sqrt(timescale / (timescale + steps since warm-up)), and a linear cool-down to 0.

    (Scaling Vision Transformers, arXiv 2106.04560, section 3.5.)
    """

    def at(step):
        rate = lr * jnp.sqrt(timescale / (timescale + jnp.maximum(step - warmup, 0)))
        if warmup:
            rate *= jnp.minimum(1.0, step / warmup)
        if cooldown:
            rate *= jnp.clip((steps - step) / cooldown, 0.0, 1.0)
        return rate

    return at


def constant(lr: float, steps: int, *, warmup: int = 0) -> optax.Schedule:
    """Linear warm-up, then `lr`."""
    return optax.linear_schedule(0.0, lr, warmup) if warmup else optax.constant_schedule(lr)


SCHEDULES = {"cosine": cosine, "linear": linear, "rsqrt": rsqrt, "constant": constant}


def adamw(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, mu_dtype: str | None = None):
    """Adam's direction (decoupled decay is added by `make`)."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps, mu_dtype=mu_dtype)


def lion(*, b1: float = 0.9, b2: float = 0.99, mu_dtype: str | None = None):
    """Lion's sign update (arXiv 2302.06675)."""
    return optax.scale_by_lion(b1=b1, b2=b2, mu_dtype=mu_dtype)


def adafactor(*, decay: float = 0.8, clip: float = 1.0, momentum: float | None = None, min_dim_size: int = 128):
    """Adafactor's factored second moment with update clipping (arXiv 1804.04235); momentum, where given, in bf16."""
    parts = [
        optax.scale_by_factored_rms(decay_rate=decay, min_dim_size_to_factor=min_dim_size),
        optax.clip_by_block_rms(clip),
    ]
    return optax.chain(*parts, *([optax.ema(momentum, debias=False, accumulator_dtype="bfloat16")] if momentum else []))


def muon(*, beta: float = 0.95, rms: float = 0.2, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """Muon for the kernels of linear maps and convolutions, Adam's direction for all else (Jordan et al. 2024).

    A kernel's momentum is made orthogonal by five Newton-Schulz steps, each layer of a stack by itself, and scaled so that
    the root mean square of its update is about `rms`, which is Adam's: learning rate and decay carry over from adamw
    (arXiv 2502.16982, section 2.2). Embeddings are tables, not maps, and stay with Adam.

    Args:
      beta: decay of the momentum (Nesterov's).
      rms: of a kernel's update.
      b1, b2, eps: Adam's.
    """

    def dims(updates):
        return tree.map_with_path(lambda path, x: optax.contrib.MuonDimensionNumbers(*_map_axes(path, x)), updates)

    def scale(updates, params=None):
        del params
        return tree.map_with_path(lambda path, u: rms * max(_fans(path, u)) ** 0.5 * u, updates)

    matrices = optax.chain(optax.contrib.scale_by_muon(beta=beta, weight_dimension_numbers=dims), optax.stateless(scale))
    return optax.partition(
        {"muon": matrices, "adam": optax.scale_by_adam(b1=b1, b2=b2, eps=eps)},
        lambda params: tree.map_with_path(lambda path, _: "muon" if path.split("/")[-1] == "kernel" else "adam", params),
    )


def _map_axes(path: str, kernel: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes of a kernel's inputs and of its outputs; the layer axis of a stack is neither."""
    return tuple(range(int("blocks" in path.split("/")), kernel.ndim - 1)), (kernel.ndim - 1,)


def _fans(path: str, kernel: jax.Array) -> tuple[int, int]:
    inputs, outputs = _map_axes(path, kernel)
    return math.prod(kernel.shape[i] for i in inputs), math.prod(kernel.shape[i] for i in outputs)


OPTIMIZERS = {"adamw": adamw, "lion": lion, "adafactor": adafactor, "muon": muon}


def make(config: Mapping[str, Any], params: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    """The transformation of `config.optim` for trainable `params` (shapes suffice).

    Order: clip by global norm, the optimizer's direction, decay x decay rule, learning rate x rate rule.

    Args:
      config: {"name": ..., "clip": norm or None, "weight_decay": ..., "decay_rules": [[regex, x]], "lr_rules": [[regex, x]],
        "lr": ..., "schedule": ..., "args": keywords of the optimizer}. An x of lr_rules may be {"decay": d}: see `layer_wise`.
      params: nested dict.
      rate: learning rate by step.

    Raises:
      UserError: an unknown optimizer or keyword, or a rule that covers no leaf.
    """
    lr_rules, decay_rules = list(config["lr_rules"]), list(config["decay_rules"] or NO_DECAY)
    lr = layer_wise(_multipliers(lr_rules, params, "optim.lr_rules", user=True), tree.flatten(params))
    decay = _multipliers(decay_rules, params, "optim.decay_rules", user=config["decay_rules"] is not None)
    chain = [optax.clip_by_global_norm(config["clip"])] if config["clip"] else []
    chain.append(registry.build(OPTIMIZERS, {"name": config["name"], **config["args"]}, where="optim"))
    if config["weight_decay"]:
        chain.append(_add_decay(config["weight_decay"], decay))
    chain += [_scale_by_path(lr)] if lr_rules else []
    chain.append(optax.scale_by_learning_rate(rate))
    return optax.chain(*chain)


def layer_wise(rates: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, float | np.ndarray]:
    """Factors of the learning rate by path: a number as it is, {"decay": d} as a power of d that grows towards the input.

    Of an encoder with L layers, layer i (from 0) gets d^(L - i), what comes before them d^(L + 1), and what comes after, as
    every leaf that is in no encoder (heads, projections), 1 (ELECTRA, arXiv 2003.10555, appendix B; BEiT, arXiv 2106.08254).
    A stack's leaf gets a vector over its leading axis. {"decay": d, "factor": f} multiplies all of them by f.

    Args:
      rates: what the first matching rule says, by path.
      leaves: arrays or their shapes, by path.

    Raises:
      UserError: another dict, or a decay for leaves of which none is in a layer.
    """
    for rate in (rate for rate in rates.values() if isinstance(rate, Mapping)):
        if "decay" not in rate or set(rate) - {"decay", "factor"}:
            raise UserError(
                f"optim.lr_rules: {dict(rate)} is neither a number nor {{'decay': d}} nor {{'decay': d, 'factor': f}}"
            )
    layers = [path for path in rates if STACKED.fullmatch(path) or NUMBERED.fullmatch(path)]
    graded = {path for path, rate in rates.items() if isinstance(rate, Mapping)}
    if graded and not graded & set(layers):
        raise UserError("optim.lr_rules: a decay by layers covers no layer (stack/blocks/... or layers/N/...): give a number")
    depths: dict[str, int] = {}
    for path in layers:
        if match := STACKED.fullmatch(path):
            depths[match[1]] = leaves[path].shape[0]
        elif match := NUMBERED.fullmatch(path):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)

    def factor(path: str, rate: Any) -> float | np.ndarray:
        if not isinstance(rate, Mapping):
            return rate
        decay, whole = rate["decay"], rate.get("factor", 1.0)
        encoder = next((name for name in depths if path.startswith(f"{name}/".lstrip("/"))), None)
        if encoder is None:
            return whole
        depth, inside = depths[encoder], path.removeprefix(f"{encoder}/")
        if STACKED.fullmatch(path):
            return whole * decay ** np.arange(depth, 0, -1.0).reshape(-1, *(1,) * (leaves[path].ndim - 1))
        if match := NUMBERED.fullmatch(path):
            return whole * decay ** (depth - int(match[2]))
        return whole * decay ** (depth + 1) if BEFORE.fullmatch(inside) else whole

    return {path: factor(path, rate) for path, rate in rates.items()}


def _multipliers(rules: tree.Rules, params: Any, what: str, user: bool) -> dict[str, Any]:
    return tree.resolve(rules, tree.flatten(params), what=what, default=1.0, must_hit=user)


def _scale_by_path(by_path: Mapping[str, float | np.ndarray]) -> optax.GradientTransformation:
    def update(updates, params=None):
        del params
        return tree.map_with_path(lambda path, u: u * jnp.asarray(by_path[path], u.dtype), updates)

    return optax.stateless(update)


def _add_decay(weight: float, by_path: dict[str, float]) -> optax.GradientTransformation:
    def update(updates, params):
        factors = tree.map_with_path(lambda path, _: weight * by_path[path], updates)
        return jax.tree.map(lambda u, p, f: u + f * p if f else u, updates, params, factors)

    return optax.stateless(update)
