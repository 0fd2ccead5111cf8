import subprocess
import sys
from pathlib import Path

import pytest

from mmjax.core.errors import UserError
from mmjax.data.tokenizers import SPECIALS, train

ROOT = Path(__file__).parents[2]
CAPTIONS = ["a red cat sits", "unbelievable dogs are running", "一只红色的猫", "кошка сидит", "a cat, a dog!"] * 5


def numbers(tokens):
    return sorted(tokens.get_vocab(), key=tokens.get_vocab().get)


def test_words_by_hand():
    tokens = train(["red cat", "red dog", "red 猫狗"], 7)
    # The frequent one first, then by their spelling, as many as there is room for.
    assert numbers(tokens) == [*SPECIALS, "red", "cat", "dog"]
    assert train(["red cat", "red dog", "red 猫狗"], 99).encode("狗猫 red bird").tokens == ["狗", "猫", "red", "[UNK]"]


@pytest.mark.parametrize(("kind", "size"), [("words", 12), ("wordpiece", 60), ("wordpiece", 90), ("bpe", 300)])
def test_the_vocabulary_is_kept_to(kind, size):
    tokens = train(CAPTIONS, size, kind)
    assert tokens.get_vocab_size() <= size
    assert numbers(tokens)[:4] == [*SPECIALS]
    assert sorted(tokens.get_vocab().values()) == list(range(tokens.get_vocab_size()))


def test_wordpiece_splits_words_punctuation_and_ideographs():
    tokens = train(CAPTIONS, 200, "wordpiece")
    assert tokens.encode("a cat, 猫红!").tokens == ["a", "cat", ",", "猫", "红", "!"]
    pieces = tokens.encode("cats dogs")
    assert pieces.word_ids == [0, 0, 1]
    assert pieces.tokens == ["cat", "##s", "dogs"]
    assert tokens.encode("cat ж").tokens == ["cat", "[UNK]"]
    assert tokens.decode(tokens.encode("red cats").ids) == "red cats"
    # ##s was given to the trainer among the specials: a text that spells it does not mean it.
    assert tokens.token_to_id("##s") not in tokens.encode("##s").ids


def test_wordpiece_leaves_out_the_rarest_characters():
    tokens = train(["aaaa aaaa b c"], 7, "wordpiece")
    assert numbers(tokens) == [*SPECIALS, "a", "##a", "b"]
    assert tokens.encode("aa c").tokens == ["a", "##a", "[UNK]"]


def test_bpe_knows_every_text():
    tokens = train(CAPTIONS, 300, "bpe")
    for text in (" a red cat", " 猫 кошка ü \U0001f600"):
        assert tokens.decode(tokens.encode(text).ids) == text
    assert "Ġcat" in tokens.encode("red cat").tokens


@pytest.mark.parametrize("kind", ["words", "wordpiece", "bpe"])
def test_training_again_in_another_process_gives_the_same(kind):
    code = f"from mmjax.data.tokenizers import train; print(ascii(train({CAPTIONS!r}, 290, {kind!r}).to_str()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(train(CAPTIONS, 290, kind).to_str())


def test_what_cannot_be_trained_is_said():
    with pytest.raises(UserError, match="'sentencepiece' is none of words, wordpiece, bpe"):
        train(CAPTIONS, 100, "sentencepiece")
    with pytest.raises(UserError, match="no caption"):
        train(["", " "], 100)
    with pytest.raises(UserError, match="a vocabulary of 259 is too small for kind 'bpe': at least 260"):
        train(CAPTIONS, 259, "bpe")
