"""Two sequences that look at each other: a block, and a stack of it that is scanned."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core import module
from mmjax.core.pin import pin
from mmjax.core.tap import under
from mmjax.layers.attention import MultiHeadAttention
from mmjax.layers.block import Block, add, stacked
from mmjax.layers.drop import keys
from mmjax.layers.init import Init
from mmjax.layers.norm import LayerNorm

Pair = tuple[Float[Array, "B T D"], Float[Array, "B S D"]]


class CrossBlock(nnx.Module):
    """LXMERT's cross-modality block (Tan and Bansal 2019, section 2.2): cross-attention both ways, then a Block for each.

    Text x and pictures y look at each other as they came in, x' = ln(x + cross(x, y)) and y' = ln(y + back(y, x)); then each
    goes through self-attention and MLP. Without `post_norm`, x' = x + cross(ln(x), ln(y)) and so on.

    Args:
      shared: whether both directions have one set of weights, as LXMERT's code has it; the paper writes two.
      others: see layers.block.Block.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        *,
        act: str,
        norm_eps: float,
        dropout: float,
        attention: str,
        init: Init,
        post_norm: bool,
        shared: bool,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        def half() -> tuple[MultiHeadAttention, LayerNorm]:
            attend = MultiHeadAttention(
                width, heads, init=init, dropout=dropout, implementation=attention, dtype=dtype, rngs=rngs
            )
            return attend, LayerNorm(width, eps=norm_eps, dtype=dtype)

        def block() -> Block:
            options = {"act": act, "norm_eps": norm_eps, "dropout": dropout, "attention": attention}
            return Block(width, heads, mlp, init=init, post_norm=post_norm, dtype=dtype, rngs=rngs, **options)

        self.cross, self.ln_cross = half()
        self.back, self.ln_back = (None, None) if shared else half()
        self.text, self.visual = block(), block()
        self.dropout, self.post_norm = dropout, post_norm

    def __call__(
        self,
        pair: Pair,
        text_mask: Bool[Array, "#B 1 1 T"] | None = None,
        visual_mask: Bool[Array, "#B 1 1 S"] | None = None,
        key: Key[Array, " B"] | None = None,
    ) -> Pair:
        """Taps "t2v" (B, N, T, S) and "v2t" (B, N, S, T), what text and pictures look at; "text", "visual": Block's taps."""
        x, y = pin(pair)
        crossing, x_key, backing, y_key, text_key, visual_key = keys(key, 6, self.dropout)
        back, ln_back = (self.cross, self.ln_cross) if self.back is None else (self.back, self.ln_back)
        seen, told = (y, x) if self.post_norm else (ln_back(y), self.ln_cross(x))
        options = {"post_norm": self.post_norm, "rate": self.dropout}
        x = add(x, lambda q: self.cross(q, seen, visual_mask, crossing, "t2v"), self.ln_cross, key=x_key, **options)
        y = add(y, lambda q: back(q, told, text_mask, backing, "v2t"), ln_back, key=y_key, **options)
        with under("text"):
            x = self.text(x, text_mask, text_key)
        with under("visual"):
            y = self.visual(y, visual_mask, visual_key)
        return x, y


class CrossStack(nnx.Module):
    """`depth` cross blocks whose parameters have a leading layer axis, run as a scan.

    Args:
      depth: number of blocks; 0 passes its input through.
      post_norm: without it a LayerNorm of each sequence follows the last block.
      remat, init: see layers.block.Stack.
      others: see CrossBlock.

    Raises:
      UserError: as Stack.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu",
        norm_eps: float = 1e-12,
        dropout: float = 0.0,
        attention: str = "plain",
        init: str = "xavier",
        post_norm: bool = True,
        shared: bool = False,
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        options = {"act": act, "norm_eps": norm_eps, "dropout": dropout, "attention": attention, "post_norm": post_norm}
        block = partial(CrossBlock, width, heads, mlp, shared=shared, dtype=dtype, **options)
        self.blocks = stacked(block, depth, width, init, remat, rngs)
        norms = (None, None) if post_norm else (LayerNorm(width, eps=norm_eps, dtype=dtype) for _ in range(2))
        self.ln_text, self.ln_visual = norms
        self.depth, self.dropout, self.remat = depth, dropout, remat

    def __call__(
        self,
        text: Float[Array, "B T D"],
        visual: Float[Array, "B S D"],
        text_valid: Bool[Array, "B T"] | None = None,
        visual_valid: Bool[Array, "B S"] | None = None,
        key: Key[Array, " B"] | None = None,
    ) -> Pair:
        """Both sequences; positions that are not valid are looked at by none. Taps "blocks", CrossBlock's by layer."""
        masks = [None if valid is None else valid[:, None, None, :] for valid in (text_valid, visual_valid)]
        pair = text, visual
        if self.blocks is not None:
            xs = keys(key, self.depth, self.dropout) if key is not None and self.dropout else None
            pair = module.scan(self.blocks, lambda block, pair, key: block(pair, *masks, key), pair, xs, remat=self.remat)
        if self.ln_text is None:
            return pair
        return self.ln_text(pair[0]), self.ln_visual(pair[1])
