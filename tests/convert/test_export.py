"""Towers as programs: which leaves are read, and where large weights lie."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.convert import export
from mmjax.convert.table import Tensor, tensor

SIDE = 600  # whose square is more than the megabyte that jax2onnx leaves in the program


def unread(shape):
    def read():
        raise AssertionError("this leaf is of the other tower")

    return Tensor(shape, np.dtype(np.float32), read)


def of_two():
    """A tower of one matrix beside a leaf that it has no use for."""
    kernel = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32) / SIDE
    leaves = {"params/image/kernel": tensor(kernel), "params/text/kernel": unread((10**6, 10**6))}

    def method(params, stats, rows):
        return jnp.tanh(rows["image"] @ params["image"]["kernel"])

    return kernel, export.tower(method, leaves, "image", [[SIDE], "float32"])


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_only_the_tower_s_own_leaves_are_read(format, tmp_path):
    if format == "onnx":
        for needed in ("jax2onnx", "onnxruntime"):
            pytest.importorskip(needed)
    kernel, tower = of_two()
    assert list(tower.weights) == ["params/image/kernel"]
    names = export.write({"image": tower}, {"preprocessing": {}, "tokenizer": None}, f"{tmp_path}/out", format)
    rows = np.random.default_rng(1).normal(size=(2, SIDE)).astype(np.float32)
    if format == "stablehlo":
        assert names == ["about.json", "image.npz", "image.stablehlo"]
        from jax import export as programs

        with np.load(tmp_path / "out" / "image.npz") as weights:
            call = programs.deserialize((tmp_path / "out" / "image.stablehlo").read_bytes()).call
            found = call(dict(weights), rows)
    else:
        assert names == ["about.json", "image.onnx", "image.onnx.data"]
        assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").glob("*.onnx*")} == {0o644}
        import onnxruntime

        session = onnxruntime.InferenceSession(f"{tmp_path}/out/image.onnx")
        (found,) = session.run(None, {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(found, np.tanh(rows @ kernel), atol=1e-6)  # float32
