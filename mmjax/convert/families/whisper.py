"""Whisper's encoder (Radford et al. 2022): Hugging Face's names, and CTranslate2's."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.family import Config, Family, Spec, activation
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

OWN = "params/encoder"


def model(config: Config) -> Spec:
    """From config.json."""
    encoder = {
        "name": "whisper",
        "mels": config.get("num_mel_bins", 80),
        "frames": config.get("max_source_positions", 1500),
        "width": config["d_model"],
        "depth": config["encoder_layers"],
        "heads": config["encoder_attention_heads"],
        "mlp": config["encoder_ffn_dim"],
        "act": activation(config.get("activation_function", "gelu")),
    }
    return {"name": "classifier", "encoder": encoder, "classes": None}


def hf_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without "model." and "encoder."."""
    at, own = "layers.{layer}", f"{OWN}/stack/blocks"
    dense = {"self_attn.q_proj": "attn/query", "self_attn.v_proj": "attn/value", "self_attn.out_proj": "attn/out"}
    dense |= {"fc1": "mlp/fc1", "fc2": "mlp/fc2"}
    return [
        *_ends("conv{i}.weight", "conv{i}.bias", "embed_positions.weight"),
        *norm(f"{at}.self_attn_layer_norm", f"{own}/ln1"),
        *norm(f"{at}.final_layer_norm", f"{own}/ln2"),
        *linear(f"{at}.self_attn.k_proj", f"{own}/attn/key", bias=False),
        *[row for theirs, ours in dense.items() for row in linear(f"{at}.{theirs}", f"{own}/{ours}")],
        *norm("layer_norm", f"{OWN}/ln_post"),
    ]


def ct2_table(model: Spec) -> Sequence[Row]:
    """CTranslate2's names: query, key and value are one matrix, and the key's bias, which is none, is zeros in theirs."""
    at, own = "encoder/layer_{layer}", f"{OWN}/stack/blocks"
    attn = f"{at}/self_attention"
    return [
        *_ends("encoder/conv{i}/weight", "encoder/conv{i}/bias", "encoder/position_encodings/encodings"),
        *_norm(f"{attn}/layer_norm", f"{own}/ln1"),
        Row(f"{attn}/linear_0/weight", tuple(f"{own}/attn/{part}/kernel" for part in ("query", "key", "value")), "qkv"),
        Row(f"{attn}/linear_0/bias", tuple(f"{own}/attn/{part}/bias" for part in ("query", "value")), "q0v"),
        *_dense(f"{attn}/linear_1", f"{own}/attn/out"),
        *_norm(f"{at}/ffn/layer_norm", f"{own}/ln2"),
        *_dense(f"{at}/ffn/linear_0", f"{own}/mlp/fc1"),
        *_dense(f"{at}/ffn/linear_1", f"{own}/mlp/fc2"),
        *_norm("encoder/layer_norm", f"{OWN}/ln_post"),
    ]


def _ends(weight: str, bias: str, positions: str) -> list[Row]:
    convs = [Row(weight, f"{OWN}/conv{{i}}/kernel", "conv_1d"), Row(bias, f"{OWN}/conv{{i}}/bias")]
    return [*convs, Row(positions, f"{OWN}/positions")]


def _norm(foreign: str, own: str) -> list[Row]:
    return [Row(f"{foreign}/gamma", f"{own}/scale"), Row(f"{foreign}/beta", f"{own}/bias")]


def _dense(foreign: str, own: str) -> list[Row]:
    return [Row(f"{foreign}/weight", f"{own}/kernel", "linear"), Row(f"{foreign}/bias", f"{own}/bias")]


def ct2_infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any]:
    """Shapes, and the number of heads that the container holds.

    Raises:
      UserError: weights in whole numbers, which need scales to mean anything.
    """
    if any(name.endswith("weight_scale") for name in found):
        raise UserError("a CTranslate2 container of int8 weights is not read: convert it with --quantization float16")
    width, mels, _ = found["encoder/conv1/weight"].shape
    return {
        "d_model": width,
        "num_mel_bins": mels,
        "max_source_positions": found["encoder/position_encodings/encodings"].shape[0],
        "encoder_layers": sum(name.startswith("encoder/layer_") and name.endswith("ffn/linear_0/bias") for name in found),
        "encoder_attention_heads": int(found["encoder/num_heads"].read()),
        "encoder_ffn_dim": found["encoder/layer_0/ffn/linear_0/bias"].shape[0],
    }


def log_mel(model: Spec) -> list[Spec]:
    """Sound at 16 kHz as Whisper's spectrogram."""
    part = model["encoder"]
    mel = {"name": "whisper_log_mel", "mels": part["mels"], "seconds": part["frames"] / 50}
    return [{"name": "decode_audio", "rate": 16_000}, mel]


HF = Family(
    name="Whisper encoder",
    format="hf",
    kinds=("whisper",),
    marks=("conv1.weight", "embed_positions.weight", "layers.0.self_attn.k_proj.weight"),
    model=model,
    table=hf_table,
    prefixes=("model.encoder.", "encoder.", ""),
    drop={r"(model\.)?decoder\..*|proj_out\..*": "the decoder"},
    audio=log_mel,
)
CT2 = Family(
    name="Whisper encoder",
    format="ctranslate2",
    marks=("encoder/conv1/weight", "encoder/num_heads"),
    model=model,
    table=ct2_table,
    infer=ct2_infer,
    drop={
        r"decoder/.*": "the decoder",
        r"encoder/(num_heads|pre_norm|activation|scale_embeddings|alibi|.*num_heads)": "settings, read or fixed",
    },
    audio=log_mel,
)
