"""EfficientNet-Lite0 with the names of its PyTorch port (efficientnet-lite-pytorch)."""

from collections.abc import Mapping, Sequence

from mmjax.convert.family import Config, Family, Spec
from mmjax.convert.table import Row, Tensor, batch_norm, linear

OWN = "params/encoder"
LAYERS = 16


def model(config: Config) -> Spec:
    """There is one Lite0."""
    return {"name": "classifier", "encoder": {"name": "efficientnet_lite", "size": 224}, "classes": config["classes"]}


def infer(found: Mapping[str, Tensor], like: Config) -> dict[str, int]:
    """All but the number of classes is Lite0's own; a tensor of another shape is refused later."""
    return {"classes": found["_fc.weight"].shape[0]}


def table(model: Spec) -> Sequence[Row]:
    """The port's names."""
    parts = {"_expand_conv": ("_bn0", "expand"), "_depthwise_conv": ("_bn1", "depthwise"), "_project_conv": ("_bn2", "project")}
    rows = [*_conv("_conv_stem", "_bn0", f"{OWN}/stem"), *_conv("_conv_head", "_bn1", f"{OWN}/last")]
    for conv, (bn, own) in parts.items():
        rows += _conv(f"_blocks.{{i}}.{conv}", f"_blocks.{{i}}.{bn}", f"{OWN}/layers/{{i}}/{own}")
    return rows + linear("_fc", "params/head")


def _conv(conv: str, bn: str, own: str) -> list[Row]:
    return [Row(f"{conv}.weight", f"{own}/conv/kernel", "conv"), *batch_norm(bn, f"{own}/norm")]


LITE0 = Family(
    name="EfficientNet-Lite0",
    format="torch",
    marks=("_conv_stem.weight", "_blocks.15._project_conv.weight", "_fc.weight"),
    model=model,
    table=table,
    infer=infer,
    drop={r".*\.num_batches_tracked": "a counter that nothing reads"},
    any_size=True,
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    # The middle 7/8 of the shorter side, which is what TensorFlow's crop padding of 32 keeps.
    resize={"mode": "shortest", "size": 256, "crop": 224},
)
