"""Models by name. An assembly's public methods return (y, out), `out` the tapped intermediates; see core.tap.

model = build({"name": "dual_encoder", "dim": 512, "image": {"name": "vit", ...}, "text": {...}})
params, stats = model.init(key)
z, out = model.bind(params, stats).image(images)
"""

from collections.abc import Mapping
from typing import Any

from mmjax.core import module, registry
from mmjax.models.albef import ALBEF
from mmjax.models.classifier import Classifier, DualClassifier
from mmjax.models.cross_encoder import CrossEncoder
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoders import IMAGE_ENCODERS, TEXT_ENCODERS
from mmjax.models.lxmert import Lxmert
from mmjax.models.vilt import Vilt
from mmjax.models.visualbert import VisualBert

MODELS = {
    "dual_encoder": DualEncoder,
    "classifier": Classifier,
    "dual_classifier": DualClassifier,
    "cross_encoder": CrossEncoder,
    "lxmert": Lxmert,
    "albef": ALBEF,
    "visualbert": VisualBert,
    "vilt": Vilt,
}

__all__ = ["IMAGE_ENCODERS", "MODELS", "TEXT_ENCODERS", "build", "check"]


def build(spec: Mapping[str, Any], dtype: str = "float32", remat: str = "none") -> module.Model:
    """The model that `spec` describes, its names and keywords checked before anything is built.

    Args:
      spec: a row of MODELS: {"name": ..., **keywords}, in which parts chosen by name are specs themselves.
      dtype: that activations are computed in; parameters are float32.
      remat: what Transformer blocks recompute in the backward pass: "none", "dots" or "full".

    Raises:
      UserError: it names the value, its place in the spec and the mend.
    """
    _names(spec)
    return module.define(
        lambda key: registry.build(MODELS, spec, where="model", dtype=dtype, remat=remat, rngs=module.rngs(key))
    )


def check(spec: Mapping[str, Any]) -> None:
    """Raises UserError where `spec` is wrong: first its names and keywords, then, by abstract shapes, its values."""
    build(spec)


def _names(spec: Mapping[str, Any]) -> None:
    registry.complete(MODELS, spec, "model", "rngs")
    for part, table in MODELS[spec["name"]].PARTS.items():
        if spec.get(part) is not None:
            registry.complete(table, spec[part], f"model.{part}", "rngs")
