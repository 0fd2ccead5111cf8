"""Fashion-MNIST: grey photographs of clothes, 28 x 28 pixels, 10 classes (Xiao, Rasul, Vollgraf 2017).

Source: the Debian package dataset-fashion-mnist 0.0~git20200523.55506a9-1, pinned with its SHA-256 in PACKAGES below;
MIT.

text is a caption from a template, "a photo of a sneaker": there are ten, so the contrastive loss and the metrics have to
know equal captions, and group says which are equal. label is the class in the published order, id "train/0".

Splits are the published ones, train and test. Classes are the same in both and balanced, so this set says how a picture is
put into a known class, and nothing about unseen words.

tokenizer.json numbers the words of the ten captions.

Measured: train 60,000 and test 10,000, a tenth of them each class. No blank or broken picture. The download is 31 MB; prepared
in 18 s on one core; 49 MB on disk.
"""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.builders.fetch import Deb, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "MIT"
ABOUT = "grey photographs of clothes, 28 x 28 pixels; 10 classes, captions from a template"
COUNTS = {"train": 60_000, "test": 10_000}

PACKAGES = (
    Deb(
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
)

SIZE = 28
# The published classes in their order, as a caption says them.
CLASSES = (
    "a t-shirt",
    "a pair of trousers",
    "a pullover",
    "a dress",
    "a coat",
    "a sandal",
    "a shirt",
    "a sneaker",
    "a bag",
    "an ankle boot",
)
TEMPLATE = "a photo of {}"
FILES = {"train": "train", "test": "t10k"}


def build(folder: Path, vocabulary: int = 64) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
        "text": text,
        "id": text,
        "group": np.int64,
        "label": tfds.features.ClassLabel(names=CLASSES),
    }
    found = dict(members(PACKAGES[0], r"usr/share/datasets/fashion-mnist/.*-ubyte\.gz"))
    files = {Path(path).name.split("-idx")[0]: gzip.decompress(data) for path, data in found.items()}
    splits = {split: _rows(split, files[f"{stem}-images"], files[f"{stem}-labels"]) for split, stem in FILES.items()}
    write_tfds(folder, "fashion_mnist", VERSION, features, splits, __doc__, LICENCE)
    tokens = write_tokenizer(folder, [TEMPLATE.format(name) for name in CLASSES], vocabulary)
    write_manifest(folder, "fashion_mnist", PACKAGES, LICENCE, classes=CLASSES, vocabulary=tokens)


def read_idx(data: bytes) -> np.ndarray:
    """The uint8 array of an idx file: two zero bytes, the type 8, the number of axes, their lengths (big-endian), values.

    Raises:
      UserError: it is none.
    """
    axes = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">u4", axes, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if not axes or values.size != shape.prod():
        raise UserError("not an idx file of bytes: the package is another than the one that is pinned here")
    return values.reshape(shape)


def _rows(split: str, images: bytes, labels: bytes) -> Iterator[dict[str, Any]]:
    from tqdm import tqdm

    pairs = zip(read_idx(images), read_idx(labels).tolist(), strict=True)
    for i, (image, label) in enumerate(tqdm(pairs, desc=f"fashion_mnist: {split}", unit="", disable=None)):
        caption = TEMPLATE.format(CLASSES[label])
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        row = {"image": encoded.getvalue(), "text": caption, "id": f"{split}/{i}"}
        yield {**row, "group": group_of(caption), "label": label}
