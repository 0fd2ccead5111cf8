"""Where the records of a text file lie: csv, json lists and json lines are read through once, and then by byte ranges.

A million records take 12 MB (json: 20 MB), however long they are.
"""

import array
import codecs
import collections
import csv
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt32, UInt64

from mmjax.core.errors import UserError
from mmjax.data.sources import files

CHUNK = 1 << 20
# Bytes of one line of a csv or one element of a json list: what an unclosed quote may cost.
LONGEST = 64 << 20


class Spans:
    """The byte ranges of a file: `spans[i]` reads range i. The file is opened where it is read, once a process.

    Args:
      path: the file.
      starts, lengths: of the ranges, in bytes.
    """

    def __init__(self, path: str, starts: UInt64[np.ndarray, " n"], lengths: UInt32[np.ndarray, " n"]):
        self._path, self._starts, self._lengths = path, starts, lengths
        self._lock, self._file, self._stamp = threading.Lock(), None, None
        self._stamp = self._opened()[1]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, i: int) -> bytes:
        file, _ = self._opened()
        start, length = int(self._starts[i]), int(self._lengths[i])
        if "://" in self._path:
            with self._lock:
                file.seek(start)
                return file.read(length)
        return os.pread(file.fileno(), length, start)  # has no position that threads could share

    def _opened(self) -> tuple[files.File, Any]:
        """The file and what tells it from a later one of the same name.

        Raises:
          ValueError: it is not the file that was indexed.
        """
        with self._lock:
            if self._file is None:
                file = files.open_binary(self._path)
                if "://" in self._path:
                    stamp = file.seek(0, os.SEEK_END)
                else:
                    status = os.fstat(file.fileno())
                    stamp = (status.st_size, status.st_mtime_ns)
                if self._stamp not in (None, stamp):
                    file.close()
                    raise ValueError(f"{self._path} has changed since this run began to read it")
                self._file, self._stamp = file, stamp
            return self._file, self._stamp

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def spans_of(path: str, starts: "array.array[int]", lengths: "array.array[int]") -> Spans:
    """Spans of what a reader noted."""
    return Spans(path, np.array(starts, np.uint64), np.array(lengths, np.uint32))


class Rows:
    """The rows of a csv file after its header: `rows[i]` is a list of str.

    Quoting is RFC 4180's: a field in quotes may hold separators and line ends, and a quote in it is doubled.

    Args:
      path: the file.
      sep: between fields; None takes the one of tab, comma, semicolon and bar that cuts the header into most.
      encoding: any of Python's whose line ends are a byte: not UTF-16.
      quote: the quoting character; "" where quotes mean nothing.

    Attributes:
      header: the names of the columns.

    Raises:
      UserError: the file cannot be read as such; it names the line and proposes a mend.
    """

    def __init__(self, path: str, sep: str | None, encoding: str, quote: str):
        if len(quote) > 1 or (sep is not None and len(sep) != 1):
            raise UserError(f"{path}: sep {sep!r} and quote {quote!r} are one character each (quote='' for none)")
        quoting = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
        with files.open_binary(path) as file:
            try:
                first = next((line for line in _Lines(path, file, encoding) if line.strip()), "")
            except LookupError:
                raise UserError(f"{path}: unknown encoding {encoding!r}, e.g. 'utf-8', 'cp1252', 'gb18030'") from None
            if not first:
                raise UserError(f"{path}: the file is empty")
            # In a draw the comma wins.
            columns = {mark: first.count(mark) for mark in ",\t;|"}
            self._dialect = {"delimiter": sep or max(columns, key=columns.get), "strict": True, **quoting}
            self._encoding = encoding
            self.header, self._spans = self._index(path, _Lines(path, file, encoding))

    def _index(self, path: str, lines: "_Lines") -> tuple[list[str], Spans]:
        starts, lengths, header, number = array.array("Q"), array.array("I"), [], 1
        reader = csv.reader(lines, **self._dialect)
        try:
            for row in reader:
                if row and header:
                    starts.append(lines.start)
                    lengths.append(lines.end - lines.start)
                elif row:
                    header = [name.strip() for name in row]
                lines.start, number = lines.end, reader.line_num + 1
        except csv.Error as error:
            reason = str(error).split(" - ")[0]
            mend = "a quote inside a field is written twice; where quotes mean nothing, say quote=''"
            raise UserError(f"{path} from line {number} on: {reason}: {mend}") from None
        return header, spans_of(path, starts, lengths)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, i: int) -> list[str]:
        return next(csv.reader([self._spans[i].decode(self._encoding)], **self._dialect))

    def row(self, i: int) -> dict[str, str]:
        """Row i by the names of its columns; a short one misses its last, and a long one ends in empty fields.

        Raises:
          ValueError: a field beyond the last column holds something, so that fields before it may be in the wrong column.
        """
        fields = self[i]
        if any(field.strip() for field in fields[len(self.header) :]):
            mend = f"quote what holds {self._dialect['delimiter']!r}"
            of = f"the row of {fields[0][:60]!r} has {len(fields)} fields"
            raise ValueError(f"{of} where the header has {len(self.header)}: {mend}")
        return dict(zip(self.header, fields, strict=False))


class _Lines:
    """The decoded lines of a file. `end` is where the last one ended, `start` where its reader's present row begins."""

    def __init__(self, path: str, file: files.File, encoding: str):
        self._path, self._file, self._encoding, self._number = path, file, encoding, 0
        self.start = self.end = _skip_mark(path, file)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(LONGEST)
        if not raw:
            raise StopIteration
        self._number += 1
        self.end += len(raw)
        if self.end - self.start >= LONGEST:
            raise UserError(f"{self._path} line {self._number}: no record ends within {LONGEST} bytes: an unclosed quote?")
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise UserError(self._proposal(raw, error.start)) from None

    def _proposal(self, raw: bytes, at: int) -> str:
        """What to say of a line that is no text in this encoding: how others would read it."""
        part, readings = raw[max(0, at - 12) : at + 12], []
        for encoding in ("utf-8", "cp1252", "gb18030"):
            if encoding != self._encoding:
                readings.append(f"encoding={encoding!r} reads {part.decode(encoding, 'replace')!r}")
        where = f"{self._path} line {self._number}, byte {self.end - len(raw) + at}"
        return f"{where}: 0x{raw[at]:02x} is not {self._encoding}: {', '.join(readings)}"


def _skip_mark(path: str, file: files.File) -> int:
    """Seeks to where the text begins, after a UTF-8 byte order mark, and returns the place."""
    file.seek(0)
    head = file.read(4)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or (len(head) == 4 and 0 in (head[0], head[1])):
        raise UserError(f"{path} is UTF-16 or no text: turn it into UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if head[:2] == b"\x1f\x8b":
        raise UserError(f"{path} is compressed, and records cannot be found in it by their place: gunzip it first")
    return file.seek(3 if head[:3] == codecs.BOM_UTF8 else 0)


class Elements:
    """The objects of a json list, of json lines, or of the list under `key` of a json object.

    An object may stand for several records, e.g. one a caption: `elements[i]` is (the object of record i, the object's
    number, which of its records this is).

    Args:
      path: the file, UTF-8.
      key: where the list is; None for the file itself.
      count: how many records an object stands for; 0 leaves it out.

    Raises:
      UserError: it is no such json; it names the byte.
    """

    def __init__(self, path: str, key: str | None = None, count: Callable[[dict[str, Any]], int] = lambda _: 1):
        starts, lengths, counts = array.array("Q"), array.array("I"), array.array("I")
        with files.open_binary(path) as file:
            for start, end, element in _Scan(path, file).elements(key):
                if not isinstance(element, dict):
                    raise UserError(f"{path} byte {start}: {str(element)[:40]!r} is no object {{...}}")
                if records := count(element):
                    starts.append(start)
                    lengths.append(end - start)
                    counts.append(records)
        self._spans, self._ends = spans_of(path, starts, lengths), np.cumsum(np.array(counts, np.int64))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> tuple[dict[str, Any], int, int]:
        number = int(np.searchsorted(self._ends, i, side="right"))
        return json.loads(self._spans[number]), number, i - (int(self._ends[number - 1]) if number else 0)


def keys_of(path: str) -> list[str]:
    """The keys of a file's first json object, of a large one those of its first megabyte; [] where it begins otherwise.

    Raises:
      UserError: it is no json.
    """
    with files.open_binary(path) as file:
        return list(_Scan(path, file).keys())


def value_of(path: str, key: str) -> Any:
    """What the json object of a file has under a key.

    Raises:
      UserError: no such key, or no json.
    """
    with files.open_binary(path) as file:
        return _Scan(path, file).value(key)


class _Scan:
    """Reads json values one after another from a file that need not fit into memory."""

    def __init__(self, path: str, file: files.File):
        self._path, self._file, self._decoder = path, file, json.JSONDecoder()
        self._byte = _skip_mark(path, file)  # where text[at] is in the file
        self._text, self._at, self._utf8 = "", 0, codecs.getincrementaldecoder("utf-8")()

    def elements(self, key: str | None) -> Iterator[tuple[int, int, Any]]:
        """(first byte, byte after the last, value) of each element; `key` as in Elements."""
        if key is not None:
            self._find(key)
        if self._peek() == "[":
            yield from self._list()
        elif key is not None:
            raise self._error(f"{key!r} is no list")
        else:
            while self._peek():
                yield self._value()

    def value(self, key: str) -> Any:
        """What the outermost object has under a key."""
        self._find(key)
        return self._value()[2]

    def keys(self) -> Iterator[str]:
        """The keys of the outermost object, as far as they begin in the first CHUNK."""
        while self._peek() in ("{", ","):
            self._step(1)
            yield self._key()
            if self._peek() != "[":
                self._value()
            elif any(self._byte > CHUNK for _ in self._list()):
                return

    def _list(self) -> Iterator[tuple[int, int, Any]]:
        self._step(1)
        closed = self._peek() == "]"
        while not closed:
            if not self._peek():
                raise self._error("the list has no end: is the file cut off?")
            yield self._value()
            closed = self._peek() == "]"
            if self._peek() == ",":
                self._step(1)
            elif not closed:
                raise self._error("a comma or ] is missing: is the file cut off?")
        self._step(1)

    def _find(self, key: str) -> None:
        """Goes to the value of a key of the outermost object. Lists before it need not fit into memory."""
        if self._peek() != "{":
            raise self._error(f"no object with {key!r}")
        seen = []
        while self._peek() in ("{", ","):
            self._step(1)
            seen.append(self._key())
            if seen[-1] == key:
                return
            if self._peek() == "[":
                collections.deque(self._list(), maxlen=0)
            else:
                self._value()
        raise UserError(f"{self._path} has no {key!r}; it has: {', '.join(seen)}")

    def _key(self) -> str:
        """Goes past a key and its colon."""
        self._peek()
        key = str(self._value()[2])
        if self._peek() != ":":
            raise self._error("a colon is missing")
        self._step(1)
        self._peek()
        return key

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            end = _SPACE.match(self._text, self._at).end()
            self._step(end - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> tuple[int, int, Any]:
        """The value that begins here: its first byte, the byte after its last, and itself."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                break
            except RecursionError:
                raise self._error("nested too deeply") from None
            except ValueError as error:
                # What is wrong far from the end of what was read stays wrong; strings are blamed where they begin.
                inside = getattr(error, "pos", 0) < len(self._text) - 16 and not str(error).startswith("Unterminated string")
                if inside or len(self._text) - self._at > LONGEST or not self._more():
                    raise self._error(str(error).split(": line ")[0]) from None
        start = self._byte
        self._step(end - self._at)
        return start, self._byte, value

    def _step(self, characters: int) -> None:
        """Goes on."""
        passed = self._text[self._at : self._at + characters]
        self._at += characters
        self._byte += characters if passed.isascii() else len(passed.encode())

    def _more(self) -> bool:
        """Reads as much again as is waiting; False at the end of the file."""
        rest = self._text[self._at :]
        raw = self._file.read(max(CHUNK, len(rest)))
        try:
            new = self._utf8.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path} from byte {self._byte} on: {error.reason}: turn it into UTF-8") from None
        self._text, self._at = rest + new, 0
        return bool(raw)

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._path} byte {self._byte}: {what}")


_SPACE = re.compile("[ \t\r\n]*")
