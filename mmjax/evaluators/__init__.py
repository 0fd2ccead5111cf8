"""Evaluators: (params, stats, step) -> {set: {metric: value}}, each compiled once and used again at every call."""

from mmjax.evaluators.classify import Head, LinearProbe, Neighbours
from mmjax.evaluators.retrieval import Retrieval
from mmjax.evaluators.zeroshot import ZeroShot

EVALUATORS = {
    "retrieval": Retrieval,
    "zeroshot": ZeroShot,
    "head": Head,
    "linear_probe": LinearProbe,
    "knn": Neighbours,
}
