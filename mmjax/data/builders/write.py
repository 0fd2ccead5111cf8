"""Writing a data set: a tfds folder of ArrayRecord, all of it or nothing."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Of about this many examples, so that several hosts can read a large split.
SHARD = 50_000


@contextlib.contextmanager
def fresh(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and goes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".preparing-", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are their maker's alone
        try:
            os.rename(folder, target)
        except OSError:
            if not target.exists():
                raise  # otherwise somebody else prepared it meanwhile
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_tfds(
    folder: Path,
    name: str,
    version: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    description: str,
    licence: str,
) -> None:
    """Writes records in their order, without TensorFlow (pictures have to be encoded bytes).

    Args:
      features: name -> tfds feature connector or numpy dtype.
      splits: name -> records.
    """
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(dict(features)), description=description, license=licence
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=SHARD, file_format="array_record")
    writer.initialize_splits(list(splits))
    for split, records in splits.items():
        writer.add_examples({split: records})
    writer.close_all()
