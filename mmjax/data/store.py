"""Where prepared data sets live: MMJAX_DATA/<name>/<version>/, by default under ~/.cache/mmjax/data."""

import os
from pathlib import Path

from mmjax.core.errors import UserError


def root() -> Path:
    """The folder of all prepared data sets."""
    return Path(os.environ.get("MMJAX_DATA") or "~/.cache/mmjax/data").expanduser()


def locate(dataset: str) -> Path:
    """The folder of the newest prepared version of `dataset` ("openmoji"), or of one version ("openmoji/1.0.0").

    Raises:
      UserError: it is not prepared.
    """
    folder = root() / dataset
    versions = [info.parent for info in (*folder.glob("dataset_info.json"), *folder.glob("*/dataset_info.json"))]
    if not versions:
        raise UserError(
            f"data set {dataset!r} is not under {root()}: run `mmjax data get {dataset.split('/')[0]}`, "
            "or set MMJAX_DATA to the folder that holds it"
        )
    return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])
