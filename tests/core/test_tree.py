"""Paths and ordered rules."""

import jax.numpy as jnp
import optax
import pytest

from mmjax.core import tree
from mmjax.core.errors import UserError

PATHS = ["image/fc/kernel", "image/fc/bias", "text/fc/kernel"]


@pytest.mark.smoke
def test_flatten_joins_keys_and_unflatten_parts_them():
    nested = {"b": {"c": 2, "a": {"x": 3}}, "a": 1}
    flat = tree.flatten(nested)
    assert flat == {"a": 1, "b/a/x": 3, "b/c": 2}
    assert list(flat) == ["a", "b/a/x", "b/c"]  # jax.tree's order: sorted keys
    assert tree.unflatten(flat) == nested


def test_flatten_names_fields_and_positions():
    state = optax.adam(1.0).init({"w": jnp.zeros(2)})
    assert list(tree.flatten(state)) == ["0/count", "0/mu/w", "0/nu/w"]
    assert tree.flatten({"a": [5, (6,)]}) == {"a/0": 5, "a/1/0": 6}
    assert tree.flatten(7) == {"": 7}


def test_map_with_path_keeps_the_structure():
    assert tree.map_with_path(lambda path, x: f"{path}={x}", {"a": (1, 2), "b": {}}) == {"a": ("a/0=1", "a/1=2"), "b": {}}


@pytest.mark.smoke
def test_the_first_rule_that_matches_wins():
    rules = [("image/.*", 1), (".*/kernel", 2), (".*", 3)]
    with pytest.raises(UserError, match="covers no leaf"):  # ".*nothing" hits no leaf
        tree.resolve([(".*nothing", 0), *rules], PATHS, what="lr")
    assert tree.resolve(rules, PATHS, what="lr") == {"image/fc/kernel": 1, "image/fc/bias": 1, "text/fc/kernel": 2}


def test_a_rule_matches_the_whole_path():
    assert tree.resolve([("kernel|fc", 1), (".*", 0)], ["fc", "fc/kernel"], what="x") == {"fc": 1, "fc/kernel": 0}


def test_a_rule_hidden_behind_another_is_no_typo():
    assert tree.resolve([(".*", 1), ("text/.*", 2)], PATHS, what="x") == dict.fromkeys(PATHS, 1)


def test_an_uncovered_path_is_an_error_or_takes_the_default():
    with pytest.raises(UserError, match=r"^sharding: no rule covers 'text/fc/kernel': end the rules with \('\.\*', \.\.\.\)$"):
        tree.resolve([("image/.*", 1)], PATHS, what="sharding")
    assert tree.resolve([("image/.*", True)], PATHS, what="freeze", default=False)["text/fc/kernel"] is False


def test_a_rule_that_hits_nothing_names_what_there_is():
    with pytest.raises(UserError) as error:
        tree.resolve([("image/fc/kernal", 1), (".*", 0)], [*PATHS, "a", "b"], what="freeze")
    assert str(error.value) == (
        "freeze: rule 'image/fc/kernal' covers no leaf; there is image/fc/kernel, image/fc/bias, text/fc/kernel, a and 1 more."
        " Did you mean 'image/fc/kernel'?"
    )
    assert tree.resolve([("none", 1), (".*", 0)], ["a"], what="x", must_hit=False) == {"a": 0}


def test_a_bad_regex_is_said_to_be_one():
    with pytest.raises(UserError, match=r"freeze: '\(image' is not a regular expression: missing \)"):
        tree.resolve([("(image", 1)], PATHS, what="freeze")


@pytest.mark.parametrize("rule", ["image/.*", ["image/.*"]])
def test_a_rule_without_a_value_is_said_to_be_one(rule):
    with pytest.raises(UserError, match=r"freeze: a rule is \[pattern, value\], not"):
        tree.resolve([rule], PATHS, what="freeze")


def test_size_bytes():
    assert tree.size_bytes(jnp.zeros((3, 5), jnp.bfloat16)) == 30
