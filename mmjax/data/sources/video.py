"""Videos and animated pictures in a folder, with what is said of them."""

from mmjax.data.limits import LIMITS
from mmjax.data.sources.clips import Clips, Table


class VideoFolder(Clips):
    """Video files in a folder and its subfolders, and their captions: in one csv or tsv file or in a .txt beside each file.

    Args:
      path: the folder; also gs://, s3:// and whatever fsspec opens.
      table: the table, within the folder or by a path of its own (.gz too), where the folder holds none or several.
      video, text, label: columns of a table; usual names of the first two are found; labels (int) are read where named.
      captions: where several rows tell of one file: "sample" gives "texts", of which training draws one a step; "all" gives a
        record per text, those of a file in one group.
      encoding, quote: of the table, as source "csv" takes them.
      max_bytes: a larger file is a broken record.

    Raises:
      UserError: there is no video, no caption, or not the column.
    """

    NAME, FIELD = "video_folder", "video"
    SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".webp")

    def __init__(
        self,
        path: str,
        table: str | None = None,
        video: str | None = None,
        text: str | None = None,
        label: str | None = None,
        captions: str = "sample",
        encoding: str = "utf-8",
        quote: str = '"',
        max_bytes: int = LIMITS.bytes,
    ):
        super().__init__(path, Table(table, video, text, label, encoding, quote), captions, max_bytes)
