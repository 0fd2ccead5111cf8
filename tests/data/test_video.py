import fractions
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.rows import Loader
from mmjax.data.sources.video import VideoFolder
from mmjax.data.transforms.augment import Flip
from mmjax.data.transforms.image import RandomResizedCrop, Resize
from mmjax.data.transforms.video import Frames, choose

av = pytest.importorskip("av")

TABLE = {"resize": Resize, "random_resized_crop": RandomResizedCrop, "flip": Flip}
STEP = 12  # grey levels from one frame to the next: more than a lossy coder errs


def mp4(count=20, form="mp4", codec="mpeg4", shape=(32, 48), rotation=0, **options):
    """Frame n is grey 4 + STEP n, with a white left quarter."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        stream.codec_context.gop_size = 6
        stream.codec_context.options = {"bf": "2", **options}
        stream.codec_context.bit_rate = 4_000_000
        stream.time_base = fractions.Fraction(1, 10)
        if rotation:
            stream.set_display_rotation(rotation)
        for n in range(count):
            frame = np.full((*shape, 3), 4 + STEP * n, np.uint8)
            frame[:, : shape[1] // 4] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def numbers(video):
    """Which frames of `mp4` these are, by their right half."""
    grey = video[:, :, video.shape[2] // 2 :].mean((1, 2, 3))
    assert np.abs((grey - 4) / STEP - np.round((grey - 4) / STEP)).max() < 0.3
    return np.round((grey - 4) / STEP).astype(int).tolist()


def animation(form, frames, **keywords):
    file = io.BytesIO()
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], duration=100, **keywords)
    return file.getvalue()


def frames(video, seed=0, **keywords):
    return Frames(TABLE, **keywords)({"video": video}, np.random.default_rng(seed))["video"]


def test_middle_frames_of_segments_by_hand():
    assert choose(12, 3).tolist() == [2, 6, 10]
    assert choose(10, 4).tolist() == [1, 3, 6, 8]  # segments of 2.5: their middles 1.25, 3.75, 6.25, 8.75
    assert choose(2, 4).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="no frames"):
        choose(0, 4)


def test_random_frames_of_segments():
    seen = np.array([choose(12, 3, rng=np.random.default_rng(seed)) for seed in range(200)])
    assert [set(column) for column in seen.T.tolist()] == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}]


def test_strided_frames():
    assert choose(11, 3, stride=2).tolist() == [3, 5, 7]
    assert choose(4, 3, stride=2).tolist() == [0, 2, 3]
    seen = {tuple(choose(7, 3, stride=2, rng=np.random.default_rng(seed)).tolist()) for seed in range(50)}
    assert seen == {(0, 2, 4), (1, 3, 5), (2, 4, 6)}


@pytest.mark.parametrize(("form", "codec"), [("mp4", "mpeg4"), ("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")])
def test_frames_are_those_asked_for(form, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    video = frames(mp4(form=form, codec=codec), count=5)
    assert (video.shape, video.dtype) == ((5, 32, 48, 3), np.uint8)
    assert numbers(video) == [2, 6, 10, 14, 18]
    for seed in range(5):
        asked = choose(20, 3, 2, np.random.default_rng(seed)).tolist()
        assert numbers(frames(mp4(form=form, codec=codec), seed, count=3, stride=2, random=True)) == asked


def test_every_frame_and_more():
    assert numbers(frames(mp4(7), count=7)) == list(range(7))
    assert numbers(frames(mp4(2), count=4)) == [0, 0, 1, 1]


def test_frames_of_a_path_and_of_an_array(tmp_path):
    (tmp_path / "a.mp4").write_bytes(mp4(7))
    video = frames(str(tmp_path / "a.mp4"), count=7)
    np.testing.assert_array_equal(video, frames(mp4(7), count=7))
    np.testing.assert_array_equal(frames(video, count=3), video[[1, 3, 5]])
    with pytest.raises(ValueError, match="is not a file"):
        frames("/dev/zero", count=1)


def test_a_turned_video_is_shown_upright():
    # The display matrix of a telephone: turn the picture a quarter counterclockwise. The white left side is then below.
    video = frames(mp4(2, rotation=90), count=1)
    assert video.shape == (1, 48, 32, 3)
    assert video[0, -6:].mean() > 240
    assert video[0, :30].mean() < 60


@pytest.mark.parametrize(("form", "keywords"), [("WEBP", {"lossless": True}), ("GIF", {}), ("PNG", {})])
def test_animated_pictures(form, keywords):
    content = np.zeros((5, 6, 8, 3), np.uint8)
    content[:] = 50 * np.arange(5)[:, None, None, None]
    content[:, 0, 0] = 255
    np.testing.assert_array_equal(frames(animation(form, content, **keywords), count=5), content)
    np.testing.assert_array_equal(frames(animation(form, content, **keywords), count=2), content[[1, 3]])


def test_transparent_animations_lie_on_white():
    content = np.zeros((2, 4, 4, 4), np.uint8)
    content[1, ..., 3] = 255
    video = frames(animation("WEBP", content, lossless=True), count=2)
    assert [np.unique(frame).tolist() for frame in video] == [[255], [0]]


def test_transforms_change_all_frames_alike():
    rng = np.random.default_rng(0)
    video = np.repeat(rng.integers(0, 256, (1, 20, 30, 3), np.uint8), 4, 0)
    crop = [{"name": "random_resized_crop", "size": 8}, {"name": "flip"}]
    changed = [frames(video, seed, count=4, transforms=crop) for seed in range(8)]
    for one in changed:
        assert one.shape == (4, 8, 8, 3)
        assert (one == one[:1]).all()
    assert len({one.tobytes() for one in changed}) == 8


@pytest.mark.parametrize(
    ("video", "keywords", "message"),
    [
        (b"", {}, "Invalid data"),
        (b"hello" * 100, {}, "Invalid data"),
        (mp4(20)[:-700], {}, "header is cut off"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "no frames"),
        (mp4(20), {"max_seconds": 1.0}, "over the limit of 1 s"),
        (mp4(2), {"max_pixels": 32 * 48 - 1}, "48 x 32 pixels, over the limit"),
        (mp4(2), {"max_bytes": 100}, "bytes of video, over the limit of 100"),
        (animation("GIF", 50 * np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 4, 4), np.uint8)),
         {"max_seconds": 0.04}, "5 frames, over the limit"),
        (animation("PNG", np.zeros((1, 40, 40, 3), np.uint8)), {"max_pixels": 1599}, "40 x 40 pixels"),
        (animation("PNG", np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8))[:500], {}, "truncated"),
    ],
    ids=["empty", "text", "cut", "no frames", "long", "large", "heavy", "long gif", "large png", "cut png"],
)  # fmt: skip
def test_frames_refuse(video, keywords, message):
    with pytest.raises(Exception, match=message):
        frames(video, count=2, **keywords)


def test_frames_that_cost_too_much_before_the_wanted_one_are_refused():
    """Frames of an animation build on those before; of a video on those since the last key frame."""
    moving = animation("GIF", 50 * np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 4, 4), np.uint8))
    assert frames(moving, count=1, max_frame_pixels=3 * 16).shape == (1, 4, 4, 3)  # the middle one is the third
    with pytest.raises(ValueError, match="48 pixels of frames to decode, over the limit of 47"):
        frames(moving, count=1, max_frame_pixels=3 * 16 - 1)
    video = mp4(20, g="1000")
    assert len(frames(video, count=1, max_frame_pixels=20 * 32 * 48)) == 1
    with pytest.raises(ValueError, match="pixels of frames to decode"):
        frames(video, count=1, max_frame_pixels=8 * 32 * 48)


def test_a_gif_that_grows_is_refused():
    small = animation("GIF", [np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)])
    at = small.rindex(b"\x2c")  # the last frame: left, top, width, height
    grown = small[: at + 5] + (9000).to_bytes(2, "little") * 2 + small[at + 9 :]
    with pytest.raises(ValueError, match="9000 x 9000 pixels, over the limit"):
        frames(grown, count=2)


def test_a_file_without_a_picture_track():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="holds no video"):
        frames(file.getvalue(), count=2)


def test_frames_say_what_is_wrong_with_their_settings():
    with pytest.raises(UserError, match="count 0"):
        Frames(TABLE, count=0)
    with pytest.raises(UserError, match=r"frames\.transforms\[0\]: unknown name 'resise'.*'resize'"):
        Frames(TABLE, count=1, transforms=[{"name": "resise"}])


def test_folder_of_videos(tmp_path):
    black = animation("GIF", np.zeros((1, 32, 48, 3), np.uint8))
    for name, content in (("a.mp4", mp4(4)), ("sub/b.webm", b""), ("c.gif", black)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "captions.csv").write_text("video,caption,class\na.mp4,it brightens,1\nsub/b.webm,nothing,0\nc.gif,black,1\n")
    source = pickle.loads(pickle.dumps(VideoFolder(str(tmp_path), label="class")))
    transform = Frames(TABLE, count=2, transforms=[{"name": "resize", "size": 8}])
    loader = Loader([source], [pickle.loads(pickle.dumps(transform))], ["video", "label"], [0], seed=0)
    row = loader.row(0, 0, 0)
    assert (row["video"].shape, row["caption"], row["label"]) == ((2, 8, 8, 3), "it brightens", 1)
    assert loader.row(0, 2, 2)["caption"] == "black"
    assert "b.webm is empty" in loader.row(0, 1, 1)["broken"]
