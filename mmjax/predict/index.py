"""A small index on disk of what was embedded once: vectors by usearch, and the names that go with them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax.core.errors import UserError

Embed = Callable[[Sequence[str]], Float[np.ndarray, "n D"]]


class Index:
    """Nearest neighbours by cosine, approximate beyond some thousands (HNSW, Malkov and Yashunin 2018).

    It is made anew where the names, their stamps or the checkpoint are others than those it was made from.

    Args:
      folder: where it lies.
      names: of what is indexed.
      stamps: one a name; another stamp means other content.
      checkpoint: that the vectors come from.
      embed: names -> vectors of length 1.

    Attributes:
      names: as given.
      fresh: whether it was made now.

    Raises:
      UserError: usearch is not installed.
    """

    def __init__(self, folder: str, names: Sequence[str], stamps: Sequence[str], checkpoint: str, embed: Embed):
        try:
            from usearch.index import Index as Graph
        except ImportError:
            raise UserError("retrieve needs usearch: run `pip install 'mmjax[predict]'`") from None
        self.names, place = list(names), Path(folder).expanduser()
        key = hashlib.sha256(json.dumps([checkpoint, *zip(names, stamps, strict=True)]).encode()).hexdigest()
        vectors, about = place / "vectors.usearch", place / "index.json"
        self.fresh = not (about.is_file() and vectors.is_file() and _key(about) == key)
        if not self.fresh:
            self._graph = Graph.restore(str(vectors), view=True)
            return
        found = embed(names)
        self._graph = Graph(ndim=found.shape[1], metric="cos", dtype="f32")
        self._graph.add(np.arange(len(found)), found)
        place.mkdir(parents=True, exist_ok=True)
        about.unlink(missing_ok=True)  # what says that the vectors are whole is written last
        self._graph.save(str(vectors))
        about.write_text(json.dumps({"key": key, "count": len(names), "checkpoint": checkpoint}) + "\n")

    def nearest(self, query: Float[np.ndarray, " D"], count: int) -> list[tuple[str, float]]:
        """(name, cosine) of the nearest, best first."""
        matches = self._graph.search(query, min(count, len(self.names)))
        return [(self.names[int(i)], 1 - float(d)) for i, d in zip(matches.keys, matches.distances, strict=True)]


def stamp(path: str) -> str:
    """Changes when the file does: its size and time."""
    found = Path(path).stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _key(about: Path) -> str:
    try:
        return json.loads(about.read_text())["key"]
    except (ValueError, KeyError):
        return ""
