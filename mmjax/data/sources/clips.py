"""A folder of clips (sounds, videos) and what is said of each: in a table, in a transcript file or in a .txt beside it."""

import gzip
import io
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mmjax.core.errors import UserError
from mmjax.data.sources import columns, files
from mmjax.data.sources.index import Rows
from mmjax.data.sources.source import Record, group_of

# Columns that say what they are by name, whatever their case; of several such files' columns the first of this list is taken.
FILES = (
    *("file", "filename", "file_name", "filepath", "file_path", "path", "audio", "wav", "video", "clip", "video_id"),
    *("name", "id"),
)
TEXTS = (*columns.TEXTS, "transcription", "transcript", "normalized_text")
TRANSCRIPTS = (".txt", "transcription")
# CMU Sphinx's "<s> so he said </s> (name)".
SPHINX = re.compile(r"<s>(.*)</s>\s*\((.*)\)")


class Table(NamedTuple):
    """Where a folder's texts are, as the user says it; None is looked for."""

    file: str | None
    name: str | None
    text: str | None
    label: str | None
    encoding: str
    quote: str


class Said(NamedTuple):
    """One line of a table or transcript: the clip as it is written there, its text and its label where there are any."""

    name: str
    text: str | None
    label: int | None = None


class Clip(NamedTuple):
    """One record: its file in the folder ("" where it is not there), its texts or the .txt `beside` it that holds one."""

    id: str
    file: str
    texts: tuple[str, ...] = ()
    label: int | None = None
    beside: str | None = None
    group: int | None = None
    item: int | None = None


class Clips:
    """What AudioFolder and VideoFolder share; they say which files are clips (SUFFIXES) and name the FIELD.

    A record has FIELD (the file's bytes), id (the path within the folder), text, or texts and group where several are said of
    one clip, and label where a column of it is named; with captions="all" an item, which records of one clip share.

    Attributes:
      left_out: clips of the folder that nothing is said of; they are no records. A clip that is spoken of and not there is
        a record, and a broken one.
    """

    NAME, FIELD, SUFFIXES = "", "", ()

    def __init__(self, path: str, table: Table, captions: str, max_bytes: int):
        self._root, self._most = files.need(path, self.NAME), max_bytes
        visible = sorted(files.walk(self._root))
        names = [name for name in visible if name.lower().endswith(self.SUFFIXES)]
        if not names:
            raise UserError(f"{self.NAME}: no {', '.join(self.SUFFIXES)} file in {self._root}: is it the right folder?")
        clips = self._spoken_of(names, sorted(set(visible) - set(names)), table)
        spoken = {clip.file for clip in clips}
        self.left_out = [name for name in names if name not in spoken]
        self._clips = list(_one_text_each(clips)) if columns.every_caption(self.NAME, captions) else clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(i)
        clip = self._clips[i]
        if not clip.file:
            raise FileNotFoundError(f"{clip.id} is not in the folder")
        record: Record = {"id": clip.id}
        if clip.beside is not None:
            record["text"] = columns.caption(" ".join(self._read(clip.beside).decode("utf-8-sig").split()))
        elif len(clip.texts) > 1:
            record["texts"] = [columns.caption(text) for text in clip.texts]
        elif clip.texts:
            record["text"] = columns.caption(clip.texts[0])
        for field in ("label", "group", "item"):
            if getattr(clip, field) is not None:
                record[field] = getattr(clip, field)
        record[self.FIELD] = self._read(clip.file)
        return record

    def _read(self, name: str) -> bytes:
        content = files.read(f"{self._root}/{name}", self._most)
        if not content:
            raise ValueError(f"the file {name} is empty")
        return content

    def _spoken_of(self, names: Sequence[str], others: Sequence[str], table: Table) -> list[Clip]:
        """The clips that something is said of, in the order in which it is said."""
        tables, beside = ([table.file], {}) if table.file else self._find(names, others)
        if beside:
            return [Clip(name, name, beside=text) for name, text in beside.items()]
        lookup, clips = _Lookup(names), {}
        for file in tables:
            for said in self._said(file, table):
                name = lookup.find(said.name, posixpath.dirname(file))
                clip = clips.get(name or said.name, Clip(name or said.name, name or "", (), said.label))
                texts = clip.texts if said.text is None else (*clip.texts, said.text)
                clips[clip.id] = clip._replace(texts=texts, group=group_of(clip.id) if len(texts) > 1 else None)
        if not any(clip.file for clip in clips.values()):
            raise UserError(
                f"{self.NAME}: {tables[0]} names none of the {len(names)} files of {self._root}, such as {names[0]}\n"
                "a transcript's lines are 'name: text', '<s> text </s> (name)' or, in *.trans.txt, 'name text'"
            )
        return list(clips.values())

    def _find(self, names: Sequence[str], others: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """(tables or transcripts, {clip: its .txt}), one of them empty."""
        if spaced := [name for name in others if name.endswith(".trans.txt")]:
            return spaced, {}
        stems = {posixpath.splitext(name)[0]: name for name in others if name.endswith(".txt")}
        beside = {name: stems[posixpath.splitext(name)[0]] for name in names if posixpath.splitext(name)[0] in stems}
        tables = [name for name in others if name.endswith((".csv", ".tsv"))]
        if beside and not tables:
            return [], beside
        found = tables or [name for name in others if name.endswith(TRANSCRIPTS)]
        if len(found) == 1:
            return found, {}
        if found:
            raise UserError(f"{self.NAME}: {self._root} holds {', '.join(found[:4])}: say which one by table=")
        raise UserError(
            f"{self.NAME}: {self._root} holds {len(names)} files and no text: put a csv, a transcript or a .txt beside each,\n"
            "or name the table or transcript by table="
        )

    def _said(self, file: str, table: Table) -> Iterator[Said]:
        """What a table or transcript says, a line at a time."""
        path = f"{self._root}/{file}"
        if not files.exists(path):  # no file of the folder: one that the user named by its own path
            path = files.need(file, self.NAME)
        if file.endswith((".csv", ".tsv")):
            return read_table(path, table, self.FIELD)
        try:
            content = files.read(path, self._most)
            if file.endswith(".gz"):
                content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(self._most + 1)
            if len(content) > self._most:
                raise ValueError(f"unpacked it is over the limit of {self._most} bytes")
            text = content.decode(table.encoding).removeprefix("\ufeff")
        except (OSError, EOFError, ValueError, LookupError, zlib.error) as error:
            raise UserError(f"{self.NAME}: {file} cannot be read: {error}") from None
        return read_lines(text, file.removesuffix(".gz"))


def read_lines(text: str, file: str) -> Iterator[Said]:
    """The lines of a transcript.

    LibriSpeech's "name text" in *.trans.txt; CMU Sphinx's "<s> text </s> (name)"; else Asterisk's "name: text", where ; opens a
    comment. A text in brackets, such as "[beep]", says what is heard and is no transcript.
    """
    for line in text.split("\n"):
        line = line.strip()
        if file.endswith(".trans.txt"):
            name, _, said = line.partition(" ")
        elif match := SPHINX.fullmatch(line):
            said, name = match.groups()
        else:
            name, _, said = ("", "", "") if line.startswith(";") else line.partition(":")
        name, said = name.strip(), said.strip()
        if name and said and said[0] not in "[(":
            yield Said(name, said)


def read_table(path: str, table: Table, field: str) -> Iterator[Said]:
    """The rows of a csv or tsv file with a line of column names.

    Args:
      field: the keyword by which the user names the column of files.

    Raises:
      UserError: a column is missing, a row has more fields than columns, a label is no whole number, or it is no table.
    """
    rows = Rows(path, None, table.encoding, table.quote)
    known = {name.lower(): name for name in reversed(rows.header)}
    file = table.name or next((known[name] for name in FILES if name in known), None)
    chosen = columns.choose(path, rows.header, file, table.text, table.label, None, keyword=field, texts=TEXTS)
    for i in range(len(rows)):
        try:
            row = rows.row(i)
            label = None if chosen.label is None else columns.whole(row.get(chosen.label))
        except ValueError as error:
            raise UserError(f"{path}, row {i + 1}: {error}") from None
        text = None if chosen.text is None else row.get(chosen.text, "")
        yield Said(row.get(chosen.image) or f"(row {i + 1} of {path})", text, label)


def _one_text_each(clips: Iterable[Clip]) -> Iterator[Clip]:
    for i, clip in enumerate(clips):
        if len(clip.texts) < 2:
            yield clip._replace(item=i)
        else:
            yield from (clip._replace(id=f"{clip.id}#{k}", texts=(text,), item=i) for k, text in enumerate(clip.texts))


class _Lookup:
    """Which clip a table means: by its path in the folder or, a name without a folder, by that name where only one has it.

    The suffix may be missing. A path that is absolute, or begins above the folder, is shortened from the left until it fits.
    """

    def __init__(self, names: Sequence[str]):
        self._paths: dict[str, str | None] = {}
        self._names: dict[str, str | None] = {}
        for name in names:
            for key in (name, posixpath.splitext(name)[0]):
                base = posixpath.basename(key)
                self._paths[key] = None if key in self._paths else name
                self._names[base] = None if base in self._names else name

    def find(self, written: str, folder: str) -> str | None:
        """The clip that a table or transcript in `folder` writes so, or None."""
        written = posixpath.normpath(written)
        parts = written.split("/")
        for key in (posixpath.join(folder, written), *("/".join(parts[i:]) for i in range(len(parts)))):
            if self._paths.get(key):
                return self._paths[key]
        return self._names.get(written)
