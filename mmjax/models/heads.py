"""What BERT-like assemblies answer with: words, matching, answers. Heads are built where the config asks for them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.core.errors import UserError, suggest
from mmjax.layers.block import ACTIVATIONS
from mmjax.layers.norm import LayerNorm, wide

NORMAL = nnx.initializers.normal(0.02)  # BERT's


class Transform(nnx.Module):
    """ln(act(W x + b)): what BERT's heads put before their logits."""

    def __init__(self, width: int, out: int, *, act: str, norm_eps: float, dtype: str = "float32", rngs: nnx.Rngs):
        self.dense = nnx.Linear(width, out, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)
        self.ln = LayerNorm(out, eps=norm_eps, dtype=dtype)
        self.act = act

    def __call__(self, x: Float[Array, "*shape D"]) -> Float[Array, "*shape E"]:
        """Of width `out`."""
        return self.ln(ACTIVATIONS[self.act](self.dense(x)))


class WordsHead(nnx.Module):
    """Logits over the vocabulary, tied to the word vectors (BERT, section A.2 and its code): transform(x) E^T + bias."""

    def __init__(self, width: int, vocab: int, vectors: int, *, rngs: nnx.Rngs, **options: Any):
        self.transform = Transform(width, vectors, rngs=rngs, **options)
        self.bias = nnx.Param(jnp.zeros(vocab, jnp.float32))

    def __call__(self, x: Float[Array, "B T D"], table: Float[Array, "V E"]) -> Float[Array, "B T V"]:
        """`table` holds the word vectors."""
        x = self.transform(x)
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.einsum("bte,ve->btv", x, table.astype(x.dtype), preferred_element_type=dtype) + self.bias[...]


class AnswerHead(nnx.Module):
    """Logits of answers from the joint vector: a Transform of twice its width, then a linear map (LXMERT, its code)."""

    def __init__(self, width: int, answers: int, *, dtype: str = "float32", rngs: nnx.Rngs, **options: Any):
        self.transform = Transform(width, 2 * width, dtype=dtype, rngs=rngs, **options)
        self.out = nnx.Linear(2 * width, answers, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)

    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B answers"]:
        return self.out(self.transform(x))


class Headed(nnx.Module):
    """The base of an assembly with such heads: `add_heads` in its constructor, `table` for its word vectors.

    A config says `heads = {"words": True, "match": True, "answers": 3129}`; what it leaves out is not built. Logits are in
    float32 at least.

    Attributes:
      HEADS: those that the assembly has.
      ANSWERS: builds the head of answers: (width, answers, *, act, norm_eps, dtype, rngs).
    """

    HEADS: tuple[str, ...] = ("words", "match", "answers")
    ANSWERS: Callable[..., nnx.Module] = AnswerHead

    def add_heads(
        self,
        heads: Mapping[str, Any] | None,
        width: int,
        *,
        act: str = "gelu",
        norm_eps: float = 1e-12,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        """Builds those of `heads`, over states and joint vectors of `width`. Raises UserError for an unknown one."""
        heads = heads or {}
        for name in heads:
            if name not in self.HEADS:
                choices = f"choose among: {', '.join(self.HEADS)}.{suggest(name, self.HEADS)}"
                raise UserError(f"model.heads: there is no head {name!r}; {choices}")
        options = {"act": act, "norm_eps": norm_eps, "dtype": dtype, "rngs": rngs}
        words, match, answers = (heads.get(name) for name in Headed.HEADS)
        self.words_head = WordsHead(width, *self.table().shape, **options) if words else None
        self.match_head = nnx.Linear(width, 2, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs) if match else None
        self.answer_head = self.ANSWERS(width, answers, **options) if answers else None

    def table(self) -> Float[jax.Array, "V E"]:
        """The word vectors that `words` is tied to."""
        raise NotImplementedError

    def words(self, states: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Logits of the word at each position of the text, from its states. Raises UserError without the head."""
        return built(self.words_head, "words")(states, self.table())

    def match(self, joint: Float[Array, "B D"]) -> Float[Array, "B 2"]:
        """Logits [no, yes] of whether text and picture belong together. Raises UserError without the head."""
        return wide(built(self.match_head, "match")(joint))

    def answer(self, joint: Float[Array, "B D"]) -> Float[Array, "B answers"]:
        """Logits of the answers. Raises UserError without the head."""
        return wide(built(self.answer_head, "answers")(joint))


def built(head: nnx.Module | None, name: str) -> Any:
    """`head`. Raises UserError where the config did not ask for it."""
    if head is None:
        raise UserError(f"the model has no head {name!r}: add it to model.heads")
    return head
