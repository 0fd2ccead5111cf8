"""Every key of a run with its default and its meaning; recipes start from this and change what they name.

Not a recipe by itself: it has no model.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The defaults; `arg` is not used."""
    return ConfigDict(
        {
            # Every random number of the run is a function of this and of a position.
            "seed": 0,
            # Optimizer steps, and examples a step over all devices.
            "steps": 1000,
            "batch_size": 256,
            # Examples of the batch that are encoded at a time, or None for all: memory of a chunk's activations for a second
            # encoding. The gradient is that of the whole batch ("gradcache", train/chunks.py), so it does not go with
            # BatchNorm that trains. "plain" sums the losses of chunks: only for tasks whose examples do not meet.
            "chunk": None,
            # Batches that frozen encoders read at the start of a run and not again (train/cache.py): training draws from their
            # vectors, shuffled anew each time around. As many as make up an epoch hold every example once; twice as many,
            # each augmented in two ways. None: the encoders run in every step.
            "cache": None,
            # Where projections begin: {"name": "cca", ...} computes them in closed form from the cache (mmjax/train/fit.py).
            "fit": None,
            "accumulation": "gradcache",
            # Devices = data x fsdp x model; one axis may be -1 (what is left). The batch is split over data and fsdp.
            "mesh": {"data": -1, "fsdp": 1, "model": 1},
            # Ordered rules [path regex, "fsdp" | "whole" | mesh axes of the trailing dimensions]; the first match wins.
            "sharding": [[".*", "fsdp"]],
            # Parameters are float32; activations are computed in this. Softmax and norms stay in float32.
            "compute_dtype": "float32",
            # What the backward pass of Transformer blocks recomputes: "none", "dots" (all but matrix products), "full".
            "remat": "none",
            # sources: [{"source": {"name": ...}, "weight": 1.0, "groups": None, "block": 1}, ...]; groups: entries of one name
            # share their group numbers; block: so many neighbours stay together in the shuffle. transforms: [{"name": ...},
            # ...]; workers: processes that load (0: threads of this one); max_broken: share of the latest records that may be
            # unreadable (each is replaced, counted and named) before the run stops. Parts chosen by name, here and below,
            # take the keywords of their class: mmjax/data/sources/, data/transforms/, models/, tasks/, train/optim.py,
            # evaluators/.
            "data": {"sources": [], "transforms": [], "workers": 0, "max_broken": 0.01},
            # What a batch holds: {field: [shape of a row, dtype]}, of data/rows.py FIELDS. So check and plan need no data.
            "batch": {},
            "model": {},
            "task": {},
            # Weights to start from (mmjax/convert/init.py): None, {"from": path, "map": [[own path regex, source path], ...]},
            # or a list of such, one a tower.
            "init": None,
            # Ordered rules [path regex, true | false]: frozen parameters get no gradient and no moments.
            "freeze": [],
            "optim": {
                "name": "adamw",
                "args": {},
                "lr": 1e-3,
                "schedule": {"name": "cosine", "warmup": 0},
                "weight_decay": 0.0,
                # Ordered rules [path regex, factor]; of lr_rules also [path regex, {"decay": d}], a power of d that grows from
                # an encoder's last layer to its first (train/optim.py layer_wise). decay_rules None: matrices only (NO_DECAY).
                "decay_rules": None,
                "lr_rules": [],
                # Largest global norm of the gradient, or None.
                "clip": 1.0,
                # Decay of the averaged parameters, or None.
                "ema": None,
            },
            # A step whose loss or gradient is not finite: "stop" the run at the last good state, or "skip" the step.
            "bad_steps": "stop",
            # every: steps between evaluations beside the one at the end (0: none); params: "raw" or "ema".
            "eval": {"every": 0, "params": "raw", "batch_size": 256, "transforms": [], "sets": []},
            "log_every": 50,
            "save_every": 500,
            # Checkpoints kept.
            "keep": 2,
            "wandb": False,
        }
    )
