"""The shipped data sets, made of tiny packages here.

MMJAX_TEST_PACKAGES=1 also makes each of them of its real packages, under MMJAX_DATA: some 430 MB of downloads by npm and
apt-get, and about ten minutes on two cores, most of it for iconify.
"""

import gzip
import hashlib
import io
import json
import os
import queue
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data import builders, store, svg
from mmjax.data.builders import asterisk_en, draw, emoji4, fashion_mnist, flags_facts, iconify, openclipart, tuxpaint
from mmjax.data.builders.fetch import Deb, Npm
from mmjax.data.look import captions_of
from mmjax.data.sources.prepared import Tfds

SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="10" height="10" fill="{}"/></svg>'
CONTROL = "Package: tinypack\nVersion: 1:2.0\nArchitecture: all\nMaintainer: me\nDescription: tiny\n"


def tar_of(files, kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{kind}") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            if data is None:  # a link
                entry.type, entry.linkname = tarfile.SYMTYPE, "elsewhere"
            entry.size = len(data or b"")
            tar.addfile(entry, io.BytesIO(data or b""))
    return packed.getvalue()


def deb_of(files):
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar_of({"./control": CONTROL.encode()}, "xz"),
        "data.tar.xz": tar_of({f"./{name}": data for name, data in files.items()}, "xz"),
    }
    packed = b"!<arch>\n"
    for name, data in parts.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return packed


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """plant(Npm, "name", {path: content}) puts such an archive where downloads lie, and returns its pin."""
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no client is run

    def put(kind, name, files):
        files = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        packed = tar_of(files, "gz") if kind is Npm else deb_of(files)
        folder = store.root() / "downloads" / f"{name}-1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}.{'tgz' if kind is Npm else 'deb'}").write_bytes(packed)
        return kind(name, "1.0", hashlib.sha256(packed).hexdigest())

    return put


def prepared(module, counts):
    """The records by split, and the manifest, of a data set that is made now."""
    name = module.__name__.rpartition(".")[2]
    folder = builders.prepare(name)
    rows = {split: list(Tfds(name, split=split)) for split in counts}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {split: len(found) for split, found in rows.items()} == manifest["counts"] == counts
    assert manifest["sources"] == [package._asdict() for package in module.PACKAGES]
    assert json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]["[BOS]"] == 2
    return rows, manifest


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"])))


def test_emoji4(plant, monkeypatch):
    # Twelve emoji and "woman running", which is one concept with "running", in four styles of one colour each.
    codes = [f"1F60{digit:X}" for digit in range(11)] + ["1F3C3", "1F3C3-200D-2640-FE0F"]
    styles = {}
    for style, colour in {"noto": "#100", "twemoji": "#200", "openmoji": "#300", "fluent": "#400"}.items():
        icons = {f"e{i}": {"body": f'<rect width="128" height="128" fill="{colour}"/>'} for i in range(len(codes))}
        chars = {code.replace("-FE0F", "").lower(): f"e{i}" for i, code in enumerate(codes)}
        files = {"icons.json": {"icons": icons, "width": 128, "height": 128}, "chars.json": chars}
        styles[style] = plant(Npm, style, {f"package/{name}": json.dumps(data) for name, data in files.items()})

    def table(language):
        entries = [{"hexcode": code, "label": f"{language} {code}", "tags": ["a", "b"], "group": 1} for code in codes]
        return json.dumps([*entries, {"hexcode": "1F3FB", "label": "tone", "group": 2}])

    labels = plant(Npm, "labels", {f"package/{language}/data.json": table(language) for language in ("en", "zh")})
    monkeypatch.setattr(emoji4, "STYLES", styles)
    monkeypatch.setattr(emoji4, "LABELS", labels)
    monkeypatch.setattr(emoji4, "PACKAGES", (*styles.values(), labels))
    # 12 concepts, of which one is unseen: with one emoji or two.
    unseen = emoji4.split_rows([{"id": f"fluent/{code}", "style": "fluent"} for code in codes])["unseen_both"]
    n = 13 - len(unseen)
    counts = {"train": 3 * n - round(0.3 * n), "heldout_rows": round(0.3 * n), "unseen_concepts": 3 * len(unseen)}
    rows, _ = prepared(emoji4, {**counts, "unseen_style": n, "unseen_both": len(unseen)})
    first = rows["train"][0]
    assert (first["text"], first["text_zh"], first["tags"], first["label"]) == ("en 1F3C3", "zh 1F3C3", "a, b", 1)
    assert json.loads(first["translations"]) == {"en": "en 1F3C3", "zh": "zh 1F3C3"}
    assert {row["style"] for row in rows["train"] + rows["heldout_rows"]} == {"noto", "twemoji", "openmoji"}
    assert {row["text"] for row in rows["unseen_concepts"]} == {row["text"] for row in rows["unseen_both"]}
    assert (pixels(rows["unseen_style"][0]) == (0x44, 0, 0)).all()


def test_tuxpaint(plant, monkeypatch):
    png = io.BytesIO()
    Image.new("RGBA", (512, 128), (0, 0, 0, 0)).save(png, "PNG")
    stamp = tuxpaint.STAMPS + "animals/{}"
    files = {
        stamp.format("crow.png"): png.getvalue(),
        stamp.format("crow.txt"): "A crow.\nfr.utf8=Un corbeau.\nzh_CN.utf8=乌鸦。\nid.utf8=A crow.\nta.utf8=´Õ\nde.utf8=\n",
        stamp.format("crow_desc_fr.ogg"): b"French",
        stamp.format("crow_desc_pt_BR.wav"): b"Portuguese",
        stamp.format("crow_desc.ogg"): b"English",
        stamp.format("crow.ogg"): b"caw",
        stamp.format("crow_mirror.png"): png.getvalue(),  # has no sentence
        stamp.format("gift.txt"): "No picture.",
        **{stamp.format(f"{i}.svg"): SQUARE.format("red") for i in range(4)},
        **{stamp.format(f"{i}.txt"): f"Square {i // 2}." for i in range(4)},  # each sentence twice
        **{stamp.format(f"x{i}.svg"): SQUARE.format("red") for i in range(2)},
        **{stamp.format(f"x{i}.txt"): ["A cat.", "a CAT."][i] for i in range(2)},
    }
    monkeypatch.setattr(tuxpaint, "PACKAGES", (plant(Deb, "stamps", files),))
    monkeypatch.setattr(tuxpaint, "HELDOUT", 0.5)  # two of four sentences
    held = set(np.random.default_rng(0).choice(["a cat.", "a crow.", "square 0.", "square 1."], 2, replace=False).tolist())
    n = sum({"a crow.": 1}.get(caption, 2) for caption in held)
    rows, _ = prepared(tuxpaint, {"train": 7 - n, "heldout_captions": n})
    by_name = {row["id"]: row for split in rows.values() for row in split}
    crow = by_name["animals/crow"]
    assert (crow["text"], crow["text_zh"], crow["audio_text"]) == ("A crow.", "乌鸦。", "Un corbeau.")
    assert json.loads(crow["translations"]) == {"fr": "Un corbeau.", "zh_CN": "乌鸦。"}
    assert (crow["audio"], crow["audio_pt_BR"], crow["audio_en"]) == (b"French", b"Portuguese", b"English")
    assert (crow["audio_es"], by_name["animals/0"]["audio"]) == (b"", b"")
    assert (crow["present"]["audio"], by_name["animals/0"]["present"]["audio"]) == (True, False)
    assert pixels(crow).shape == (64, 256, 3)
    assert (pixels(crow) == 255).all()  # transparent: white
    assert by_name["animals/x0"]["group"] == by_name["animals/x1"]["group"]
    assert not {row["group"] for row in rows["train"]} & {row["group"] for row in rows["heldout_captions"]}


def clip(title, colour, words=("a", "hash", "b")):
    said = f"<dc:title>{title}</dc:title><dc:description>HASH(0x1)</dc:description>"
    said += "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:dc="d" xmlns:rdf="r"'
    body = f'<metadata>{said}</metadata><rect width="10in" height="5in" fill="{colour}"/>'
    return f'<svg {spaces} width="10in" height="5in">{body}</svg>'


def test_asterisk_en(plant, monkeypatch):
    lines = [f"{i}: Number {i // 2}{'.' * (i % 2)}" for i in range(8)]  # each said twice, once with a full stop
    said = gzip.compress("\n".join(["; a comment", "beep: [a beep]", "lost: No sound.", "d/9: Nine: it's 9.", *lines]).encode())
    sounds = {asterisk_en.FOLDER + f"{name}.wav": f"sound of {name}" for name in ("beep", "d/9", *range(8))}
    transcripts, wavs = plant(Deb, "said", {asterisk_en.SAID: said}), plant(Deb, "sounds", sounds)
    for name, value in {"TRANSCRIPTS": transcripts, "SOUNDS": wavs, "PACKAGES": (transcripts, wavs), "HELDOUT": 0.4}.items():
        monkeypatch.setattr(asterisk_en, name, value)
    words = ["nine its 9", *(f"number {i}" for i in range(4))]
    held = np.random.default_rng(0).choice(words, 2, replace=False).tolist()
    n = sum(1 if caption == words[0] else 2 for caption in held)
    rows, manifest = prepared(asterisk_en, {"train": 9 - n, "heldout_captions": n})
    by_name = {row["id"]: row for split in rows.values() for row in split}
    assert set(by_name) == {"d/9", *map(str, range(8))}
    assert (by_name["d/9"]["audio"], by_name["d/9"]["text"]) == (b"sound of d/9", "Nine: it's 9.")
    assert by_name["0"]["group"] == by_name["1"]["group"] != by_name["2"]["group"]
    assert {asterisk_en.words(row["text"]) for row in rows["heldout_captions"]} == set(held)
    listed = (builders.prepare("asterisk_en") / "heldout_captions.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.partition("\t")[0] for line in listed] == [row["id"] for row in rows["heldout_captions"]]
    assert manifest["transcripts"] == 5


def test_openclipart(plant, monkeypatch):
    colours = [f"#0000{i:02x}" for i in range(40)]
    drawings = {
        "animals/cat_01.svg": clip("Clipart by Nicu Buculei - grey_cat", "red"),
        "animals/cat_02.svg": clip("grey cat (B and W) 2", "green"),
        "animals/cat_03.svg": clip("Grey Cat", "red"),  # the same picture as the first
        "animals/link.svg": None,
        "animals/white.svg": clip("white", "white"),
        "animals/mail.svg": clip("me@example", "blue"),
        "animals/none.svg": clip("", "blue"),
        "animals/broken.svg": clip("broken", "blue")[:-6],
        "computer/theme.svg": clip("theme", "blue"),
        "food/ham.svg": clip("Ham &amp; egg", "blue"),
        **{f"food/c{i}.svg": clip("card", colour) for i, colour in enumerate(colours[:8])},
        **{f"food/d{i}.svg": clip("dice", colour) for i, colour in enumerate(colours[8:15])},
    }
    package = plant(Deb, "clips", {openclipart.DRAWINGS + path: svg for path, svg in drawings.items()})
    monkeypatch.setattr(openclipart, "PACKAGES", (package,))
    monkeypatch.setattr(openclipart, "HELDOUT", 0.34)  # one of the titles dice, grey cat, ham & egg
    sizes = {"dice": 7, "grey cat": 2, "ham & egg": 1}
    n = sizes[np.random.default_rng(0).choice(sorted(sizes), 1, replace=False)[0]]
    rows, manifest = prepared(openclipart, {"train": 10 - n, "heldout_captions": n})
    by_name = {row["id"]: row for split in rows.values() for row in split}
    assert {row["text"] for row in by_name.values()} == {"grey cat", "grey cat (B and W) 2", "Ham & egg", "dice"}
    cat = by_name["animals/cat_01"]
    assert (cat["keywords"], cat["description"], cat["label"]) == ("a, b", "", 0)
    assert pixels(cat).shape == (64, 128, 3)  # inches, twice as wide as high
    assert manifest["left_out"]["animals/white.svg"] == "nothing is seen on white"
    assert manifest["left_out"]["animals/cat_03.svg"] == "the same picture as animals/cat_01.svg"
    assert len(manifest["left_out"]) == 3


def test_iconify(plant, monkeypatch):
    def body(i):
        return f'<path d="M0 0h{i + 1}v1z"/>'

    shown = {f"thing{i}-outline": {"body": body(i)} for i in range(9)}
    tables = {
        "good": {**shown, "old": {"body": body(20), "hidden": True}, "white": {"body": '<path fill="#fff" d="M0 0h1v1z"/>'}},
        "carbon": {"unseen-icon": {"body": body(30), "width": 32}, "a-twin": {"body": body(0)}},
        "shared": {"sharealike": {"body": body(40)}},
        "brands": {"brand": {"body": body(50)}},
    }
    about = {name: {"license": {"spdx": "MIT"}, "category": "UI"} for name in tables}
    about["shared"]["license"], about["brands"]["category"] = {"spdx": "CC-BY-SA-4.0"}, "Logos"
    files = {f"package/json/{name}.json": json.dumps({"icons": icons, "height": 24}) for name, icons in tables.items()}
    package = plant(Npm, "icons", {**files, "package/collections.json": json.dumps(about)})
    monkeypatch.setattr(iconify, "PACKAGES", (package,))
    monkeypatch.setattr(iconify, "UNSEEN_NAMES", 0.21)  # two of nine things and "white"
    held = np.random.default_rng(0).choice(sorted([*(f"thing{i}" for i in range(9)), "white"]), 2, replace=False).tolist()
    seen = 2 - ("white" in held)
    rows, manifest = prepared(iconify, {"train": 9 - seen, "unseen_names": seen, "unseen_sets": 1})
    assert {row["base"] for row in rows["unseen_names"]} == set(held) - {"white"}
    (unseen,) = rows["unseen_sets"]  # the twin stands in "good" already
    assert (unseen["text"], unseen["set"], unseen["id"]) == ("unseen icon", "carbon", "carbon:unseen-icon")
    assert rows["train"][0]["text"].endswith(" outline")
    assert manifest["licences"] == {"good": "MIT", "carbon": "MIT"}
    assert manifest["left_out"] == {"good:white": "nothing is seen on white"}


def test_fashion_mnist(plant, monkeypatch):
    def idx(values):
        return gzip.compress(b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())

    images = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    files = {}
    for stem, n in {"train": 3, "t10k": 2}.items():
        files[f"usr/share/datasets/fashion-mnist/{stem}-images-idx3-ubyte.gz"] = idx(images[:n])
        files[f"usr/share/datasets/fashion-mnist/{stem}-labels-idx1-ubyte.gz"] = idx(np.array([9, 0, 9][:n], np.uint8))
    monkeypatch.setattr(fashion_mnist, "PACKAGES", (plant(Deb, "fashion", files),))
    rows, _ = prepared(fashion_mnist, {"train": 3, "test": 2})
    boot, shirt, other = rows["train"]
    assert (boot["text"], boot["label"], shirt["label"]) == ("a photo of an ankle boot", 9, 0)
    assert boot["group"] == other["group"] != shirt["group"]
    assert (pixels(other) == 2).all()
    with pytest.raises(UserError, match="not an idx file"):
        fashion_mnist.read_idx(b"\0\0\x08\1\0\0\0\5abcd")


def test_flags_facts(plant, monkeypatch):
    def state(i, independent=True):
        return {
            "cca2": f"A{'ABCDEF'[i]}",
            "cca3": f"AA{'ABCDEF'[i]}",
            "name": {"common": f"State {i}"},
            "independent": independent,
            "capital": [f"City {i}"],
            "region": "Africa",
            "subregion": "Northern Africa",
            "borders": ["AAB", "AAA"],
            "languages": {"b": "Beta", "a": "Alpha"},
            "translations": {"zho": {"common": f"国{i}"}, "deu": {"common": f"Staat {i}"}},
        }

    countries = [state(i) for i in (4, 3, 2, 1, 0)] + [state(5, independent=False)]
    flags = {f"package/flags/4x3/a{letter}.svg": SQUARE.format("red") for letter in "abcdef"}
    wide = SQUARE.replace("0 0 10 10", "0 0 640 480").replace('"10"', '"640"').format("red")
    pins = (
        plant(Npm, "facts", {"package/countries.json": json.dumps(countries)}),
        plant(Npm, "flags", dict.fromkeys(flags, wide)),
    )
    for name, value in {"FACTS": pins[0], "FLAGS": pins[1], "PACKAGES": pins}.items():
        monkeypatch.setattr(flags_facts, name, value)
    rows, _ = prepared(flags_facts, {"train": 4, "heldout": 1})
    row = rows["train"][0]
    number = "ABCDEF".index(row["code"][2])
    assert row["text"] == f"the flag of State {number}"
    assert (row["text_zh"], row["capital"], row["languages"]) == (f"国{number}", f"City {number}", "Alpha, Beta")
    assert (row["borders"], row["continent"], row["label"]) == ("State 0, State 1", "Africa", 0)
    assert pixels(row).shape == (96, 128, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("home", "home"),
        ("outline-home-24", "home"),
        ("arrow-left-bold", "arrow-left"),
        ("home-2-filled", "home"),
        ("24-hours", "24-hours"),
        ("outline", "outline"),
        ("filled-16", "filled"),
    ],
)
def test_base_name(name, expected):
    assert iconify.base_name(name) == expected


def test_draw():
    wide = '<svg xmlns="http://www.w3.org/2000/svg" width="2in" height="1in"><rect width="2in" height="1in"/></svg>'
    assert pixels({"image": draw.draw(wide, 8, square=False)}).shape == (4, 8, 3)
    squared = pixels({"image": draw.draw(wide, 8)})
    assert squared[:, 0, 0].tolist() == [255, 255, 0, 0, 0, 0, 255, 255]
    tall = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100.4 128.9"><rect width="200" height="200"/></svg>'
    assert pixels({"image": draw.draw(tall, 128)}).shape == (128, 128, 3)
    with pytest.raises(draw.NotDrawn, match="nothing is seen"):
        draw.draw(SQUARE.format("#fff"), 8)
    with pytest.raises(draw.NotDrawn, match="root node"):
        draw.draw("<svg", 8)
    icon = draw.icon_svg({"body": "B", "left": -1}, {"width": 24, "icons": {}})
    assert 'viewBox="-1 0 24 16">B</svg>' in icon


def test_without_resvg(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.setattr(svg, "_IDLE", queue.SimpleQueue())  # of processes that have it
    with pytest.raises(UserError, match="pip install resvg-py"):
        draw.draw(SQUARE.format("red"), 8)


def test_every_set_says_what_it_is():
    for row, builder in zip(builders.listing(), builders.BUILDERS.values(), strict=True):
        assert len(row["counts"]) >= 2
        assert all(row["counts"].values())
        assert len(builder.__doc__.splitlines()) > 10
        for package in row["packages"]:
            assert package["version"] in builder.__doc__
            assert len(package["sha256"]) == 64
            assert f"{package['name']} {package['version']} (sha256 {package['sha256'][:8]})" in builders.table()


@pytest.mark.skipif(os.environ.get("MMJAX_TEST_PACKAGES") != "1", reason="MMJAX_TEST_PACKAGES=1 makes the real sets")
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_of_its_real_packages(name):
    builder = builders.BUILDERS[name]
    builders.prepare(name)
    sources = {split: Tfds(name, split=split) for split in builder.COUNTS}
    assert {split: len(source) for split, source in sources.items()} == builder.COUNTS
    groups, ids = {}, set()
    for split, source in sources.items():
        rows = [source[i] for i in range(0, len(source), 1 if len(source) < 20_000 else 50)]
        groups[split] = {row["group"] for row in rows}
        assert not ids & {row["id"] for row in rows}
        ids |= {row["id"] for row in rows}
        assert all(captions_of(row) for row in rows)
        assert all(pixels(row).std() > 0 for row in rows[::20] if "image" in row)
    for split in {"heldout_captions", "unseen_concepts", "unseen_both", "unseen_names", "heldout"} & set(groups):
        assert not groups[split] & groups["train"]
