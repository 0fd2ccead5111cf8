"""A run with all that could make a resumed one differ: dropouts, BatchNorm, EMA, two sources, two workers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "configs"))

from clip_b32 import get_config as clip


def get_config(arg: str = ""):
    """arg: "" (a ViT with BatchNorm in its stem) or a number of steps."""
    c = clip("debug")
    c.steps, c.save_every, c.log_every = int(arg or 60), 5, 5
    c.compute_dtype, c.remat = "float32", "none"
    c.model.image.update({"stem": "conv", "dropout": 0.1, "attention": "plain", "patch_dropout": 0.5})
    c.model.text.update({"dropout": 0.1, "attention": "plain"})
    c.optim.ema = 0.9
    c.optim.schedule = {"name": "rsqrt", "warmup": 2, "timescale": 10}  # of the step alone: runs of any length share a program
    c.data.workers = 2
    c.data.sources = [
        {"source": {"name": "synthetic", "n": 96, "size": 40}, "weight": 2.0},
        {"source": {"name": "synthetic", "n": 64, "size": 40, "seed": 7}, "weight": 1.0},
    ]
    c.data.transforms[1] = {"name": "random_shift", "pixels": 4, "size": 32}
    c.eval.sets = []
    return c
