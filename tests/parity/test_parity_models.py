"""Our towers against PyTorch's, on random weights in float64: values, and gradients for CLIP.

Relative error between two arrays is max|a - b| / max(max|b|, 1e-6 x the largest leaf's maximum); 1e-9 is allowed, where
float64 itself keeps 16 digits. Weights are mapped here by hand, independently of mmjax.convert.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import keys, module, tree
from mmjax.layers.recurrent import GRU
from mmjax.models.resnet import ResNet

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from foreign import IDS, channels_first, float64, randomise  # noqa: E402, F401

VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 12, "patch_size": 4}
TEXT = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 3}
TEXT |= {"vocab_size": 20, "max_position_embeddings": 7}
OURS_IMAGE = {"name": "vit", "size": 12, "patch": 4, "width": 16, "depth": 2, "heads": 2, "mlp": 24}
OURS_TEXT = {"name": "text_transformer", "vocab": 20, "length": 7, "width": 12, "depth": 3, "heads": 3, "mlp": 20}


def pictures(size):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, size, size, 3)))


def assert_near(a, b):
    """Both are nested dicts or arrays; 1e-9 by the definition above."""
    a, b = (tree.flatten({"": x}) for x in (a, b))
    assert a.keys() == b.keys()
    floor = 1e-6 * max(np.abs(x).max() for x in b.values())
    for path in b:
        assert (a[path].shape, a[path].dtype) == (b[path].shape, np.float64), path
        error = np.abs(np.asarray(a[path]) - b[path]).max() / max(np.abs(b[path]).max(), floor)
        assert error < 1e-9, (path, error)


def linear(w, name):
    return {"kernel": w[f"{name}.weight"].T, "bias": w[f"{name}.bias"]}


def norm(w, name):
    return {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}


def blocks(w, name, depth):
    """The layers of a transformers CLIP or SigLIP encoder, stacked."""

    def layer(at):
        attn = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
        return {
            "ln1": norm(w, f"{at}.layer_norm1"),
            "attn": {ours: linear(w, f"{at}.self_attn.{theirs}") for ours, theirs in attn.items()},
            "ln2": norm(w, f"{at}.layer_norm2"),
            "mlp": {part: linear(w, f"{at}.mlp.{part}") for part in ("fc1", "fc2")},
        }

    layers = [layer(f"{name}.encoder.layers.{i}") for i in range(depth)]
    return {"blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}


def numpy_of(tensors):
    return {name: tensor.detach().numpy() for name, tensor in tensors}


def jax_of(arrays):
    """Copies, for training changes PyTorch's own in place."""
    return jax.tree.map(jnp.array, arrays)


def clip_params(w):
    """Also maps gradients, which have the weights' names and shapes."""
    v, t = "vision_model", "text_model"
    image = {
        "patches": {"conv": {"kernel": w[f"{v}.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)}},
        "class_token": w[f"{v}.embeddings.class_embedding"],
        "positions": w[f"{v}.embeddings.position_embedding.weight"],
        "ln_pre": norm(w, f"{v}.pre_layrnorm"),
        "stack": blocks(w, v, 2),
        "ln_post": norm(w, f"{v}.post_layernorm"),
    }
    text = {
        "embed": {"embedding": w[f"{t}.embeddings.token_embedding.weight"]},
        "positions": w[f"{t}.embeddings.position_embedding.weight"],
        "stack": blocks(w, t, 3),
        "ln_final": norm(w, f"{t}.final_layer_norm"),
    }
    return {
        "image_encoder": image,
        "text_encoder": text,
        "image_projection": {"kernel": w["visual_projection.weight"].T},
        "text_projection": {"kernel": w["text_projection.weight"].T},
        "logit_scale": w["logit_scale"],
    }


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip_values_and_gradients(act):
    shared = {"hidden_act": act, "layer_norm_eps": 1e-5}
    config = transformers.CLIPConfig(
        text_config={**TEXT, **shared, "eos_token_id": 19, "bos_token_id": 1, "pad_token_id": 0},
        vision_config={**VISION, **shared},
        projection_dim=10,
    )
    net = randomise(transformers.CLIPModel(config))
    theirs = net(input_ids=torch.from_numpy(IDS), pixel_values=channels_first(pictures(12)))
    theirs.logits_per_image.sin().sum().backward()

    # Plain attention: jax.nn.dot_product_attention takes its softmax in float32 (3e-8 here).
    ours = {"act": act, "norm_eps": 1e-5, "attention": "plain"}
    model = models.build(
        {
            "name": "dual_encoder",
            "dim": 10,
            "image": {**OURS_IMAGE, **ours, "pre_norm": True, "patch_bias": False},
            "text": {**OURS_TEXT, **ours, "causal": True, "pool": "eos", "eos_id": 19},
        },
        dtype="float64",
    )

    @jax.jit
    @jax.value_and_grad
    def loss(params, x):
        bound = model.bind(params)
        return jnp.sin(bound.scale() * bound.image(x)[0] @ bound.text(jnp.asarray(IDS))[0].T).sum()

    params = jax_of(clip_params(numpy_of(net.named_parameters())))
    bound = model.bind(params)
    assert_near(bound.image(pictures(12))[0], theirs.image_embeds.detach().numpy())
    assert_near(bound.text(jnp.asarray(IDS))[0], theirs.text_embeds.detach().numpy())
    value, gradient = loss(params, pictures(12))
    assert_near(value, theirs.logits_per_image.sin().sum().detach().numpy())
    gradients = clip_params(numpy_of((name, p.grad) for name, p in net.named_parameters()))
    drop_key_biases(gradient), drop_key_biases(gradients)
    assert_near(gradient, gradients)


def drop_key_biases(gradient):
    """Attention's key biases have no gradient but rounding noise: softmax is blind to them."""
    for encoder in ("image_encoder", "text_encoder"):
        noise = gradient[encoder]["stack"]["blocks"]["attn"]["key"].pop("bias")
        assert np.abs(noise).max() < 1e-12


def siglip_params(w):
    v, t = "vision_model", "text_model"
    qkv = {
        name: {"kernel": kernel.T, "bias": bias}
        for name, kernel, bias in zip(
            ("query", "key", "value"),
            np.split(w[f"{v}.head.attention.in_proj_weight"], 3),
            np.split(w[f"{v}.head.attention.in_proj_bias"], 3),
            strict=True,
        )
    }
    image = {
        "patches": {
            "conv": {
                "kernel": w[f"{v}.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
                "bias": w[f"{v}.embeddings.patch_embedding.bias"],
            }
        },
        "positions": w[f"{v}.embeddings.position_embedding.weight"],
        "stack": blocks(w, v, 2),
        "ln_post": norm(w, f"{v}.post_layernorm"),
        "map": {
            "probe": w[f"{v}.head.probe"][0],
            "attn": {**qkv, "out": linear(w, f"{v}.head.attention.out_proj")},
            "ln": norm(w, f"{v}.head.layernorm"),
            "mlp": {part: linear(w, f"{v}.head.mlp.{part}") for part in ("fc1", "fc2")},
        },
    }
    text = {
        "embed": {"embedding": w[f"{t}.embeddings.token_embedding.weight"]},
        "positions": w[f"{t}.embeddings.position_embedding.weight"],
        "stack": blocks(w, t, 3),
        "ln_final": norm(w, f"{t}.final_layer_norm"),
    }
    return {
        "image_encoder": image,
        "text_encoder": text,
        "text_projection": linear(w, f"{t}.head"),
        "logit_scale": w["logit_scale"][0],
        "logit_bias": w["logit_bias"][0],
    }


def test_siglip_values():
    shared = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    config = transformers.SiglipConfig(
        text_config={**TEXT, **shared, "projection_size": 16}, vision_config={**VISION, **shared}
    )
    net = randomise(transformers.SiglipModel(config))
    theirs = net(input_ids=torch.from_numpy(IDS), pixel_values=channels_first(pictures(12)))
    model = models.build(
        {
            "name": "dual_encoder",
            "dim": 16,
            "image": {**OURS_IMAGE, "act": "gelu_tanh", "pool": "map", "class_token": False},
            "text": {**OURS_TEXT, "act": "gelu_tanh"},
            "image_projection": "none",
            "text_projection": "bias",
            "logit_bias": -10.0,
            "max_logit_scale": None,
        },
        dtype="float64",
    )
    bound = model.bind(jax_of(siglip_params(numpy_of(net.named_parameters()))))
    image, text = bound.image(pictures(12))[0], bound.text(jnp.asarray(IDS))[0]
    assert_near(image, theirs.image_embeds.detach().numpy())
    assert_near(text, theirs.text_embeds.detach().numpy())
    assert_near(bound.scale() * image @ text.T + bound.bias(), theirs.logits_per_image.detach().numpy())


def resnet_arrays(w, stages):
    """The weights and statistics of a transformers ResNet under our paths."""
    flat = {}

    def conv_norm(ours, theirs):
        flat[f"params/{ours}/conv/kernel"] = w[f"{theirs}.convolution.weight"].transpose(2, 3, 1, 0)
        names = {"params/scale": "weight", "params/bias": "bias", "stats/mean": "running_mean", "stats/var": "running_var"}
        for name, source in names.items():
            kind, leaf = name.split("/")
            flat[f"{kind}/{ours}/norm/{leaf}"] = w[f"{theirs}.normalization.{source}"]

    conv_norm("stem", "embedder.embedder")
    for i, depth in enumerate(stages):
        for j in range(depth):
            ours, theirs = f"stages/{i}/{j}", f"encoder.stages.{i}.layers.{j}"
            k = 0
            while f"{theirs}.layer.{k}.convolution.weight" in w:
                conv_norm(f"{ours}/convs/{k}", f"{theirs}.layer.{k}")
                k += 1
            if f"{theirs}.shortcut.convolution.weight" in w:
                conv_norm(f"{ours}/shortcut", f"{theirs}.shortcut")
    return tree.unflatten(flat)


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
def test_resnet_values_and_statistics(block, train):
    stages, widths = (1, 2), (8, 16)
    config = transformers.ResNetConfig(embedding_size=6, hidden_sizes=[*widths], depths=[*stages], layer_type=block)
    net = randomise(transformers.ResNetModel(config)).train(train)
    arrays = jax_of(resnet_arrays(numpy_of(net.state_dict().items()), stages))
    model = module.define(lambda key: ResNet(stages, widths, block=block, stem_width=6, dtype="float64", rngs=module.rngs(key)))

    @jax.jit
    def run(params, stats, x):
        bound = model.bind(params, stats)
        return bound(x, keys.rows(jax.random.key(0), len(x)) if train else None), model.stats(bound)

    y, stats = run(arrays["params"], arrays["stats"], pictures(33))
    theirs = net(channels_first(pictures(33))).pooler_output
    assert_near(y, theirs.detach().numpy()[:, :, 0, 0])
    assert_near(stats, resnet_arrays(numpy_of(net.state_dict().items()), stages)["stats"])


def test_gru_values():
    net = randomise(torch.nn.GRU(3, 5, batch_first=True))
    w = numpy_of(net.named_parameters())
    params = {
        "input": {"kernel": w["weight_ih_l0"].T, "bias": w["bias_ih_l0"]},
        "hidden": {"kernel": w["weight_hh_l0"].T, "bias": w["bias_hh_l0"]},
    }
    model = module.define(lambda key: GRU(3, 5, dtype="float64", rngs=module.rngs(key)))
    x = np.random.default_rng(0).normal(size=(2, 7, 3))
    assert_near(model.bind(jax_of(params))(jnp.asarray(x)), net(torch.from_numpy(x))[0].detach().numpy())
