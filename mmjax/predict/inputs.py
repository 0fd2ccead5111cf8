"""What a person names on the command line: pictures by file, folder or glob, texts by file or as they stand."""

import glob
from pathlib import Path

from mmjax.core.errors import UserError
from mmjax.data import decode

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".svg")


def pictures(given: str) -> tuple[list[str], list[bytes], list[str]]:
    """(paths, encoded pictures, a line for each that cannot be decoded), in the order of paths.

    Args:
      given: a file, a folder (searched to its depth by ENDINGS) or a glob.

    Raises:
      UserError: nothing is there, or none can be decoded.
    """
    place = Path(given).expanduser()
    if place.is_file():
        paths = [place]
    elif place.is_dir():
        paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    else:
        paths = sorted(Path(path) for path in glob.glob(str(place), recursive=True) if Path(path).is_file())
    if not paths:
        raise UserError(f"--images={given}: no picture there; endings looked for in folders: {' '.join(ENDINGS)}")
    names, found, broken = [], [], []
    for path in paths:
        encoded = path.read_bytes()
        try:
            decode.decode(encoded)
        except (ValueError, OSError) as error:
            broken.append(f"{path}: {error}")
            continue
        names.append(str(path))
        found.append(encoded)
    if not found:
        raise UserError(f"--images={given}: none of {len(paths)} can be decoded; {broken[0]}")
    return names, found, broken


def texts(given: str) -> list[str]:
    """The lines of a file, or the string itself.

    Raises:
      UserError: the file is no UTF-8 or holds no line.
    """
    path = Path(given).expanduser()
    try:
        if not path.is_file():
            return [given]
    except OSError:  # too long for a file's name
        return [given]
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{given}: no UTF-8: {error}") from None
    if not lines:
        raise UserError(f"{given}: holds no line of text")
    return lines
