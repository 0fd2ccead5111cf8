"""CoCa's towers against open_clip's CoCa; foreign.py says how weights are compared, and how closely."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from foreign import (  # noqa: E402
    IDS,
    assert_same,
    channels_first,
    check,
    dual,
    float64,  # noqa: F401
    pictures,
    randomise,
    round_trip,
    softmax_of_torch,
)
from test_parity_convert import open_clip_folder  # noqa: E402

from mmjax.convert import readers  # noqa: E402
from mmjax.convert.families import coca  # noqa: E402

VISION = {"image_size": 12, "patch_size": 4, "width": 16, "layers": 2, "head_width": 8, "mlp_ratio": 2.0}
VISION |= {"output_tokens": True}
TEXT = {"context_length": 7, "vocab_size": 20, "width": 12, "heads": 3, "layers": 2, "embed_cls": True, "output_tokens": True}
DECODER = {"context_length": 7, "vocab_size": 20, "width": 12, "heads": 3, "layers": 1}


POOLER = {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2}


# Without a pooler the decoder sees the vision tower's own tokens, which have its width, whatever embed_dim is (coca_base).
@pytest.mark.parametrize(
    ("dim", "width", "pooler"), [(12, 12, POOLER), (16, 16, POOLER), (10, 16, {})], ids=["narrower", "as_wide", "base"]
)
def test_coca(dim, width, pooler, tmp_path):
    vision, heads = {**VISION, **pooler}, {"width": width, "heads": 2}
    text, decoder = {**TEXT, **heads}, {**DECODER, **heads}
    net = randomise(open_clip.CoCa(dim, decoder, text, vision))
    image, tokens = net._encode_image(channels_first(pictures(12)))
    words = net.encode_text(torch.from_numpy(IDS))
    logits = net.logit_scale.exp() * image @ words.T
    theirs = {"image": image, "text": words, "logits": logits, "tokens": tokens}
    loss = softmax_of_torch(logits) + tokens.sin().sum()
    loss.backward()
    config = {"embed_dim": dim, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": decoder, "custom_text": True}
    open_clip_folder(net, config, tmp_path / "open_clip")
    gradients = {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}

    def run(bound):
        outputs, loss = dual(12)(bound)
        tokens = bound.image_encoder.tokens(jnp.asarray(pictures(12)))[:, 1:]  # the first is the picture's own
        return outputs | {"tokens": tokens}, loss + jnp.sin(tokens).sum()

    found = check(tmp_path / "open_clip", gradients, theirs, loss, run)
    assert set(found.dropped.values()) == {"the decoder of captions"}
    decoders = [name for name in readers.read(tmp_path / "open_clip") if name.startswith("text_decoder.")]
    back = round_trip(tmp_path / "open_clip", tmp_path, "open_clip", lost=decoders)
    # The towers alone, as open_clip reads them.
    from safetensors.torch import load_file

    kept = json.loads((back / "open_clip_config.json").read_text())["model_cfg"]
    again = open_clip.CustomTextCLIP(kept["embed_dim"], kept["vision_cfg"], kept["text_cfg"])
    again = again.double().eval()
    again.load_state_dict(load_file(back / "open_clip_model.safetensors"))
    assert_same(again.encode_image(channels_first(pictures(12)), normalize=True), image)
    assert_same(again.encode_text(torch.from_numpy(IDS), normalize=True), words)
    assert np.isfinite(logits.detach().numpy()).all()


def test_published_names_are_open_clip_s():
    """What --like gives is what open_clip's own config gives."""
    for name, like in coca.PUBLISHED.items():
        assert coca.model(open_clip.get_model_config(name)) == coca.model(like), name
