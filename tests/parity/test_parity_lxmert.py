"""LXMERT against transformers, on random weights in float64: outputs, each loss, gradients, and the way back.

test_parity_convert.py says how they are compared, and how closely.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# `float64` is a fixture that every test here runs under.
from foreign import IDS, assert_same, check, float64, learn_padding, load, randomise, round_trip, saved  # noqa: E402, F401

from mmjax.losses import regions  # noqa: E402

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 20, "max_position_embeddings": 9}
SMALL |= {"l_layers": 3, "r_layers": 1, "x_layers": 2, "visual_feat_dim": 10}
SMALL |= {"num_qa_labels": 6, "num_object_labels": 5, "num_attr_labels": 4}
SEGMENTS = np.array([[0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]])
VALID = IDS != 0
WORDS = np.array([[-100, 5, -100, 9, -100, -100, -100], [-100, -100, 3, -100, 4, 7, -100]])
MATCHED, ANSWERS = np.array([1, 0]), np.array([4, 2])

rng = np.random.default_rng(1)
# Four regions each; the last of the second picture is padding. Two of seven are masked, with a detector's confidence.
FEATURES, TARGETS = rng.normal(size=(2, 4, 10)), 2 * rng.normal(size=(2, 4, 10))
BOXES = np.sort(rng.uniform(size=(2, 4, 2, 2)), axis=2).reshape(2, 4, 4)
BOXES[1, 3] = 0
SEEN = BOXES.any(-1)
WEIGHT = np.array([[0, 0.7, 0, 0], [0.4, 0, 0, 0]])
LABELS, ATTRIBUTES = rng.integers(0, 5, (2, 4)), rng.integers(0, 4, (2, 4))
VISUAL_LOSS = 6.67  # transformers' visual_loss_normalizer, of a mean over all regions and not those that are masked


@pytest.fixture(autouse=True)
def float64_losses():
    """transformers adds losses up in a zero of torch's own default."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(kind, **config):
    return learn_padding(randomise(getattr(transformers, kind)(transformers.LxmertConfig(**SMALL, **config))))


def inputs():
    x = {"input_ids": IDS, "attention_mask": VALID, "token_type_ids": SEGMENTS}
    x |= {"visual_feats": FEATURES, "visual_pos": BOXES, "visual_attention_mask": SEEN.astype(float)}
    return {name: torch.from_numpy(value) for name, value in x.items()}


def fuse(bound):
    visual = {"regions": jnp.asarray(FEATURES), "boxes": jnp.asarray(BOXES)}
    return bound.fuse(visual, jnp.asarray(IDS), segments=jnp.asarray(SEGMENTS))[0]


def states(base):
    return {"text": base.language_output, "visual": base.vision_output, "joint": base.pooled_output}


def entropy(logits, labels):
    """torch's, which leaves out -100."""
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return -jnp.where(labels >= 0, logp, 0).sum() / (labels >= 0).sum()


def read(x):
    """A loss of all positions that are no padding."""
    return sum(y.sum() for y in (x["joint"] ** 3, (x["text"] ** 2)[VALID], (x["visual"] ** 3)[SEEN]))


def test_lxmert_alone(tmp_path):
    net = make("LxmertModel")
    theirs = states(net(**inputs()))
    loss = read(theirs)
    loss.backward()
    gradients = saved(net, tmp_path / "hf")

    def run(bound):
        return fuse(bound), read(fuse(bound))

    check(tmp_path / "hf", gradients, theirs, loss, run)
    again = transformers.LxmertModel.from_pretrained(round_trip(tmp_path / "hf", tmp_path)).double().eval()
    assert_same(again(**inputs()).pooled_output, theirs["joint"])


def test_lxmert_and_each_loss_of_its_pretraining(tmp_path):
    net = make("LxmertForPreTraining")
    x = inputs()
    theirs = states(net.lxmert(**x))
    predicted = net.obj_predict_head(theirs["visual"])
    theirs |= {"feature": predicted["feat"], "label": predicted["obj"], "attribute": predicted["attr"]}
    heads = net(**x)
    theirs |= {"words": heads.prediction_logits, "match": heads.cross_relationship_score}
    theirs |= {"answer": heads.question_answering_score}
    weight, known = torch.from_numpy(WEIGHT), {"obj": LABELS, "attr": ATTRIBUTES, "feat": TARGETS}

    def objects(*shown):
        """Those that are not shown have a weight of 0."""
        return {"obj_labels": {k: (torch.from_numpy(v), weight if k in shown else 0 * weight) for k, v in known.items()}}

    told = {"labels": WORDS, "matched_label": MATCHED, "ans": ANSWERS}
    told = {name: {name: torch.from_numpy(value)} for name, value in told.items()}
    told |= {f"region_{name}": objects(name) for name in known}
    theirs |= {name: net(**x, **labels).loss for name, labels in told.items()}
    everything = told["labels"] | told["matched_label"] | told["ans"] | objects(*known)
    loss = net(**x, **everything).loss
    loss.backward()
    gradients = saved(net, tmp_path / "hf")

    def run(bound):
        y = fuse(bound)
        y |= {"words": bound.words(y["text"]), "match": bound.match(y["joint"]), "answer": bound.answer(y["joint"])}
        y |= bound.objects(y["visual"])
        weight = jnp.asarray(WEIGHT)
        terms = regions.feature(y["feature"], jnp.asarray(TARGETS), weight)
        terms |= regions.label(y["label"], jnp.asarray(LABELS), weight)
        terms |= regions.label(y["attribute"], jnp.asarray(ATTRIBUTES), weight, term="region_attribute")
        assert {name.split("_")[1] for name in terms} == {"feature", "label", "attribute"}
        losses = {"labels": entropy(y["words"], WORDS), "matched_label": entropy(y["match"], MATCHED)}
        losses["ans"] = entropy(y["answer"], ANSWERS)
        for name, theirs in {"feature": "feat", "label": "obj", "attribute": "attr"}.items():
            losses[f"region_{theirs}"] = VISUAL_LOSS * terms[f"region_{name}"][0] / WEIGHT.size
        return y | losses, sum(losses.values())

    found = check(tmp_path / "hf", gradients, theirs, loss, run)
    assert found.model["heads"]["objects"] == {"label": 5, "attribute": 4, "feature": 10}
    back = round_trip(tmp_path / "hf", tmp_path)
    again = transformers.LxmertForPreTraining.from_pretrained(back).double().eval()
    assert_same(again(**x, **everything).loss, loss)


def test_lxmert_of_questions(tmp_path):
    net = make("LxmertForQuestionAnswering")
    theirs = net(**inputs(), labels=torch.from_numpy(ANSWERS))
    theirs.loss.backward()
    gradients = saved(net, tmp_path / "hf")

    def run(bound):
        y = bound.answer(fuse(bound)["joint"])
        return {"answer": y}, entropy(y, ANSWERS)

    # The last layer's pictures are read by nothing: their gradients are zero here and missing there.
    check(tmp_path / "hf", gradients, {"answer": theirs.question_answering_score}, theirs.loss, run)
    again = transformers.LxmertForQuestionAnswering.from_pretrained(round_trip(tmp_path / "hf", tmp_path)).double().eval()
    assert_same(again(**inputs()).question_answering_score, theirs.question_answering_score)


@pytest.mark.parametrize("off", ["task_qa", "task_obj_predict", "visual_attr_loss"])
def test_a_task_that_is_off_has_no_head(off, tmp_path):
    make("LxmertForPreTraining", **{off: False}).save_pretrained(tmp_path / "hf")
    heads = load(tmp_path / "hf")[0].model["heads"]
    assert ("answers" in heads, "objects" in heads) == (off != "task_qa", off != "task_obj_predict")
    assert ("attribute" in heads.get("objects", {"attribute": 0})) == (off != "visual_attr_loss")
    round_trip(tmp_path / "hf", tmp_path)
