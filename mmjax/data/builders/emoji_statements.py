"""What emoji_pairs and emoji_entailment share: statements about grids, balanced, as questions whose answers are verdicts."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mmjax.data import answers as lists
from mmjax.data.builders import emoji4
from mmjax.data.builders.balance import Balance, Choice
from mmjax.data.builders.emoji_grid import CELL, SEEN_STYLES, SIDE, World
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of
from mmjax.data.tokenizers import MASKED

COUNTS = {"train": 16_000, "validation": 2_000, "unseen_concepts": 2_000, "unseen_style": 2_000}
EACH = 2  # statements of a scene, of two templates


class Statement(NamedTuple):
    """A kind of statement.

    Attributes:
      choices: what could be stated of a scene; the answer is the number of its verdict.
      english, chinese: filled by the Words of a choice's arguments.
      singular: English where the first argument is "1"; "" where that is no number.
    """

    choices: Callable[[Any], Iterator[Choice]]
    english: str
    chinese: str
    singular: str = ""

    def said(self, world: World, choice: Choice) -> dict[str, str]:
        """The record's question and question_zh."""
        words = [world.words[arg] for arg in choice.args]
        english = self.singular if self.singular and choice.args[0] == "1" else self.english
        return {"question": english.format(*words), "question_zh": self.chinese.format(*words)}


class Scene(Protocol):
    """What statements are about."""

    def shown(self, world: World, rng: np.random.Generator) -> dict[str, Any]:
        """The record's fields of the scene: its pictures, and what is in them."""


class Kind(NamedTuple):
    """A set of statements.

    Attributes:
      name: the set's.
      stream: a number that no other set's random numbers have.
      templates: Statements by name.
      verdicts: answers and their Chinese.
      scene: (world, split's unseen things, its styles, random numbers) -> a scene.
      images: the record's pictures.
      texts: what else is said of a scene.
    """

    name: str
    stream: int
    templates: Mapping[str, Statement]
    verdicts: Mapping[str, str]
    scene: Callable[[World, list[str], tuple[str, ...], np.random.Generator], Scene]
    images: tuple[str, ...]
    texts: tuple[str, ...]


def build(kind: Kind, made: World, folder: Path, version: str, about: str, licence: str, vocabulary: int) -> None:
    """Writes the data set, answers.txt, answers_zh.txt, tokenizer.json and manifest.json into `folder`.

    Args:
      about: the set's description.
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    splits = {split: list(rows(kind, made, split, count)) for split, count in COUNTS.items()}
    text, picture = tfds.features.Text(), tfds.features.Image(shape=(SIDE * CELL, SIDE * CELL, 3), encoding_format="png")
    features = {
        **dict.fromkeys(kind.images, picture),
        "group": np.int64,
        **dict.fromkeys(("answers", "answers_zh"), tfds.features.Sequence(text)),
        **dict.fromkeys(("question", "question_zh", "type", *kind.texts, "id"), text),
    }
    write_tfds(folder, kind.name, version, features, splits, about, licence)
    lists.save(folder / lists.FILE, list(kind.verdicts))
    lists.save(folder / "answers_zh.txt", list(kind.verdicts.values()))
    said = [row[key] for row in splits["train"] for key in ("question", "question_zh")]
    tokens = write_tokenizer(folder, said, vocabulary, "wordpiece", MASKED)
    facts = {"answers": len(kind.verdicts), "unseen": sorted(made.unseen), "vocabulary": tokens}
    write_manifest(folder, kind.name, emoji4.PACKAGES, licence, **facts)


def rows(kind: Kind, made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    from tqdm import tqdm

    rng = np.random.default_rng([kind.stream, list(COUNTS).index(split)])
    unseen = sorted(made.unseen) if split == "unseen_concepts" else []
    styles = (emoji4.HELD_STYLE,) if split == "unseen_style" else SEEN_STYLES
    verdicts, balance, number = list(kind.verdicts.items()), Balance(rng), 0
    with tqdm(total=count, desc=f"{kind.name}: drawing {split}", unit="", disable=None) as bar:
        while number * EACH < count:
            scene = kind.scene(made, unseen, styles, rng)
            possible = {name: list(one.choices(scene)) for name, one in kind.templates.items()}
            if unseen:
                possible = {name: [c for c in some if made.unseen & set(c.args)] for name, some in possible.items()}
            possible = {name: some for name, some in possible.items() if some}
            shown = scene.shown(made, rng)
            for _ in range(EACH):
                template = balance.next(dict.fromkeys(possible, 1.0))
                choice = balance.pick(template, possible.pop(template))
                english, chinese = verdicts[choice.answer]
                yield {
                    **shown,
                    **kind.templates[template].said(made, choice),
                    "answers": [english],
                    "answers_zh": [chinese],
                    "type": template,
                    "group": group_of(f"{split}-{number}"),
                    "id": f"{split}-{number}-{template}",
                }
            number += 1
            bar.update(EACH)
