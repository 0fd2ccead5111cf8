"""Sounds in a folder, with what is said in them."""

from mmjax.data.limits import LIMITS
from mmjax.data.sources.clips import Clips, Table


class AudioFolder(Clips):
    """Sound files in a folder and its subfolders, and their transcripts.

    Transcripts are, in this order: *.trans.txt files (LibriSpeech), one csv or tsv file, a .txt beside each file, or one .txt
    or .transcription file (Asterisk's "name: text", CMU Sphinx's "<s> text </s> (name)").

    Args:
      path: the folder; also gs://, s3:// and whatever fsspec opens.
      table: the table or transcript, within the folder or by a path of its own (.gz too), where it is not to be found as above.
      audio, text, label: columns of a table; usual names of the first two are found; labels (int) are read where named.
      captions: where several rows tell of one file: "sample" gives "texts", of which training draws one a step; "all" gives a
        record per text, those of a file in one group.
      encoding, quote: of the table, as source "csv" takes them.
      max_bytes: a larger file is a broken record.

    Raises:
      UserError: there is no sound, no transcript, or not the column.
    """

    NAME, FIELD = "audio_folder", "audio"
    SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif")

    def __init__(
        self,
        path: str,
        table: str | None = None,
        audio: str | None = None,
        text: str | None = None,
        label: str | None = None,
        captions: str = "sample",
        encoding: str = "utf-8",
        quote: str = '"',
        max_bytes: int = LIMITS.bytes,
    ):
        super().__init__(path, Table(table, audio, text, label, encoding, quote), captions, max_bytes)
