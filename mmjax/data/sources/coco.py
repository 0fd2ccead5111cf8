"""COCO and what is built on it: captions in Karpathy's json, questions and answers in VQA v2's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.core import registry
from mmjax.core.errors import UserError, suggest
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.columns import caption, every_caption, image_file, named
from mmjax.data.sources.columns import captions as of_one_image
from mmjax.data.sources.index import Elements, value_of
from mmjax.data.sources.regions import Regions
from mmjax.data.sources.source import Record, group_of


class Karpathy:
    """Images with about five captions each: dataset_coco.json, dataset_flickr30k.json, dataset_flickr8k.json.

    Splits are those of Karpathy and Fei-Fei 2015 (arXiv:1412.2306). COCO is usually trained on "train+restval" (113,287 images)
    and tested on "test" (5,000); Flickr30k has no restval.

    Args:
      path: the json file.
      root: the folder of images; COCO's are in root/filepath/filename, e.g. root/val2014/COCO_val2014_000000391895.jpg. None is
        the json's folder.
      split: names joined by +.
      captions: "sample" gives "texts", of which training draws one a step; "all" gives a record per caption, those of an image
        in one group.
      max_bytes: a larger image file is a broken record.
      regions: keywords of sources.regions.Regions, whose fields the records then have.
      pictures: False where only regions are there.

    Raises:
      UserError: no such file or split, another json, or the images are not under `root`.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        split: str = "train",
        captions: str = "sample",
        max_bytes: int = LIMITS.bytes,
        regions: Mapping[str, Any] | None = None,
        pictures: bool = True,
    ):
        path, self._all = files.need(path, "karpathy"), every_caption("karpathy", captions)
        self._root, self._most = files.plain(root or files.parent(path)), max_bytes
        wanted, seen = set(split.split("+")), set()

        def count(image: dict[str, Any]) -> int:
            if not isinstance(image.get("sentences"), list) or "filename" not in image:
                raise UserError(f"{path}: an image without 'sentences' or 'filename': Karpathy's json is dataset_coco.json")
            seen.add(str(image.get("split")))
            return (max(1, len(image["sentences"])) if self._all else 1) if image.get("split") in wanted else 0

        self._images = Elements(path, "images", count)
        for name in sorted(wanted - seen):
            raise UserError(f"{path} has no split {name!r}; it has: {', '.join(sorted(seen))}.{suggest(name, seen)}")
        first = self._file(self._images[0][0])
        self._pictures, self._regions = pictures, _regions(regions, pictures, "karpathy")
        if pictures and not files.exists(first):
            raise UserError(f"source 'karpathy': there is no {first}\nset root= to the folder that holds train2014 and val2014")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        image, number, copy = self._images[i]
        name, texts = image["filename"], [sentence.get("raw") for sentence in image["sentences"]]
        with named(name):
            record = of_one_image(texts, name, copy if self._all else None)
            if self._pictures:
                record["image"] = image_file(self._file(image), self._most)
            if self._regions is not None:
                record |= self._regions[name]
        record |= {"group": group_of(name), "id": name}
        return record | {"id": f"{name}#{copy}" if len(texts) > 1 else name, "item": number} if self._all else record

    def _file(self, image: dict[str, Any]) -> str:
        return files.under(self._root, "/".join(part for part in (image.get("filepath"), image["filename"]) if part))


class Vqa:
    """Questions about COCO's images with ten people's answers each: VQA v2's json (Goyal et al. 2017, arXiv:1612.00837).

    A record has image, question, answers (list of str; absent without annotations) and id (the question's number), and where
    the annotations say so answer_type ("yes/no", "number", "other") and type (of the question). Records of one image are of one
    group.

    Args:
      path: the questions, e.g. v2_OpenEnded_mscoco_train2014_questions.json.
      annotations: the answers, e.g. v2_mscoco_train2014_annotations.json; None for a test set.
      root: the folder that `image` is relative to; None is the questions' folder.
      image: an image's file: {subtype} is the questions' "data_subtype", {id} the image's number.
      max_bytes: a larger image file is a broken record.
      regions: keywords of sources.regions.Regions, whose fields the records then have.
      pictures: False where only regions are there.

    Raises:
      UserError: no such file, another json, questions without annotations, or the images are not under `root`.
    """

    def __init__(
        self,
        path: str,
        annotations: str | None = None,
        root: str | None = None,
        image: str = "{subtype}/COCO_{subtype}_{id:012d}.jpg",
        max_bytes: int = LIMITS.bytes,
        regions: Mapping[str, Any] | None = None,
        pictures: bool = True,
    ):
        path, self._most = files.need(path, "vqa"), max_bytes
        self._root, self._image = files.plain(root or files.parent(path)), image
        self._subtype, numbers = value_of(path, "data_subtype") if "{subtype}" in image else "", []
        self._questions = Elements(path, "questions", lambda question: _note(numbers, question, "question", path))
        self._answers, self._order = None, None
        if annotations is not None:
            answers, annotated = files.need(annotations, "vqa"), []
            self._answers = Elements(answers, "annotations", lambda one: _note(annotated, one, "answers", answers))
            self._order = _match(numbers, annotated, path, answers)
        self._pictures, self._regions = pictures, _regions(regions, pictures, "vqa")
        if len(self) and pictures:
            first = self._file(self._questions[0][0])
            if not files.exists(first):
                mend = "set root= to the folder of images, or image= to how they are named"
                raise UserError(f"source 'vqa': there is no {first}\n{mend}")

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, i: int) -> Record:
        record, question = self.words(i), self._questions[i][0]
        with named(record["id"]):
            if self._pictures:
                record["image"] = image_file(self._file(question), self._most)
            if self._regions is not None:
                record |= self._regions[question["image_id"]]
        return record

    def words(self, i: int) -> Record:
        """Record i without its picture and regions."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        question = self._questions[i][0]
        record: Record = {"id": str(question["question_id"]), "group": group_of(f"{self._subtype}/{question['image_id']}")}
        if self._answers is not None:
            annotation = self._answers[int(self._order[i])][0]
            record["answers"] = [one["answer"] if isinstance(one, dict) else str(one) for one in annotation["answers"]]
            names = {"answer_type": "answer_type", "type": "question_type"}
            record |= {name: annotation[theirs] for name, theirs in names.items() if theirs in annotation}
        with named(record["id"]):
            record["question"] = caption(question["question"])
        return record

    def _file(self, question: dict[str, Any]) -> str:
        try:
            name = self._image.format(subtype=self._subtype, id=question["image_id"])
        except (LookupError, ValueError) as error:
            raise UserError(f"source 'vqa': image={self._image!r} takes {{subtype}} and {{id}} only: {error}") from None
        return files.under(self._root, name)


def _regions(spec: Mapping[str, Any] | None, pictures: bool, source: str) -> Regions | None:
    if spec is None and not pictures:
        raise UserError(f"source {source!r}: pictures=False leaves a record nothing to see: set regions= to their features")
    if spec is not None:
        registry.check({"regions": Regions}, {"name": "regions", **spec}, f"source {source!r}: regions")
    return None if spec is None else Regions(**spec)


def _note(numbers: list[int], element: dict[str, Any], field: str, path: str) -> int:
    """Notes a question's number; as many records as an element stands for."""
    if field not in element or not isinstance(element.get("question_id"), int):
        raise UserError(f"{path}: an entry without 'question_id' or {field!r}: is it VQA v2's json?")
    numbers.append(element["question_id"])
    return 1


def _match(questions: list[int], annotated: list[int], path: str, answers: str) -> np.ndarray:
    """The place of each question's annotation."""
    order = np.argsort(annotated, kind="stable")
    places = np.searchsorted(np.array(annotated, np.int64)[order], questions)
    found = order[np.minimum(places, len(order) - 1)] if len(order) else np.zeros(len(questions), np.int64)
    missing = [q for q, place in zip(questions, found, strict=True) if not len(order) or annotated[place] != q]
    if missing:
        raise UserError(f"{len(missing)} questions of {path}, e.g. {missing[0]}, are not in {answers}: is it another split's?")
    return found.astype(np.uint32)
