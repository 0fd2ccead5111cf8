import contextlib
import io
import queue
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mmjax.data import decode as module
from mmjax.data import svg
from mmjax.data.decode import decode

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
PHOTO = Image.fromarray(NOISE).resize((200, 120), Image.Resampling.BICUBIC)


@pytest.fixture(params=["turbo", "pillow"])
def decoder(request, monkeypatch):
    """Each test that asks for it runs with simplejpeg and without."""
    if request.param == "pillow":
        monkeypatch.setattr(module, "_turbo", lambda: None)
    elif module._turbo() is None:
        pytest.skip("simplejpeg is not installed")
    return request.param


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation):
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


@pytest.mark.parametrize("options", [{}, {"quality": 90}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
def test_jpeg_is_pillows_value_for_value(decoder, options):
    data = encoded(PHOTO, "JPEG", **options)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_colours(decoder, mode):
    data = encoded(PHOTO.convert(mode), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_cut_jpeg_is_an_error(decoder):
    data = encoded(PHOTO, "JPEG")
    for end in (2, 100, len(data) // 2, len(data) - 40):
        with pytest.raises((ValueError, OSError)):
            decode(data[:end])


def test_padding_in_a_jpeg_is_none(decoder):
    data = encoded(PHOTO, "JPEG")
    padded = data[:-2] + b"\0" * 7 + data[-2:]
    np.testing.assert_array_equal(decode(padded), decode(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(decoder, orientation, form):
    data = encoded(PHOTO, form, exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert module.opened(data).shape == expected.shape == ((120, 200, 3) if orientation < 5 else (200, 120, 3))
    np.testing.assert_array_equal(decode(data), expected)


def test_broken_exif_is_upright(decoder):
    data = encoded(PHOTO, "JPEG", exif=exif(6))
    at = data.index(b"Exif\0\0") + 6
    np.testing.assert_array_equal(decode(data[:at] + b"\xff" * 8 + data[at + 8 :]), decode(encoded(PHOTO, "JPEG")))


def test_transparency_lies_on_white():
    image = Image.new("RGBA", (3, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth of black: 255 * 0.8
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        pixels = decode(encoded(image, form, **options))
        assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert decode(encoded(image.convert("LA"))).tolist()[0][1] == [255] * 3


def test_palettes():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        assert decode(encoded(image, form)).tolist() == [[[0, 0, 0], [200, 100, 50]]]
        assert decode(encoded(image, form, transparency=0)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_grey_of_one_eight_and_sixteen_bits():
    assert decode(encoded(Image.new("1", (1, 1), 1))).tolist() == [[[255] * 3]]
    assert decode(encoded(Image.new("L", (1, 1), 7))).tolist() == [[[7] * 3]]
    # 65535 is white, not everything above 255: 257 a level, rounded.
    values = np.array([[0, 128, 129, 257, 25700, 65535]], np.uint16)
    for form in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(values), form))[0, :, 0].tolist() == [0, 0, 1, 1, 100, 255]


def test_float_pixels_are_refused():
    with pytest.raises(ValueError, match="range"):
        decode(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_what_moves_gives_its_first_frame(form):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


def test_svg_on_white():
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="2in" viewBox="0 0 20 10"><rect width="10" height="10"/></svg>'
    pixels = decode(drawing)
    assert pixels.shape == (256, 512, 3)
    assert pixels[:, :250].max() == 0
    assert pixels[:, 260:].min() == 255
    assert decode(b"\xef\xbb\xbf<?xml version='1.0'?>\n" + drawing).shape == (256, 512, 3)
    assert max(decode(drawing, max_pixels=100).shape) == 10
    with pytest.raises(ValueError):
        decode(drawing[:60])
    with pytest.raises(ValueError, match="pictures inside"):
        decode(drawing.replace(b"<rect", b'<image href="/tmp/a.png"'))


def bomb(width, height):
    """A sound png header of a size that its data have not."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_by_the_header(decoder):
    with pytest.raises(ValueError, match="14000 x 12000 pixels, over the limit of 64000000"):
        decode(bomb(14000, 12000))
    for form in ("PNG", "JPEG"):
        data = encoded(Image.new("RGB", (20, 10)), form)
        with pytest.raises(ValueError, match="20 x 10 pixels, over the limit of 199"):
            decode(data, max_pixels=199)
        assert decode(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(ValueError, match=f"{len(data)} bytes"):
        decode(data, max_bytes=len(data) - 1)


def test_scans_without_end_are_refused():
    if module._turbo() is None:
        pytest.skip("simplejpeg is not installed")
    data = encoded(PHOTO, "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(ValueError, match="more than 100 scans"):
        decode(data[:at] + data[at:-2] * 100 + data[-2:])


def test_what_is_no_picture_is_named():
    for data in (b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"):
        with pytest.raises(OSError, match="cannot identify image file; read are svg, PNG, JPEG"):
            decode(data)
    for data in (encoded(Image.fromarray(NOISE))[:500], encoded(Image.fromarray(NOISE), "WEBP")[:200]):
        with pytest.raises((ValueError, OSError)):
            decode(data)


def test_resvg_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.setattr(svg, "_IDLE", queue.SimpleQueue())  # of processes that have it
    with pytest.raises(ValueError, match="pip install resvg-py"):
        decode(b"<svg/>")


def test_a_jpeg_waits_and_passes_for_its_array():
    jpeg = module.opened(encoded(PHOTO, "JPEG"))
    if not isinstance(jpeg, module.Jpeg):
        pytest.skip("simplejpeg is not installed")
    assert jpeg.shape == (120, 200, 3)
    assert jpeg.pixels(2).shape == (60, 100, 3)
    assert np.asarray(jpeg) is np.asarray(jpeg)  # decoded once
    assert np.array(jpeg, np.float32).dtype == np.float32
    assert np.array([jpeg, jpeg]).shape == (2, 120, 200, 3)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'


def uses(depth):
    """A drawing of 10^depth squares in a few hundred bytes."""
    levels = (f'<g id="a{i + 1}">{f"""<use href="#a{i}"/>""" * 10}</g>' for i in range(depth))
    return f'{SVG}<defs><rect id="a0" width="5" height="5"/>{"".join(levels)}</defs><use href="#a{depth}"/></svg>'.encode()


HOSTILE = {
    "uses": (uses(9), "more than 0.3 s of CPU|GiB"),
    "deep": (f"{SVG}{'<g>' * 100_000}{'</g>' * 100_000}</svg>".encode(), "nested too deeply"),
    "entities": (f'<!DOCTYPE svg [<!ENTITY a "&b;&b;"><!ENTITY b "&a;&a;">]>{SVG}<text>&a;</text></svg>'.encode(), "loop"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_drawing_that_multiplies_is_refused_and_the_next_is_drawn(name):
    drawing, said = HOSTILE[name]
    with pytest.raises(ValueError, match=said):
        module.opened(drawing, draw_seconds=0.3)
    assert decode(uses(1))[0, 0].tolist() == [0, 0, 0]


def test_what_draws_survives_its_parents_fork():
    decode(uses(1))
    code = "import os; from mmjax.data.decode import decode; from test_decode import uses; decode(uses(1)); pid = os.fork(); "
    code += "ok = decode(uses(1)).shape == (512, 512, 3); os._exit(not ok) if not pid else None; "
    code += "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or not ok)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, timeout=100)


def png_with(kind, content):
    """A png of one pixel with a chunk before its pixels."""
    whole = encoded(Image.new("RGB", (1, 1)))
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_without_end_costs_no_memory(kind):
    packed = zlib.compress(b"\0" * (200 << 20), 9)  # 200 kB
    head = b"name\0\1\0\0\0" if kind == b"iTXt" else b"name\0\0"
    data = png_with(kind, head + packed)
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError, OSError):  # refused, or its text left aside
            assert decode(data).shape == (1, 1, 3)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_of_an_animation_of_thousands_of_huge_frames_only_the_first_is_read():
    frame = Image.new("P", (4000, 4000))
    two = encoded(frame, "GIF", save_all=True, append_images=[frame.point(lambda x: 1)])
    second = two[two.rindex(b"\x21\xf9\x04") : -1]  # from its graphic control extension on
    many = two[:-1] + second * 2000 + b";"
    assert Image.open(io.BytesIO(many)).n_frames == 2002
    began = time.process_time()
    assert decode(many).shape == (4000, 4000, 3)
    assert time.process_time() - began < 5  # all of them take minutes


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF"]),
    cuts=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=6)), max_size=4),
    end=st.integers(0, 6000),
)
def test_broken_bytes_are_an_error_or_a_picture(form, cuts, end):
    data = bytearray(encoded(Image.fromarray(NOISE), form))
    for at, what in cuts:
        data[at : at + len(what)] = what
    try:
        pixels = decode(bytes(data[:end]), max_pixels=100_000)
    except Exception:  # which makes a broken record; never a crash, a hang or a flood of memory
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
