"""Sources that are folders of pictures: with a text beside each, or one folder a class."""

import json
import posixpath
from collections.abc import Sequence

import numpy as np

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.columns import TEXTS, captions, image_file, named
from mmjax.data.sources.source import Record

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".svg")


class PairsFolder:
    """Pictures at any depth of a folder, each with its caption in a .txt or .json of the same name beside it.

    A .txt holds one caption; a .json an object with it, or a list of several ("texts", of which training draws one a step). A
    .txt wins over a .json. A picture without either is a broken record.

    Args:
      path: the folder.
      text: the caption's key in the .json files; None finds it by its name.
      encoding: of the .txt files.
      max_bytes: a larger file is a broken record.

    Raises:
      UserError: no such folder, or no picture with a text in it.
    """

    # What is beside a picture.
    BESIDE = ("", ".txt", ".json")

    def __init__(self, path: str, text: str | None = None, encoding: str = "utf-8-sig", max_bytes: int = LIMITS.bytes):
        self._root, self._text, self._encoding, self._most = files.need(path, "pairs_folder"), text, encoding, max_bytes
        names = sorted(files.walk(self._root))
        texts = {name for name in names if name.endswith(self.BESIDE[1:])}
        pictures = pictures_of(names)
        beside = []
        for name in pictures:
            stem = posixpath.splitext(name)[0]
            beside.append(1 if stem + ".txt" in texts else 2 if stem + ".json" in texts else 0)
        if not any(beside):
            held = f"{len(pictures)} pictures, none with a .txt or .json of its name"
            raise UserError(f"source 'pairs_folder': {self._root} holds {held}")
        self._names, self._beside = files.Strings(pictures), np.array(beside, np.uint8)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        name, suffix = self._names[i], self.BESIDE[self._beside[i]]
        if not suffix:
            raise ValueError(f"{name} has no .txt or .json beside it")
        file = posixpath.splitext(name)[0] + suffix
        with named(file):
            content = files.read(f"{self._root}/{file}", self._most)
            said = content.decode(self._encoding) if suffix == ".txt" else self._said(json.loads(content))
            record = captions(said, name, None)
        return {**record, "image": image_file(f"{self._root}/{name}", self._most), "id": name}

    def _said(self, content: object) -> object:
        """The caption's value in a .json."""
        if not isinstance(content, dict):
            raise ValueError("no object {...}")
        keys = [self._text] if self._text else [key for key in content if key.lower() in TEXTS]
        if len(keys) != 1 or keys[0] not in content:
            raise ValueError(f"one key should be the text; there are: {', '.join(map(repr, list(content)[:12]))}: say text=")
        return content[keys[0]]


class ClassFolder:
    """Pictures in a folder for each class (ImageNet's layout): label is the class's place in `classes`.

    Records of one class are of one group.

    Args:
      path: the folder that holds the classes' folders.
      classes: their names in order; None takes the folders', sorted. A test set that lacks a class of the training set needs
        the training set's, or its labels are others.
      max_bytes: a larger file is a broken record.

    Attributes:
      classes: tuple of names.

    Raises:
      UserError: no such folder, no picture in folders, or a folder that is no class.
    """

    def __init__(self, path: str, classes: Sequence[str] | None = None, max_bytes: int = LIMITS.bytes):
        self._root, self._most = files.need(path, "class_folder"), max_bytes
        names = [name for name in pictures_of(sorted(files.walk(self._root))) if "/" in name]
        found = sorted({name.split("/")[0] for name in names})
        if not found:
            raise UserError(f"source 'class_folder': {self._root} has no folders with pictures in them")
        self.classes = tuple(found if classes is None else classes)
        if unknown := [name for name in found if name not in self.classes]:
            raise UserError(f"source 'class_folder': {self._root}/{unknown[0]} is none of the {len(self.classes)} classes")
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._names = files.Strings(names)
        self._labels = np.array([numbers[name.split("/")[0]] for name in names], np.int32)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        name, label = self._names[i], int(self._labels[i])
        return {"image": image_file(f"{self._root}/{name}", self._most), "label": label, "group": label, "id": name}


def pictures_of(names: Sequence[str]) -> list[str]:
    """Those of some file names that are pictures'."""
    return [name for name in names if name.lower().endswith(PICTURES)]
