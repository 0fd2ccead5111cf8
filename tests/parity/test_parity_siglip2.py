"""SigLIP 2 against transformers: at a fixed resolution, and NaFlex, whose pictures keep their aspect.

foreign.py says how weights are compared, and how closely.
"""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

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
    load,
    pictures,
    randomise,
    round_trip,
    saved,
    sigmoid_loss,
)
from test_parity_tokens import gemma  # noqa: E402

from mmjax.convert import save  # noqa: E402
from mmjax.convert.recognise import recognise  # noqa: E402
from mmjax.core import registry  # noqa: E402
from mmjax.core.errors import UserError  # noqa: E402
from mmjax.data.transforms import TRANSFORMS  # noqa: E402
from mmjax.tasks.normalise import normalise  # noqa: E402

GEMMA = 256_000


def outputs(theirs):
    return {"image": theirs.image_embeds, "text": theirs.text_embeds, "logits": theirs.logits_per_image}


def test_fixed_resolution(tmp_path):
    """`model_type` "siglip", Gemma's vocabulary and its tokenizer beside the weights."""
    config = transformers.SiglipConfig(text_config={**SMALL, **WORDS, "vocab_size": GEMMA}, vision_config={**SMALL, **PIXELS})
    net = randomise(transformers.SiglipModel(config))
    theirs = net(input_ids=torch.from_numpy(IDS), pixel_values=channels_first(pictures(12)), return_loss=True)
    theirs.loss.backward()
    gradients = saved(net, tmp_path / "hf")
    gemma(tmp_path / "hf")

    found = check(tmp_path / "hf", gradients, outputs(theirs), theirs.loss, dual(12, loss=sigmoid_loss))
    words = {
        "name": "tokenise",
        "tokenizer": "checkpoint",
        "length": 7,
        "bos": None,
        "eos": "<eos>",
        "pad_id": 0,
        "lower": True,
    }
    assert found.preprocessing.transforms[-1] == words
    back = round_trip(tmp_path / "hf", tmp_path)
    again = transformers.SiglipModel.from_pretrained(back).double().eval()
    again = again(input_ids=torch.from_numpy(IDS), pixel_values=channels_first(pictures(12)))
    assert_same(again.logits_per_image, theirs.logits_per_image)
    texts = ["a photo of a cat", "Words, WORDS", ""]
    processor = transformers.AutoTokenizer.from_pretrained(back)
    wanted = transformers.Siglip2Tokenizer.from_pretrained(tmp_path / "hf")
    kwargs = {"padding": "max_length", "truncation": True, "max_length": 7}
    assert processor(texts, **kwargs)["input_ids"] == wanted(texts, **kwargs)["input_ids"]


# Grids narrower and wider than the table's 3 x 3, both with room left of 9 patches. None is one column wide: there torch 2.13
# interpolates to other values than of the transposed table to one row.
SHAPES = [(2, 4), (1, 5)]


def naflex_batch():
    """(ours, theirs): two pictures of other grids."""
    rng = np.random.default_rng(0)
    pixels, mask = np.zeros((2, 9, 48)), np.zeros((2, 9), int)
    places = np.zeros((2, 9, 2))
    for i, (rows, columns) in enumerate(SHAPES):
        count = rows * columns
        pixels[i, :count], mask[i, :count] = rng.normal(size=(count, 48)), 1
        places[i, :count] = np.stack(np.divmod(np.arange(count), columns), 1)
    theirs = {"pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": np.array(SHAPES)}
    return np.concatenate([pixels, mask[..., None], places], -1), {name: torch.from_numpy(x) for name, x in theirs.items()}


def naflex_net(**vision):
    config = transformers.Siglip2Config(
        text_config={**SMALL, **WORDS}, vision_config={**SMALL, "patch_size": 4, "num_patches": 9, **vision}
    )
    return randomise(transformers.Siglip2Model(config))


def resized_in_float64(positions, shapes, max_length):
    """Theirs without the cast to float32, which they make on a CPU and which hides what lies behind the seventh digit."""
    result = torch.empty((len(shapes), max_length, positions.shape[-1]), dtype=positions.dtype)
    for i, (rows, columns) in enumerate(shapes.tolist()):
        grid = positions.permute(2, 0, 1)[None]
        one = torch.nn.functional.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True)
        one = one.reshape(-1, rows * columns).T
        result[i, : len(one)], result[i, len(one) :] = one, one[0]
    return result


def run_naflex(bound):
    image, text = bound.image(jnp.asarray(naflex_batch()[0]))[0], bound.text(jnp.asarray(IDS))[0]
    logits = bound.scale() * image @ text.T + bound.bias()
    return {"image": image, "text": text, "logits": logits}, sigmoid_loss(logits)


def test_naflex(tmp_path, monkeypatch):
    net = naflex_net()
    plain = net(input_ids=torch.from_numpy(IDS), **naflex_batch()[1])
    monkeypatch.setattr(net.vision_model.embeddings, "resize_positional_embeddings", resized_in_float64)
    theirs = net(input_ids=torch.from_numpy(IDS), return_loss=True, **naflex_batch()[1])
    theirs.loss.backward()
    gradients = saved(net, tmp_path / "hf")
    check(tmp_path / "hf", gradients, outputs(theirs), theirs.loss, run_naflex)
    _, model, params, stats = load(tmp_path / "hf")
    ours = run_naflex(model.bind(params, stats))[0]
    assert (
        error({"": ours["logits"]}, {"": plain.logits_per_image.detach().numpy()})[0] < 1e-5
    )  # as they are, float32 in between
    back = round_trip(tmp_path / "hf", tmp_path)
    again = transformers.Siglip2Model.from_pretrained(back).double().eval()
    assert_same(again(input_ids=torch.from_numpy(IDS), **naflex_batch()[1]).logits_per_image, plain.logits_per_image)
    # big_vision's names, there and back: its table of positions is a square of vectors.
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/npz", "npz")
    npz = recognise(f"{tmp_path}/npz/model.npz")
    assert npz.model == recognise(f"{tmp_path}/hf").model
    for name, leaf in recognise(f"{tmp_path}/hf").leaves.items():
        assert np.array_equal(npz.leaves[name].read(), leaf.read()), name


@pytest.mark.parametrize("size", [(64, 64), (333, 227), (90, 401), (17, 300), (5, 3), (640, 480)], ids=str)
@pytest.mark.parametrize("count", [64, 256])
def test_patches(size, count, tmp_path):
    theirs = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=count)
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    small.save(out, "PNG")
    record = {"image": out.getvalue()}
    for spec in ({"name": "decode"}, {"name": "patches", "patch": 8, "count": count}):
        record = registry.build(TRANSFORMS, spec)(record, rng)
    ours, want = record["image"], theirs(small, return_tensors="np")
    assert np.array_equal(ours[:, -3], want["pixel_attention_mask"][0])
    rows, columns = want["spatial_shapes"][0]
    assert tuple(ours[:, -2:].max(0) + 1) == (rows, columns)
    assert np.array_equal(ours[: rows * columns, -2:], np.stack(np.divmod(np.arange(rows * columns), columns), 1))
    seen = np.asarray(normalise(jnp.asarray(ours[None]), "siglip"))[0, : rows * columns, :-3]
    difference = np.abs(seen - want["pixel_values"][0, : rows * columns]).max() * 255 / 2
    print(f"{size} {rows} x {columns}: {difference:.2f} of 255")
    assert difference <= 1.001


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("preprocessor_config.json", '{"patch_size": 8}', "patch_size 8, and config.json's model has patch_size 4: mend one"),
        ("preprocessor_config.json", '{"do_resize": false}', "do_resize is false"),
    ],
)
def test_contradictions_are_one_line(file, content, message, tmp_path):
    naflex_net().save_pretrained(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        recognise(str(tmp_path))


def test_a_table_that_is_no_square(tmp_path):
    naflex_net(num_patches=8).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="num_patches 8 is no square"):
        recognise(str(tmp_path))


def test_convert_and_embed(tmp_path):
    """By the command line: pictures of two aspects as transformers embeds them, in float32."""
    from mmjax.cli import main

    net = naflex_net().float()
    net.save_pretrained(tmp_path / "hf")
    processor = transformers.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=9)
    processor.save_pretrained(tmp_path / "hf")
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    wanted = []
    with jax.enable_x64(False):
        for name, size in {"a": (30, 20), "b": (50, 9)}.items():
            picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize(size)
            picture.save(tmp_path / "pictures" / f"{name}.png")
            batch = processor(picture, return_tensors="pt")
            wanted.append(net.get_image_features(**batch).pooler_output[0].detach().numpy())
        main(["convert", f"--from={tmp_path}/hf", f"--to={tmp_path}/mmjax", "--format=mmjax"])
        main(["predict", "embed", f"--checkpoint={tmp_path}/mmjax", f"--images={tmp_path}/pictures", f"--out={tmp_path}/e.npz"])
    with np.load(tmp_path / "e.npz") as found:
        want = np.stack([x / np.linalg.norm(x) for x in wanted])
        assert np.abs(found["image"] - want).max() < 1e-2  # pixels differ by up to 1 of 255
