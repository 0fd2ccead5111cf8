"""Tasks by name: batch, model and loss meet here and nowhere else."""

from mmjax.tasks.albef import ALBEF
from mmjax.tasks.answers import Answers
from mmjax.tasks.classification import Classification
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.pretraining import Pretraining

TASKS = {
    "contrastive": Contrastive,
    "classification": Classification,
    "albef": ALBEF,
    "pretraining": Pretraining,
    "answers": Answers,
}
