import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.core.errors import UserError
from mmjax.data.rows import Loader
from mmjax.data.sources.audio import AudioFolder
from mmjax.data.sources.clips import Said, read_lines
from mmjax.data.sources.memory import Memory
from mmjax.data.transforms.audio import AstLogMel, DecodeAudio, FitAudio, WhisperLogMel, kaldi_filters, slaney_filters

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


def encoded(samples, rate=16_000, form="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples, np.float32), rate, format=form, subtype=subtype)
    return file.getvalue()


def sine(hertz, seconds=1.0, rate=16_000):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write(folder, name, content=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded([0.0] * 160) if content is None else content)


def test_decode_mixes_channels_and_keeps_the_rate():
    audio = encoded([[0.5, 0.25], [-0.5, 0.0]], subtype="FLOAT")
    record = DecodeAudio()({"audio": audio, "text": "a"})
    assert record["audio"].tolist() == [0.375, -0.25]
    assert (record["audio"].dtype, record["rate"], record["text"]) == (np.float32, 16_000, "a")
    again = DecodeAudio()({"audio": {"samples": [[0.5, 0.25], [-0.5, 0.0]], "rate": 16_000}})
    assert again["audio"].tolist() == [0.375, -0.25]


@pytest.mark.parametrize(("form", "subtype"), [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)])
def test_decode_reads_by_content_and_resamples(form, subtype):
    samples = DecodeAudio(rate=16_000)({"audio": encoded(sine(440, rate=44_100), 44_100, form, subtype)})["audio"]
    assert samples.shape == (16_000,)
    # Away from the ends, where the filter sees the cut; lossy coders come within a few percent.
    atol = 0.03 if form in ("OGG", "MP3") else 1e-4
    np.testing.assert_allclose(samples[400:-400], sine(440)[400:-400], atol=atol)


def test_decode_takes_192_khz_in_blocks():
    stereo = np.stack([sine(440, 3.0, 192_000)] * 2, 1)  # 1.1 million samples, more than four blocks
    samples = DecodeAudio()({"audio": encoded(stereo, 192_000)})["audio"]
    np.testing.assert_allclose(samples[400:-400], sine(440, 3.0)[400:-400], atol=1e-4)
    whole = DecodeAudio()({"audio": {"samples": stereo, "rate": 192_000}})["audio"]
    np.testing.assert_allclose(samples, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("audio", "keywords", "message"),
    [
        (encoded([]), {}, "no samples"),
        (encoded([np.nan, 0.0], subtype="FLOAT"), {}, "not finite"),
        (encoded(np.zeros(16_001)), {"max_seconds": 1.0}, "1 s of sound, over the limit of 1"),
        (encoded(np.zeros(100)), {"max_bytes": 100}, "bytes of sound, over the limit of 100"),
        (encoded(np.zeros(10), 100), {}, "rate of 100 Hz"),
        (b"", {}, "no sound that soundfile reads"),
        (b"GIF89a" + bytes(100), {}, "no sound that soundfile reads: Format not recognised"),
        ({"samples": np.zeros((0, 2)), "rate": 16_000}, {}, "no samples"),
    ],
    # The bytes of a sound hold the time: as names of tests they would differ from process to process.
    ids=["empty", "nan", "long", "large", "slow", "nothing", "gif", "no_samples"],
)
def test_decode_refuses(audio, keywords, message):
    with pytest.raises(ValueError, match=message):
        DecodeAudio(**keywords)({"audio": audio})


def test_decode_does_not_trust_a_header():
    # A wav without a size, as a pipe writes it, claims four gigabytes; the file's own length counts.
    content = bytearray(encoded(np.full(160, 0.5)))
    content[40:44] = b"\xff\xff\xff\xff"
    assert len(DecodeAudio()({"audio": bytes(content)})["audio"]) == 160


def test_fit_audio_cuts_and_fills():
    def fit(values, **keywords):
        record = {"audio": np.array(values, np.float32), "rate": 4}
        return FitAudio(seconds=0.5, **keywords)(record, np.random.default_rng(0))["audio"].tolist()

    assert fit([1, 2, 3, 4]) == [1, 2]
    assert fit([1, 2, 3, 4], part="centre") == [2, 3]
    assert fit([1]) == [1, 0]
    record = {"audio": np.arange(4, dtype=np.float32), "rate": 4}
    seen = {tuple(FitAudio(0.5, "random")(record, np.random.default_rng(seed))["audio"].tolist()) for seed in range(40)}
    assert seen == {(0, 1), (1, 2), (2, 3)}
    with pytest.raises(UserError, match="'end'"):
        FitAudio(1.0, "end")


def test_whisper_log_mel_of_silence_and_of_a_tone():
    silence = WhisperLogMel()({"audio": np.zeros(100, np.float32), "rate": 16_000})["audio"]
    assert (silence.shape, silence.dtype) == ((80, 3000), np.float32)
    assert np.unique(silence).tolist() == [-1.5]  # log10 of the floor is -10: (-10 + 4) / 4
    tone = WhisperLogMel(seconds=1.0)({"audio": sine(1000), "rate": 16_000})["audio"]
    assert tone.shape == (80, 100)
    assert set(tone[:, 10:90].argmax(0)) == {slaney_filters(80)[25].argmax()}  # bin 25 of 40 Hz each
    assert np.ptp(tone) == pytest.approx(2.0)  # 8 powers of ten, a fourth


def test_whisper_log_mel_leaves_out_silence_without_a_difference():
    # Silence after a short sound is filled in; written out to the end it is computed.
    for n in (1, 4000, 15_700, 15_900):
        short = WhisperLogMel(seconds=1.0)({"audio": sine(500)[:n], "rate": 16_000})["audio"]
        written = np.pad(sine(500)[:n], (0, 16_000 - n))
        np.testing.assert_array_equal(short, WhisperLogMel(seconds=1.0)({"audio": written, "rate": 16_000})["audio"])


def test_ast_log_mel_of_silence_and_padding():
    log = AstLogMel(frames=4)({"audio": np.full(560, 0.25, np.float32), "rate": 16_000})["audio"]  # the mean is taken away
    assert log.shape == (128, 4)
    # ln(2^-23) = -15.9424 in two frames, 0 in the padding.
    np.testing.assert_allclose(log[:, :2], (-15.9424 + 4.2677393) / (2 * 4.5689974), rtol=1e-5)
    np.testing.assert_allclose(log[:, 2:], 4.2677393 / (2 * 4.5689974), rtol=1e-6)
    tone = AstLogMel(frames=20)({"audio": sine(1000), "rate": 16_000})["audio"]
    assert set(tone.argmax(0)) == {kaldi_filters(128)[32].argmax()}  # bin 32 of 31.25 Hz each
    with pytest.raises(ValueError, match="399 samples"):
        AstLogMel()({"audio": np.zeros(399, np.float32), "rate": 16_000})


def test_log_mel_insists_on_its_rate():
    for transform in (WhisperLogMel(), AstLogMel()):
        with pytest.raises(ValueError, match="8000, not 16000 Hz"):
            transform({"audio": np.zeros(8000, np.float32), "rate": 8000})


def test_folder_in_librispeechs_order(tmp_path):
    for name in ("19/198/19-198-0000.flac", "19/198/19-198-0001.flac", "20/1/20-1-0000.flac"):
        write(tmp_path, name)
    (tmp_path / "SPEAKERS.TXT").write_text("; 14 | F")
    (tmp_path / "19/198/19-198.trans.txt").write_text("19-198-0001 NORTHANGER ABBEY\n19-198-0000 THIS WORK\n")
    (tmp_path / "20/1/20-1.trans.txt").write_text("20-1-0000 CHAPTER ONE\n20-1-0001 IT IS NOT HERE\n")
    source = pickle.loads(pickle.dumps(AudioFolder(str(tmp_path))))
    said = {source[i]["id"]: source[i]["text"] for i in range(3)}
    assert said == {
        "19/198/19-198-0001.flac": "NORTHANGER ABBEY",
        "19/198/19-198-0000.flac": "THIS WORK",
        "20/1/20-1-0000.flac": "CHAPTER ONE",
    }
    assert source[0]["audio"] == encoded([0.0] * 160)
    assert len(source) == 4
    with pytest.raises(FileNotFoundError, match="20-1-0001 is not in the folder"):
        source[3]
    with pytest.raises(IndexError):
        source[4]


def test_folder_in_asterisks_way(tmp_path):
    for name in ("sounds/digits/1.wav", "sounds/beep.wav", "sounds/hello.wav", "sounds/.hidden.wav"):
        write(tmp_path, name)
    import gzip

    text = "; Core sounds\n\ndigits/1: one\nbeep: [a beep]\nhello: Hello: who is it?\n"
    (tmp_path / "core-sounds-en.txt.gz").write_bytes(gzip.compress(text.encode()))
    source = AudioFolder(str(tmp_path / "sounds"), table=str(tmp_path / "core-sounds-en.txt.gz"))
    assert [(r["id"], r["text"]) for r in source] == [("digits/1.wav", "one"), ("hello.wav", "Hello: who is it?")]
    assert source.left_out == ["beep.wav"]


def test_folder_with_a_table_of_several_texts(tmp_path):
    write(tmp_path, "clips/a.mp3")
    write(tmp_path, "clips/b.mp3")
    table = "client\tpath\tsentence\tage\n1\ta.mp3\tein Hund\t20\n2\tclips/b.mp3\teine Katze\t7\n3\ta.mp3\tzwei Hunde\t8\n"
    (tmp_path / "validated.tsv").write_text("\ufeff" + table, encoding="utf-8")
    source = AudioFolder(str(tmp_path), label="age")
    assert [record.get("texts", record.get("text")) for record in source] == [["ein Hund", "zwei Hunde"], "eine Katze"]
    assert source[1]["label"] == 7
    every = list(AudioFolder(str(tmp_path), captions="all"))
    assert [(r["id"], r["text"]) for r in every] == [
        ("clips/a.mp3#0", "ein Hund"),
        ("clips/a.mp3#1", "zwei Hunde"),
        ("clips/b.mp3", "eine Katze"),
    ]
    assert every[0]["group"] == every[1]["group"] == source[0]["group"]
    assert [r["item"] for r in every] == [0, 0, 1]
    assert "group" not in every[2]


def test_folder_with_texts_beside(tmp_path):
    for name, text in (("a", "one\ntwo"), ("sub/a", "three"), ("b", "")):
        write(tmp_path, f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(text)
    write(tmp_path, "c.wav")
    write(tmp_path, "d.wav", b"")
    (tmp_path / "d.txt").write_text("nothing")
    source = AudioFolder(str(tmp_path))
    assert (source[0]["text"], source[3]["text"]) == ("one two", "three")
    assert source.left_out == ["c.wav"]
    for i, message in ((1, "b.txt is empty"), (2, "d.wav is empty")):
        with pytest.raises(ValueError, match=message):
            source[i]
    with pytest.raises(ValueError, match="limit of 50 bytes"):
        AudioFolder(str(tmp_path), max_bytes=50)[0]


def test_names_are_not_guessed_across_folders(tmp_path):
    write(tmp_path, "test/001.wav")
    (tmp_path / "train.csv").write_text("file,text\ntrain/001.wav,yes\n")
    with pytest.raises(UserError, match=r"train\.csv names none of the 1 files.*such as test/001\.wav"):
        AudioFolder(str(tmp_path))
    (tmp_path / "train.csv").write_text("file,text\n../test/001.wav,yes\n/data/test/001.wav,no\n")
    assert AudioFolder(str(tmp_path))[0]["texts"] == ["yes", "no"]


def test_folder_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        AudioFolder(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no \.wav"):
        AudioFolder(str(tmp_path))
    write(tmp_path, "a.wav")
    with pytest.raises(UserError, match="1 files and no text"):
        AudioFolder(str(tmp_path))
    (tmp_path / "a.csv").write_bytes("wav,words\na.wav,café\n".encode("latin-1"))
    with pytest.raises(UserError, match="encoding"):
        AudioFolder(str(tmp_path), text="words")
    assert AudioFolder(str(tmp_path), text="words", encoding="latin-1")[0]["text"] == "café"
    (tmp_path / "a.csv").write_text("wav,words\na.wav,yes\n")
    with pytest.raises(UserError, match=r"which column is the text\? It has: 'wav', 'words'\nsay text="):
        AudioFolder(str(tmp_path))
    with pytest.raises(UserError, match=r"no column 'word'.*Did you mean 'words'"):
        AudioFolder(str(tmp_path), text="word")
    with pytest.raises(UserError, match="'yes' is no whole number"):
        AudioFolder(str(tmp_path), text="words", label="words")
    (tmp_path / "b.csv").write_text("wav,words\n")
    with pytest.raises(UserError, match=r"a\.csv, b\.csv: say which one by table="):
        AudioFolder(str(tmp_path))
    with pytest.raises(UserError, match="neither 'sample' nor 'all'"):
        AudioFolder(str(tmp_path), table="a.csv", text="words", captions="one")


def test_folder_elsewhere():
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe("/sounds/a.wav", encoded(np.full(160, 0.5)))
    system.pipe("/sounds/list.csv", b"file,text\na.wav,yes\n")
    source = AudioFolder("memory://sounds")
    assert DecodeAudio()(source[0])["audio"].shape == (160,)


def test_a_broken_sound_is_replaced_and_named(tmp_path):
    for name, content in (("a", encoded([])), ("b", encoded(np.full(1000, 0.5)))):
        write(tmp_path, f"{name}.wav", content)
        (tmp_path / f"{name}.txt").write_text(name)
    loader = Loader([AudioFolder(str(tmp_path))], [DecodeAudio(), WhisperLogMel(seconds=0.1)], ["audio"], [0], 0)
    row = loader.row(0, 0, position=0)
    assert (row["audio"].shape, row["id"], row["caption"]) == ((80, 10), "b.wav", "b")
    assert row["broken"].startswith("a.wav: ValueError: the sound has no samples")


@settings(deadline=None)  # whose clock runs on beside other work
@given(st.text())
def test_transcripts_of_any_kind_are_read(text):
    for file in ("a.txt", "a.trans.txt"):
        assert all(said.name and said.text for said in read_lines(text, file))


def test_sphinx_lines():
    text = "<s> so he said </s> (a-0870)\n<s>  </s> (b)\nc: <s>\n"
    assert list(read_lines(text, "transcription")) == [Said("a-0870", "so he said"), Said("c", "<s>")]


def test_rows_of_sounds():
    sounds = [
        {"audio": np.zeros((1, 2, 3), np.float32), "id": "a"},
        {"audio": np.zeros((2, 3)), "id": "b"},
        {"audio": np.zeros(4)},
    ]
    loader = Loader([Memory(sounds)], [], ["audio", "group"], [0], 0)
    assert "not float32 (N) or (M, F): list decode_audio" in loader.attempt(0, 0, 0)[1]
    rows = [loader.attempt(0, i, i)[0] for i in (1, 2)]
    assert [row["audio"].ndim for row in rows] == [2, 1]
    assert rows[0]["group"] != rows[1]["group"]  # neither has a text that could make them one
