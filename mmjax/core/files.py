"""Files of a workdir, which may lie on a disk or in a bucket (gs://)."""

import os

from etils import epath


def write(path: str | os.PathLike, text: str) -> epath.Path:
    """Writes `text` (UTF-8) beside `path` and renames: a reader never sees half a file, nor none where one was."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.draft"
    try:
        draft.write_bytes(text.encode())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
