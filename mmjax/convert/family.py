"""What a family of models is to the converter: its names, its config and its map, in one place."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.convert.table import Row, Tensor
from mmjax.core import registry
from mmjax.core.errors import UserError, suggest

Spec = dict[str, Any]
Config = Mapping[str, Any]

# Keywords of a part that change how a model is trained or computed, and not what it is.
HOW = ("attention", "init", "remat", "dtype", "dropout", "patch_dropout", "token_dropout", "logit_scale")


def nothing(*_: Any) -> None:
    """What a family says of what it has not."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One family in one format.

    Attributes:
      name: of the family, as a person says it.
      format: "hf", "open_clip", "npz" (big_vision), "torch" or "ctranslate2"; only the first three are written too.
      marks: names that all its files hold, and no other's do.
      model: its config -> our model's spec.
      table: our model's spec -> the rows of its map.
      config: our model's spec -> its config, or None for a model that is not of this family.
      kinds: `model_type`s of config.json.
      infer: (tensors, config of a name given by --like, or {}) -> the config, where the file has none.
      likes: names for --like, and their configs.
      prefixes: what may stand before every name.
      prefix: our model's spec -> what stands there when it is written.
      bare: what names of heads begin with, which never have a prefix.
      settle: (tensors, config) -> the config, with what only the tensors tell.
      drop: regexes of names that are not read, with the reason.
      text: our model's spec -> keywords of `tokenise`.
      audio: our model's spec -> the transforms of sounds.
      mean, std, resize: of pictures, where the source has no preprocessor's config. `resize` are keywords of `resize`.
      any_size: whether a model takes pictures of another size than its config says, or says none.
    """

    name: str
    format: str
    marks: tuple[str, ...]
    model: Callable[[Config], Spec]
    table: Callable[[Spec], Sequence[Row]]
    config: Callable[[Spec], dict[str, Any] | None] = nothing
    kinds: tuple[str, ...] = ()
    infer: Callable[[Mapping[str, Tensor], Config], dict[str, Any] | None] = nothing
    likes: Mapping[str, Config] = dataclasses.field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)
    prefix: Callable[[Spec], str] = lambda model: ""
    bare: tuple[str, ...] = ("classifier.",)
    settle: Callable[[Mapping[str, Tensor], Config], Config] = lambda found, config: config
    drop: Mapping[str, str] = dataclasses.field(default_factory=dict)
    text: Callable[[Spec], Spec | None] = nothing
    audio: Callable[[Spec], list[Spec] | None] = nothing
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    any_size: bool = False


# Activations' names in Hugging Face's configs.
ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
BACK = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_tanh": "gelu_pytorch_tanh"}


def activation(name: str) -> str:
    """Ours for Hugging Face's. Raises UserError for one that is not here."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation {name!r} is not one of: {', '.join(ACTIVATIONS)}.{suggest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


def tower(config: Config, **more: Any) -> Spec:
    """width, depth, heads, mlp, act and norm_eps from Hugging Face's names."""
    return {
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp": config["intermediate_size"],
        "act": activation(config["hidden_act"]),
        "norm_eps": config["layer_norm_eps"],
        **more,
    }


def tower_config(part: Spec, **more: Any) -> dict[str, Any]:
    """The inverse of `tower`."""
    return {
        "hidden_size": part["width"],
        "num_hidden_layers": part["depth"],
        "num_attention_heads": part["heads"],
        "intermediate_size": part["mlp"],
        "hidden_act": BACK[part.get("act", "gelu")],
        "layer_norm_eps": part.get("norm_eps", 1e-6),
        **more,
    }


def same(table: registry.Table, a: Spec, b: Spec) -> bool:
    """Whether two specs of assemblies describe one model, whatever it is trained or computed with."""
    return _full(table, a) == _full(table, b)


def _full(table: registry.Table, spec: Spec) -> Spec:
    row = table[spec["name"]]
    defaults = {name: p.default for name, p in registry.parameters(row).items() if p.default is not p.empty}
    spec = {**defaults, **spec}
    parts = getattr(row, "PARTS", {})
    spec |= {name: _full(parts[name], spec[name]) for name in parts if spec.get(name) is not None}
    if "logit_bias" in spec:
        spec["logit_bias"] = spec["logit_bias"] is not None
    if isinstance(spec.get("heads", 0), Mapping | None):  # of an assembly; an encoder's are a number
        spec["heads"] = {name: size for name, size in (spec["heads"] or {}).items() if size}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in spec.items() if name not in HOW}
