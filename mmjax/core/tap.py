"""Named intermediates of a forward pass, without hooks.

A model's forward opens a frame and returns what was recorded: `with frame() as out: ...; return y, out`. Layers call
`x = tap("name", x)`. jit removes whatever nobody reads. Where a caller gives zeros under the same names
(`with perturb({...})`), tap adds them, so that the gradient with respect to the zeros is the gradient at the
intermediate (Grad-CAM, relevance).
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

_FRAME: contextvars.ContextVar[tuple[dict, Mapping] | None] = contextvars.ContextVar("tap_frame", default=None)
_PERTURB: contextvars.ContextVar[Mapping] = contextvars.ContextVar("tap_perturb", default=MappingProxyType({}))


@contextlib.contextmanager
def frame(zeros: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Collects taps into the dict that it yields. `zeros` are the perturbations of this frame (a scan body's slice)."""
    out: dict[str, Any] = {}
    token = _FRAME.set((out, _PERTURB.get() if zeros is None else zeros))
    try:
        yield out
    finally:
        _FRAME.reset(token)


@contextlib.contextmanager
def perturb(zeros: Mapping[str, Any]) -> Iterator[None]:
    """Adds `zeros[name]` to each intermediate of that name in the frames opened inside."""
    token = _PERTURB.set(zeros)
    try:
        yield
    finally:
        _PERTURB.reset(token)


def tap(name: str, x: Any) -> Any:
    """Records `x` under `name` in the open frame, perturbed where the frame has zeros of that name; returns it.

    A pytree of taps (what a scanned stack collected) may be recorded whole; only arrays are perturbed.
    """
    current = _FRAME.get()
    if current is None:
        return x
    out, zeros = current
    if name in zeros and not isinstance(x, Mapping):
        x = x + zeros[name]
    out[name] = x
    return x


@contextlib.contextmanager
def under(name: str) -> Iterator[None]:
    """Records the taps made inside as one dict under `name`, for parts that tap the same names (two encoders)."""
    with frame(zeros_under(name)) as out:
        yield
    if out:
        tap(name, out)


def zeros_under(name: str) -> Mapping[str, Any]:
    """The perturbations that the open frame holds for the nested frame `name` (a stack's, with a leading layer axis)."""
    current = _FRAME.get()
    return current[1].get(name, {}) if current else {}
