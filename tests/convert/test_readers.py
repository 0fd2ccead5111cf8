"""Files of tensors: what is read, and one line for what is broken, cut off or forged."""

import io
import json
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from mmjax.convert import ctranslate2, readers, table
from mmjax.convert.recognise import recognise
from mmjax.core.errors import UserError

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2], ml_dtypes.bfloat16),
    "c": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float16),
}


def write(path, arrays):
    readers.write_safetensors(path, {name: table.tensor(x) for name, x in arrays.items()})


def bytes_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors_there_and_back(tmp_path):
    write(tmp_path / "x.safetensors", ARRAYS)
    found = readers.read(tmp_path / "x.safetensors")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].read().tolist() == array.tolist()
    assert not found["a"].read().flags.writeable  # a view of the mapped file
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as theirs:
        assert theirs.get_tensor("a").tolist() == ARRAYS["a"].tolist()
        assert theirs.get_slice("b").get_dtype() == "BF16"


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "cut off, or no safetensors"),
        ((2**45).to_bytes(8, "little") + b"{}", "claims 35,184,372,088,832 bytes of a file of 10"),
        (bytes_of(b"not json"), "header cannot be read"),
        (bytes_of([1]), "header cannot be read"),
        (bytes_of({"a": ONE}, b"1234"), "a ends at byte .* it is cut off"),
        (bytes_of({"a": {**ONE, "shape": [2**40]}}, b"12345678"), "4,398,046,511,104 bytes by its shape and 8 by its place"),
        (bytes_of({"a": {**ONE, "dtype": "F2"}}, b"12345678"), "dtype F2"),
        (bytes_of({"a": {**ONE, "data_offsets": [-8, 0]}}, b"12345678"), "bytes by its shape"),
    ],
)
def test_broken_safetensors(content, message, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        readers.read(tmp_path / "x.safetensors")


def test_shards(tmp_path):
    write(tmp_path / "m-1.safetensors", {"a": ARRAYS["a"]})
    write(tmp_path / "m-2.safetensors", {"b": ARRAYS["b"]})
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert readers.read(tmp_path)["b"].read().tolist() == [1.5, -2]
    index["weight_map"]["c"] = "m-2.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"'c' is not in its shard m-2.safetensors"):
        readers.read(tmp_path)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of 2 shards are missing, first m-2.safetensors"):
        readers.read(tmp_path)
    index["weight_map"]["a"] = "../m-1.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"not beside it"):
        readers.read(tmp_path)


def test_npz(tmp_path):
    readers.write_npz(tmp_path / "x.npz", {"params/a": table.tensor(ARRAYS["a"])})
    with np.load(tmp_path / "x.npz") as theirs:
        assert theirs["params/a"].tolist() == ARRAYS["a"].tolist()
    found = readers.read(tmp_path / "x.npz")
    assert found["params/a"].shape == (2, 3)
    assert found["params/a"].read().tolist() == ARRAYS["a"].tolist()
    np.savez(tmp_path / "x.npz", **{"t/encoderblock/b": ARRAYS["a"]})
    assert readers.read(tmp_path / "x.npz")["t/encoderblock_1/b"].read().tolist() == [3, 4, 5]
    np.savez(tmp_path / "x.npz", a=np.array([{}]))
    with pytest.raises(UserError, match=r"holds Python objects"):
        readers.read(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError, match=r"no npz archive"):
        readers.read(tmp_path / "x.npz")


class Evil:
    """Would make a folder were it unpickled as pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def archive(path, pickled):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_by_name_and_not_run(zipped, tmp_path):
    evil = pickle.dumps({"a": Evil(str(tmp_path / "made"))}, protocol=2)
    path = tmp_path / "x.pth"
    archive(path, evil) if zipped else path.write_bytes(evil)
    with pytest.raises(UserError, match=r"asks for \w+\.mkdir, which is no tensor: refused, nothing was run"):
        readers.read(path)
    assert not (tmp_path / "made").exists()


NUMBERS = np.arange(4, dtype=np.float32)


def saved(path, count, claims=None, compression=zipfile.ZIP_STORED):
    """As torch.save writes {"a": a tensor of `count` numbers}, over a storage of four, whose size the archive may lie about."""
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()  # noqa: E731
    whole = b"J" + struct.pack("<i", count)
    place = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + whole + b"tQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + b"K\0" + whole + b"\x85K\1\x85\x89ccollections\nOrderedDict\n)RtR"
    )
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", b"\x80\2}" + text("a") + tensor + b"s.")
        file.writestr("archive/data/0", NUMBERS.tobytes())
    if claims is not None:
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\1\2") + 24  # the size once unpacked, in the directory's last entry
        content[at : at + 4] = struct.pack("<I", claims)
        path.write_bytes(content)


def test_a_forged_storage_is_not_read_beyond_its_end(tmp_path):
    path = tmp_path / "x.pth"
    saved(path, 4)
    assert readers.read(path)["a"].read().tolist() == [0, 1, 2, 3]
    for count, claims in ((5, None), (1000, 4000), (2**30, 2**32 - 1)):
        saved(path, count, claims)
        with pytest.raises(UserError, match=r"a \(\d+,\) reaches beyond its storage of 4 numbers: cut off or forged"):
            readers.read(path)
    saved(path, 2**30, 2**32 - 1, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"reaches beyond its storage of [\d,]+ numbers: cut off or forged"):
        readers.read(path)
    saved(path, 1000, 4000, zipfile.ZIP_DEFLATED)  # not more than deflate could have packed: found when it is read
    with pytest.raises(UserError, match=r"reaches beyond its storage of 4 numbers|its 0 cannot be read"):
        readers.read(path)["a"].read()


def test_an_npz_that_claims_terabytes(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**41,)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("params/a.npy", header.getvalue())
    with pytest.raises(
        UserError, match=r"\(2199023255552,\) is 8,796,093,022,208 bytes by its shape and \d+ at most in the file"
    ):
        readers.read(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"\x80\x02K\x01.", b"junk"])
def test_broken_pickles(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"no pickle of tensors|no file of torch.save"):
        readers.read(tmp_path / "x.pth")
    archive(tmp_path / "y.pth", pickle.dumps({"a": 3}))
    with pytest.raises(UserError, match=r"'a' is a int, no tensor: refused"):
        readers.read(tmp_path / "y.pth")


def container(variables):
    out = io.BytesIO()
    text = lambda s: struct.pack("<H", len(s) + 1) + s.encode() + b"\0"  # noqa: E731
    out.write(struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables)))
    for name, kind, array in variables:
        out.write(text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape))
        out.write(struct.pack("<BI", kind, array.nbytes) + array.tobytes())
    return out.getvalue()


def test_ctranslate2(tmp_path):
    whole = container([("encoder/a", 4, np.array([[1, 2]], np.float16)), ("encoder/n", 2, np.array(6, np.int16))])
    (tmp_path / "model.bin").write_bytes(whole)
    assert ctranslate2.is_one(whole[:64])
    found = readers.read(tmp_path)
    assert found["encoder/a"].read().tolist() == [[1, 2]]
    assert int(found["encoder/n"].read()) == 6
    for cut in (len(whole) - 1, 40, 30):
        (tmp_path / "model.bin").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"cut off"):
            readers.read(tmp_path)


def test_unknown_things(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder"):
        recognise(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no weights there; looked for model.safetensors"):
        recognise(str(tmp_path))
    write(tmp_path / "model.safetensors", ARRAYS)
    with pytest.raises(UserError, match=r"tensors such as a, b, c are of no known family"):
        recognise(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clop"}')
    with pytest.raises(UserError, match=r"model_type 'clop' is not read here.*Did you mean 'clip'"):
        recognise(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match=r"config.json says clip, whose 'vision_model.pre_layrnorm.weight' is not among"):
        recognise(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: no json"):
        recognise(str(tmp_path))
