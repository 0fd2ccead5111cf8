"""The library's own models at published sizes that true_size.py measures, each with what ours has to give beside it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


def pretrained(net, folder):
    """Transformers' own way of saving."""
    net.save_pretrained(folder)
    return folder


@dataclasses.dataclass
class Case:
    """One library's model.

    Attributes:
      net: theirs.
      theirs: (net, what makes a tensor of an array) -> (outputs by name, loss).
      ours: (bound model) -> (outputs by name, loss).
      keep: saves (net, folder) and gives the path to recognise.
      named: their name of a gradient -> its name in the file.
    """

    net: Any
    theirs: Callable
    ours: Callable
    keep: Callable = pretrained
    named: Callable[[str], str] = lambda name: name


def words(length, vocab, start, end, pad=0):
    """Two texts, one shorter than the model takes."""
    ids = np.random.default_rng(1).integers(1000, vocab - 2, (2, length))
    ids[:, 0] = start
    ids[0, length // 3 :], ids[0, length // 3], ids[1, -1] = pad, end, end
    return ids


def images(size=224):
    from foreign import pictures

    return pictures(size).astype(np.float32)


def clip_b32():
    import transformers

    return _dual_of_transformers(transformers.CLIPModel(transformers.CLIPConfig()), words(77, 49408, 49406, 49407))


def siglip_b16():
    import transformers
    from foreign import sigmoid_loss

    net = transformers.SiglipModel(transformers.SiglipConfig())
    return _dual_of_transformers(net, words(64, 32000, 5, 1, 1), sigmoid_loss)


def _dual_of_transformers(net, ids, *loss):
    import torch
    from foreign import dual

    x = images()

    def theirs(net, tensor):
        y = net(input_ids=torch.from_numpy(ids), pixel_values=tensor(x.transpose(0, 3, 1, 2)), return_loss=True)
        return {"image": y.image_embeds, "text": y.text_embeds, "logits": y.logits_per_image}, y.loss

    return Case(net, theirs, dual(x, ids, *loss))


def open_clip_b32():
    return _of_open_clip("ViT-B-32-quickgelu")


def clip_rn50():
    return _of_open_clip("RN50-quickgelu")


def _of_open_clip(name):
    import open_clip
    import torch
    from foreign import dual, softmax_of_torch
    from test_parity_convert import open_clip_folder

    config, x, ids = open_clip.get_model_config(name), images(), words(77, 49408, 49406, 49407)

    def theirs(net, tensor):
        image, text, scale = net(tensor(x.transpose(0, 3, 1, 2)), torch.from_numpy(ids))
        logits = scale * image @ text.T
        return {"image": image, "text": text, "logits": logits}, softmax_of_torch(logits)

    def keep(net, folder):
        open_clip_folder(net, config, folder)
        return folder

    return Case(open_clip.create_model(name), theirs, dual(x, ids), keep)


def vit_b16():
    import transformers

    return _labelled(transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)))


def resnet50():
    import transformers

    return _labelled(transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)))


def efficientnet_lite0():
    import efficientnet_lite_pytorch
    import torch

    def keep(net, folder):
        folder.mkdir()
        torch.save(net.state_dict(), folder / "lite0.pth")
        return folder / "lite0.pth"

    return _labelled(efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0"), keep)


def _labelled(net, keep=pretrained):
    import torch
    from foreign import labelled

    x = images()

    def theirs(net, tensor):
        y = net(tensor(x.transpose(0, 3, 1, 2)))
        y = getattr(y, "logits", y)
        return {"logits": y}, torch.nn.functional.cross_entropy(y, torch.tensor([2, 0]))

    return Case(net, theirs, labelled(x), keep)


def dinov2_s():
    return _dinov2(384, 6)


def dinov2_b():
    return _dinov2(768, 12)


def _dinov2(width, heads):
    import transformers
    from foreign import sines

    # Positions are stored for 518 pixels and interpolated to 224, as the model is mostly used.
    sizes = {"hidden_size": width, "num_attention_heads": heads, "image_size": 518, "patch_size": 14}
    x = images()

    def theirs(net, tensor):
        y = net(tensor(x.transpose(0, 3, 1, 2))).pooler_output
        return {"vector": y}, y.sin().sum()

    return Case(transformers.Dinov2Model(transformers.Dinov2Config(**sizes)), theirs, sines(x))


def bert_base():
    import transformers

    return _bert(transformers.BertModel, transformers.BertConfig(), words(128, 30522, 101, 102))


def minilm():
    import transformers

    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return _bert(transformers.BertModel, transformers.BertConfig(**sizes), words(128, 30522, 101, 102), mean=True)


def roberta_base():
    return _roberta("Roberta", 50265)


def xlmr_base():
    return _roberta("XLMRoberta", 250002)


def _roberta(name, vocab):
    import transformers

    sizes = {"vocab_size": vocab, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    config = getattr(transformers, f"{name}Config")(**sizes, pad_token_id=1)
    return _bert(getattr(transformers, f"{name}Model"), config, words(128, vocab, 0, 2, 1))


def _bert(kind, config, ids, mean=False):
    import torch
    from foreign import sines

    mask = torch.from_numpy(ids != config.pad_token_id)

    def theirs(net, tensor):
        hidden = net(torch.from_numpy(ids), attention_mask=mask.long()).last_hidden_state
        y = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) if mean else hidden[:, 0]
        return {"vector": y}, y.sin().sum()

    def keep(net, folder):
        net.save_pretrained(folder)
        if mean:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
        return folder

    config._attn_implementation = "eager"
    return Case(kind(config), theirs, sines(ids), keep)


def whisper_tiny():
    return _whisper(384, 4, 6)


def whisper_base():
    return _whisper(512, 6, 8)


def _whisper(width, depth, heads):
    import jax.numpy as jnp
    import transformers

    sizes = {"d_model": width, "encoder_layers": depth, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width}
    # The decoder is not read: the smallest that there is.
    config = transformers.WhisperConfig(**sizes, decoder_layers=1, decoder_attention_heads=heads, decoder_ffn_dim=width)
    net = transformers.WhisperModel(config)
    net.get_encoder().embed_positions.requires_grad_(True)  # frozen there; its gradient is compared too
    mel = np.random.default_rng(0).normal(size=(2, 80, 3000)).astype(np.float32)

    def theirs(net, tensor):
        y = net.get_encoder()(tensor(mel)).last_hidden_state
        return {"tokens": y}, y.sin().sum()

    def ours(bound):
        y = bound.encoder.tokens(jnp.asarray(mel))
        return {"tokens": y}, jnp.sin(y).sum()

    return Case(net, theirs, ours, named=lambda name: name.removeprefix("encoder."))


def coca_b32():
    """Its towers; open_clip's decoder, which is left out, is built and not run."""
    import jax.numpy as jnp
    import open_clip
    import torch
    from foreign import dual, softmax_of_torch
    from test_parity_convert import open_clip_folder

    config, x, ids = open_clip.get_model_config("coca_ViT-B-32"), images(), words(76, 49408, 49406, 49407)

    def theirs(net, tensor):
        image, tokens = net._encode_image(tensor(x.transpose(0, 3, 1, 2)))
        text = net.encode_text(torch.from_numpy(ids))
        logits = net.logit_scale.exp() * image @ text.T
        outputs = {"image": image, "text": text, "logits": logits, "tokens": tokens}
        return outputs, softmax_of_torch(logits) + tokens.sin().mean()

    def ours(bound):
        outputs, loss = dual(x, ids)(bound)
        tokens = bound.image_encoder.tokens(jnp.asarray(x))[:, 1:]
        return outputs | {"tokens": tokens}, loss + jnp.sin(tokens).mean()

    def keep(net, folder):
        open_clip_folder(net, config, folder)
        return folder

    return Case(open_clip.create_model("coca_ViT-B-32"), theirs, ours, keep)


def lxmert():
    """Pretraining, with all of its losses."""
    import jax.numpy as jnp
    import torch
    import transformers
    from foreign import learn_padding
    from test_parity_lxmert import VISUAL_LOSS, entropy

    from mmjax.losses import regions

    net = learn_padding(transformers.LxmertForPreTraining(transformers.LxmertConfig()))
    ids, (seen, boxes), rng = words(20, 30522, 101, 102), detected(), np.random.default_rng(2)
    labels, matched, answers = hidden(ids), np.array([1, 0]), np.array([7, 9000])
    weight = rng.uniform(0.3, 1, (2, 36)).astype(np.float32) * (rng.uniform(size=(2, 36)) < 0.2)
    things, attributes = rng.integers(0, 1600, (2, 36)), rng.integers(0, 400, (2, 36))
    features = rng.normal(size=seen.shape).astype(np.float32)

    def theirs(net, tensor):
        x = {"input_ids": ids, "attention_mask": ids != 0, "labels": labels, "matched_label": matched, "ans": answers}
        x = {name: torch.from_numpy(value) for name, value in x.items()}
        x |= {"visual_feats": tensor(seen), "visual_pos": tensor(boxes), "visual_attention_mask": tensor(boxes.any(-1))}
        of = {"obj": torch.from_numpy(things), "attr": torch.from_numpy(attributes), "feat": tensor(features)}
        torch.set_default_dtype(net.dtype)  # transformers adds losses up in a zero of it
        y = net(**x, obj_labels={name: (value, tensor(weight)) for name, value in of.items()})
        torch.set_default_dtype(torch.float32)
        heads = {"words": y.prediction_logits, "match": y.cross_relationship_score, "answer": y.question_answering_score}
        return heads, y.loss

    def ours(bound):
        states = bound.fuse({"regions": jnp.asarray(seen), "boxes": jnp.asarray(boxes)}, jnp.asarray(ids))[0]
        heads = {"words": bound.words(states["text"]), "match": bound.match(states["joint"])}
        heads |= {"answer": bound.answer(states["joint"])}
        y = bound.objects(states["visual"])
        terms = regions.feature(y["feature"], jnp.asarray(features), jnp.asarray(weight))
        for name, known in {"label": things, "attribute": attributes}.items():
            terms |= regions.label(y[name], jnp.asarray(known), jnp.asarray(weight), term=f"region_{name}")
        known = {"words": labels, "match": matched, "answer": answers}
        loss = sum(entropy(heads[name], value) for name, value in known.items())
        three = sum(terms[f"region_{name}"][0] for name in ("feature", "label", "attribute"))
        return heads, loss + VISUAL_LOSS * three / weight.size

    return Case(net, theirs, ours)


def visualbert():
    """Pretraining on COCO, as its weights of questions came from."""
    import jax.numpy as jnp
    import torch
    import transformers
    from test_parity_lxmert import entropy

    net = transformers.VisualBertForPreTraining(transformers.VisualBertConfig(visual_embedding_dim=2048, pad_token_id=0))
    ids, (seen, boxes) = words(128, 30522, 101, 102), detected()
    labels, matched = hidden(ids), np.array([1, 0])

    def theirs(net, tensor):
        x = {"input_ids": ids, "attention_mask": (ids != 0).astype(int), "visual_attention_mask": boxes.any(-1).astype(int)}
        x |= {"labels": np.pad(labels, ((0, 0), (0, 36)), constant_values=-100), "sentence_image_labels": matched}
        y = net(**{name: torch.from_numpy(value) for name, value in x.items()}, visual_embeds=tensor(seen))
        return {"words": y.prediction_logits[:, :128][ids != 0], "match": y.seq_relationship_logits}, y.loss

    def ours(bound):
        states = bound.fuse({"regions": jnp.asarray(seen), "boxes": jnp.asarray(boxes)}, jnp.asarray(ids))[0]
        y, match = bound.words(states["text"]), bound.match(states["joint"])
        return {"words": y[ids != 0], "match": match}, entropy(y, labels) + entropy(match, matched)

    return Case(net, theirs, ours)


def vilt_b32():
    """The published model of questions and their 3,129 answers."""
    import jax
    import jax.numpy as jnp
    import torch
    import transformers

    net = transformers.ViltForQuestionAnswering(transformers.ViltConfig(num_labels=3129))
    x, ids = images(384), words(40, 30522, 101, 102)
    target = np.random.default_rng(2).choice([0, 0.3, 1], (2, 3129), p=[0.99, 0.005, 0.005]).astype(np.float32)

    def theirs(net, tensor):
        told = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(ids != 0).long()}
        y = net(**told, pixel_values=tensor(x.transpose(0, 3, 1, 2)), labels=tensor(target))
        return {"answers": y.logits}, y.loss

    def ours(bound):
        y = bound.answer(bound.fuse({"image": jnp.asarray(x)}, jnp.asarray(ids))[0]["joint"])
        return {"answers": y}, -(target * jax.nn.log_sigmoid(y) + (1 - target) * jax.nn.log_sigmoid(-y)).sum() / 2

    return Case(net, theirs, ours)


def detected():
    """(features, boxes) of 36 regions of two pictures, as many as published models see; the second has six fewer."""
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.uniform(size=(2, 36, 2, 2)), axis=2).reshape(2, 36, 4).astype(np.float32)
    boxes[1, 30:] = 0
    return np.maximum(rng.normal(size=(2, 36, 2048)), 0).astype(np.float32), boxes


def hidden(ids):
    """Labels of three words of each text, and else what torch leaves out."""
    labels = np.full_like(ids, -100)
    labels[:, 2:5] = ids[:, 2:5]
    return labels


CASES = {
    make.__name__: make
    for make in (clip_b32, open_clip_b32, clip_rn50, siglip_b16, vit_b16, dinov2_s, dinov2_b, resnet50, efficientnet_lite0,
                 bert_base, minilm, roberta_base, xlmr_base, whisper_tiny, whisper_base, coca_b32, lxmert, visualbert, vilt_b32)
}  # fmt: skip
