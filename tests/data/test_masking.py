import pickle

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.rows import Loader, stack
from mmjax.data.sources.memory import Memory
from mmjax.data.tokenizers import SPECIALS, train
from mmjax.data.transforms.masking import MaskTokens, choose
from mmjax.data.transforms.text import Tokenise


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["one two three four five six seven eight nine ten"], 32, specials=[*SPECIALS, "[MASK]"]).save(str(path))
    return str(path)


def choices(words, rate, seeds=300):
    return [tuple(choose(np.array(words), rate, np.random.default_rng(seed)).tolist()) for seed in range(seeds)]


def test_whole_words_are_chosen():
    # Words of 1, 2 and 1 tokens between specials; half of 4 tokens is 2: the long word, or both short ones.
    assert set(choices([-1, 0, 1, 1, 2, -1, -1], 0.5)) == {(2, 3), (1, 4)}


def test_a_word_that_exceeds_the_share_is_passed_over_unless_it_is_the_first():
    # A share of 1 of 6 tokens: the word of 5 tokens is taken only where it comes first.
    seen = choices([0, 1, 1, 1, 1, 1], 0.15)
    assert set(seen) == {(0,), (1, 2, 3, 4, 5)}
    assert 0.4 < seen.count((0,)) / len(seen) < 0.6


def test_the_share_is_exact_and_at_least_one():
    assert {len(one) for one in choices(list(range(20)), 0.15)} == {3}
    assert {len(one) for one in choices([-1, 0, -1], 0.15)} == {1}


def test_tokens_are_masked_replaced_and_kept(tokenizer):
    transform = pickle.loads(pickle.dumps(MaskTokens(tokenizer, rate=0.5)))
    record = Tokenise(tokenizer, 14)({"text": "one two three four five six seven eight nine ten"}, np.random.default_rng(0))
    counts = dict.fromkeys(("masked", "kept", "other"), 0)
    for seed in range(400):
        out = transform(record, np.random.default_rng(seed))
        hidden = out["mlm_labels"] >= 0
        np.testing.assert_array_equal(np.where(hidden, out["mlm_labels"], out["text"]), record["text"])
        assert hidden.sum() == 5
        assert not hidden[record["text_words"] < 0].any()
        assert (out["text"].dtype, out["mlm_labels"].dtype) == (np.int32, np.int32)
        new, old = out["text"][hidden], record["text"][hidden]
        counts["masked"] += (new == 4).sum()
        counts["kept"] += (new == old).sum()
        counts["other"] += ((new != old) & (new != 4)).sum()
        assert not np.isin(new, [0, 1, 2, 3]).any()
    # Of 2000: 80%, 10% + a tenth of 10% (the random token is the same one in 1 of 10), 9%; three standard deviations are 50.
    assert abs(counts["masked"] - 1600) < 54
    assert abs(counts["kept"] - 220) < 42
    assert abs(counts["other"] - 180) < 39
    assert record["text"].tolist()[-2:] == [0, 0]


def test_single_tokens_are_chosen_where_words_are_not_kept_whole(tokenizer):
    record = {"text": np.array([5, 6, 7, 8], np.int32), "text_words": np.array([0, 0, 0, 0], np.int32)}
    part = MaskTokens(tokenizer, rate=0.25, whole_words=False)(record, np.random.default_rng(0))
    assert (part["mlm_labels"] >= 0).sum() == 1
    assert (MaskTokens(tokenizer, rate=0.25)(record, np.random.default_rng(0))["mlm_labels"] >= 0).all()


def test_a_batch_holds_labels(tokenizer):
    transforms = [Tokenise(tokenizer, 6), MaskTokens(tokenizer)]
    loader = Loader([Memory([{"text": "one two", "id": "a"}])], transforms, ["text", "mlm_labels", "group"], [0], seed=0)
    batch = stack([loader.row(0, 0, position) for position in range(3)])
    assert batch["mlm_labels"].shape == (3, 6)
    assert ((batch["mlm_labels"] >= 0).sum(1) == 1).all()
    assert batch["caption"].tolist() == ["one two"] * 3


def test_what_masking_needs(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"no token '<mask>'"):
        MaskTokens(tokenizer, mask="<mask>")
    with pytest.raises(UserError, match="bytes has no token"):
        MaskTokens("bytes", mask="[HIDDEN]")
    with pytest.raises(UserError, match=r"rate 1\.5"):
        MaskTokens(tokenizer, rate=1.5)


def test_bytes_have_a_mask():
    record = Tokenise("bytes", 7)({"text": "ab cd"}, np.random.default_rng(0))
    part = MaskTokens("bytes", rate=0.4)(record, np.random.default_rng(1))
    hidden = part["mlm_labels"] >= 0
    assert hidden.tolist() in ([False, True, True, *[False] * 4], [*[False] * 3, True, True, True, False])  # a word whole
    np.testing.assert_array_equal(np.where(hidden, part["mlm_labels"], part["text"]), record["text"])
    assert set(part["text"][hidden]) <= {259, *range(3, 259)}
