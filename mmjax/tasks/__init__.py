"""Tasks by name: batch, model and loss meet here and nowhere else."""

from mmjax.tasks.answers import Answers
from mmjax.tasks.classification import Classification
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.pretraining import Pretraining

TASKS = {"contrastive": Contrastive, "classification": Classification, "pretraining": Pretraining, "answers": Answers}
