"""CLIP ViT-B/16 from scratch (Radford et al. 2021, arXiv 2103.00020, table 20).

    mmjax train --config=configs/clip_b16.py --workdir=runs/clip_b16 --config.data.sources.0.source.dataset=YOURS

Hardware: TPU v5e-256, or 128 A100; data and "debug" as in clip_b32.py. Expected, with the data of its paper: 68.3% zero-shot
top-1 on ImageNet (published; not run here).
"""

from clip_b32 import clip
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    return clip(arg, patch=16, vision=(768, 12, 12), text=(512, 12, 8), dim=512)
