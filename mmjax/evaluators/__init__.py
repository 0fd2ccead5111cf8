"""Evaluators: (params, stats, step) -> {set: {metric: value}}, each compiled once and used again at every call."""

from mmjax.evaluators.answers import Answers
from mmjax.evaluators.classify import Head, LinearProbe, Neighbours
from mmjax.evaluators.reranked import Reranked
from mmjax.evaluators.retrieval import Retrieval
from mmjax.evaluators.zeroshot import ZeroShot

EVALUATORS = {
    "retrieval": Retrieval,
    "reranked": Reranked,
    "zeroshot": ZeroShot,
    "answers": Answers,
    "head": Head,
    "linear_probe": LinearProbe,
    "knn": Neighbours,
}
