"""Questions about flags: whose they are, and facts of those states.

A row is one question about one flag of flags_facts (which says whence): image, 128 x 96 pixels; question; answers, a list of
one; type, see below; text_zh, the state's Chinese name; group, the state's as in flags_facts; id, CODE-TYPE.

- state, capital: "Which state has this flag?" Their answers occur once: a model can only know them of flags it has seen.
- continent, region: one of 5, one of 22 or so.
- language, border: yes or no, as often as not: "Is Arabic an official language of the state with this flag?", of a language
  (neighbour) that some state has; each is asked about as often either way where that can be (balance.Balance).

Splits are flags_facts': heldout holds all questions about 20% of the states. State and capital, which
no other flag tells of, are left out there. answers.txt lists train's answers, the most frequent first;
tokenizer.json numbers the word pieces of train's lower-cased questions, as emoji_vqa's does.

Measured: 1,240 and 234 questions, 337 answers, 717 tokens. On heldout, by metrics.answers.Blind of train: majority 0.338,
question-only 0.380 (continent 0.179, region 0.051, language 0.513, border 0.513). No answer of heldout is missing from train's.
The download is flags_facts' 7 MB; prepared in 2 s of processor time; 4 MB on disk.

Made of flags_facts' packages: world-countries 5.1.0 and flag-icons 7.5.0.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data import answers as lists
from mmjax.data.builders import flags_facts
from mmjax.data.builders.balance import Balance, Choice
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.memory import Memory
from mmjax.data.tokenizers import MASKED

VERSION = "1.0.0"
LICENCE = flags_facts.LICENCE
ABOUT = "questions about the flags of 194 states: state, capital, continent, region, languages, neighbours"
COUNTS = {"train": 1_240, "heldout": 234}
PACKAGES = flags_facts.PACKAGES

OPEN = {
    "state": ("name", "Which state has this flag?"),
    "capital": ("capital", "What is the capital of the state with this flag?"),
    "continent": ("continent", "On which continent is the state with this flag?"),
    "region": ("region", "In which region is the state with this flag?"),
}
CLOSED = {
    "language": ("languages", "Is {} an official language of the state with this flag?"),
    "border": ("borders", "Does the state with this flag border {}?"),
}
EACH = 2  # questions of a flag of each type of CLOSED
SHARED = ("continent", "region")  # types of OPEN that flags of other states tell of


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, answers.txt, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    states = flags_facts.splits()
    splits = {split: list(rows(some, split == "train")) for split, some in states.items()}
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(flags_facts.HEIGHT, flags_facts.WIDTH, 3), encoding_format="png"),
        "group": np.int64,
        "answers": tfds.features.Sequence(text),
        **dict.fromkeys(("question", "type", "text_zh", "id"), text),
    }
    write_tfds(folder, "flags_vqa", VERSION, features, splits, __doc__, LICENCE)
    answers = lists.vocabulary(Memory(splits["train"]))
    lists.save(folder / lists.FILE, answers)
    tokens = write_tokenizer(folder, [row["question"] for row in splits["train"]], vocabulary, "wordpiece", MASKED)
    write_manifest(folder, "flags_vqa", PACKAGES, LICENCE, answers=len(answers), vocabulary=tokens)


def rows(states: Sequence[dict[str, Any]], known: bool) -> Iterator[dict[str, Any]]:
    """The questions about some states of flags_facts; those of all types where the states are known from training."""
    balance = Balance(np.random.default_rng(0))
    facts = {
        type: [state[field].split(", ") if state[field] else [] for state in states] for type, (field, _) in CLOSED.items()
    }
    for i, state in enumerate(states):
        asked = [(type, question, state[field]) for type, (field, question) in OPEN.items() if known or type in SHARED]
        for type, (_, question) in CLOSED.items():
            own = facts[type][i]
            named = sorted({name for one in facts[type] for name in one} - {state["name"]})
            choices = [Choice("yes" if name in own else "no", (name,)) for name in named]
            for n in range(EACH):
                choice = balance.pick(type, choices)
                choices.remove(choice)
                asked.append((f"{type}{n + 1}", question.format(*choice.args), choice.answer))
        for type, question, answer in asked:
            yield {
                **{key: state[key] for key in ("image", "text_zh", "group")},
                "question": question,
                "answers": [answer],
                "type": type.rstrip("12"),
                "id": f"{state['code']}-{type}",
            }
