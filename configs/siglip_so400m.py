"""SigLIP So400m/14 at 224 pixels from scratch (Zhai et al. 2023, arXiv 2303.15343; the shape is Alabdulmohsin et al. 2023).

    mmjax train --config=configs/siglip_so400m.py --workdir=runs/so400m --config.data.sources.0.source.dataset=YOURS

Hardware: TPU v5p-256, parameters and optimizer split 8 ways over fsdp; data and "debug" as in siglip_b16.py. Expected,
trained on WebLI at 384 pixels: 83.1% zero-shot top-1 on ImageNet (published; not run here).
"""

from ml_collections import ConfigDict
from siglip_b16 import siglip


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    c = siglip(arg, patch=14, length=16, tower={"width": 1152, "depth": 27, "heads": 16, "mlp": 4304})
    if not arg:
        c.remat, c.mesh.fsdp = "full", 8
    return c
