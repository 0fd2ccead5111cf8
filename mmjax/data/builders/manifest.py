"""What lies beside a shipped data set: tokenizer.json, and manifest.json, which says what it holds and was made of."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmjax.data import tokenizers
from mmjax.data.builders.fetch import Package


def write_tokenizer(
    folder: Path,
    captions: Iterable[str],
    vocabulary: int,
    kind: str = "words",
    specials: Sequence[str] = tokenizers.SPECIALS,
) -> int:
    """Writes tokenizer.json of the captions in lower case (tokenizers.train) into `folder`; returns how many tokens it has."""
    tokens = tokenizers.train((caption.lower() for caption in captions), vocabulary, kind, specials)
    tokens.save(str(folder / "tokenizer.json"))
    return tokens.get_vocab_size()


def write_manifest(folder: Path, name: str, packages: Sequence[Package], licence: str, **facts: Any) -> None:
    """Writes manifest.json into a tfds folder: name, version, counts, `facts` of the set, packages with checksums, licence."""
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    manifest = {
        "name": name,
        "version": info["version"],
        "counts": {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]},
        **facts,
        "sources": [package._asdict() for package in packages],
        "licence": licence,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
