"""Encoders by name: what an assembly reads pictures, texts and sounds with.

An encoder is called as `encoder(x, key) -> (B, D)`, gives every position by `encoder.tokens(x, key) -> (B, S, D)`, and
says its D as `encoder.width`. A new one is a file here and a row in a table.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.models.audio import WhisperEncoder
from mmjax.models.bert import Bert
from mmjax.models.clip_resnet import CLIPResNet
from mmjax.models.efficientnet import EfficientNetLite
from mmjax.models.naflex import NaFlexViT
from mmjax.models.resnet import ResNet
from mmjax.models.text import GRUText, TextTransformer
from mmjax.models.vit import ViT
from mmjax.models.words import BagOfWords

IMAGE_ENCODERS = {
    "vit": ViT,
    "naflex": NaFlexViT,
    "resnet": ResNet,
    "clip_resnet": CLIPResNet,
    "efficientnet_lite": EfficientNetLite,
}
TEXT_ENCODERS = {"text_transformer": TextTransformer, "bert": Bert, "gru": GRUText, "bag_of_words": BagOfWords}
AUDIO_ENCODERS = {"whisper": WhisperEncoder}
# What an encoder can read, in the order in which assemblies name and build their encoders.
MODALITIES = {"image": IMAGE_ENCODERS, "audio": AUDIO_ENCODERS, "text": TEXT_ENCODERS}


def build(table: registry.Table, spec: Mapping[str, Any], *, where: str, dtype: str, remat: str, rngs: nnx.Rngs) -> nnx.Module:
    """The encoder that `spec` describes.

    Args:
      table: IMAGE_ENCODERS, TEXT_ENCODERS or AUDIO_ENCODERS.
      spec: {"name": ..., **keywords}; its own dtype or remat wins.
      where: the spec's place in the config, for messages.
      remat: for encoders made of Transformer blocks; the others keep their activations.

    Raises:
      UserError: an unknown name or keyword, a missing one, or values that do not fit together; it names `where`.
    """
    registry.complete(table, spec, where, "rngs")
    extra = {"remat": remat} if "remat" in registry.parameters(table[spec["name"]]) else {}
    try:
        return registry.build(table, spec, where=where, dtype=dtype, rngs=rngs, **extra)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def towers(specs: Mapping[str, Mapping[str, Any] | None], *, dtype: str, remat: str, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
    """The two encoders of an assembly that reads pairs, by modality, in the order of MODALITIES.

    Args:
      specs: modality -> spec, or None for one that is not read.

    Raises:
      UserError: not two, or what `build` raises.
    """
    given = {name: specs[name] for name in MODALITIES if specs[name] is not None}
    if len(given) != 2:
        raise UserError(f"model: two of {', '.join(MODALITIES)} are read together; given: {', '.join(given) or 'none'}")
    shared = {"dtype": dtype, "remat": remat, "rngs": rngs}
    return {name: build(MODALITIES[name], spec, where=f"model.{name}", **shared) for name, spec in given.items()}
