"""Sources that are tables: csv and tsv, json lists and json lines.

Their columns are named, or found where their names say what they are (columns.choose). Names of files are relative to
`root`, by default the table's folder, and may not leave it.
"""

from typing import Any

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS
from mmjax.data.sources import files
from mmjax.data.sources.columns import Cells, choose, copies, every_caption
from mmjax.data.sources.index import Elements, Rows
from mmjax.data.sources.source import Record


class Csv:
    """A csv or tsv file whose first line names the columns, one of them the images' files.

    The file is read through once, then each row from its place: 12 bytes a row stay in memory.

    Args:
      path: the file.
      image, text, label, id: columns; None finds image and text (label where there is no text) by their names.
      root: the folder that file names are relative to; None is the table's. "/" takes absolute names.
      sep: between columns; None takes the one of tab, comma, semicolon and bar that the first line has most of.
      encoding: e.g. "utf-8", "cp1252", "gb18030".
      quote: around fields that hold separators or line ends; "" where quotes mean nothing.
      max_bytes: a larger image file is a broken record.

    Raises:
      UserError: no such file or column, another encoding, an unclosed quote, or none of some named files is there.
    """

    def __init__(
        self,
        path: str,
        image: str | None = None,
        text: str | None = None,
        label: str | None = None,
        id: str | None = None,
        root: str | None = None,
        sep: str | None = None,
        encoding: str = "utf-8",
        quote: str = '"',
        max_bytes: int = LIMITS.bytes,
    ):
        path = files.need(path, "csv")
        self._rows = Rows(path, sep, encoding, quote)
        columns = choose(path, self._rows.header, image, text, label, id)
        self._cells = Cells(columns, files.plain(root or files.parent(path)), max_bytes)
        self._cells.probe([dict(zip(self._rows.header, self._rows[i], strict=False)) for i in _some(len(self))])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self._cells.record(self._rows.row(i), i)


class Json:
    """A json list of objects, or json lines, such as ALBEF's and BLIP's {"image": file, "caption": str or list of str}.

    The file is read through once, then each object from its place: 20 bytes an object stay in memory.

    Args:
      path: the file, UTF-8.
      image, text, label, id: keys; None finds image and text (label where there is no text) by their names in the first object.
      root: the folder that file names are relative to; None is the table's. "/" takes absolute names.
      captions: where an object has several: "sample" gives "texts", of which training draws one a step; "all" gives a
        record per caption, those of an image in one group.
      max_bytes: a larger image file is a broken record.

    Raises:
      UserError: no such file or key, no such json (it names the byte), or none of some named files is there.
    """

    def __init__(
        self,
        path: str,
        image: str | None = None,
        text: str | None = None,
        label: str | None = None,
        id: str | None = None,
        root: str | None = None,
        captions: str = "sample",
        max_bytes: int = LIMITS.bytes,
    ):
        path, self._all = files.need(path, "json"), every_caption("json", captions)
        columns = None

        def count(element: dict[str, Any]) -> int:
            nonlocal columns
            columns = columns or choose(path, list(element), image, text, label, id)
            return copies(element.get(columns.text)) if self._all else 1

        self._elements = Elements(path, None, count)
        if columns is None:
            raise UserError(f"source 'json': {path} holds no object")
        self._cells = Cells(columns, files.plain(root or files.parent(path)), max_bytes)
        self._cells.probe([self._elements[i][0] for i in _some(len(self))])

    def __len__(self) -> int:
        return len(self._elements)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        element, number, copy = self._elements[i]
        return self._cells.record(element, number, copy if self._all else None)


def _some(n: int) -> list[int]:
    """A few numbers under n: the first, the middle and the last."""
    return sorted({0, n // 2, n - 1}) if n else []
