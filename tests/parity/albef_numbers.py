"""Writes albef.txt: what ALBEF's public code computes for a tiny model, so that tests need neither it nor torch.

    python tests/parity/albef_numbers.py FOLDER > tests/parity/albef.txt

FOLDER holds `lavis/`, the unpacked wheel of salesforce-lavis 1.0.2, whose models albef_pretrain, med and vit are run in
float64 with torch alone: what they import of other packages is stood in for here. All weights, features and pictures are
functions of a path and a shape (`filled`), which the test that reads the numbers fills our own model with.
"""

import importlib
import sys
import types
import zlib
from pathlib import Path

import numpy as np

B, T, SIZE, PATCH, VOCAB, WIDTH, HEADS, MLP, DIM = 4, 6, 8, 4, 13, 8, 2, 12, 6
LAYERS, FUSION, SLOTS, STEP, RAMP, MOMENTUM, ALPHA = 2, 2, 2, 4, 16, 0.9, 0.4
TEMPERATURE = 0.2
CAPTIONS = np.array([[2, 5, 6, 7, 3, 0], [2, 8, 9, 10, 11, 3], [2, 12, 4, 5, 3, 0], [2, 7, 7, 6, 9, 3]])
# What stands in place of a word to be guessed: 1, another word, or the word itself.
HIDDEN = {(0, 1): 1, (0, 3): 1, (1, 2): 1, (2, 2): 12, (3, 1): 7}


def filled(path: str, *shape: int) -> np.ndarray:
    """float64; around 1 where the path ends in "scale"."""
    noise = np.random.default_rng(zlib.crc32(path.encode())).normal(0, 0.3, shape)
    return noise + (1 if path.endswith("/scale") else 0)


def features(path: str, *shape: int) -> np.ndarray:
    """The same, of length 1."""
    x = filled(path, *shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def masked() -> tuple[np.ndarray, np.ndarray]:
    """(ids with hidden words, the hidden words or -1)."""
    ids, labels = CAPTIONS.copy(), np.full_like(CAPTIONS, -1)
    for at, instead in HIDDEN.items():
        labels[at], ids[at] = ids[at], instead
    return ids, labels


def names() -> dict[str, tuple[str, int | None, str]]:
    """Their name -> (our path, layer of a stack, how): "" as it is, "T" transposed, "conv", or a part of qkv."""
    rows: dict[str, tuple[str, int | None, str]] = {}

    def linear(theirs, ours, layer=None):
        rows[f"{theirs}.weight"], rows[f"{theirs}.bias"] = (f"{ours}/kernel", layer, "T"), (f"{ours}/bias", layer, "")

    def norm(theirs, ours, layer=None):
        rows[f"{theirs}.weight"], rows[f"{theirs}.bias"] = (f"{ours}/scale", layer, ""), (f"{ours}/bias", layer, "")

    see, read = "visual_encoder", "text_encoder.bert"
    rows[f"{see}.cls_token"] = ("image_encoder/class_token", None, "")
    rows[f"{see}.pos_embed"] = ("image_encoder/positions", None, "")
    rows[f"{see}.patch_embed.proj.weight"] = ("image_encoder/patches/conv/kernel", None, "conv")
    rows[f"{see}.patch_embed.proj.bias"] = ("image_encoder/patches/conv/bias", None, "")
    norm(f"{see}.norm", "image_encoder/ln_post")
    for i in range(LAYERS):
        at, ours = f"{see}.blocks.{i}", "image_encoder/stack/blocks"
        norm(f"{at}.norm1", f"{ours}/ln1", i)
        norm(f"{at}.norm2", f"{ours}/ln2", i)
        linear(f"{at}.attn.qkv", f"{ours}/attn/qkv", i)
        linear(f"{at}.attn.proj", f"{ours}/attn/out", i)
        linear(f"{at}.mlp.fc1", f"{ours}/mlp/fc1", i)
        linear(f"{at}.mlp.fc2", f"{ours}/mlp/fc2", i)
    rows[f"{read}.embeddings.word_embeddings.weight"] = ("text_encoder/embed/embedding", None, "")
    rows[f"{read}.embeddings.position_embeddings.weight"] = ("text_encoder/positions", None, "")
    norm(f"{read}.embeddings.LayerNorm", "text_encoder/ln_embed")
    for i in range(LAYERS + FUSION):
        at = f"{read}.encoder.layer.{i}"
        ours, layer = ("text_encoder/stack/blocks", i) if i < LAYERS else ("fusion/blocks", i - LAYERS)
        for theirs, half, ln in (("attention", "attn", "ln1"), ("crossattention", "cross", "ln_cross")):
            if half == "attn" or i >= LAYERS:
                for part in ("query", "key", "value"):
                    linear(f"{at}.{theirs}.self.{part}", f"{ours}/{half}/{part}", layer)
                linear(f"{at}.{theirs}.output.dense", f"{ours}/{half}/out", layer)
                norm(f"{at}.{theirs}.output.LayerNorm", f"{ours}/{ln}", layer)
        linear(f"{at}.intermediate.dense", f"{ours}/mlp/fc1", layer)
        linear(f"{at}.output.dense", f"{ours}/mlp/fc2", layer)
        norm(f"{at}.output.LayerNorm", f"{ours}/ln2", layer)
    linear("text_encoder.cls.predictions.transform.dense", "words_head/transform/dense")
    norm("text_encoder.cls.predictions.transform.LayerNorm", "words_head/transform/ln")
    rows["text_encoder.cls.predictions.bias"] = ("words_head/bias", None, "")
    linear("vision_proj", "image_projection")
    linear("text_proj", "text_projection")
    linear("itm_head", "match_head")
    return rows


def stand_in(folder: Path) -> None:
    """Puts modules of the names that the public code imports into sys.modules."""
    import torch

    class Anything:
        def __init__(self, *args, **kwargs):
            pass

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything()

        def __call__(self, *args, **kwargs):
            return args[0] if args and callable(args[0]) else Anything()

    class Module(types.ModuleType):
        __path__: list[str] = []

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything()

    class Output(dict):
        def __init__(self, **kwargs):
            super().__init__(kwargs)
            self.__dict__.update(kwargs)

        def __getitem__(self, key):
            return [x for x in self.values() if x is not None][key] if isinstance(key, int) else super().__getitem__(key)

    class PreTrainedModel(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config, self.dtype = config, torch.float64

        def init_weights(self):
            pass

        def get_head_mask(self, mask, layers):
            return [None] * layers

        def invert_attention_mask(self, mask):
            return (1 - mask[:, None, None, :].to(torch.float64)) * -10000.0

    class PatchEmbed(torch.nn.Module):
        def __init__(self, img_size, patch_size, in_chans, embed_dim):
            super().__init__()
            self.num_patches = (img_size // patch_size) ** 2
            self.proj = torch.nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

        def forward(self, x):
            return self.proj(x).flatten(2).transpose(1, 2)

    paths = (
        "transformers transformers.activations transformers.file_utils transformers.modeling_outputs omegaconf "
        "transformers.modeling_utils transformers.utils transformers.models transformers.models.bert "
        "transformers.models.bert.configuration_bert timm timm.models timm.models.vision_transformer timm.models.registry "
        "timm.models.layers timm.models.helpers fairscale fairscale.nn fairscale.nn.checkpoint "
        "fairscale.nn.checkpoint.checkpoint_activations lavis.common lavis.common.registry lavis.common.utils "
        "lavis.common.dist_utils lavis.common.logger"
    )
    sys.modules |= {path: Module(path) for path in paths.split()}
    sys.modules["transformers.activations"].ACT2FN = {"gelu": torch.nn.functional.gelu}
    for module in ("file_utils", "modeling_outputs"):
        sys.modules[f"transformers.{module}"].ModelOutput = Output
    kinds = "BaseModelOutputWithPastAndCrossAttentions BaseModelOutputWithPoolingAndCrossAttentions MaskedLMOutput"
    for kind in kinds.split():
        setattr(sys.modules["transformers.modeling_outputs"], kind, Output)
    sys.modules["transformers.modeling_utils"].PreTrainedModel = PreTrainedModel
    sys.modules["transformers.modeling_utils"].apply_chunking_to_forward = lambda fn, size, axis, *x: fn(*x)
    sys.modules["timm.models.vision_transformer"].PatchEmbed = PatchEmbed
    sys.modules["timm.models.layers"].trunc_normal_ = lambda x, std: x
    sys.modules["lavis.common.dist_utils"].is_dist_avail_and_initialized = lambda: False
    for name in ("lavis", "lavis.models", "lavis.models.albef_models"):
        sys.modules[name] = Module(name)
        sys.modules[name].__path__ = [str(folder / name.replace(".", "/"))]
    base = type("AlbefBase", (torch.nn.Module,), {"init_tokenizer": lambda self: None})
    sys.modules["lavis.models.albef_models"].AlbefBase = base
    np.Inf = np.inf  # numpy 2 has dropped the name


def built(folder: Path):
    """Their model, filled."""
    import torch

    stand_in(folder)
    torch.set_default_dtype(torch.float64)
    vit = importlib.import_module("lavis.models.vit")
    med = importlib.import_module("lavis.models.med")
    pretrain = importlib.import_module("lavis.models.albef_models.albef_pretrain")
    config = types.SimpleNamespace(
        vocab_size=VOCAB, hidden_size=WIDTH, pad_token_id=0, max_position_embeddings=T, layer_norm_eps=1e-12,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_attention_heads=HEADS, encoder_width=WIDTH,
        intermediate_size=MLP, hidden_act="gelu", num_hidden_layers=LAYERS + FUSION, fusion_layer=LAYERS, is_decoder=False,
        add_cross_attention=True, chunk_size_feed_forward=0, output_attentions=False, output_hidden_states=False,
        use_return_dict=True, use_cache=False, add_type_embeddings=False,
    )  # fmt: skip
    see = vit.VisionTransformerEncoder(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS,
                                       mlp_ratio=MLP / WIDTH)  # fmt: skip
    see.vision_width = WIDTH
    read = med.BertForMaskedLM(config)
    read.cls.predictions.decoder.weight = read.bert.embeddings.word_embeddings.weight
    type(read).device = type(see).device
    pretrain.AlbefPretrain.device = property(lambda self: torch.device("cpu"))
    model = pretrain.AlbefPretrain(see, read, SLOTS * B, DIM, temp=TEMPERATURE, momentum=MOMENTUM, alpha=ALPHA, max_txt_len=T)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for theirs, (ours, layer, how) in names().items():
            twin = theirs.replace("_encoder.", "_encoder_m.").replace("_proj.", "_proj_m.")
            for name, prefix in ((theirs, ""), (twin, "teacher/")):
                if name in state and (prefix == "" or name != theirs):
                    state[name].copy_(torch.tensor(_array(ours, layer, how, tuple(state[name].shape), prefix)))
        for name, part in (("image_queue", "image"), ("text_queue", "text")):
            queue = np.concatenate([features(f"queue/{part}", SLOTS, B, DIM)[0], features(f"batch/{part}", B, DIM)])
            getattr(model, name).copy_(torch.tensor(queue.T))
    return model.eval()


def _array(ours: str, layer: int | None, how: str, shape: tuple[int, ...], prefix: str) -> np.ndarray:
    """Our array of a path as theirs."""
    depth = LAYERS if layer is not None else 0
    if ours.rpartition("/")[0].endswith("qkv"):
        head, _, leaf = ours.rpartition("/")
        head = head.removesuffix("qkv")
        return np.concatenate(
            [_array(f"{head}{p}/{leaf}", layer, how, (WIDTH, *shape[1:]), prefix) for p in ("query", "key", "value")]
        )
    own = {"T": shape[::-1], "conv": tuple(shape[i] for i in (2, 3, 1, 0)) if how == "conv" else ()}.get(how, shape)
    if ours == "image_encoder/class_token":
        own = (WIDTH,)
    if ours == "image_encoder/positions":
        own = shape[1:]
    x = filled(prefix + ours, *((depth, *own) if depth else own))
    x = x[layer] if depth else x
    if ours == "text_encoder/positions":
        x = x + filled(f"{prefix}text_encoder/segments", 2, WIDTH)[0]  # they add no segment to texts
    return {"T": x.T, "conv": x.transpose(3, 2, 0, 1) if how == "conv" else x}.get(how, x).reshape(shape)


def main(folder: Path) -> None:
    """Runs a step of theirs and prints what the test compares."""
    import torch

    model = built(folder)
    ids, labels = masked()
    text = types.SimpleNamespace(input_ids=torch.tensor(CAPTIONS), attention_mask=torch.tensor(CAPTIONS != 0).long())
    text.to = lambda device: text
    model.tokenizer = lambda *args, **kwargs: text
    model.mask = lambda *args, **kwargs: (torch.tensor(ids), torch.tensor(np.where(labels < 0, -100, labels)))
    torch.multinomial = lambda weights, count: weights.argmax(keepdim=True)  # the hardest: no draw
    seen = {}
    model.text_encoder.cls.register_forward_hook(lambda module, inputs, output: seen.update(words=output))
    shown = torch.tensor(filled("images", B, SIZE, SIZE, 3).transpose(0, 3, 1, 2))
    found = model({"image": shown, "text_input": [], "epoch": 0, "iters": STEP, "num_iters_per_epoch": RAMP // 2})
    found.loss.backward()
    middle = found.intermediate_output
    out = {"image_tokens": middle.image_embeds, "text_tokens": middle.text_embeds}
    out |= {"fused": middle.encoder_output.last_hidden_state, "match": middle.itm_logits}
    out |= {"words": seen["words"][torch.tensor(labels >= 0)]}
    out |= {"similarity/i2t": found.sims.sim_i2t, "similarity/t2i": found.sims.sim_t2i}
    out |= {"contrastive": found.loss_itc, "matching": found.loss_itm, "masked_tokens": found.loss_mlm}
    out |= {"queue/image": model.image_queue.T, "queue/text": model.text_queue.T}
    out |= {f"gradient/{path}": value for path, value in _gradients(model).items()}
    print("# of salesforce-lavis 1.0.2, by tests/parity/albef_numbers.py: name, shape, values")
    for name, value in out.items():
        value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        print(name, "x".join(map(str, value.shape)) or "-", *(f"{x:.12g}" for x in value.ravel()))


def _gradients(model) -> dict[str, float]:
    """The norm of the loss's gradient for each of our leaves."""
    squares: dict[str, float] = {"temperature": float(model.temp.grad) ** 2}
    state = dict(model.named_parameters())
    for theirs, (ours, _, _) in names().items():
        grad = state[theirs].grad.numpy()
        head, _, leaf = ours.rpartition("/")
        parts = [(ours, grad)]
        if head.endswith("qkv"):
            split = zip(("query", "key", "value"), np.split(grad, 3), strict=True)
            parts = [(f"{head.removesuffix('qkv')}{part}/{leaf}", each) for part, each in split]
        for path, each in parts:
            squares[path] = squares.get(path, 0.0) + float((each**2).sum())
    return {path: value**0.5 for path, value in squares.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
