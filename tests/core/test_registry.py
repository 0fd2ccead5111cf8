"""Parts by name."""

import pytest
from flax import nnx

from mmjax.core import registry
from mmjax.core.errors import UserError, suggest


def vit(depth: int, *, width: int = 8):
    return ("vit", depth, width)


class Layer(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.width = width


TABLE = {"vit": vit, "layer": Layer}


@pytest.mark.smoke
def test_build_calls_the_row_and_the_spec_wins():
    assert registry.build(TABLE, {"name": "vit", "depth": 3}) == ("vit", 3, 8)
    assert registry.build(TABLE, {"name": "vit", "width": 5}, 2) == ("vit", 2, 5)
    assert registry.build(TABLE, {"name": "vit", "depth": 3, "width": 5}, width=6) == ("vit", 3, 5)


@pytest.mark.parametrize(
    "spec, text",
    [
        ({"depth": 3}, "model.image: needs a 'name', one of: layer, vit"),
        ({"name": "vlt"}, "model.image: unknown name 'vlt'; choose one of: layer, vit. Did you mean 'vit'?"),
        ({"name": "zzz"}, "model.image: unknown name 'zzz'; choose one of: layer, vit."),
        (
            {"name": "vit", "dept": 1},
            "model.image: 'vit' takes no keyword 'dept'; it takes: depth, width. Did you mean 'depth'?",
        ),
    ],
)
def test_check_names_the_choices(spec, text):
    with pytest.raises(UserError) as error:
        registry.check(TABLE, spec, "model.image")
    assert str(error.value) == text


def test_parameters_of_an_nnx_module_are_its_constructors():
    assert list(registry.parameters(Layer)) == ["width", "rngs"]
    registry.check(TABLE, {"name": "layer", "width": 3})


def test_suggest_is_silent_where_nothing_is_close():
    assert suggest("kernal", ["bias", "kernel"]) == " Did you mean 'kernel'?"
    assert suggest("xyz", ["bias", "kernel"]) == ""
