import pickle
import subprocess
import sys

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.builders.write import fresh, write_tfds
from mmjax.data.sources.memory import Memory, Synthetic, Tones
from mmjax.data.sources.prepared import Tfds
from mmjax.data.sources.source import group_of

# Pillow's png of one red pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data set "tiny" of two splits and two versions."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("prepared")
    text = tfds.features.Text()
    features = {"image": tfds.features.Image(shape=(None, None, 3)), "text": text, "id": text, "label": np.int64}
    rows = [{"image": PNG, "text": f"caption {i} é", "id": f"r{i}", "label": i} for i in range(3)]
    for version, train in (("1.9.0", rows[:1]), ("1.10.0", rows)):
        with fresh(root / "tiny" / version) as folder:
            write_tfds(folder, "tiny", version, features, {"train": train, "test": rows[2:]}, "of three", "CC0")
    return root


def test_tfds_reads_records_by_index(prepared, monkeypatch):
    monkeypatch.setenv("MMJAX_DATA", str(prepared))
    source = Tfds("tiny")
    assert len(source) == 3  # version 1.10.0 is newer than 1.9.0
    assert source[1]["text"] == "caption 1 é"
    assert (source[1]["id"], source[1]["label"]) == ("r1", 1)
    assert source[1]["image"] == PNG
    assert len(Tfds("tiny/1.9.0")) == 1
    assert [r["id"] for r in Tfds(path=str(prepared / "tiny" / "1.10.0"), split="train[1:]")] == ["r1", "r2"]


def test_tfds_cache_decodes_once_and_stays_out_of_pickles(prepared, monkeypatch):
    monkeypatch.setenv("MMJAX_DATA", str(prepared))
    source = Tfds("tiny", split="test", cache=True)
    record = source[0]
    np.testing.assert_array_equal(record["image"], [[[255, 0, 0]]])
    assert source[0] is record
    copy = pickle.loads(pickle.dumps(source))
    assert copy[0] is not record
    np.testing.assert_array_equal(copy[0]["image"], record["image"])


def test_tfds_says_how_to_get_what_is_missing(prepared, monkeypatch):
    monkeypatch.setenv("MMJAX_DATA", str(prepared))
    with pytest.raises(UserError, match="mmjax data get openmoji"):
        Tfds("openmoji")
    with pytest.raises(UserError, match="Did you mean 'train'"):
        Tfds("tiny", split="trian")
    with pytest.raises(UserError, match=r"no dataset_info\.json"):
        Tfds(path=str(prepared))
    with pytest.raises(UserError, match="either dataset"):
        Tfds()


def test_nothing_imports_tensorflow(prepared):
    code = (
        "import sys\n"
        "import mmjax.data.stream, mmjax.data.builders\n"
        "heavy = {'jax', 'grain', 'tensorflow', 'tensorflow_datasets', 'tokenizers', 'resvg_py'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from mmjax.data.sources.prepared import Tfds\n"
        f"assert Tfds(path={str(prepared / 'tiny' / '1.10.0')!r})[0]['id'] == 'r0'\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_synthetic_is_a_function_of_its_arguments():
    a, b = Synthetic(n=20, size=24, seed=1), Synthetic(n=5, size=24, seed=1)
    np.testing.assert_array_equal(a[3]["image"], b[3]["image"])
    assert a[3]["text"] == b[3]["text"]
    assert any(a[i]["text"] != Synthetic(n=20, size=24, seed=2)[i]["text"] for i in range(20))
    assert (len(b), len(list(b))) == (5, 5)


def test_synthetic_draws_what_the_caption_says():
    for record in Synthetic(n=60, size=32):
        _, size, colour, shape, _, ground = record["text"].split()
        assert record["image"].shape == (32, 32, 3)
        assert shape == Synthetic.SHAPES[record["label"]]
        assert record["group"] == group_of(record["text"])
        painted = (record["image"] == Synthetic.COLOURS[colour]).all(-1)
        assert (painted | (record["image"] == Synthetic.COLOURS[ground]).all(-1)).all()
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        side = round(Synthetic.SIZES[size] * 32)
        assert abs(np.ptp(rows) + 1 - side) <= 2
        assert abs(np.ptp(columns) + 1 - side) <= 2


def test_group_is_the_captions():
    assert group_of("a cat") == group_of("a cat") != group_of("a dog")
    assert all(0 <= group_of(str(i)) < 2**31 for i in range(100))


def test_memory_gives_its_records():
    assert Memory([{"text": "a"}, {"text": "b"}])[1] == {"text": "b"}


def test_a_failed_preparation_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "part").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), fresh(tmp_path / "set" / "1.0.0") as folder:
        fail(folder)
    assert list((tmp_path / "set").iterdir()) == []


def test_tones_are_what_the_caption_says():
    for record in Tones(n=30, seed=1):
        count, length, pitch, _ = record["text"].split()
        samples, rate = record["audio"]["samples"], record["audio"]["rate"]
        beep = round(Tones.LENGTHS[length] * rate)
        assert len(samples) == (beep + 160) * (1 + Tones.COUNTS.index(count))
        spectrum = np.abs(np.fft.rfft(samples[:beep], 8 * rate))  # an eighth of a Hz a bin
        assert spectrum.argmax() / 8 == pytest.approx(Tones.PITCHES[pitch], rel=0.15)
    assert (len(Tones(n=5)), len(list(Tones(n=5)))) == (5, 5)
