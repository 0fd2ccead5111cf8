"""CLIP ViT-L/14 from scratch (Radford et al. 2021, arXiv 2103.00020, table 20).

    mmjax train --config=configs/clip_l14.py --workdir=runs/clip_l14 --config.data.sources.0.source.dataset=YOURS

Hardware: TPU v5p-256, or 256 A100-80GB, parameters and optimizer split 8 ways over fsdp; data and "debug" as in
clip_b32.py. Expected, with the data of its paper: 75.5% zero-shot top-1 on ImageNet (published; not run here).
"""

from clip_b32 import clip
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    c = clip(arg, patch=14, vision=(1024, 24, 16), text=(768, 12, 12), dim=768)
    if not arg:
        c.optim.lr, c.remat = 4e-4, "full"
        c.mesh.fsdp = 8
    return c
