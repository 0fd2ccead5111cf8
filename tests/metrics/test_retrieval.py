import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.core.errors import UserError
from mmjax.metrics import retrieval


def by_score(matrix, query_group, candidate_group, **kw):
    """Ranks a given score matrix: one-hot queries pick its rows."""
    matrix = np.asarray(matrix, np.float32)
    return retrieval.ranks(
        np.eye(len(matrix), dtype=np.float32), matrix.T, np.asarray(query_group), np.asarray(candidate_group), **kw
    )


def test_rank_top_and_recall_by_hand():
    ranking = by_score([[9, 1, 5], [3, 2, 1], [1, 2, 0]], [0, 1, 2], [0, 1, 2])
    assert ranking.rank.tolist() == [0, 1, 2]
    assert ranking.top.tolist() == [[0, 2, 1], [0, 1, 2], [1, 0, 2]]
    assert ranking.hit.tolist() == [[True, False, False], [False, True, False], [False, False, True]]
    assert ranking.candidates == 3
    scores = retrieval.scores(ranking)
    assert (scores["R@1"], scores["R@5"], scores["R@10"]) == (pytest.approx(1 / 3), 1, 1)
    assert scores["median_rank"] == 2


def test_recall_at_five_and_ten_count_the_boundary_rank():
    scores = np.arange(12, 0, -1)  # candidate i has rank i
    ranking = by_score([scores, scores, scores, scores], [4, 5, 9, 10], np.arange(12))
    assert ranking.rank.tolist() == [4, 5, 9, 10]
    got = retrieval.scores(ranking)
    assert (got["R@1"], got["R@5"], got["R@10"], got["median_rank"]) == (0, 0.25, 0.75, 8)


def test_several_positives_best_one_ranks_and_precision_counts_all():
    ranking = by_score([[9, 8, 7, 6, 5, 4], [1, 9, 2, 8, 3, 7]], [7, 3], [7, 3, 7, 3, 7, 3])
    assert ranking.rank.tolist() == [0, 0]
    ranking = by_score([[9, 8, 7, 6, 5, 4]], [3], [7, 3, 7, 3, 7, 3])
    assert ranking.rank.tolist() == [1]
    got = retrieval.scores(ranking)
    assert (got["P@1"], got["P@5"], got["P@10"], got["R@1"]) == (0, pytest.approx(2 / 5), 0.5, 0)


def test_precision_is_left_out_beyond_what_was_kept():
    ranking = by_score([np.arange(12)], [0], np.zeros(12, int), k=5)
    assert {name for name in retrieval.scores(ranking) if name.startswith("P@")} == {"P@1", "P@5"}


def test_ties_count_against_the_model():
    ranking = by_score([[5, 5, 5, 1]], [1], [0, 1, 2, 3])
    assert ranking.rank.tolist() == [2]
    assert ranking.top.tolist() == [[0, 2, 1, 3]]
    # An equal positive is no rival.
    assert by_score([[5, 5, 5, 1]], [1], [0, 1, 1, 3]).rank.tolist() == [1]


def test_collapsed_embeddings_score_nought():
    rng = np.random.default_rng(0)
    one = np.tile(rng.normal(size=(1, 37)).astype(np.float32), (29, 1))
    ranking = retrieval.ranks(one, one, np.arange(29), np.arange(29), tile=7)
    assert set(ranking.rank) == {28}
    assert retrieval.scores(ranking)["R@10"] == 0


@pytest.mark.parametrize("where", ["query", "positive", "negative"])
def test_nan_is_a_miss(where):
    queries, candidates = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    if where == "query":
        queries[0] = np.nan
    else:
        candidates[0 if where == "positive" else 1] = np.nan
    ranking = retrieval.ranks(queries, candidates, np.arange(3), np.arange(3))
    assert ranking.rank[0] == (1 if where == "negative" else 2)
    assert not ranking.hit[0, 0]
    assert sorted(ranking.top[0]) == [0, 1, 2]


def dense(queries, candidates, query_group, candidate_group, k):
    scores = queries @ candidates.T
    rank, top = [], []
    for row, group in zip(scores, query_group, strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], candidate_group[c] == group, c))
        rank.append(next(i for i, c in enumerate(order) if candidate_group[c] == group))
        top.append(order[:k])
    return np.array(rank), np.array(top)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tiled_equals_dense_sort(data):
    n_queries, n_candidates = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 17))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spread = data.draw(st.sampled_from([1, 3, 1000]))  # small whole numbers tie often
    queries, candidates = (rng.integers(-spread, spread + 1, (n, 4)).astype(np.float32) for n in (n_queries, n_candidates))
    candidate_group = rng.integers(0, data.draw(st.integers(1, 9)), n_candidates)
    query_group = rng.choice(candidate_group, n_queries)
    k, tile = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 20))
    got = retrieval.ranks(queries, candidates, query_group, candidate_group, k=k, tile=tile)
    rank, top = dense(queries, candidates, query_group, candidate_group, k)
    np.testing.assert_array_equal(got.rank, rank)
    np.testing.assert_array_equal(got.top, top)
    np.testing.assert_array_equal(got.hit, candidate_group[top] == query_group[:, None])


def test_scores_never_exist_whole(monkeypatch):
    sizes = []
    keys = retrieval._keys
    monkeypatch.setattr(retrieval, "_keys", lambda *a: (sizes.append((len(a[0]), len(a[2]))), keys(*a))[1])
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    retrieval.ranks(x, x, np.arange(50), np.arange(50), tile=16)
    assert max(sizes) == (16, 16)


def test_a_picture_of_several_captions_is_one_candidate():
    assert retrieval.distinct(np.array([7, 7, 3, -1, -1, 3, 7])).tolist() == [0, 2, 3, 4]


def test_bad_input():
    x = np.ones((3, 2), np.float32)
    with pytest.raises(UserError, match=r"1 of 3 queries have no candidate.*query 2, group 9"):
        retrieval.ranks(x, x, np.array([0, 1, 9]), np.array([0, 1, 2]))
    with pytest.raises(UserError, match="query embeddings"):
        retrieval.ranks(x[:0], x, np.arange(0), np.arange(3))
    # Where annotations are checked, as in these tests, they refuse the next two before the check does.
    with pytest.raises(UserError, match="candidate embeddings"):
        retrieval._check(x, x, np.arange(3), np.arange(4))
    with pytest.raises(UserError, match="2 wide, candidates 1"):
        retrieval._check(x, x[:, :1], np.arange(3), np.arange(3))
