"""Reading, overriding and comparing configs."""

import json

import pytest
from ml_collections import ConfigDict

from mmjax.core.config import differences, load, override, plain
from mmjax.core.errors import UserError


def config():
    return ConfigDict(
        {
            "steps": 10,
            "lr": 0.1,
            "wandb": False,
            "remat": "dots",
            "ema": None,
            "clip": 1.0,
            "scale": [0.5, 1.0],
            "mesh": {"data": -1},
            "image": {"name": "resnet", "widths": [8, 16], "pool": "mean"},
            "transforms": [{"name": "decode"}, {"name": "resize", "size": 32}],
        }
    )


def changed(*overrides: str):
    return plain(override(config(), overrides))


@pytest.mark.smoke
@pytest.mark.parametrize(
    "text, value",
    [
        ("steps=20", 20),
        ("lr=1e-3", 1e-3),
        ("lr=2", 2.0),  # an int is a float
        ("wandb=true", True),
        ("wandb=True", True),
        ("remat=full", "full"),
        ("remat=none", "none"),  # one of a word's choices; elsewhere nothing, as null and None
        ("clip=none", None),
        ("remat='none'", "none"),
        ("ema=0.99", 0.99),
        ("clip=null", None),
        ("clip=None", None),
        ("scale=[0.9, 1.0]", [0.9, 1.0]),
        ("scale=(0.9, 1.0)", [0.9, 1.0]),
        ("remat=a=b", "a=b"),
    ],
)
def test_values_are_literals_of_the_settings_type(text, value):
    found = changed(text)[text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("steps=1.5", "--config.steps=1.5: needs an int such as 10, not 1.5"),
        ("steps=true", "--config.steps=true: needs an int such as 10, not True"),
        ("wandb=1", "--config.wandb=1: needs a bool such as False, not 1"),
        ("lr=fast", "--config.lr=fast: needs a float such as 0.1, not 'fast'"),
        ("lr={[]: 1}", "--config.lr={[]: 1}: needs a float such as 0.1, not '{[]: 1}'"),
        ("remat=3", "--config.remat=3: needs a str such as 'dots', not 3"),
        ("mesh=2", "--config.mesh=2: needs a dict such as {'data': -1}, not 2"),
        ("scale=1", "--config.scale=1: needs a list such as [0.5, 1.0], not 1"),
        ("steps", "--config.steps: write --config.steps=VALUE"),
        ("mesh.dat=2", "--config.mesh.dat=2: mesh has no key 'dat'; it has: data. Did you mean 'data'?"),
        ("steps.x=1", "--config.steps.x=1: steps is 10, which has no part 'x'"),
        ("scale.2=1", "--config.scale.2=1: scale is [0.5, 1.0], which has no part '2'"),
    ],
)
def test_errors_name_the_override_and_the_mend(text, message):
    with pytest.raises(UserError) as error:
        changed(text)
    assert str(error.value) == message


def test_an_unknown_key_at_the_top_lists_the_keys():
    with pytest.raises(UserError, match=r"the config has no key 'step'; it has: .*steps.* Did you mean 'steps'\?"):
        changed("step=3")


def test_lists_are_reached_by_index():
    assert changed("scale.1=0.75")["scale"] == [0.5, 0.75]
    assert changed("transforms.1.size=64")["transforms"][1] == {"name": "resize", "size": 64}
    assert changed('transforms.0={"name": "crop"}')["transforms"][0] == {"name": "crop"}


def test_a_dict_is_replaced_whole():
    assert changed('image={"name": "vit", "depth": 2}')["image"] == {"name": "vit", "depth": 2}


def test_only_a_part_chosen_by_name_takes_a_new_keyword():
    assert changed("image.groups=4")["image"]["groups"] == 4
    assert changed("transforms.1.mode=crop")["transforms"][1]["mode"] == "crop"
    assert changed('image={"name": "vit"}', "image.depth=2")["image"] == {"name": "vit", "depth": 2}
    with pytest.raises(UserError, match="image has no key 'stem'"):
        changed("image.stem.width=4")


def test_the_config_stays_locked():
    locked = override(config(), ["image.groups=4"])
    with pytest.raises(AttributeError):
        locked.stepz = 3
    with pytest.raises(AttributeError):
        locked.image.other = 3


def test_plain_holds_dicts_and_lists_only():
    made = plain(ConfigDict({"a": {"b": (1, 2)}, "c": [{"d": None}]}))
    assert made == {"a": {"b": [1, 2]}, "c": [{"d": None}]}
    assert type(made["a"]) is dict
    assert type(made["c"][0]) is dict


def test_differences_name_each_place():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "e": {"f": 0}}
    new = {"a": 1, "b": {"c": 3, "d": [1, 2]}, "g": None}
    assert differences(old, new) == [
        "b.c: 2 -> 3",
        "b.d: [1] -> [1, 2]",
        "e: {'f': 0} -> '(absent)'",
        "g: '(absent)' -> None",
    ]
    assert differences(old, old) == []


RECIPE = """
from ml_collections import ConfigDict

def get_config(arg=""):
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    return ConfigDict({"steps": 1 if arg else 100})
"""


def test_load_reads_a_recipe_with_its_argument(tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    assert load(str(path)).steps == 100
    assert load(f"{path}:debug").steps == 1
    assert load(f"{path}:debug", ["steps=7"]).steps == 7
    with pytest.raises(UserError, match=r"recipe\.py:fast: unknown argument 'fast'; it takes: debug"):
        load(f"{path}:fast")


def test_load_reads_a_resolved_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain(config())))
    assert plain(load(str(path), ["image.pool=max"])) == changed("image.pool=max")


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"there is no file '/nowhere\.py'"):
        load("/nowhere.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty.py defines no get_config\(arg\)"):
        load(str(tmp_path / "empty.py"))
