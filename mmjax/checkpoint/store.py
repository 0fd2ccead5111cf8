"""The wall around Orbax.

A checkpoint has two items: `state` {step, params, stats, ema, opt, extra, guard}, nested dicts of arrays by path, and
`meta` {config, seed, versions, tokenizer, preprocessing}, json. Nothing in it knows of NNX or optax classes. Writing is
asynchronous; a step counts as saved once Orbax has put its commit mark, so a kill at any moment leaves the last complete
one usable.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from mmjax.core import files, tree
from mmjax.core.errors import UserError
from mmjax.sharding import processes


class Store:
    """The checkpoints of one workdir, `WORKDIR/checkpoints/<step>`."""

    def __init__(self, workdir: str, keep: int = 2):
        self.folder = epath.Path(workdir).absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The newest complete step, or None: as process 0 sees it, on all of them."""
        seen = max((step for step in self._manager.all_steps() if complete(self.folder / str(step))), default=None)
        return processes.agree(seen)

    def save(self, step: int, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Starts writing; returns once the arrays are copied off the device. An error of the last write is raised here."""
        if step in self._manager.all_steps():
            self._manager.wait_until_finished()
            if complete(self.folder / str(step)):
                return
            self._manager.delete(step)  # part of a checkpoint, as a copy that was cut short leaves it
        items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), meta=ocp.args.JsonSave(dict(meta)))
        if not self._manager.save(step, args=items):
            raise RuntimeError(f"step {step} was not saved: {self.folder} holds a later step")

    def restore(self, step: int, like: Any, shardings: Any) -> Any:
        """The state of `step` in the structure, dtypes and shardings asked for, whatever mesh wrote it.

        Raises:
          UserError: leaves are missing, superfluous or of another shape; they are listed.
        """
        return restore(self.folder / str(step), like, shardings)

    def wait(self) -> None:
        """Waits for the write in progress; raises its error."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the write in progress; raises its error."""
        self._manager.wait_until_finished()
        self._manager.close()


class _Leaf:
    """An array that is read when its turn to be written comes: shape, dtype and read() of what it is made from."""

    def __init__(self, source: Any):
        self.shape, self.dtype, self.read = tuple(source.shape), np.dtype(source.dtype), source.read
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize


class _OneByOne(ocp.type_handlers.NumpyHandler):
    """Orbax's writing of numpy arrays, of which it would copy all at once, one after the other."""

    def __init__(self) -> None:
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        for value, info, arg in zip(values, infos, args, strict=True):
            array = np.ascontiguousarray(value.read()).reshape(value.shape)
            for written in await super().serialize([array], [info], [arg]):
                written.result()
        return []


def write(workdir: str, leaves: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes a workdir's checkpoint of step 0 leaf by leaf: one at a time is in memory.

    Args:
      leaves: by path, each with shape, dtype and read(), which gives the array.
      meta: the json item.
    """
    kinds = ocp.type_handlers.create_type_handler_registry((_Leaf, _OneByOne()), (jax.Array, ocp.type_handlers.ArrayHandler()))
    state = ocp.PyTreeCheckpointHandler(type_handler_registry=kinds)
    manager = ocp.CheckpointManager(
        epath.Path(workdir).absolute() / "checkpoints",
        options=ocp.CheckpointManagerOptions(create=True, enable_async_checkpointing=False),
        item_handlers={"state": state, "meta": ocp.JsonCheckpointHandler()},
    )
    nested = tree.unflatten({path: _Leaf(leaf) for path, leaf in leaves.items()})
    manager.save(0, args=ocp.args.Composite(state=ocp.args.PyTreeSave(nested), meta=ocp.args.JsonSave(dict(meta))))
    manager.close()


def find(checkpoint: str) -> epath.Path:
    """The folder of one checkpoint: a workdir's newest, or `checkpoints/<step>` itself; as process 0 sees it, on all of them.

    Raises:
      UserError: there is none.
    """
    found = processes.agree(_newest(epath.Path(checkpoint).absolute()))
    if found is None:
        raise UserError(
            f"--checkpoint: no checkpoint in {checkpoint!r}: give a workdir of mmjax train, or its checkpoints/<step>"
        )
    return epath.Path(found)


def complete(folder: epath.Path) -> bool:
    """Whether a folder is a whole checkpoint: both items are there, and where renaming is not atomic the commit mark too."""
    return all((folder / item).exists() for item in ("state", "meta")) and ocp.utils.is_checkpoint_finalized(folder)


def saved(workdir: str) -> bool:
    """Whether a workdir holds a complete checkpoint."""
    folder = epath.Path(workdir).absolute() / "checkpoints"
    return folder.is_dir() and any(complete(path) for path in folder.iterdir() if path.name.isdigit())


def meta(folder: epath.Path) -> dict[str, Any]:
    """The json item of one checkpoint."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(folder / "meta")


def stored(folder: epath.Path) -> dict[str, Any]:
    """Shapes and dtypes of a checkpoint's leaves by path."""
    with ocp.StandardCheckpointer() as reader:
        found = tree.flatten(reader.metadata(folder / "state").item_metadata.tree)
    return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in found.items()}


def restore_leaf(folder: epath.Path, path: str, leaf: jax.ShapeDtypeStruct, paths: Iterable[str]) -> jax.Array:
    """One leaf of a checkpoint, whose paths are those of `stored`, on this host's CPU."""
    place = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    target: dict[str, Any] = dict.fromkeys(paths, ocp.PLACEHOLDER)
    return _restore(folder / "state", target | {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)})[path]


def restore(folder: epath.Path, like: Any, shardings: Any, parts: Iterable[str] | None = None) -> Any:
    """Restores a checkpoint's state, or only some top-level `parts` of it, in the structure of `like`.

    Args:
      folder: from `find`.
      like: shapes and dtypes wanted.
      shardings: in the structure of `like`.
      parts: names such as "params"; None means all of `like` and nothing beside it.
    """
    with ocp.StandardCheckpointer() as reader:
        stored = tree.flatten(reader.metadata(folder / "state").item_metadata.tree)
        wanted = tree.flatten(like)
        compare(stored, wanted, str(folder), parts)
        places = tree.flatten(shardings)
        target = {
            path: jax.ShapeDtypeStruct(leaf.shape, wanted[path].dtype, sharding=places[path])
            if path in wanted
            else ocp.PLACEHOLDER
            for path, leaf in stored.items()
        }
        found = _restore(folder / "state", target)
    return tree.map_with_path(lambda path, _: found[path], like)


def compare(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: str, parts: Iterable[str] | None = None) -> None:
    """Raises UserError with the lists unless both have the same leaves of the same shapes."""
    if parts is not None:
        stored = {path: leaf for path, leaf in stored.items() if path.split("/")[0] in set(parts)}
    missing = [path for path in wanted if path not in stored]
    extra = [path for path in stored if path not in wanted]
    shapes = [
        f"{path} {tuple(stored[path].shape)} there, {tuple(leaf.shape)} here"
        for path, leaf in wanted.items()
        if path in stored and tuple(stored[path].shape) != tuple(leaf.shape)
    ]
    lines = [
        f"{len(names)} {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for names, what in ((missing, "missing"), (extra, "superfluous"), (shapes, "of another shape"))
        if names
    ]
    if lines:
        raise UserError(f"checkpoint {where} does not fit this config; " + "; ".join(lines))


def write_config(workdir: str, config: Mapping[str, Any]) -> None:
    """Writes `WORKDIR/config.json` at once or not at all."""
    write_json(f"{workdir}/config.json", config)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes json at once or not at all: a reader never sees half a file."""
    files.write(path, json.dumps(value, indent=2) + "\n")


def _newest(given: epath.Path) -> str | None:
    if complete(given):
        return str(given)
    for folder in (given / "checkpoints", given):
        if folder.is_dir():
            steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and complete(p))
            if steps:
                return str(folder / str(steps[-1]))
    return None


def _plain(state: Any) -> dict[str, Any]:
    return tree.unflatten(tree.flatten(state))


def _restore(folder: epath.Path, target: dict[str, Any]) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        nested = tree.unflatten(target)
        args = jax.tree.map(
            lambda x: (
                ocp.ArrayRestoreArgs(dtype=x.dtype, sharding=x.sharding, global_shape=x.shape)
                if isinstance(x, jax.ShapeDtypeStruct)
                else ocp.RestoreArgs()
            ),
            nested,
        )
        return tree.flatten(reader.restore(folder, args=ocp.args.PyTreeRestore(item=nested, restore_args=args)))
