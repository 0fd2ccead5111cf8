"""Tokenizers in and out: tokenizer.json, or the vocabulary files from before it, with the policy that goes with them."""

import json
import string
from pathlib import Path
from typing import Any

from mmjax.convert import sentencepiece
from mmjax.convert.family import Spec
from mmjax.core.errors import UserError
from mmjax.data.transforms.text import load_tokenizer


def read(folder: Path, text: Spec, words: Spec) -> tuple[str, Spec] | None:
    """tokenizer.json's text and the keywords of `tokenise`, or None where a folder has no tokenizer.

    Args:
      folder: of the source.
      text: the text encoder's spec.
      words: the family's keywords of `tokenise`.

    Raises:
      UserError: the tokenizer is broken or does not fit the model.
    """
    tokens = _load(folder)
    if tokens is None:
        return None
    words, vocab = dict(words), text["vocab"]
    if not (folder / "tokenizer.json").is_file() and sentencepiece.find(folder):
        words |= sentencepiece.WORDS
    top = max(tokens.get_vocab(with_added_tokens=True).values(), default=0)
    if top >= vocab:
        raise UserError(f"{folder}: the tokenizer gives ids up to {top}, and the model's embedding has {vocab} rows: mend one")
    settings = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    for key in ("bos", "eos"):
        if words.get(key) is not None and tokens.token_to_id(words[key]) is None:
            raise UserError(f"{folder}: the tokenizer has no {words[key]!r}, with which texts of this model {key} begin or end")
    # Padding is what the source's own tokenizer pads with, where it says so.
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    if pad is not None and tokens.token_to_id(pad) is not None:
        words["pad_id"] = tokens.token_to_id(pad)
    return tokens.to_str(), words


def write(folder: Path, kind: str | None, tokenizer: str, words: Spec) -> None:
    """tokenizer.json and tokenizer_config.json, as Hugging Face reads them."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_str(tokenizer)
    if kind in SELF_CONTAINED:
        tokenizer = _self_contained(Tokenizer.from_str(tokenizer), words).to_str()
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    names = {
        "bos_token": words.get("bos"),
        "eos_token": words.get("eos"),
        "pad_token": tokens.id_to_token(words.get("pad_id", 0)),
    }
    config = {"tokenizer_class": CLASSES.get(kind, "PreTrainedTokenizerFast"), "model_max_length": words["length"]}
    config |= {key: name for key, name in names.items() if name is not None}
    if CLASSES.get(kind) == BERT:
        config |= {"cls_token": words.get("bos"), "sep_token": words.get("eos"), "unk_token": "[UNK]", "mask_token": "[MASK]"}
        config = {key: value for key, value in config.items() if key not in ("bos_token", "eos_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


BERT = "BertTokenizerFast"
CLASSES = {"clip": "CLIPTokenizerFast", "bert": BERT, "visual_bert": BERT, "vilt": BERT, "lxmert": BERT}
# Families whose policy no class of Hugging Face applies to a tokenizer.json: it goes into the file.
SELF_CONTAINED = ("siglip", "siglip2")


def _self_contained(tokens: Any, words: Spec) -> Any:
    """With what `tokenise` does around it: case, punctuation and the closing token."""
    from tokenizers import Regex, normalizers, processors

    steps = [normalizers.Lowercase()] if words.get("lower", True) else []
    if not words.get("punctuation", True):
        marks = "".join(f"\\{mark}" for mark in string.punctuation.replace("_", ""))
        for old, new in (("_", " "), (Regex(f"[{marks}]"), ""), (Regex(r"\s+"), " "), (Regex(r"\A | \z"), "")):
            steps.append(normalizers.Replace(old, new))
    own = [tokens.normalizer] if tokens.normalizer is not None else []
    tokens.normalizer = normalizers.Sequence([*steps, *own])
    end = words["eos"]
    tokens.post_processor = processors.TemplateProcessing(single=["$A", end], special_tokens=[(end, tokens.token_to_id(end))])
    return tokens


def _load(folder: Path) -> Any:
    try:
        if (folder / "tokenizer.json").is_file():
            return load_tokenizer(str(folder))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return clip(_json(folder / "vocab.json"), (folder / "merges.txt").read_text(encoding="utf-8"))
        if (folder / "vocab.txt").is_file():
            settings = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
            lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
            return bert({line: i for i, line in enumerate(lines)}, lower=settings.get("do_lower_case", True))
        if file := sentencepiece.find(folder):
            return sentencepiece.read(file)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare Exceptions
        raise UserError(f"{folder}: its tokenizer cannot be read: {error}") from None
    return None


def clip(vocabulary: dict[str, int], merges: str) -> Any:
    """CLIP's byte-level BPE: case lowered, spaces collapsed, words closed by </w>."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pairs = [tuple(line.split()) for line in merges.splitlines() if line and not line.startswith("#version")]
    bpe = models.BPE(vocabulary, pairs, unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>")
    tokens = Tokenizer(bpe)
    tokens.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = pre_tokenizers.Split(Regex(words), behavior="removed", invert=True)
    tokens.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokens


def bert(vocabulary: dict[str, int], lower: bool = True) -> Any:
    """BERT's WordPiece (Devlin et al. 2019)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokens.add_special_tokens([name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocabulary])
    return tokens


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: no json: {error}") from None
