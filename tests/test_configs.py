"""Every shipped config: resolved, its shapes evaluated for its target mesh, and compared with golden text.

A change that is meant: `python tests/test_configs.py [RECIPE ...]` writes the golden files anew; read their diff.
"""

import sys
from pathlib import Path

import pytest

from mmjax.convert import init
from mmjax.convert.table import Tensor
from mmjax.core import tree
from mmjax.core.config import load, plain
from mmjax.evaluators import suite
from mmjax.plan.check import describe
from mmjax.sharding import mesh as meshes
from mmjax.tasks import build as tasks

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
RECIPES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if not p.stem.startswith("base"))
# Enough devices for every recipe's fsdp, and few enough to divide every batch: 64, or the paper's where its batch is small.
MACHINES = {"quickstart": 1, "emoji_squares": 1, "visualbert": 4, "lxmert": 4}
ALONE = ("debug", "small", "seen", "named", "captions", "entailment", "pairs")
# What recipes take, where it is more than "debug".
FUSION = ("", "vqa", "captions", "small", "entailment", "debug")
ARGUMENTS = dict.fromkeys(("albef", "albef_vqa", "albef_retrieval"), ("", "debug", "small"))
ARGUMENTS |= dict.fromkeys(("lxmert", "cross_encoder"), (*FUSION, "seen", "named"))
ARGUMENTS |= {"visualbert": (*FUSION, "seen", "named", "pairs"), "vilt": (*FUSION, "pairs")}
GOLDENS = [(name, arg) for name in RECIPES for arg in ARGUMENTS.get(name, ("", "debug"))]


def resolved(name: str, arg: str) -> dict:
    return plain(load(f"{ROOT}/configs/{name}.py" + (f":{arg}" if arg else "")))


def text(name: str, arg: str) -> str:
    config = resolved(name, arg)
    suite.check(config)
    devices = 1 if arg in ALONE else MACHINES.get(name, 64)
    return describe(config, meshes.abstract(config["mesh"], devices)) + "\n"


def golden(name: str, arg: str) -> Path:
    return GOLDEN / f"{name}{'_' + arg if arg else ''}.txt"


@pytest.mark.parametrize(("name", "arg"), GOLDENS)
def test_golden(name, arg):
    assert text(name, arg) == golden(name, arg).read_text()


STARTS = [pair for pair in GOLDENS if isinstance(start := resolved(*pair)["init"], dict) and start["from"].startswith("runs/")]


@pytest.mark.parametrize(("name", "arg"), STARTS)
def test_what_a_recipe_begins_with_fits_it(name, arg, monkeypatch):
    """runs/RECIPE_ARGUMENT is what that recipe trains: its parameters fill this one's as the rules say, none is left over."""
    config = resolved(name, arg)
    before = config["init"]["from"].removeprefix("runs/")
    pair = next(pair for pair in GOLDENS if before == "_".join(filter(None, pair)))
    leaves = tree.flatten(tasks.build(resolved(*pair))[0].abstract)
    source = {path: Tensor(leaf.shape, leaf.dtype, lambda: None) for path, leaf in leaves.items()}
    monkeypatch.setattr(init, "_source", lambda *_: source)
    assert init.Init(config["init"], tasks.build(config)[0].abstract).taken


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_what_it_is_for(name):
    config = resolved(name, "")
    doc = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
    assert f"--config=configs/{name}.py" in doc
    assert "Hardware:" in doc
    assert "Expected" in doc
    assert list(config["mesh"].values()).count(-1) == 1
    assert config["batch_size"] > 0


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for recipe, argument in [pair for pair in GOLDENS if pair[0] in sys.argv[1:] or not sys.argv[1:]]:
        golden(recipe, argument).write_text(text(recipe, argument))
    sys.exit(0)
