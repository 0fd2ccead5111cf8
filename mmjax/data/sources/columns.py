"""Which column of a table is what, and what its cells make of a record: one schema over csv, json, parquet and tf.Example."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmjax.core.errors import UserError, suggest
from mmjax.data.sources import files
from mmjax.data.sources.source import Record, group_of

# Columns that say what they are by name, whatever their case.
IMAGES = (
    *("image", "img", "picture", "photo", "file", "path", "filename", "filepath", "file_name", "file_path", "image_name"),
    *("image_file", "image_path", "img_path", "images", "jpg", "jpeg", "png", "webp", "image_bytes"),
)
TEXTS = ("text", "texts", "caption", "captions", "title", "sentence", "sentences", "description", "alt_text", "txt")
LABELS = ("label", "labels", "class", "class_id", "target", "category_id")
URLS = ("url", "image_url", "img_url", "urls")
# Characters of a value that a message shows.
SHOWN = 60


class Columns(NamedTuple):
    """The columns of a table that make a record; None for what it has not."""

    image: str
    text: str | None
    label: str | None
    id: str | None

    def used(self) -> list[str]:
        """The columns that are read, each once."""
        return list(dict.fromkeys(name for name in self if name is not None))


def choose(
    where: str,
    names: Sequence[str],
    image: str | None,
    text: str | None,
    label: str | None,
    id: str | None,
    keyword: str = "image",
    texts: Sequence[str] = TEXTS,
) -> Columns:
    """The columns as the user names them, and where he does not, those that say what they are.

    A label is looked for only where there is no text; an id is only read where it is named.

    Args:
      where: the table, for messages.
      names: its columns.
      keyword: how the source calls `image`; a folder of clips has "audio" or "video" there.
      texts: names that say that a column is the text.

    Raises:
      UserError: a column is not there, or none or several could be meant; it lists what there is.
    """
    for called, given in ((keyword, image), ("text", text), ("label", label), ("id", id)):
        if given is not None and given not in names:
            raise UserError(f"{where} has no column {given!r} ({called}=); it has: {_list(names)}.{suggest(given, names)}")
    image = image or (_one(where, names, "image", IMAGES) if keyword == "image" else None)
    if image is None:
        address = next((name for name in names if name.lower() in URLS), None)
        if address is not None:
            raise UserError(f"{where}: {NO_ADDRESSES.format(address)}")
        mend = f"say {keyword}='COLUMN' (of a csv the first line names the columns)"
        raise UserError(f"{where}: which column is the {keyword}? It has: {_list(names)}\n{mend}")
    text = text or _one(where, [name for name in names if name not in (image, label)], "text", texts)
    if text is None and label is None:
        label = _one(where, [name for name in names if name != image], "label", LABELS)
    if text is None and label is None:
        mend = "say text='COLUMN' or label='COLUMN'"
        raise UserError(f"{where}: which column is the text? It has: {_list(names)}\n{mend}")
    return Columns(image, text, label, id)


NO_ADDRESSES = "column {!r} holds addresses, not images: download them first (img2dataset writes tar shards)"


def _one(where: str, names: Sequence[str], keyword: str, known: Sequence[str]) -> str | None:
    found = [name for name in names if name.lower() in known]
    if len(found) > 1:
        raise UserError(f"{where}: {_list(found)} could each be the {keyword}: say which by {keyword}='COLUMN'")
    return found[0] if found else None


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:SHOWN]) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def caption(value: Any) -> str:
    """A caption without white space around it.

    Raises:
      ValueError: it is none, empty, or not what a caption can be.
    """
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise ValueError(f"the text is {'missing' if value is None or value == [] else f'a {type(value).__name__}'}")
    value = value.strip()
    if not value:
        raise ValueError("the text is empty")
    if "\0" in value:
        raise ValueError(f"the text {value[:SHOWN]!r} holds a NUL byte")
    if not value.isascii():
        value.encode()  # json can spell halves of characters, which no tokenizer takes
    return value


def image_bytes(value: Any, root: str, most: int) -> bytes:
    """An encoded picture: itself, or the file in `root` that a name or Hugging Face's {"bytes", "path"} means.

    Raises:
      ValueError, OSError: there is none, it is over `most` bytes, or not to be read.
    """
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, str) and value.strip():
        return image_file(files.under(root, value.strip()), most)
    if not isinstance(value, bytes) or not value:
        raise ValueError("the image is missing" if value in (None, "", b"") else f"the image is a {type(value).__name__}")
    if len(value) > most:
        raise ValueError(f"the image has {len(value)} bytes, over the limit of {most}")
    return value


def image_file(path: str, most: int) -> bytes:
    """What an image's file holds.

    Raises:
      ValueError, OSError: nothing, more than `most` bytes, or it is not to be read.
    """
    content = files.read(path, most)
    if not content:
        raise ValueError(f"the file {path} is empty")
    return content


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Puts a record's name before what is wrong with it. (An OSError says the file's name itself.)"""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def name_of(value: Any) -> str | None:
    """The file that an image's cell names, None where it holds the picture itself."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else None
    return value.strip() if isinstance(value, str) and value.strip() else None


class Cells:
    """Makes records of a table's rows.

    Args:
      columns: of the table.
      root: the folder of files that are named.
      max_bytes: of a picture.
    """

    def __init__(self, columns: Columns, root: str, max_bytes: int):
        self._columns, self.root, self._most = columns, root, max_bytes

    def record(self, row: Mapping[str, Any], number: int, copy: int | None = None) -> Record:
        """The record of row `number`; of several captions the one numbered `copy`, or all as "texts" where it is None.

        Its id is the row's, or NAME#NUMBER where no column of ids was named, as names may occur twice; #COPY follows.
        With `copy` the row's number is the item.

        Raises:
          ValueError, OSError: the row makes none. The message names the file.
        """
        columns = self._columns
        value = row.get(columns.image)
        name = name_of(value) or ""
        record: Record = {"id": f"{name}#{number}"}
        if columns.id is not None:
            record["id"] = _identity(row.get(columns.id))
        with named(record["id"]):
            if columns.text is not None:
                record |= captions(row.get(columns.text), name or record["id"], copy)
            if columns.label is not None:
                record["label"] = whole(row.get(columns.label))
            record["image"] = image_bytes(value, self.root, self._most)
        if copy is not None:
            record["item"] = number
            record["id"] += f"#{copy}" if copies(row.get(columns.text)) > 1 else ""
        return record

    def probe(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Looks for the files that some rows name.

        Raises:
          UserError: none of them can be found, so that it is the root that is wrong.
        """
        names = [name for name in (name_of(row.get(self._columns.image)) for row in rows) if name]
        for name in names:
            try:
                if files.exists(files.under(self.root, name)):
                    return
            except ValueError as error:
                raise UserError(f"column {self._columns.image!r}: {error}") from None
        if names:
            hint = f"column {self._columns.image!r} is taken for their names; set root= to the folder that they are relative to"
            raise UserError(f"there is no file {names[0][:200]!r} in {self.root}\n{hint}")


def captions(value: Any, of: str, copy: int | None) -> Record:
    """{"text"}, or of a list of several {"texts", "group"}; with `copy` only that one of them, in the image's group.

    Args:
      of: what the captions of one image have in common: their group is a function of it.
    """
    if copies(value) == 1:
        return {"text": caption(value[0] if isinstance(value, list) and value else value)}
    texts = {"texts": [caption(one) for one in value]} if copy is None else {"text": caption(value[copy])}
    return {**texts, "group": group_of(of)}


def copies(value: Any) -> int:
    """How many captions a cell holds; at least 1, as an empty cell is a record too, and a broken one."""
    return max(1, len(value)) if isinstance(value, list) else 1


def every_caption(source: str, captions: str) -> bool:
    """Whether `captions` is "all".

    Raises:
      UserError: it is neither that nor "sample".
    """
    if captions not in ("sample", "all"):
        raise UserError(f"source {source!r}: captions {captions!r} is neither 'sample' nor 'all'")
    return captions == "all"


def _identity(value: Any) -> str:
    if value is None or value == "":
        raise ValueError("the id is missing")
    return value.decode() if isinstance(value, bytes) else str(value)


def whole(value: Any) -> int:
    """The label, which a table may write as "3" or, where some are missing, as 3.0.

    Raises:
      ValueError: it is no whole number.
    """
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"the label {str(value)[:SHOWN]!r} is no whole number")
