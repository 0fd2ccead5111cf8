"""Sets that were prepared before: tfds folders of ArrayRecord, and ArrayRecord files alone."""

from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError, suggest
from mmjax.data import store
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.columns import Cells, choose
from mmjax.data.sources.source import Record
from mmjax.data.transforms.image import Decode


class Tfds:
    """A split of a tfds folder of ArrayRecord files, read without TensorFlow.

    Args:
      dataset: a prepared set's name under MMJAX_DATA, e.g. "openmoji" or "openmoji/1.0.0".
      path: instead of `dataset`, the folder that holds dataset_info.json.
      split: e.g. "train", or a slice of one: "train[:1000]", "train[90%:]".
      cache: keep each record in memory, decoded, once it is read (a set of small pictures; each worker process keeps
        its own copy).

    Raises:
      UserError: there is no such data set or split.
    """

    def __init__(self, dataset: str | None = None, path: str | None = None, split: str = "train", cache: bool = False):
        if (dataset is None) == (path is None):
            raise UserError("source 'tfds' takes either dataset= (a prepared set's name) or path= (a tfds folder)")
        folder = store.locate(dataset) if dataset is not None else Path(path).expanduser()
        if not (folder / "dataset_info.json").exists():
            raise UserError(f"source 'tfds': no dataset_info.json in {folder}: is it the folder of a version (.../1.0.0)?")
        import tensorflow_datasets as tfds  # a slow import that most sources can do without

        builder = tfds.builder_from_directory(str(folder))
        name = split.split("[")[0]
        if name not in builder.info.splits:
            choices = list(builder.info.splits)
            raise UserError(f"{folder} has no split {name!r}; it has: {', '.join(choices)}.{suggest(name, choices)}")
        features = builder.info.features
        self._texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
        lists = [key for key, feature in features.items() if isinstance(feature, tfds.features.Sequence)]
        self._lists = [key for key in lists if isinstance(features[key].feature, tfds.features.Text)]
        self._images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        self._data = builder.as_data_source(split, decoders=dict.fromkeys(self._images, tfds.decode.SkipDecoding()))
        self._cache: dict[int, Record] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self._data):  # what tfds raises there is no IndexError, which ends a for loop
            raise IndexError(i)
        if self._cache is not None and i in self._cache:
            return self._cache[i]
        record = dict(self._data[i])
        for key in self._texts:
            record[key] = record[key].decode()
        for key in self._lists:
            record[key] = [text.decode() for text in record[key]]
        if self._cache is not None:
            record |= {key: Decode()({"image": record[key]})["image"] for key in self._images}
            self._cache[i] = record
        return record

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None if self._cache is None else {}}


class ArrayRecord:
    """ArrayRecord files of tf.train.Example, read without TensorFlow (a folder with dataset_info.json is `Tfds`).

    Args:
      path: a file, a folder of *.array_record files, or a pattern.
      image, text, label, id: features; None finds image and text (label where there is no text) by name in the first record.
      max_bytes: a larger picture is a broken record.

    Raises:
      UserError: no such file or feature, or records of another kind.
    """

    def __init__(
        self,
        path: str,
        image: str | None = None,
        text: str | None = None,
        label: str | None = None,
        id: str | None = None,
        max_bytes: int = LIMITS.bytes,
    ):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        paths = files.several(path, "arrayrecord", ".array_record")
        try:
            self._data = ArrayRecordDataSource(paths)
            first = _example(self._data[0])
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"source 'arrayrecord': {paths[0]} holds no tf.train.Example: {reason}") from None
        columns = choose(paths[0], sorted(first), image, text, label, id)
        self._cells = Cells(columns, files.parent(paths[0]), max_bytes)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self._cells.record(_example(self._data[i]), i)


def _example(record: bytes) -> dict[str, Any]:
    """A serialised tf.train.Example: name -> value, or list of values where there are several.

    Raises:
      ValueError: it is none.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError(str(error)) from None
    lists = {name: getattr(feature, feature.WhichOneof("kind") or "bytes_list").value for name, feature in features.items()}
    return {name: list(values) if len(values) > 1 else next(iter(values), None) for name, values in lists.items()}
