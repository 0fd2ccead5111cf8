"""The verb `predict` of the command line.

mmjax predict embed    --checkpoint=DIR [--images=FILE|FOLDER|GLOB] [--texts=FILE|STRING] --out=e.npz
mmjax predict retrieve --checkpoint=DIR --query=IMAGE|TEXT (--images=FOLDER | --texts=FILE) [--index=DIR] [--top=10]
mmjax predict classify --checkpoint=DIR --images=... [--labels=FILE|a,b,c] [--template='a photo of a {}.'] [--out=sheet.png]
mmjax predict answer   --checkpoint=DIR --images=... --texts=FILE|QUESTION [--top=3] [--out=sheet.png]
mmjax predict match    --checkpoint=DIR --images=... --texts=FILE|TEXT [--out=sheet.png]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.core.errors import UserError


def add_parsers(verb: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Gives the verb its sub-commands; each sets `run`."""
    what = verb.add_subparsers(dest="what", required=True, metavar="embed|retrieve|classify|answer|match")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--checkpoint", required=True, help="a workdir, its checkpoints/STEP or a converted folder")

    verb = what.add_parser("embed", parents=[common, shared], help=embed.__doc__)
    verb.add_argument("--images", help="a file, a folder or a glob")
    verb.add_argument("--texts", help="a file of lines, or a text")
    verb.add_argument("--out", required=True, help="the npz: image, text, image_id, text_id; rows in the order of paths")
    verb.set_defaults(run=embed)

    verb = what.add_parser("retrieve", parents=[common, shared], help=retrieve.__doc__)
    verb.add_argument("--query", required=True, help="a picture's path, or a text")
    verb.add_argument("--images", help="what to search: a folder or a glob of pictures")
    verb.add_argument("--texts", help="what to search: a file of lines")
    verb.add_argument("--index", help="where the vectors are kept for the next query; mmjax-index in the folder by default")
    verb.add_argument("--top", type=int, default=10, help="how many to show")
    verb.add_argument("--out", default="retrieved.png", help="the contact sheet of found pictures")
    verb.set_defaults(run=retrieve)

    verb = what.add_parser("classify", parents=[common, shared], help=classify.__doc__)
    verb.add_argument("--images", required=True, help="a file, a folder or a glob")
    verb.add_argument("--labels", help="a file of lines, or names with commas; a classifier's own by default")
    verb.add_argument("--template", action="append", help="a sentence with {} for the label; may be given several times")
    verb.add_argument("--out", default="classified.png", help="the contact sheet")
    verb.set_defaults(run=classify)

    for run, texts, out in ((answer, "questions", "answered.png"), (match, "texts", "matched.png")):
        verb = what.add_parser(run.__name__, parents=[common, shared], help=run.__doc__)
        verb.add_argument("--images", required=True, help="a file, a folder or a glob")
        verb.add_argument("--texts", required=True, help=f"{texts}: a file of lines, or one as it stands")
        verb.add_argument("--out", default=out, help="the contact sheet")
        if run is answer:
            verb.add_argument("--top", type=int, default=3, help="how many answers to show")
        verb.set_defaults(run=run)


def embed(args: argparse.Namespace) -> None:
    """Writes the embeddings of pictures and texts."""
    from mmjax.predict import inputs

    if args.images is None and args.texts is None:
        raise UserError("embed: give --images, --texts or both")
    encoder, found = _encoder(args), {}
    if args.images is not None:
        paths, pictures, broken = inputs.pictures(args.images)
        _tell(broken)
        found |= {"image": encoder.images(pictures), "image_id": np.asarray(paths)}
    if args.texts is not None:
        lines = inputs.texts(args.texts)
        found |= {"text": encoder.texts(lines), "text_id": np.asarray(lines)}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft.npz")
    np.savez(draft, **found)
    draft.replace(out)
    print(", ".join(f"{name} {found[name].shape}" for name in ("image", "text") if name in found) + f": {args.out}")


def retrieve(args: argparse.Namespace) -> None:
    """Finds the pictures of a folder, or the lines of a file, that are nearest to a picture or a text."""
    from mmjax.predict import inputs
    from mmjax.predict.index import Index, stamp

    if (args.images is None) == (args.texts is None):
        raise UserError("retrieve: give either --images or --texts to search")
    if args.top < 1:
        raise UserError(f"--top={args.top} has to be at least 1")
    encoder = _encoder(args)
    if args.images is not None:
        names, pictures, broken = inputs.pictures(args.images)
        _tell(broken)
        by_name = dict(zip(names, pictures, strict=True))
        stamps, home = [stamp(name) for name in names], Path(args.images)
        index = args.index or str((home if home.is_dir() else Path.cwd()) / "mmjax-index")
        made = Index(index, names, stamps, encoder.folder, lambda names: encoder.images([by_name[name] for name in names]))
    else:
        names = inputs.texts(args.texts)
        index = args.index or f"{args.texts}.mmjax-index"
        made = Index(index, names, [""] * len(names), encoder.folder, encoder.texts)
    print(f"{len(names)} {'indexed' if made.fresh else 'in the index'}: {index}", file=sys.stderr)
    found = made.nearest(_query(encoder, args.query), args.top)
    for rank, (name, cosine) in enumerate(found, 1):
        print(f"{rank:4} {cosine:7.4f}  {name}")
    if args.images is not None:
        _sheet([by_name[name] for name, _ in found], [f"{cosine:.3f} {Path(name).name}" for name, cosine in found], args.out)


def classify(args: argparse.Namespace) -> None:
    """Names what pictures show: zero-shot by --labels, or by a classifier's own head."""
    from mmjax.predict import classify as by
    from mmjax.predict import inputs

    encoder = _encoder(args)
    labels = None
    if args.labels is not None:
        labels = (
            inputs.texts(args.labels)
            if Path(args.labels).is_file()
            else [x.strip() for x in args.labels.split(",") if x.strip()]
        )
    paths, pictures, broken = inputs.pictures(args.images)
    _tell(broken)
    if encoder.meta["config"]["model"]["name"] == "classifier":
        scores = by.by_head(encoder, pictures)
        labels = labels or encoder.meta.get("labels") or [f"class {i}" for i in range(scores.shape[1])]
        if len(labels) != scores.shape[1]:
            raise UserError(f"--labels has {len(labels)} names and the classifier {scores.shape[1]} classes")
    elif not labels:
        raise UserError("classify: give --labels=FILE or --labels=a,b,c")
    else:
        scores = by.zero_shot(encoder, pictures, labels, args.template or by.TEMPLATES)
    captions = []
    for path, row in zip(paths, scores, strict=True):
        best = np.argsort(-row)[:5]
        print(f"{path}\n  " + ", ".join(f"{labels[i]} {row[i]:.3f}" for i in best))
        captions.append(f"{labels[best[0]]} {row[best[0]]:.2f}")
    _sheet(pictures, captions, args.out)


def answer(args: argparse.Namespace) -> None:
    """Answers questions about pictures."""
    from mmjax.predict import answer as by
    from mmjax.predict import inputs

    if args.top < 1:
        raise UserError(f"--top={args.top} has to be at least 1")
    encoder, questions = _encoder(args), inputs.texts(args.texts)
    paths, pictures, broken = inputs.pictures(args.images)
    _tell(broken)
    answers, found = by.answer(encoder, pictures, questions)
    _tell_cut(encoder.cut, questions)
    captions = []
    for path, of_picture in zip(paths, found, strict=True):
        print(path)
        for question, row in zip(questions, of_picture, strict=True):
            best = np.argsort(-row, kind="stable")[: args.top]
            print(f"  {question:40} " + ", ".join(f"{answers[i]} {row[i]:.3f}" for i in best))
        captions.append(f"{questions[0]} {answers[of_picture[0].argmax()]} {of_picture[0].max():.2f}")
    _sheet(pictures, captions, args.out)


def match(args: argparse.Namespace) -> None:
    """Says how probable it is that texts belong to pictures."""
    from mmjax.predict import answer as by
    from mmjax.predict import inputs

    encoder, texts = _encoder(args), inputs.texts(args.texts)
    paths, pictures, broken = inputs.pictures(args.images)
    _tell(broken)
    found = by.match(encoder, pictures, texts)
    _tell_cut(encoder.cut, texts)
    for path, row in zip(paths, found, strict=True):
        print(path)
        for i in np.argsort(-row, kind="stable"):
            print(f"  {row[i]:.3f}  {texts[i]}")
    _sheet(pictures, [f"{texts[row.argmax()]} {row.max():.2f}" for row in found], args.out)


def _encoder(args: argparse.Namespace) -> Any:
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    from mmjax.predict.encoder import Encoder

    return Encoder(args.checkpoint)


def _query(encoder: Any, query: str) -> np.ndarray:
    try:
        is_file = Path(query).is_file()
    except OSError:  # too long for a file's name
        is_file = False
    return encoder.images([Path(query).read_bytes()])[0] if is_file else encoder.texts([query])[0]


def _tell(broken: list[str]) -> None:
    for line in broken[:5]:
        print(f"left out, cannot be decoded: {line}", file=sys.stderr)
    if len(broken) > 5:
        print(f"and {len(broken) - 5} more", file=sys.stderr)


def _tell_cut(cut: int, texts: list[str]) -> None:
    if cut:
        print(f"{cut} of {len(texts)} texts are longer than the model reads: their ends were cut off", file=sys.stderr)


def _sheet(pictures: list[bytes], captions: list[str], out: str) -> None:
    from mmjax.data.decode import decode
    from mmjax.report.sheet import contact_sheet

    Path(out).parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([decode(picture) for picture in pictures[:60]], captions[:60]).save(out)
    print(f"contact sheet: {out}")
