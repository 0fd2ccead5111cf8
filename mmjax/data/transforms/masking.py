"""Masked modelling: which tokens, or which regions of a picture, a model has to guess."""

from typing import Any

import numpy as np
from jaxtyping import Int

from mmjax.core.errors import UserError
from mmjax.data.transforms.text import tokens_of

Record = dict[str, Any]


class MaskTokens:
    """Hides some of "text": a masked copy under "text", and "mlm_labels" int32 (T,), the hidden token or -1 (BERT).

    `rate` of the caption's tokens, rounded and at least one, are to be guessed: 80% of them become `mask`, 10% any token but
    special ones, and 10% stay as they are (Devlin et al. 2018, section 3.1). `np.where(mlm_labels < 0, text, mlm_labels)` is
    the caption again, for losses that want both. List it after tokenise, whose "text_words" say which tokens are words.

    Args:
      tokenizer: as tokenise's, with a mask token.
      rate: share of the tokens.
      whole_words: all tokens of a word together (BERT's whole word masking): words are drawn in turn and passed over where they
        would exceed the share; the first is taken in any case.
      mask: the mask token's name.

    Raises:
      UserError: the tokenizer has no such token, or the rate is not between 0 and 1.
    """

    def __init__(self, tokenizer: str, rate: float = 0.15, whole_words: bool = True, mask: str = "[MASK]"):
        tokens = tokens_of(tokenizer)
        number = tokens.token_to_id(mask)
        if number is None:
            raise UserError(f"mask_tokens: {tokenizer} has no token {mask!r}: name its own, or train one with it")
        if not 0 < rate < 1:
            raise UserError(f"mask_tokens: rate {rate} is not between 0 and 1")
        self._mask, self._rate, self._whole = number, rate, whole_words
        # A padding or closing token in the middle of a text would end it for the model.
        special = {number, *(i for i, token in tokens.get_added_tokens_decoder().items() if token.special)}
        self._random = np.array([i for i in range(tokens.get_vocab_size()) if i not in special], np.int32)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        text, words = record["text"].copy(), record["text_words"]
        chosen = choose(words if self._whole else np.where(words < 0, -1, np.arange(len(words))), self._rate, rng)
        labels = np.full_like(text, -1)
        labels[chosen] = text[chosen]
        draw, other = rng.random(len(chosen)), rng.choice(self._random, len(chosen))
        text[chosen] = np.where(draw < 0.8, self._mask, np.where(draw < 0.9, other, text[chosen]))
        return {**record, "text": text, "mlm_labels": labels}


class MaskRegions:
    """Hides some regions: their "regions" are zeros, "region_masked" float32 (S,) is 1 there, and "region_targets" (S, F) are
    all features as they were (LXMERT, Tan and Bansal 2019, arXiv:1908.07490, section 3.1.2; UNITER hides 15% too).

    Each region that is there (its box has an area) is hidden by itself with probability `rate`; where none is drawn, one.

    Args:
      rate: share of the regions.

    Raises:
      UserError: the rate is not between 0 and 1.
    """

    def __init__(self, rate: float = 0.15):
        if not 0 < rate < 1:
            raise UserError(f"mask_regions: rate {rate} is not between 0 and 1")
        self._rate = rate

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        regions, boxes = record["regions"], record["boxes"]
        there = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        drawn = rng.random(len(there))
        chosen = there[(drawn < self._rate) | (drawn == drawn.min(initial=1.0)) & (drawn >= self._rate).all()]
        masked = np.zeros(len(boxes), np.float32)
        masked[chosen] = 1
        hidden = np.where(masked[:, None] > 0, 0, regions).astype(regions.dtype)
        return {**record, "regions": hidden, "region_targets": regions, "region_masked": masked}


def choose(words: Int[np.ndarray, " T"], rate: float, rng: np.random.Generator) -> Int[np.ndarray, " K"]:
    """Positions of about `rate` of the tokens, word by word; -1 in `words` is no word and is never chosen."""
    numbers, sizes = np.unique(words[words >= 0], return_counts=True)
    left, chosen = max(1, round(rate * int(sizes.sum()))), []
    for i in rng.permutation(len(numbers)):
        if sizes[i] <= left or not chosen:
            chosen.append(numbers[i])
            left -= sizes[i]
        if left < 1:
            break
    return np.flatnonzero(np.isin(words, chosen))
