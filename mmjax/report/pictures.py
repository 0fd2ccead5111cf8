"""Retrieval in pictures: what each query found, and the similarity matrix; all images are embedded."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mmjax.report.curves import number
from mmjax.report.sheet import picture

SHOWN = 6  # hits, and misses, a direction
BEST = 5  # answers a query
SIDE = 192  # pixels: the longest side that is embedded, twice what the page shows
TINY = 48  # up to this side an image is enlarged with square pixels
LABELLED = 40  # rows of a similarity matrix that captions and thumbnails can stand beside
# Dark to light with even steps of lightness, so that the matrix reads in either colour scheme and in grey.
SCALE = ("#2a1a4a", "#47398a", "#3c68a8", "#2d93a0", "#45b98a", "#a4d65e", "#f6e45a")


@dataclasses.dataclass
class Gallery:
    """Retrieval on one evaluation set of M pairs with D distinct images; each caption is one query and candidate.

    Attributes:
      name: the set's name in results.json.
      images: M uint8 arrays (height, width, channels); only those that are shown are asked for.
      texts: M captions.
      groups: (M,) pairs of equal groups are right answers to each other.
      distinct: (D,) the pairs that show an image for the first time: the images that are queries and candidates.
      t2i_top: (M, 5) the pairs of the best images of each caption, best first; fewer columns where the set is smaller.
      t2i_rank: (M,) the rank of each caption's best right image, 0 is the best.
      i2t_top, i2t_rank: (D, 5) and (D,), the same for distinct images as queries and captions as candidates.
      similarity: (N, N) cosines of a part of the set, rows captions, columns images.
      similarity_index: (N,) which pairs these are.
    """

    name: str
    images: Sequence[np.ndarray]
    texts: Sequence[str]
    groups: Int[np.ndarray, " M"]
    distinct: Int[np.ndarray, " D"]
    t2i_top: Int[np.ndarray, "M K"]
    t2i_rank: Int[np.ndarray, " M"]
    i2t_top: Int[np.ndarray, "D K"]
    i2t_rank: Int[np.ndarray, " D"]
    similarity: Float[np.ndarray, "N N"]
    similarity_index: Int[np.ndarray, " N"]


def section(gallery: Gallery) -> str:
    """The set's part of the page: text to image, image to text, and the similarity matrix."""
    if not len(gallery.images):
        return "<p>This set has no pairs.</p>"
    parts = []
    for title, what, rank, card in (
        ("Text to image", "A caption and the five images the model finds closest to it.", gallery.t2i_rank, _text_query),
        ("Image to text", "An image and the five captions the model finds closest to it.", gallery.i2t_rank, _image_query),
    ):
        hits, misses = choose(rank)
        n_hits = int((rank == 0).sum())
        parts.append(f"<h3>{title}</h3><p>{what} The right answer is framed in green and ticked.</p>")
        parts.append('<div class="pair">')
        for kind, items, count in (("Hits", hits, n_hits), ("Misses", misses, len(rank) - n_hits)):
            cards = "".join(card(gallery, int(query)) for query in items) or '<p class="quiet">none</p>'
            head = f'{kind} <span class="quiet">{len(items)} of {count} shown</span>'
            parts.append(f'<div class="column"><h4>{head}</h4>{cards}</div>')
        parts.append("</div>")
    parts.append(
        '<p class="quiet">How these were chosen: a hit has the right answer first. Hits are taken at even steps through the '
        "set in its order; misses at even steps from the nearest miss to the farthest, sorted by the rank of the right "
        "answer. Nobody picked them. Dashed: the right answer where it is not among the five.</p>"
    )
    return "".join(parts) + _matrix(gallery)


def choose(rank: Int[np.ndarray, " M"], n: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Up to `n` hits, evenly spaced in the set, and up to `n` misses, evenly spaced from the lowest rank to the highest."""
    order = np.argsort(rank, kind="stable")
    hits = int((rank == 0).sum())
    return spread(order[:hits], n), spread(order[hits:], n)


def data_uri(image: Image.Image) -> str:
    """The image as a data URI: PNG, or JPEG for what is large enough to be a photograph."""
    data = io.BytesIO()
    if max(image.size) > 96 and image.mode == "RGB":
        image.save(data, "JPEG", quality=85)
        kind = "jpeg"
    else:
        image.save(data, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def spread(items: np.ndarray, n: int) -> np.ndarray:
    """`n` of the items at even steps, or all where they are no more."""
    return items if len(items) <= n else items[np.linspace(0, len(items) - 1, n).round().astype(int)]


def image(array: np.ndarray, alt: str, kind: str = "") -> str:
    """An <img> that holds the picture."""
    shown = picture(array)
    kind += " tiny" if max(shown.size) <= TINY else ""
    shown.thumbnail((SIDE, SIDE))
    return f'<img class="{kind.strip()}" src="{data_uri(shown)}" alt="{escape(alt)}" title="{escape(alt)}">'


def _pill(rank: int, total: int) -> str:
    return f'<span class="pill {"good" if rank == 0 else "bad"}">rank {rank + 1} of {total}</span>'


def _text_query(gallery: Gallery, query: int) -> str:
    rank, group = int(gallery.t2i_rank[query]), gallery.groups[query]
    cells = ""
    for i in gallery.t2i_top[query][:BEST]:
        frame = "cell right" if gallery.groups[i] == group else "cell"
        cells += f'<div class="{frame}">{image(gallery.images[i], gallery.texts[i])}</div>'
    wanted = ""
    if rank >= BEST:
        wanted = f'<div class="wanted">{image(gallery.images[query], gallery.texts[query])}<span>wanted</span></div>'
    return (
        f'<article class="card t2i" data-rank="{rank}"><header><div><q dir="auto">{escape(gallery.texts[query])}</q>'
        f'{_pill(rank, len(gallery.distinct))}</div>{wanted}</header><div class="strip">{cells}</div></article>'
    )


def _image_query(gallery: Gallery, query: int) -> str:
    rank, pair = int(gallery.i2t_rank[query]), gallery.distinct[query]
    group, lines = gallery.groups[pair], ""
    for i in gallery.i2t_top[query][:BEST]:
        kind = ' class="right"' if gallery.groups[i] == group else ""
        lines += f'<li{kind}><span dir="auto">{escape(gallery.texts[i])}</span></li>'
    if rank >= BEST:
        text = escape(gallery.texts[pair])
        lines += f'<li class="wanted"><span dir="auto">{text}</span></li>'
    return (
        f'<article class="card i2t" data-rank="{rank}"><div class="cell">{image(gallery.images[pair], f"query {query}")}</div>'
        f"<div>{_pill(rank, len(gallery.texts))}<ol>{lines}</ol></div></article>"
    )


def _matrix(gallery: Gallery) -> str:
    values, index = np.asarray(gallery.similarity, np.float64), gallery.similarity_index
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    side = len(values)
    cell = max(4, min(32, 768 // side))
    labels = ""
    if side <= LABELLED:
        columns = "".join(image(gallery.images[i], gallery.texts[i]) for i in index)
        texts = [escape(gallery.texts[i]) for i in index]
        rows = "".join(f'<li dir="auto" title="{text}">{text}</li>' for text in texts)
        labels = f'<div class="columns">{columns}</div><ol class="rows">{rows}</ol>'
    alt = f"cosine similarity of {side} captions and {side} images"
    colours = ", ".join(SCALE)
    return (
        "<h3>Similarity</h3><p>The cosine between every caption (rows) and every image (columns) of "
        f"{side} pairs. A bright diagonal means that each caption lies closest to its own image.</p>"
        f'<figure class="matrix" style="--n: {side}; --cell: {cell}px"><div class="scroll"><div class="grid">{labels}'
        f'<img class="map" src="{data_uri(colour(values, low, high))}" alt="{alt}"></div></div>'
        f'<figcaption><span>{number(low)}</span><i style="background: linear-gradient(to right, {colours})"></i>'
        f"<span>{number(high)}</span> <span>cosine</span></figcaption></figure>"
    )


def colour(values: Float[np.ndarray, "N M"], low: float, high: float) -> Image.Image:
    """Values as an image of one pixel each, `low` dark and `high` bright; what is not finite is transparent."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in SCALE])
    finite = np.isfinite(values)
    at = np.clip((np.where(finite, values, low) - low) / ((high - low) or 1.0), 0, 1) * (len(anchors) - 1)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, c]).round() for c in range(3)]
    return Image.fromarray(np.stack([*channels, np.where(finite, 255, 0)], -1).astype(np.uint8))
