"""Pure functions of arrays -> {term: (sum, count)}; never means, so that masks, chunks and many hosts come out right."""

from mmjax.losses.contrastive import sigmoid, softmax

CONTRASTIVE = {"softmax": softmax, "sigmoid": sigmoid}
