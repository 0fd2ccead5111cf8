"""Writing a data set: a tfds folder of ArrayRecord, all of it or nothing."""

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Of about this many examples, so that several hosts can read a large split.
SHARD = 50_000
DRAFT = ".draft-"  # what begins so is left over from a killed process


class Shard(NamedTuple):
    """What a shard holds: examples, their bytes, and the file's SHA-256."""

    examples: int
    bytes: int
    sha256: str


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
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    description: str,
    licence: str,
) -> None:
    """Writes records in their order, without TensorFlow (pictures have to be encoded bytes). Equal records make equal files.

    Args:
      features: name -> tfds feature connector or numpy dtype.
      splits: name -> records.
    """
    serialise, shards = serialiser(features), {}
    for split, records in splits.items():
        examples, shards[split] = map(serialise, records), []
        while (some := list(itertools.islice(examples, 1))) or not shards[split]:
            part = itertools.chain(some, itertools.islice(examples, SHARD - 1))
            shards[split].append(write_shard(shard_path(folder, name, split, len(shards[split])), part))
    describe(folder, name, version, features, shards, description, licence)


def serialiser(features: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bytes]:
    """From a record to the bytes of its example, which are the same in every process."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    connector = tfds.features.FeaturesDict(dict(features))
    serializer = ExampleSerializer(connector.get_serialized_info())

    def serialise(record: Mapping[str, Any]) -> bytes:
        example = serializer.get_tf_example(connector.encode_example(record))
        # Else the order of the fields is that of a hash that is seeded by the process.
        return example.SerializeToString(deterministic=True)

    return serialise


def write_shard(path: Path, examples: Iterable[bytes]) -> Shard:
    """Writes one shard, which appears under its name when it is whole and on the disk.

    Args:
      examples: of `serialiser`.
    """
    from array_record.python import array_record_module

    draft = path.with_name(f"{DRAFT}{path.name}-{os.getpid()}")
    # One record a compressed block: any other is read without it.
    writer, count, size = array_record_module.ArrayRecordWriter(str(draft), "group_size:1"), 0, 0
    for example in examples:
        writer.write(example)
        count, size = count + 1, size + len(example)
    writer.close()
    with open(draft, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    draft.rename(path)
    return Shard(count, size, sha256)


def shard_path(folder: Path, name: str, split: str, index: int) -> Path:
    """Where a split's shard lies."""
    return folder / f"{name}-{split}.array_record-{index:05d}"


def describe(
    folder: Path,
    name: str,
    version: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Shard]],
    description: str,
    licence: str,
) -> None:
    """Writes what makes shards of `write_shard`, named by `shard_path`, a tfds folder: dataset_info.json and features.json."""
    import tensorflow_datasets as tfds

    info = _info(folder, name, version, features, description, licence)
    info.set_file_format("array_record")
    found = []
    for split, shards in splits.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name,
            data_dir=folder,
            split=split,
            filetype_suffix="array_record",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )
        lengths, size = [shard.examples for shard in shards], sum(shard.bytes for shard in shards)
        found.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template))
    info.set_splits(tfds.core.SplitDict(found))
    info.write_to_directory(folder)


def _info(folder: Path, name: str, version: str, features: Mapping[str, Any], description: str, licence: str) -> Any:
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name=__name__
    )
    return tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(dict(features)), description=description, license=licence
    )
