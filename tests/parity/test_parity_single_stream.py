"""VisualBERT and ViLT against transformers, on random weights in float64: outputs, each loss, gradients, and the way back.

test_parity_convert.py says how they are compared, and how closely.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# `float64` is a fixture that every test here runs under.
from foreign import (  # noqa: E402
    IDS,
    PIXELS,
    SMALL,
    channels_first,
    check,
    error,
    float64,  # noqa: F401
    load,
    randomise,
    round_trip,
    saved,
)

from mmjax.losses.matching import matching  # noqa: E402
from mmjax.losses.tokens import masked_tokens  # noqa: E402

MASK = torch.from_numpy(IDS != 0).long()
SEGMENTS = np.array([[0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]])
WORDS = {"vocab_size": 20, "max_position_embeddings": 9, "type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-7}
# Words that were hidden, or -1.
LABELS = np.array([[-1, 5, -1, 9, -1, -1, -1], [-1, -1, 3, -1, 4, 7, -1]])

# Two pictures of four regions each; the last of the second row's is padding.
REGIONS = np.random.default_rng(1).normal(size=(2, 2, 4, 10))
BOXES = np.tile(np.array([0.1, 0.2, 0.5, 0.9]), (2, 4, 1))
BOXES[1, 3] = 0
SEEN = torch.from_numpy(BOXES.any(-1)).long()


def visual_bert(kind, **config):
    config = transformers.VisualBertConfig(**SMALL, **WORDS, visual_embedding_dim=10, **config)
    return randomise(getattr(transformers, kind)(config))


def inputs(first=0):
    return {
        "input_ids": torch.from_numpy(IDS),
        "attention_mask": MASK,
        "token_type_ids": torch.from_numpy(SEGMENTS),
        "visual_embeds": torch.from_numpy(REGIONS[first]),
        "visual_attention_mask": SEEN,
    }


def regions(which=0):
    return {"regions": jnp.asarray(REGIONS[which]), "boxes": jnp.asarray(BOXES)}


def fuse(bound, visual):
    return bound.fuse(visual, jnp.asarray(IDS), segments=jnp.asarray(SEGMENTS))[0]


def mean(term):
    return term[0] / term[1]


def entropy(logits, labels):
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), torch.from_numpy(np.where(labels < 0, -100, labels)).flatten()
    )


def divergence(logits, target):
    """torch's KLDivLoss of batchmean, with 0 log 0 = 0."""
    logp = jax.nn.log_softmax(logits)
    return jnp.where(target > 0, target * (jnp.log(jnp.where(target > 0, target, 1)) - logp), 0).sum() / len(target)


def compare(net, theirs, loss, run, tmp_path, lost=()):
    loss.backward()
    found = check(tmp_path / "hf", saved(net, tmp_path / "hf"), theirs, loss, run)
    back = round_trip(tmp_path / "hf", tmp_path, lost=lost)
    # transformers reads what was written, and finds all that it looks for but what it never uses.
    again, told = type(net).from_pretrained(back, output_loading_info=True)
    assert sorted(told["missing_keys"]) == sorted(lost)
    assert not told["unexpected_keys"]
    ours = again.double().state_dict()
    assert all(torch.equal(ours[name], x) for name, x in net.state_dict().items() if name not in lost)
    return found


def test_visualbert(tmp_path):
    net = visual_bert("VisualBertModel")
    said = net(**inputs())
    tokens, joint = said.last_hidden_state, said.pooler_output
    real, seen = IDS != 0, BOXES.any(-1)
    theirs = {"text": tokens[:, :7][real], "visual": tokens[:, 7:][seen], "joint": joint}
    loss = sum(y.sin().sum() for y in theirs.values())

    def run(bound):
        states = fuse(bound, regions())
        ours = {"text": states["text"][real], "visual": states["visual"][seen], "joint": states["joint"]}
        return ours, sum(jnp.sin(y).sum() for y in ours.values())

    assert compare(net, theirs, loss, run, tmp_path).model["heads"] == {}


def test_visualbert_pretraining(tmp_path):
    net = visual_bert("VisualBertForPreTraining")
    labels = torch.from_numpy(np.pad(np.where(LABELS < 0, -100, LABELS), ((0, 0), (0, 4)), constant_values=-100))
    said = net(**inputs(), labels=labels, sentence_image_labels=torch.tensor([1, 0]))
    words, match = said.prediction_logits[:, :7], said.seq_relationship_logits
    theirs = {"words": words[IDS != 0], "match": match, "masked_tokens": entropy(words, LABELS)}
    theirs |= {"matching": torch.nn.functional.cross_entropy(match, torch.tensor([1, 0]))}

    def run(bound):
        states = fuse(bound, regions())
        words, match = bound.words(states["text"]), bound.match(states["joint"])
        one = mean(masked_tokens(words, jnp.asarray(LABELS))["masked_tokens"])
        # A pair that belongs together is class 1, as in the code that published weights come from.
        two = mean(matching(match, jnp.array([True, False]))["matching"])
        return {"words": words[IDS != 0], "match": match, "masked_tokens": one, "matching": two}, one + two

    compare(net, theirs, said.loss, run, tmp_path)


def test_visualbert_answers(tmp_path):
    net = visual_bert("VisualBertForQuestionAnswering", num_labels=3)
    target = np.array([[0.5, 0.5, 0], [0, 0.3, 0.7]])
    theirs = {"answers": net(**inputs()).logits}
    loss = net(**inputs(), labels=torch.from_numpy(target)).loss

    def run(bound):
        answers = bound.answer(fuse(bound, regions())["joint"])
        return {"answers": answers}, divergence(answers, target)

    found = compare(net, theirs, loss, run, tmp_path)
    assert found.model["text"]["pool"] == "before_end"


def test_visualbert_verdicts(tmp_path):
    net = visual_bert("VisualBertForVisualReasoning", num_labels=2)
    both = inputs() | {"visual_embeds": torch.from_numpy(np.concatenate(REGIONS, axis=1))}
    both |= {"visual_attention_mask": torch.cat([SEEN, SEEN], dim=1)}
    both |= {"visual_token_type_ids": torch.tensor([[0] * 4 + [1] * 4] * 2)}
    said = net(**both, labels=torch.tensor([1, 0]))

    def run(bound):
        states = bound.fuse_two(regions(0), regions(1), jnp.asarray(IDS), segments=jnp.asarray(SEGMENTS))[0]
        verdicts = bound.verdict(states["joint"])
        return {"verdicts": verdicts}, -jax.nn.log_softmax(verdicts)[jnp.arange(2), jnp.array([1, 0])].mean()

    compare(net, {"verdicts": said.logits}, said.loss, run, tmp_path)


def test_visualbert_grounding(tmp_path):
    net = visual_bert("VisualBertForRegionToPhraseAlignment")
    phrases = np.array([[1, 3], [2, 6]])
    target = np.array([[[1, 0, 0, 0], [0, 0.5, 0.5, 0]], [[0.2, 0.2, 0.6, 0], [0, 0, 1, 0]]])
    ends = {"region_to_phrase_position": torch.from_numpy(phrases), "labels": torch.from_numpy(target)}
    said = net(**inputs(), **ends)
    seen = np.repeat(BOXES.any(-1)[:, None], 2, axis=1)

    def run(bound):
        states = fuse(bound, regions())
        logits = bound.ground(states, regions())[jnp.arange(2)[:, None], phrases]
        return {"grounding": logits[seen]}, divergence(logits, target)

    unused = [f"attention.value.{part}" for part in ("weight", "bias")]
    compare(net, {"grounding": said.logits[seen]}, said.loss, run, tmp_path, lost=unused)


def vilt(kind, monkeypatch=None, **config):
    if monkeypatch is not None:
        # transformers shuffles the patches, even where all are kept. Here they stay in order, to be compared one by one.
        monkeypatch.setattr(torch, "multinomial", lambda weights, count, replacement=False: torch.arange(count))
    config = transformers.ViltConfig(**SMALL, **WORDS, **PIXELS, **config)
    return randomise(getattr(transformers, kind)(config))


def shown(images):
    told = {name: value for name, value in inputs().items() if not name.startswith("visual")}
    return told | {"pixel_values": images}


def picture(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 12, 12, 3))


def see(seed=0):
    return {"image": jnp.asarray(picture(seed))}


def test_vilt(tmp_path, monkeypatch):
    net = vilt("ViltModel", monkeypatch)
    said = net(**shown(channels_first(picture())))
    tokens, joint = said.last_hidden_state, said.pooler_output
    theirs = {"text": tokens[:, :7][IDS != 0], "visual": tokens[:, 7:], "joint": joint}
    loss = sum(y.sin().sum() for y in theirs.values())

    def run(bound):
        states = fuse(bound, see())
        ours = {"text": states["text"][IDS != 0], "visual": states["visual"], "joint": states["joint"]}
        return ours, sum(jnp.sin(y).sum() for y in ours.values())

    found = compare(net, theirs, loss, run, tmp_path)
    assert found.model["heads"] == {}
    assert found.model["types"] == 2


def test_vilt_knows_no_order_of_patches(tmp_path):
    """As transformers has it, shuffled: what is read of text and pair is the same."""
    net = vilt("ViltModel")
    torch.manual_seed(0)
    one, two = (net(**shown(channels_first(picture()))) for _ in range(2))
    assert not torch.allclose(one.last_hidden_state[:, 8:], two.last_hidden_state[:, 8:])
    net.save_pretrained(tmp_path / "hf")
    _, model, params, stats = load(tmp_path / "hf")
    ours = fuse(model.bind(params, stats), see())["joint"]
    assert error({"": ours}, {"": one.pooler_output.detach().numpy()})[0] < 1e-9


def test_vilt_masked_words(tmp_path):
    net = vilt("ViltForMaskedLM")
    said = net(**shown(channels_first(picture())), labels=torch.from_numpy(np.where(LABELS < 0, -100, LABELS)))

    def run(bound):
        words = bound.words(fuse(bound, see())["text"])
        return {"words": words[IDS != 0]}, mean(masked_tokens(words, jnp.asarray(LABELS))["masked_tokens"])

    compare(net, {"words": said.logits[IDS != 0]}, said.loss, run, tmp_path)


def test_vilt_answers(tmp_path):
    net = vilt("ViltForQuestionAnswering", num_labels=3)
    target = np.array([[1, 0.3, 0], [0, 0, 0.6]])
    said = net(**shown(channels_first(picture())), labels=torch.from_numpy(target))

    def run(bound):
        y = bound.answer(fuse(bound, see())["joint"])
        right, wrong = jax.nn.log_sigmoid(y), jax.nn.log_sigmoid(-y)
        return {"answers": y}, -(target * right + (1 - target) * wrong).sum() / len(target)

    compare(net, {"answers": said.logits}, said.loss, run, tmp_path)


def test_vilt_rank(tmp_path):
    net = vilt("ViltForImageAndTextRetrieval")
    theirs = net(**shown(channels_first(picture()))).logits[:, 0]

    def run(bound):
        y = bound.rank(fuse(bound, see())["joint"])
        return {"rank": y}, jnp.sin(y).sum()

    compare(net, {"rank": theirs}, theirs.sin().sum(), run, tmp_path)


def test_vilt_verdicts(tmp_path):
    net = vilt("ViltForImagesAndTextClassification", num_labels=2, num_images=2, modality_type_vocab_size=3)
    both = torch.stack([channels_first(picture(seed)) for seed in (0, 2)], dim=1)
    said = net(**shown(both), labels=torch.tensor([1, 0]))

    def run(bound):
        states = bound.fuse_two(see(0), see(2), jnp.asarray(IDS), segments=jnp.asarray(SEGMENTS))[0]
        verdicts = bound.verdict(states["joint"])
        return {"verdicts": verdicts}, -jax.nn.log_softmax(verdicts)[jnp.arange(2), jnp.array([1, 0])].mean()

    compare(net, {"verdicts": said.logits}, said.loss, run, tmp_path)
