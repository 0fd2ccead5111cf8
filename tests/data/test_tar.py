import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.rows import Loader
from mmjax.data.sources import shards, tar_index
from mmjax.data.sources.source import Source, group_of
from mmjax.data.sources.tar import WebDataset
from mmjax.data.sources.tar_headers import Malformed, member

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
# An end mark is two empty blocks, and tarfile fills up to 20 blocks.
BLOCK, MARK = 512, 1024


def tar_of(*members, form="pax", end=True):
    """The bytes of a tar of (name, content) pairs or TarInfo objects."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[form]) as tar:
        for one in members:
            info = one if isinstance(one, tarfile.TarInfo) else tarfile.TarInfo(one[0])
            if not isinstance(one, tarfile.TarInfo):
                info.size = len(one[1])
            tar.addfile(info, None if isinstance(one, tarfile.TarInfo) else io.BytesIO(one[1]))
        length = tar.offset
    return file.getvalue() if end else file.getvalue()[:length]


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "png")
    return file.getvalue()


def pairs(start, n=3):
    """Members of n samples, numbered from `start`."""
    for i in range(start, start + n):
        yield f"{i:04}.jpg", b"picture %d" % i
        yield f"{i:04}.txt", b"caption %d\n" % i


def scanned(content):
    return tar_index.scan(lambda start, end: content[start:end], len(content))


def kinds(source):
    return {one.kind: (one.count, one.names) for one in source.problems}


@pytest.fixture
def folder(tmp_path):
    """Two shards of three samples."""
    for k in range(2):
        (tmp_path / f"{k:05}.tar").write_bytes(tar_of(*pairs(10 * k)))
    return tmp_path


@pytest.mark.parametrize("form", FORMATS)
def test_records_of_every_format(tmp_path, form):
    long = f"{'folder' * 15}/{'name' * 14}"  # 90 + 1 + 56 characters: too long for a plain header's name field
    shard = tar_of(
        special("./", tarfile.DIRTYPE),
        ("./a.jpg", b"A"),
        ("./a.txt", b"\xef\xbb\xbf a cat \n"),
        ("./a.cls", b"3\n"),
        (f"{long}.PNG", b"B" * 1000),
        (f"{long}.json", json.dumps({"caption": "ein Käfer", "width": 7}).encode()),
        *([] if form == "ustar" else [("猫/ネコ.webp", b"C"), ("猫/ネコ.txt", "猫".encode())]),
        form=form,
    )
    (tmp_path / "x.tar").write_bytes(shard)
    source = WebDataset(tmp_path / "x.tar")
    assert isinstance(source, Source)
    assert source[0] == {"id": "a.jpg", "image": b"A", "text": "a cat", "label": 3}
    assert source[1] == {"id": f"{long}.PNG", "image": b"B" * 1000, "text": "ein Käfer"}
    if form != "ustar":
        assert source[2] == {"id": "猫/ネコ.webp", "image": b"C", "text": "猫"}
    assert (len(list(source)), source.problems) == (len(source), [])


def test_fields_by_name(tmp_path):
    captions = json.dumps({"captions": ["one ", "two"], "class": 5, "caption": "three"}).encode()
    members = [("0.seg.png", b"S"), ("0.png", b"P"), ("0.json", captions), ("0.txt", b"plain"), ("0.cls", b"8")]
    (tmp_path / "x.tar").write_bytes(tar_of(*members))

    def record(**keywords):
        return WebDataset(tmp_path, **keywords)[0]

    assert record() == {"id": "0.png", "image": b"P", "text": "plain", "label": 8}
    assert record(text="json")["text"] == "three"
    expected = {"id": "0.seg.png", "image": b"S", "texts": ["one", "two"], "group": group_of("0.seg.png"), "label": 5}
    assert record(image="seg.png", text="json:captions", label="json:class") == expected
    assert record(image=["jpg", "seg.png", "png"])["image"] == b"S"
    with pytest.raises(UserError, match=r"no sample has image \(tif\).*members end in .*png"):
        record(image="tif")
    with pytest.raises(UserError, match=r"text \(caption\)"):
        record(text="caption")


def test_a_json_of_something_else_is_no_caption(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of(("0.jpg", b"P"), ("0.json", b'{"width": 3}'), ("0.cls", b"1")))
    assert WebDataset(tmp_path)[0] == {"id": "0.jpg", "image": b"P", "label": 1}


@pytest.mark.parametrize(
    "member, said",
    [
        (("0.txt", b"\xff"), "0.jpg: text: 'utf-8' codec"),
        (("0.txt", b" \n"), "0.jpg: text: the text is empty"),
        (("0.json", b"{"), "0.jpg: text: Expecting"),
        (("0.json", b'{"caption": null}'), "0.jpg: text: the text is missing"),
        (("0.json", b'["caption"]'), "the json has no caption or text"),
        (("0.json", b'{"caption": "a\\u0000"}'), "holds a NUL byte"),
        (("0.json", b'{"caption": 4}'), "0.jpg: text: the text is a int"),
        (("0.txt", b"x" * 101), "0.txt has 101 bytes, over the limit of 100"),
    ],
)
def test_broken_fields_are_said_by_key(tmp_path, member, said):
    (tmp_path / "x.tar").write_bytes(tar_of(("0.jpg", b"P"), member))
    source = WebDataset(tmp_path, text=member[0][2:], max_bytes=100)
    row, reason = Loader([source], [], ["group"], [0], seed=0).attempt(0, 0, 0)
    assert row is None
    assert said in reason


def test_members_of_a_key_may_stand_apart(tmp_path):
    members = sorted(pairs(0), key=lambda pair: pair[0][-3:])  # all pictures before all captions
    (tmp_path / "x.tar").write_bytes(tar_of(*members))
    source = WebDataset(tmp_path)
    assert [(r["id"], r["image"], r["text"]) for r in source] == [
        (f"{i:04}.jpg", b"picture %d" % i, f"caption {i}") for i in range(3)
    ]
    assert source.problems == []


def test_samples_are_kept_whole_or_left_out_and_named(tmp_path, capsys):
    first = [
        ("a.jpg", b"1"),
        ("b.jpg", b"2"),
        ("b.txt", b"b"),
        ("b.txt", b"again"),
        ("c.txt", b"c"),
        ("readme", b""),
        ("._b.jpg", b""),
    ]
    (tmp_path / "x.tar").write_bytes(tar_of(*first))
    (tmp_path / "y.tar").write_bytes(tar_of(("b.jpg", b"3"), ("b.txt", b"other")))
    source = WebDataset(tmp_path)
    assert [(r["id"], r["text"]) for r in source] == [("x/b.jpg", "b"), ("y/b.jpg", "other")]
    assert kinds(source) == {
        "repeated name": (1, ("x.tar: b.txt",)),
        "hidden file or no extension": (2, ("x.tar: readme", "x.tar: ._b.jpg")),
        "without image": (1, ("x.tar: c.txt",)),
        "without text": (1, ("x.tar: a.jpg",)),
    }
    assert "left out: 1 repeated name (e.g. x.tar: b.txt), 2 hidden" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_and_links_are_left_out(tmp_path, form):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.tar").write_bytes(
        tar_of(
            ("../out.jpg", b"1"),
            ("a/../../out.txt", b"1"),
            ("/tmp/out.jpg", b"1"),
            special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            special("hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"),
            special("null.jpg", tarfile.CHRTYPE),
            special("pipe.txt", tarfile.FIFOTYPE),
            *pairs(0, 1),
            form=form,
        )
    )
    source = WebDataset(tmp_path / "data")
    assert [record["id"] for record in source] == ["0000.jpg"]
    unsafe = ("x.tar: ../out.jpg", "x.tar: a/../../out.txt", "x.tar: /tmp/out.jpg")
    special_ones = tuple(f"x.tar: {name}" for name in ("link.jpg", "hard.jpg", "null.jpg", "pipe.txt"))
    assert kinds(source) == {"unsafe name": (3, unsafe), "link, device or other special file": (4, special_ones)}
    assert sorted(path.name for path in tmp_path.rglob("*") if path.suffix != ".index") == ["data", "x.tar"]


def test_of_a_shard_that_is_cut_off_the_complete_samples_are_kept(tmp_path):
    whole = tar_of(*pairs(0, 2), ("0002.jpg", b"z" * 2000), ("0002.txt", b"last"))
    at = whole.index(b"z" * 2000)
    (tmp_path / "x.tar").write_bytes(whole[: at + 700])
    source = WebDataset(tmp_path)
    assert [record["id"] for record in source] == ["0000.jpg", "0001.jpg"]
    assert kinds(source) == {"cut off": (1, ("x.tar: 0002.jpg",))}
    (tmp_path / "x.tar").write_bytes(whole[: at + 2048])  # between two members
    assert kinds(WebDataset(tmp_path)) == {
        "no end mark": (1, (f"x.tar: ends at byte {at + 2048}, after 0002.jpg",)),
        "without text": (1, ("x.tar: 0002.jpg",)),
    }
    (tmp_path / "x.tar").write_bytes(whole[: at - 100])
    assert kinds(WebDataset(tmp_path)) == {"cut off": (1, (f"x.tar: ends at byte {at - 100}, after 0001.txt",))}


def test_after_a_broken_header_nothing_is_believed(tmp_path):
    shard = bytearray(tar_of(*pairs(0, 2)))
    shard[4 * BLOCK] ^= 1  # the third member's name
    (tmp_path / "x.tar").write_bytes(shard)
    source = WebDataset(tmp_path)
    assert len(source) == 1
    assert kinds(source) == {"malformed": (1, (f"x.tar: no tar header at byte {4 * BLOCK}, after 0000.txt",))}


def with_checksum(header):
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0"])
def test_sizes_are_not_believed(size):
    header = bytearray(tar_of(("a.jpg", b""))[:BLOCK])
    header[124:136] = size
    found = scanned(tar_of(*pairs(0, 1), end=False) + with_checksum(header) + bytes(MARK))
    assert found.size.tolist() == [9, 10]
    assert sum(count for count, _ in found.notes.values()) == 1


@pytest.mark.parametrize(
    "records", [b"6 a=b\n", b"99999999999999999999 path=b\n", b"0 path=x\n", b"path=x\n", b"12 size=1_0\n", b"13 size=-512\n"]
)
def test_extended_headers_are_not_believed(records):
    header = bytearray(tar_of(("a.jpg", b""))[:BLOCK])
    header[156:157], header[124:136] = b"x", b"%011o\0" % len(records)
    shard = with_checksum(header) + records.ljust(BLOCK, b"\0") + tar_of(*pairs(0, 1))
    found = scanned(shard)
    assert found.notes.keys() <= {"malformed"}
    assert (len(found.size) == 2) == (records == b"6 a=b\n")


def test_huge_extended_headers_are_not_read():
    header = bytearray(tar_of(("a.jpg", b""))[:BLOCK])
    header[156:157], header[124:136] = b"L", b"%011o\0" % (1 << 30)
    asked = []

    def read(start, end):
        asked.append(end - start)
        return with_checksum(header)[start:end]

    with pytest.raises(Malformed, match="an extended header of 1073741824 bytes"):
        member(read, 0)
    assert asked == [BLOCK]


def test_more_extensions_than_a_byte_holds(tmp_path):
    many = tar_of(*((f"0.{i}", b"") for i in range(300)))
    (tmp_path / "0.tar").write_bytes(many)
    for k in (1, 2):
        (tmp_path / f"{k}.tar").write_bytes(tar_of(*pairs(0)))
    source = WebDataset(tmp_path)
    assert len(source) == 6  # what most members have is kept
    assert kinds(source)["more than 255 extensions"][0] == 45


names = st.text(st.sampled_from("ab1é猫/._- "), min_size=1, max_size=160).filter(
    lambda name: name == name.strip("/") and "//" not in name and not {"", ".", ".."} & set(name.split("/"))
)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(names, st.integers(0, 3000)), max_size=8, unique_by=lambda pair: pair[0]),
    st.sampled_from(["gnu", "pax"]),
    st.floats(0, 1),
)
def test_the_index_is_what_tarfile_says(members, form, share):
    whole = tar_of(*((name, bytes([i + 1]) * size) for i, (name, size) in enumerate(members)), form=form)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar.getmembers() if tar_index.split(info.name)]
    # Extensions are kept in lower case, and names here have no other: each (key, extension) is one name.
    for content in (whole, whole[: round(share * len(whole))]):
        found = scanned(content)
        places = sorted(zip((found.block.astype(int) * BLOCK).tolist(), found.size.tolist(), found.gap.tolist(), strict=True))
        whole_ones = [(at, size) for _, at, size in expected if at + size <= len(content)]
        assert [(at, size) for at, size, _ in places] == whole_ones
        for at, _, gap in places:
            name = member(lambda start, end: content[start:end], at - gap * BLOCK).name  # noqa: B023
            assert (name, at) in [(name, at) for name, at, _ in expected]
        assert len(found.first) == len({tar_index.split(name)[0] for name, at, size in expected if at + size <= len(content)})
        lost = len(whole_ones) < len(expected)
        assert not lost or {"cut off", "no end mark"} & found.notes.keys()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 12 * BLOCK), st.integers(0, 255)), max_size=20), st.sampled_from(sorted(FORMATS)))
def test_no_bytes_bring_a_scan_down(changes, form):
    content = bytearray(tar_of(*pairs(0, 2), (f"{'x' * 90}/{'y' * 90}.jpg", b"long"), form=form))
    for at, value in changes:
        content[at] = value
    found = scanned(bytes(content))
    assert (found.block.astype(int) * BLOCK + found.size <= len(content)).all()


def test_paths(folder):
    for path in (folder, f"{folder}/*.tar", f"{folder}/{{00000..00001}}.tar", [folder / "00000.tar", folder / "00001.tar"]):
        assert [record["id"] for record in WebDataset(path)] == [f"0000{k}/00{k}{i}.jpg" for k in range(2) for i in range(3)]
    assert [record["id"] for record in WebDataset(folder / "00001.tar")] == ["0010.jpg", "0011.jpg", "0012.jpg"]
    assert WebDataset([folder / "00001.tar", folder, folder])[0]["text"] == "caption 10"
    assert len(WebDataset([folder / "00001.tar", folder])) == 6


def test_what_is_wrong_with_the_whole_is_said(tmp_path, folder):
    with pytest.raises(UserError, match=r"2 of 4 shards are not there.*00002\.tar, .*00003\.tar"):
        WebDataset(f"{folder}/{{00000..00003}}.tar")
    with pytest.raises(UserError, match="no shard"):
        WebDataset(f"{folder}/*.tgz")
    with pytest.raises(UserError, match="the list is empty"):
        WebDataset([])
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match=r"no shard .*sub/\*\.tar"):
        WebDataset(tmp_path / "sub")
    with tarfile.open(tmp_path / "sub" / "z.tar", "w:gz") as tar:
        tar.add(folder / "00000.tar", "x.jpg")
    with pytest.raises(UserError, match=r"z\.tar is compressed with gzip.*decompress"):
        WebDataset(tmp_path / "sub")
    for content, said in (
        (b"", "no end mark"),
        (b"<html>" * 100, "no tar header at byte 0"),
        (tar_of(), "the shards are empty"),
    ):
        (tmp_path / "sub" / "z.tar").write_bytes(content)
        with pytest.raises(UserError, match=said):
            WebDataset(tmp_path / "sub")


def test_braces_are_a_shells():
    assert shards.braces("a{8..11}.tar") == ["a8.tar", "a9.tar", "a10.tar", "a11.tar"]
    assert shards.braces("{08..10}") == ["08", "09", "10"]
    assert shards.braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert shards.braces("plain{}{x}") == ["plain{}{x}"]
    for pattern in ("{5..3}", "{0..99999999999}", "{0..9999}{0..9999}"):
        with pytest.raises(UserError):
            shards.braces(pattern)
