"""Iconify: icons of 194 sets with their names, 64 x 64 pixels: the large one.

Source: the npm package @iconify/json 2.2.535, pinned with its SHA-256 in PACKAGES below; each set has its own licence, and
those of PERMISSIVE are taken. Of 390,629 icons in 243 sets, 313,752 in 194 remain without the hidden and retired ones,
the sets of other licences, and those of the category "Logos", which are trade marks (fa-brands, fa6-brands and unjs are
too, but stand elsewhere). Sets copy from each other: of drawings with equal svg the first is kept (in the order of the
sets' names, unseen sets last), 302,981, less 48 that are white on white (manifest.json names them): 302,933.

A row: text is the icon's name with spaces ("arrow left bold"), base the name without words of style and numbers ("arrow
left"; see base_name), set the set's name, id "SET:NAME", group a function of the caption: sets have many names in
common, so captions repeat across sets and the contrastive loss has to know equal ones. Most icons are black on
white. There is no label.

Names are those of files, by many hands: the same thing is "home" and "house", and a few sets number what they draw. As
sets come in variants (outline, filled, 16 and 24 pixels), a row held out at random would have twins in training. So:

- unseen_sets, by set: all icons of eight authors, UNSEEN_SETS, chosen by hand before any result was known so that each
  kind of set is there: user interface at 16, 24 and 32 pixels, thematic, emoji, weather in colour, programming. No
  other set of these authors is in training. It says how well names are known in a style that is not.
- unseen_names, by base name: of the other sets all icons of 3% of the base names,
  `numpy.random.default_rng(0).choice(sorted base names, 3%, replace=False)`. It says how well a name is read that
  never was seen as a whole; most of its words were.
- train: the remainder.

tokenizer.json numbers the most frequent words of the training names.

Measured: train 276,134 with 183,233 captions ("calendar" 102 times), unseen_names 10,369 with 6,521, unseen_sets 16,430 with
14,373; of the last, 5,854 rows have a caption that is in train. Other svg may give the same picture: 298,452 pictures are
distinct, and 129 rows of unseen_names and 52 of unseen_sets look exactly like one in train. No broken picture. The download
is 104 MB; prepared in 530 s of processor time, shared by the processors; 365 MB on disk.
"""

import concurrent.futures
import concurrent.futures.process
import json
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmjax.core.errors import UserError
from mmjax.data.builders.draw import NotDrawn, draw, icon_svg
from mmjax.data.builders.fetch import Npm, members
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of

VERSION = "1.0.0"
LICENCE = "each set its own: MIT, Apache-2.0, CC-BY, CC0, OFL, ISC, BSD, MPL, Unlicense (manifest.json says which)"
ABOUT = "icons of 194 sets with their names, 64 x 64 pixels"
COUNTS = {"train": 276_134, "unseen_names": 10_369, "unseen_sets": 16_430}

PACKAGES = (Npm("@iconify/json", "2.2.535", "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91"),)

SIZE = 64
PERMISSIVE = (
    "Apache-2.0",
    "BSD-3-Clause",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "OFL-1.1",
    "Unlicense",
)
UNSEEN_SETS = (
    "carbon",
    "emojione",
    "emojione-monotone",
    "game-icons",
    "healthicons",
    "iconoir",
    "meteocons",
    "octicon",
    "vscode-icons",
)
UNSEEN_NAMES = 0.03
STYLES = re.compile(
    "alt|baseline|bold|broken|color|dark|duo|duotone|fill|filled|flat|icon|large|light|line|linear|medium|one|outline|outlined"
    "|regular|remix|round|rounded|sharp|skin|small|solid|thin|three|tone|two|twotone|1x1|4x3|16px|24px"
)
CHUNK = 64  # drawings that a worker takes at a time


class Icon(NamedTuple):
    """An icon's set and name, and its drawing as svg."""

    set: str
    name: str
    svg: str


def build(folder: Path, vocabulary: int = 16384, workers: int | None = None) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
      workers: processes that draw; default one a processor.
    """
    import tensorflow_datasets as tfds

    licences, icons = _icons()
    splits = split_icons(icons)
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
        "group": np.int64,
        **dict.fromkeys(("text", "base", "set", "id"), text),
    }
    left_out: dict[str, str] = {}
    # A fresh interpreter each: a fork would copy the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(workers or os.cpu_count(), context) as pool:
            rows = {split: _rows(split, part, pool, left_out) for split, part in splits.items()}
            write_tfds(folder, "iconify", VERSION, features, rows, __doc__, LICENCE)
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            "iconify: a process that draws was ended: is there memory for one a processor?\n"
            'in a script, prepare it below `if __name__ == "__main__":`, which those processes need'
        ) from None
    tokens = write_tokenizer(folder, [_caption(icon.name) for icon in splits["train"]], vocabulary)
    write_manifest(folder, "iconify", PACKAGES, LICENCE, licences=licences, vocabulary=tokens, left_out=left_out)


def base_name(name: str) -> str:
    """An icon's name without words of style at either end and numbers at the end: "outline-home-24" -> "home"."""
    words = name.split("-")
    while len(words) > 1 and (STYLES.fullmatch(words[-1]) or words[-1].isdigit()):
        words.pop()
    while len(words) > 1 and STYLES.fullmatch(words[0]):
        words.pop(0)
    return "-".join(words)


def split_icons(icons: Sequence[Icon]) -> dict[str, list[Icon]]:
    """Icons by split, as the module's docstring says."""
    seen = [icon for icon in icons if icon.set not in UNSEEN_SETS]
    names = sorted({base_name(icon.name) for icon in seen})
    held = set(np.random.default_rng(0).choice(names, round(UNSEEN_NAMES * len(names)), replace=False).tolist())
    return {
        "train": [icon for icon in seen if base_name(icon.name) not in held],
        "unseen_names": [icon for icon in seen if base_name(icon.name) in held],
        "unseen_sets": [icon for icon in icons if icon.set in UNSEEN_SETS],
    }


def _icons() -> tuple[dict[str, str], list[Icon]]:
    """{set: its licence}, and the icons of those sets, unseen sets last, names in order, each drawing once."""
    ((_, data),) = members(PACKAGES[0], r"package/collections\.json")
    licences = {
        name: entry["license"].get("spdx", "")
        for name, entry in json.loads(data).items()
        if not entry.get("hidden") and entry.get("category") != "Logos"
    }
    licences = {name: licence for name, licence in licences.items() if licence in PERMISSIVE}
    found: list[Icon] = []
    for path, data in members(PACKAGES[0], r"package/json/[^/]+\.json"):
        if (name := Path(path).stem) in licences:
            table = json.loads(data)
            shown = {key: icon for key, icon in table["icons"].items() if not icon.get("hidden")}
            found += [Icon(name, key, icon_svg(icon, table)) for key, icon in shown.items()]
    once: dict[str, Icon] = {}
    for icon in sorted(found, key=lambda icon: (icon.set in UNSEEN_SETS, icon.set, icon.name)):
        once.setdefault(icon.svg, icon)
    return licences, list(once.values())


def _rows(
    split: str, icons: Sequence[Icon], pool: concurrent.futures.Executor, left_out: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """The records of a split; those that cannot be drawn go to `left_out` by id, with the reason."""
    from tqdm import tqdm

    with tqdm(total=len(icons), desc=f"iconify: drawing {split}", unit="", disable=None) as progress:
        for start in range(0, len(icons), 100 * CHUNK):  # so many wait at a time, not all
            part = icons[start : start + 100 * CHUNK]
            for icon, image in zip(part, pool.map(_draw, [icon.svg for icon in part], chunksize=CHUNK), strict=True):
                progress.update()
                name, caption = f"{icon.set}:{icon.name}", _caption(icon.name)
                if isinstance(image, str):
                    left_out[name] = image
                else:
                    fields = {"text": caption, "base": _caption(base_name(icon.name)), "set": icon.set, "id": name}
                    yield {"image": image, **fields, "group": group_of(caption)}


def _draw(svg: str) -> bytes | str:
    """The png, or why there is none."""
    try:
        return draw(svg, SIZE)
    except NotDrawn as error:
        return str(error)


def _caption(name: str) -> str:
    return name.replace("-", " ")
