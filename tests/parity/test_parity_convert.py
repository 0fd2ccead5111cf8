"""Converted weights against the implementations they come from, on random weights in float64.

foreign.py says how they are compared, and how closely.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from foreign import (  # noqa: E402
    IDS,
    PIXELS,
    SMALL,
    WORDS,
    assert_same,
    channels_first,
    check,
    dual,
    error,
    float64,  # noqa: F401
    labelled,
    load,
    pictures,
    randomise,
    round_trip,
    saved,
    sigmoid_loss,
    sines,
    softmax_of_torch,
)

from mmjax.convert import readers, save  # noqa: E402
from mmjax.convert.recognise import recognise  # noqa: E402


def clip_net(act):
    shared = {"hidden_act": act, "layer_norm_eps": 1e-5}
    ends = {"eos_token_id": 19, "bos_token_id": 18, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config={**SMALL, **WORDS, **shared, **ends}, vision_config={**SMALL, **PIXELS, **shared}, projection_dim=10
    )
    return randomise(transformers.CLIPModel(config))


def clip_outputs(net, **loss):
    theirs = net(input_ids=torch.from_numpy(IDS), pixel_values=channels_first(pictures(12)), **loss)
    return {"image": theirs.image_embeds, "text": theirs.text_embeds, "logits": theirs.logits_per_image}, theirs.loss


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip_of_transformers(act, tmp_path):
    net = clip_net(act)
    theirs, loss = clip_outputs(net, return_loss=True)
    loss.backward()
    gradients = saved(net, tmp_path / "hf")
    check(tmp_path / "hf", gradients, theirs, loss, dual(12))
    again = transformers.CLIPModel.from_pretrained(round_trip(tmp_path / "hf", tmp_path)).double().eval()
    assert_same(clip_outputs(again)[0]["logits"], theirs["logits"])


def open_clip_net(vision, quick=False):
    open_clip = pytest.importorskip("open_clip")
    text = {"context_length": 7, "vocab_size": 20, "width": 12, "heads": 3, "layers": 2}
    config = {"embed_dim": 10, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick}
    net = randomise(open_clip.CLIP(10, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text), quick_gelu=quick))
    return net, config


def open_clip_folder(net, config, folder):
    from safetensors.torch import save_file

    folder.mkdir()
    save_file({name: x.contiguous() for name, x in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))


def open_clip_outputs(net, size):
    image, text, scale = net(channels_first(pictures(size)), torch.from_numpy(IDS))
    logits = scale * image @ text.T
    return {"image": image, "text": text, "logits": logits}, softmax_of_torch(logits)


@pytest.mark.parametrize("quick", [True, False], ids=["quick_gelu", "gelu"])
def test_clip_of_open_clip(quick, tmp_path):
    # head_width and mlp_ratio as bigG/14 has them: not 64 and not 4.
    vision = {"image_size": 12, "patch_size": 4, "width": 16, "layers": 2, "head_width": 8, "mlp_ratio": 4.9231}
    net, config = open_clip_net(vision, quick)
    theirs, loss = open_clip_outputs(net, 12)
    loss.backward()
    open_clip_folder(net, config, tmp_path / "open_clip")
    gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
    found = check(tmp_path / "open_clip", gradients, theirs, loss, dual(12))
    assert found.preprocessing.pixels == {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    round_trip(tmp_path / "open_clip", tmp_path, "open_clip")
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/hf", "hf")
    again = transformers.CLIPModel.from_pretrained(tmp_path / "hf").double().eval()
    logits = clip_outputs(again)[0]["logits"]
    assert error({"": logits.detach().numpy()}, {"": theirs["logits"].detach().numpy()})[0] < 1e-9


def test_clip_resnet_of_open_clip(tmp_path):
    vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "patch_size": None, "head_width": 32}
    net, config = open_clip_net(vision)
    theirs, loss = open_clip_outputs(net, 64)
    loss.backward()
    open_clip_folder(net, config, tmp_path / "open_clip")
    gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
    check(tmp_path / "open_clip", gradients, theirs, loss, dual(64))
    counters = [name for name in net.state_dict() if name.endswith("num_batches_tracked")]
    round_trip(tmp_path / "open_clip", tmp_path, "open_clip", lost=counters)


def test_siglip_of_transformers(tmp_path):
    config = transformers.SiglipConfig(text_config={**SMALL, **WORDS}, vision_config={**SMALL, **PIXELS})
    net = randomise(transformers.SiglipModel(config))
    theirs, loss = clip_outputs(net, return_loss=True)
    loss.backward()
    gradients = saved(net, tmp_path / "hf")

    check(tmp_path / "hf", gradients, theirs, loss, dual(12, loss=sigmoid_loss))
    again = transformers.SiglipModel.from_pretrained(round_trip(tmp_path / "hf", tmp_path)).double().eval()
    assert_same(clip_outputs(again)[0]["logits"], theirs["logits"])
    # big_vision itself is no package: its npz is proven by the way there and back, and by shapes of its own.
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/npz", "npz")
    assert readers.read(tmp_path / "npz" / "model.npz")["params/img/MAPHead_0/probe"].shape == (1, 1, 16)
    shape = readers.read(tmp_path / "npz" / "model.npz")[
        "params/txt/Encoder_0/encoderblock_1/MultiHeadDotProductAttention_0/out/kernel"
    ].shape
    assert shape == (2, 8, 16)
    found = recognise(f"{tmp_path}/npz/model.npz")
    for name, leaf in recognise(f"{tmp_path}/hf").leaves.items():
        assert np.array_equal(found.leaves[name].read(), leaf.read()), name


def test_vit_of_transformers(tmp_path):
    net = randomise(transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, **PIXELS, num_labels=3)))
    theirs = net(channels_first(pictures(12)), labels=torch.tensor([2, 0]))
    theirs.loss.backward()
    gradients = saved(net, tmp_path / "hf")
    check(tmp_path / "hf", gradients, {"logits": theirs.logits}, theirs.loss, labelled(pictures(12)))
    back = round_trip(tmp_path / "hf", tmp_path)
    again = transformers.ViTForImageClassification.from_pretrained(back).double().eval()
    assert_same(again(channels_first(pictures(12))).logits, theirs.logits)


def test_dinov2_of_transformers(tmp_path):
    config = transformers.Dinov2Config(**{**SMALL, "intermediate_size": 48}, **PIXELS, mlp_ratio=3)
    net = randomise(transformers.Dinov2Model(config))
    theirs = net(channels_first(pictures(12))).pooler_output
    loss = theirs.sin().sum()
    loss.backward()
    gradients = saved(net, tmp_path / "hf")

    check(tmp_path / "hf", gradients, {"vector": theirs}, loss, sines(pictures(12)))
    round_trip(tmp_path / "hf", tmp_path, lost=["embeddings.mask_token"])
    # Another picture size: the positions are interpolated, in float32 over there.
    _, model, params, stats = load(tmp_path / "hf")
    ours, theirs = (
        model.bind(params, stats).logits(jnp.asarray(pictures(20)))[0],
        net(channels_first(pictures(20))).pooler_output,
    )
    assert error({"": ours}, {"": theirs.detach().numpy()})[0] < 1e-6


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_resnet_of_transformers(block, tmp_path):
    config = {"embedding_size": 6, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": block, "num_labels": 3}
    net = randomise(transformers.ResNetForImageClassification(transformers.ResNetConfig(**config)))
    theirs = net(channels_first(pictures(33)), labels=torch.tensor([2, 0]))
    theirs.loss.backward()
    gradients = saved(net, tmp_path / "hf")
    check(tmp_path / "hf", gradients, {"logits": theirs.logits}, theirs.loss, labelled(pictures(33)))
    counters = [name for name in readers.read(tmp_path / "hf") if name.endswith("num_batches_tracked")]
    back = round_trip(tmp_path / "hf", tmp_path, lost=counters)
    again = transformers.ResNetForImageClassification.from_pretrained(back).double().eval()
    assert_same(again(channels_first(pictures(33))).logits, theirs.logits)


def bert_net(kind):
    classes = {"bert": ("BertConfig", "BertModel"), "roberta": ("RobertaConfig", "RobertaModel")}
    classes["xlm-roberta"] = ("XLMRobertaConfig", "XLMRobertaModel")
    config, model = (getattr(transformers, name) for name in classes[kind])
    pad = 0 if kind == "bert" else 1
    words = {"vocab_size": 20, "max_position_embeddings": 9, "type_vocab_size": 2 - pad, "pad_token_id": pad}
    # Eager attention: the fused kernels of torch need no mask where there is no padding, and differ then by rounding alone.
    return randomise(model(config(**SMALL, **words, layer_norm_eps=1e-7, attn_implementation="eager")))


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "minilm"])
def test_bert_of_transformers(kind, tmp_path):
    net = bert_net("bert" if kind == "minilm" else kind)
    pad = net.config.pad_token_id
    ids = np.where(IDS == 0, pad, np.where(pad == IDS, 2, IDS))
    mask = torch.from_numpy(ids != pad)
    hidden = net(torch.from_numpy(ids), attention_mask=mask.long())
    theirs = hidden.last_hidden_state[:, 0]
    if kind == "minilm":  # the formula of sentence-transformers' Pooling
        theirs = (hidden.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    loss = theirs.sin().sum()
    loss.backward()
    gradients = saved(net, tmp_path / "hf")
    if kind == "minilm":
        (tmp_path / "hf" / "1_Pooling").mkdir()
        pooling = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        (tmp_path / "hf" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))

    check(tmp_path / "hf", gradients, {"vector": theirs}, loss, sines(ids))
    back = round_trip(tmp_path / "hf", tmp_path)
    assert (back / "1_Pooling" / "config.json").exists() == (kind == "minilm")
    assert recognise(str(back)).model == recognise(str(tmp_path / "hf")).model
    again = type(net).from_pretrained(back, attn_implementation="eager").double().eval()
    reloaded = again(torch.from_numpy(ids), attention_mask=mask.long()).last_hidden_state
    assert_same(reloaded, hidden.last_hidden_state)


def test_whisper_of_transformers(tmp_path):
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 8}
    small = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": 20}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(**sizes, **small, **ids, max_source_positions=10)
    net = randomise(transformers.WhisperModel(config))
    for parameter in net.parameters():  # the table of sines is frozen there; its gradient is compared too
        parameter.requires_grad_(True)
    mel = np.random.default_rng(0).normal(size=(2, 8, 20))
    theirs = net.get_encoder()(torch.tensor(mel)).last_hidden_state
    loss = theirs.sin().sum()
    loss.backward()
    gradients = {name.removeprefix("encoder."): x for name, x in saved(net, tmp_path / "hf").items()}

    def run(bound):
        y = bound.encoder.tokens(jnp.asarray(mel))
        return {"tokens": y}, jnp.sin(y).sum()

    found = check(tmp_path / "hf", gradients, {"tokens": theirs}, loss, run)
    assert all(name.startswith("decoder.") for name in found.dropped)
    save.mmjax_folder(found, f"{tmp_path}/mmjax", "test")  # written in no other project's names: there is no decoder


def test_efficientnet_lite0_of_its_port(tmp_path):
    port = pytest.importorskip("efficientnet_lite_pytorch")
    net = randomise_scaled(port.EfficientNet.from_name("efficientnet-lite0"))
    theirs = net(channels_first(pictures(64)))
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor([2, 0]))
    loss.backward()
    torch.save(net.state_dict(), tmp_path / "lite0.pth")
    gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
    check(tmp_path / "lite0.pth", gradients, {"logits": theirs}, loss, labelled(pictures(64)))


def randomise_scaled(net):
    """As `randomise`, but kernels keep their start: 50 layers of deviation 0.3 would leave ReLU6 nothing to pass on."""
    generator = torch.Generator().manual_seed(0)
    net = net.double().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(noise + (1.0 if name.endswith("weight") else 0.0))
    return net
