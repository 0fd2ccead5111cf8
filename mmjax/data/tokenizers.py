"""Trains the tokenizer of a data set from its captions, of any script."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmjax.core.errors import UserError

SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
MASKED = (*SPECIALS, "[MASK]")
KINDS = ("words", "wordpiece", "bpe")

Read = Callable[[], Iterable[str]]  # goes through the captions anew at each call


def train(captions: Iterable[str], vocabulary: int, kind: str = "words", specials: Sequence[str] = SPECIALS) -> Any:
    """A `tokenizers.Tokenizer` of at most so many tokens, the same each time: specials first, then the most useful ones.

    Captions are taken as they are: give them in lower case where `tokenise` will lower it.

    Args:
      captions: of the training split alone. They are read as a stream, twice for "wordpiece"; an iterator, which can be read
        once, is kept in memory.
      vocabulary: how many tokens at most; fewer where the captions do not yield so many.
      kind: "words": whole words, split at white space, the rarest left out; an unknown one is [UNK]. "wordpiece": pieces of
        words and punctuation, as BERT's (Wu et al. 2016); a word with an unknown character is [UNK]. "bpe": pieces of UTF-8
        bytes, as GPT-2's; nothing is unknown. Each Chinese character is a word for the first two.
      specials: numbered from 0. MASKED for mask_tokens; [UNK] is needed by all but "bpe".

    Raises:
      UserError: no caption, an unknown kind, or a vocabulary too small for it.
    """
    check(kind, vocabulary, specials)
    again = list(captions) if iter(captions) is captions else captions
    read = functools.partial(filter, str.strip, again)
    if not any(read()):
        raise UserError("tokenizer: there is no caption to train on")
    return {"words": _words, "wordpiece": _wordpiece, "bpe": _bpe}[kind](read, vocabulary, list(specials))


def check(kind: str, vocabulary: int, specials: Sequence[str] = SPECIALS) -> None:
    """Raises UserError for an unknown kind, or a vocabulary too small for it."""
    if kind not in KINDS:
        raise UserError(f"tokenizer: kind {kind!r} is none of {', '.join(KINDS)}")
    least = len(specials) + (256 if kind == "bpe" else 1)
    if vocabulary < least:
        raise UserError(f"tokenizer: a vocabulary of {vocabulary} is too small for kind {kind!r}: at least {least}")


def _words(read: Read, vocabulary: int, specials: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokens = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    chinese = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")
    tokens.pre_tokenizer = pre_tokenizers.Sequence([chinese, pre_tokenizers.WhitespaceSplit()])
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=specials, show_progress=False)
    tokens.train_from_iterator(read(), trainer)
    return tokens


def _wordpiece(read: Read, vocabulary: int, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    def empty(model: Any) -> Any:
        tokens = Tokenizer(model)
        tokens.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
        tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        return tokens

    draft = empty(models.WordPiece(unk_token="[UNK]"))
    characters, inner = Counter(), set()
    for caption in read():
        for word, _ in draft.pre_tokenizer.pre_tokenize_str(draft.normalizer.normalize_str(caption)):
            characters.update(word)
            inner.update(word[1:])
    # The trainer numbers ##c in the order of a hash table, other in each process, and breaks ties by these numbers. It takes
    # the specials in their order: so characters are given among them, and the result is read without that.
    forms: list[str] = []
    for c, _ in sorted(characters.items(), key=lambda item: (-item[1], item[0])):
        both = [c, f"##{c}"] if c in inner else [c]
        if len(specials) + len(forms) + len(both) <= vocabulary:
            forms += both
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=[*specials, *forms], limit_alphabet=0, show_progress=False
    )
    draft.train_from_iterator(read(), trainer)
    tokens = empty(models.WordPiece(draft.get_vocab(), unk_token="[UNK]"))
    tokens.add_special_tokens(specials)
    return tokens


def _bpe(read: Read, vocabulary: int, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(read(), trainer)
    return tokens
