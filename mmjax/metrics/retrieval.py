"""Retrieval: where the right answer stands among all candidates, and recall and precision at k.

Recall at k is the share of queries with at least one right answer among the k best, as in Karpathy & Fei-Fei (2015),
"Deep Visual-Semantic Alignments", section 4.2, and in CLIP. Whatever is doubtful counts against the model: a wrong
candidate with the score of the right one stands before it, and a score that is not a number is a miss. A collapsed
model therefore scores nought, not one.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from mmjax.core.errors import UserError

_EXTREME = 1e300  # beyond every score, yet finite


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What a set of queries found.

    Attributes:
      rank: (Q,) int64, the number of candidates before the query's best positive; 0 is the best.
      top: (Q, K) int64, the candidates with the highest scores, best first.
      hit: (Q, K) bool, which of them are positives.
      candidates: how many candidates there were.
    """

    rank: Int[np.ndarray, " Q"]
    top: Int[np.ndarray, "Q K"]
    hit: Bool[np.ndarray, "Q K"]
    candidates: int


def ranks(
    queries: Float[np.ndarray, "Q D"],
    candidates: Float[np.ndarray, "C D"],
    query_group: Int[np.ndarray, " Q"],
    candidate_group: Int[np.ndarray, " C"],
    *,
    k: int = 10,
    tile: int = 1024,
) -> Ranking:
    """Ranks all candidates for each query by inner product.

    The scores exist a tile at a time, so memory is O(tile x tile + Q x k) beside the embeddings, which may be
    memory-mapped. They are formed twice (the best positive first, then all that stand before it): cheaper than
    keeping them. They are summed in float64 and rounded to float32, so that equal candidates tie whichever kernel
    multiplied them.

    Args:
      queries: embeddings; normalise them where the score is to be a cosine.
      candidates: embeddings.
      query_group: candidates of the query's group are its positives.
      candidate_group: groups of the candidates.
      k: how many of the best to keep; fewer where there are fewer candidates.
      tile: queries and candidates a tile.

    Raises:
      UserError: shapes disagree, there is no query, or a query has no positive.
    """
    _check(queries, candidates, query_group, candidate_group)
    k = min(k, len(candidates))
    rank, top = np.zeros(len(queries), np.int64), np.zeros((len(queries), k), np.int64)
    for rows in _tiles(len(queries), tile):
        block = queries[rows], query_group[rows]
        best = np.full(len(block[1]), -np.inf)
        for columns in _tiles(len(candidates), tile):
            keys, positive = _keys(*block, candidates[columns], candidate_group[columns])
            best = np.maximum(best, np.where(positive, keys, -np.inf).max(1))
        top_keys, top_index = np.full((len(best), 0), -np.inf), np.zeros((len(best), 0), np.int64)
        for columns in _tiles(len(candidates), tile):
            keys, _ = _keys(*block, candidates[columns], candidate_group[columns])
            rank[rows] += (keys > best[:, None]).sum(1)
            index = _best(keys, min(k, keys.shape[1]))
            # What was found earlier comes first, so that of equals the lowest index stays.
            top_keys = np.concatenate([top_keys, np.take_along_axis(keys, index, 1)], 1)
            top_index = np.concatenate([top_index, index + columns.start], 1)
            order = _best(top_keys, min(k, top_keys.shape[1]))
            top_keys, top_index = (np.take_along_axis(x, order, 1) for x in (top_keys, top_index))
        top[rows] = top_index
    return Ranking(rank, top, candidate_group[top] == query_group[:, None], len(candidates))


def rerank(ranking: Ranking, scores: Float[np.ndarray, "Q K"]) -> Ranking:
    """The K best of each query in another order; whatever was behind them stays behind, as it was.

    Args:
      ranking: its `top` is the shortlist.
      scores: of the shortlist's candidates, higher is better; ties and what is not a number count against the model.
    """
    keys = _ordered(scores.astype(np.float32), ranking.hit)
    order = np.argsort(-keys, axis=1, kind="stable")
    best = np.where(ranking.hit, keys, -np.inf).max(1)
    rank = np.where(ranking.hit.any(1), (keys > best[:, None]).sum(1), ranking.rank)
    top, hit = (np.take_along_axis(x, order, 1) for x in (ranking.top, ranking.hit))
    return Ranking(rank, top, hit, ranking.candidates)


def distinct(item: Int[np.ndarray, " M"]) -> Int[np.ndarray, " D"]:
    """The places at which an item comes for the first time, in order; those of item -1 are each one of their own.

    A picture of five captions is five pairs and one candidate: COCO's test of 5,000 images has 25,000 pairs (Karpathy &
    Fei-Fei 2015, section 4.2).
    """
    own = np.where(item < 0, -1 - np.arange(len(item)), item)
    return np.sort(np.unique(own, return_index=True)[1])


def scores(ranking: Ranking) -> dict[str, float]:
    """Recall and precision at 1, 5 and 10, and the median rank.

    Returns:
      R@k: the share of queries with a positive among the k best. P@k: the mean share of positives among the k best (of
      all candidates where they are fewer than k). median_rank: of the best positive, 1 is the best. P@k needs a
      ranking that kept k candidates, and is left out beyond that.
    """
    kept = ranking.hit.shape[1]
    result = {f"R@{k}": float((ranking.rank < k).mean()) for k in (1, 5, 10)}
    result |= {f"P@{k}": float(ranking.hit[:, :k].mean()) for k in (1, 5, 10) if min(k, ranking.candidates) <= kept}
    return result | {"median_rank": float(np.median(ranking.rank) + 1)}


def _keys(queries, query_group, candidates, candidate_group) -> tuple[np.ndarray, np.ndarray]:
    """(Q, C) float64 keys and the mask of positives; a higher key stands before, and no positive ties with a negative."""
    positive = query_group[:, None] == candidate_group[None]
    with np.errstate(invalid="ignore", over="ignore"):
        keys = (queries.astype(np.float64) @ candidates.astype(np.float64).T).astype(np.float32)
    return _ordered(keys, positive), positive


def _ordered(scores: Float[np.ndarray, "Q C"], positive: Bool[np.ndarray, "Q C"]) -> np.ndarray:
    """float64 keys of float32 scores: a higher one stands before, and no positive ties with a negative."""
    keys = scores.astype(np.float64)
    keys = np.where(np.isnan(keys), np.where(positive, -_EXTREME, _EXTREME), np.clip(keys, -_EXTREME, _EXTREME))
    # One step of float64 down is less than any step of float32: behind its equals, before all else.
    return np.where(positive, np.nextafter(keys, -np.inf), keys)


def _best(keys: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) columns of the highest keys, best first; of equals the first column. k is small: k passes beat a sort."""
    keys, rows = keys.copy(), np.arange(len(keys))
    columns = np.zeros((len(keys), k), np.int64)
    for i in range(k):
        columns[:, i] = keys.argmax(1)
        keys[rows, columns[:, i]] = -np.inf
    return columns


def _tiles(n: int, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, n)) for start in range(0, n, tile))


def _check(queries, candidates, query_group, candidate_group) -> None:
    for what, x, group in (("query", queries, query_group), ("candidate", candidates, candidate_group)):
        if x.ndim != 2 or group.shape != x.shape[:1] or not len(x):
            raise UserError(f"retrieval: {what} embeddings {x.shape} and groups {group.shape}: want (n, width), (n,), n > 0")
    if queries.shape[1] != candidates.shape[1]:
        raise UserError(f"retrieval: queries are {queries.shape[1]} wide, candidates {candidates.shape[1]}: want the same")
    lonely = np.flatnonzero(~np.isin(query_group, candidate_group))
    if len(lonely):
        raise UserError(
            f"retrieval: {len(lonely)} of {len(queries)} queries have no candidate of their group "
            f"(first: query {lonely[0]}, group {query_group[lonely[0]]}): leave them out or add their candidates"
        )
