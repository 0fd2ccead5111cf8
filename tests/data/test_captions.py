import itertools

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.transforms.text import PickCaption, Tokenise, fit


def tokenise(record, seed=0, **keywords):
    transform = Tokenise(**{"tokenizer": "bytes", "length": 8, **keywords})
    return transform({"text": record} if isinstance(record, str) else record, np.random.default_rng(seed))


def test_words_of_the_caption_are_numbered():
    # [BOS] a b space c [EOS]: the space belongs to the word that follows it.
    record = tokenise("ab c")
    assert record["text"].tolist() == [1, 100, 101, 35, 102, 2, 0, 0]
    assert record["text_words"].tolist() == [-1, 0, 0, 1, 1, -1, -1, -1]
    assert record["text_words"].dtype == np.int32


def test_padding_on_the_left():
    record = tokenise("ab", length=6, padding_side="left")
    assert record["text"].tolist() == [0, 0, 1, 100, 101, 2]
    assert record["text_words"].tolist() == [-1, -1, -1, 0, 0, -1]


def test_a_pair_of_texts():
    record = tokenise({"text": "ab", "answer": "c d"}, pair="answer", length=10)
    assert record["text"].tolist() == [1, 100, 101, 2, 102, 35, 103, 2, 0, 0]
    assert record["text_segments"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert record["text_words"].tolist() == [-1, 0, 0, -1, 1, 2, 2, -1, -1, -1]
    left = tokenise({"text": "a", "answer": "b"}, pair="answer", length=7, padding_side="left")
    assert left["text_segments"].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_truncation_by_hand():
    assert fit([9], 4, "longest_first") == [4]
    assert fit([2, 3], 5, "only_first") == [2, 3]
    assert fit([9, 2], 6, "longest_first") == [4, 2]
    assert fit([2, 9], 6, "longest_first") == [2, 4]
    assert fit([9, 3], 6, "only_first") == [3, 3]
    assert fit([9, 3], 10, "only_second") == [9, 1]
    with pytest.raises(ValueError, match="9 and 3 tokens do not fit into 3 by only_first"):
        fit([9, 3], 3, "only_first")


def test_truncation_is_hugging_faces():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    for a, b, room in itertools.product(range(1, 8), range(1, 8), range(2, 9)):
        tokens.enable_truncation(room, strategy="longest_first")
        theirs = tokens.encode("a " * a, "a " * b).sequence_ids
        assert fit([a, b], room, "longest_first") == [theirs.count(0), theirs.count(1)], (a, b, room)


def test_siglips_policy():
    # Lower case, no punctuation, no opening token; "a-b c" becomes "ab c".
    record = tokenise("  A-b,\n_C!", length=8, bos=None, pad_id=1, punctuation=False)
    assert record["text"].tolist() == [100, 101, 35, 102, 2, 1, 1, 1]
    assert record["caption"] == "  A-b,\n_C!"


def test_another_field():
    record = tokenise({"text": "a", "question": "b"}, field="question")
    assert record["text"] == "a"
    assert record["question"].tolist() == [1, 101, 2, 0, 0, 0, 0, 0]
    assert "caption" not in record


def test_one_of_several_captions_is_drawn():
    record = {"texts": ["a", "b", "c"], "group": 3}
    drawn = [tokenise(record, seed)["caption"] for seed in range(60)]
    assert set(drawn) == {"a", "b", "c"}
    assert drawn == [tokenise(record, seed)["caption"] for seed in range(60)]
    assert PickCaption()(record, np.random.default_rng(0)) == {**record, "text": drawn[0]}
    kept = {"text": "x", "texts": ["a"]}
    assert PickCaption()(kept, np.random.default_rng(0)) is kept


def test_bad_captions_are_errors_of_their_record():
    with pytest.raises(ValueError, match="the text is empty"):
        tokenise("")
    with pytest.raises(ValueError, match="no caption"):
        tokenise({"texts": []})
    with pytest.raises(ValueError, match="surrogates"):
        tokenise("\ud800")


def test_a_caption_of_any_length_costs_little():
    assert tokenise("a" * 10_000_000)["text"].tolist() == [1, *[100] * 6, 2]
    assert tokenise("a\0b", length=5)["text"].tolist() == [1, 100, 3, 101, 2]


def test_unknown_policies_are_named():
    with pytest.raises(UserError, match=r"only_second, padding_side left or right, not 'longest'"):
        tokenise("a", truncation="longest")
    with pytest.raises(UserError, match="padding_side left or right, not 'longest_first' and 'top'"):
        tokenise("a", padding_side="top")
    with pytest.raises(UserError, match="no room"):
        tokenise({"text": "a", "answer": "b"}, pair="answer", length=3)
