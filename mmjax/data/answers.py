"""The list of answers that a model chooses from: made of a source's answers, kept as a text file."""

import collections
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmjax.core import files
from mmjax.core.answers import normalise
from mmjax.core.errors import UserError
from mmjax.data import store
from mmjax.data.sources.source import Record, Source

FILE = "answers.txt"  # in a prepared set


def vocabulary(source: Source, least: int = 1) -> list[str]:
    """The answers of a source, the most frequent first, in a draw by the alphabet.

    A question counts for the answer that most of its people gave, normalised (core.answers), as in the code of Teney et al.
    2017 (arXiv:1708.02711), whose list of VQA v2's train and val with `least` 9 is known to have 3,129.

    Args:
      least: questions that an answer needs.

    Raises:
      UserError: no record has answers, or none is so frequent.
    """
    counts: collections.Counter = collections.Counter()
    for record in words(source):
        people = collections.Counter(normalise(one) for one in record.get("answers", ()))
        if people:
            counts[min(people, key=lambda answer: (-people[answer], answer))] += 1
    kept = sorted((answer for answer, n in counts.items() if n >= least and answer), key=lambda one: (-counts[one], one))
    if not kept:
        raise UserError(f"answers: of {len(counts)} different answers none is that of {least} questions: set --least lower")
    return kept


def words(source: Source) -> Iterator[Record]:
    """The records in their order; of sources that can, without their pictures."""
    read = getattr(source, "words", source.__getitem__)
    return (read(i) for i in range(len(source)))


def save(path: str | os.PathLike, answers: Sequence[str]) -> None:
    """Writes a list of answers, one a line."""
    files.write(Path(path).expanduser(), "".join(f"{answer}\n" for answer in answers))


def load(answers: str | Sequence[str]) -> list[str]:
    """A list of answers: itself, that of a file with one a line, or a prepared set's (its answers.txt).

    Raises:
      UserError: there is no such file, an answer comes twice, or there is none.
    """
    listed, where = answers, "the list"
    if isinstance(answers, str):
        path = Path(answers).expanduser()
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            if path.is_absolute() or path.suffix:
                raise UserError(f"answers: there is no file {path}: `mmjax data answers SRC --out={path}` makes one")
            path = store.locate(answers) / FILE
            if not path.is_file():
                raise UserError(f"answers: the prepared set {answers!r} has no {FILE}: `mmjax data answers` makes one")
        listed, where = path.read_text(encoding="utf-8").splitlines(), str(path)
    listed = list(listed)
    twice = [answer for answer, n in collections.Counter(listed).items() if n > 1]
    if not listed or twice:
        raise UserError(f"answers: {where} holds {f'{twice[0]!r} twice' if twice else 'no answer'}: one a line, each once")
    return listed
