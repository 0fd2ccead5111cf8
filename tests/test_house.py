"""The house rules, read from the syntax tree: who imports whom, how long things are, what stays behind which wall."""

import ast
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from mmjax.losses.contrastive import positives

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "mmjax").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))

# What each room may import beside itself and core. The command line wires all rooms and is free.
ARROWS = {
    "core": set(),
    "layers": set(),
    "models": {"layers"},
    "sharding": set(),
    "losses": {"sharding"},
    "metrics": set(),
    "data": set(),
    "tasks": {"models", "losses"},
    "checkpoint": {"sharding"},
    "train": {"tasks", "data", "sharding", "checkpoint"},
    "evaluators": {"tasks", "metrics", "data", "sharding"},
    "convert": {"models", "data", "sharding", "checkpoint"},
    "predict": {"tasks", "data", "checkpoint", "metrics"},
    "explain": {"tasks", "data", "metrics", "checkpoint"},
    "generate": set(),
    "plan": {"train", "tasks", "data", "sharding"},
    "sweep": {"metrics"},
    "report": {"metrics"},
}
FREE = ("cli", "cli_convert", "cli_data", "cli_predict", "__main__")
NUMPY_ONLY = ("data", "metrics", "report")
FILE_LINES, FUNCTION_LINES = 400, 70  # "about 60" by design; 70 is the limit
NNX_BEHIND_THE_WALL = {"split", "merge", "jit", "grad", "value_and_grad", "scan", "Optimizer"}


def name(path: Path) -> str:
    """mmjax/core/tree.py -> mmjax.core.tree, mmjax/core/__init__.py -> mmjax.core."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


MODULES = {name(path): parse(path) for path in FILES}


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, those inside functions too; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges(module: str) -> set[str]:
    """The files of mmjax that a file of mmjax imports."""
    found = {dotted for dotted in imports(MODULES[module]) if dotted.split(".")[0] == "mmjax"}
    return {dotted if dotted in MODULES else dotted.rpartition(".")[0] for dotted in found}


def room(module: str) -> str:
    """mmjax.core.tree -> core; the package itself (its version) is nobody's room."""
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_arrows():
    rooms = {room(module) for module in MODULES} - {"", *FREE}
    assert rooms <= set(ARROWS), "a new room needs a row in ARROWS and in DESIGN.md"


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    here = room(module)
    if here in FREE:
        return
    allowed = ARROWS.get(here, set()) | {here, "" if here else here} | ({"core"} if here else set())
    assert {room(other) for other in edges(module)} <= allowed


def test_the_arrows_have_no_cycle():
    assert_acyclic({here: set(others) for here, others in ARROWS.items()})


def test_files_import_in_no_cycle():
    assert_acyclic({module: edges(module) - {module} for module in MODULES})


def test_a_cycle_would_be_found():
    with pytest.raises(AssertionError, match="b -> c -> b"):
        assert_acyclic({"a": {"b"}, "b": {"c"}, "c": {"b"}})


def assert_acyclic(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, "cycle: " + " -> ".join((*trail[trail.index(node) :], node))
        if node not in done:
            for other in sorted(graph[node]):
                visit(other, (*trail, node))
            done.add(node)

    for node in graph:
        visit(node, ())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_import_ml_collections_and_each_other_only(path):
    allowed = {"ml_collections"} | {other.stem for other in CONFIGS}
    assert {dotted.split(".")[0] for dotted in imports(parse(path))} <= allowed


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in NUMPY_ONLY])
def test_numpy_rooms_import_no_jax_at_their_top(module):
    top = ast.Module([node for node in MODULES[module].body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not {dotted.split(".")[0] for dotted in imports(top)} & {"jax", "flax", "optax", "orbax", "grain"}


def test_files_and_functions_are_short():
    long = []
    for path in (*FILES, *CONFIGS):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        long += [f"{path.relative_to(ROOT)}: {lines} lines"] * (lines > FILE_LINES)
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                long += [f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"] * (lines > FUNCTION_LINES)
    assert not long


def test_only_core_module_splits_and_merges_modules():
    broken = []
    for module, tree in MODULES.items():
        if module == "mmjax.core.module":
            continue
        used = {dotted.removeprefix("flax.nnx.") for dotted in imports(tree) if dotted.startswith("flax.nnx.")}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nnx":
                used.add(node.attr)
        broken += [f"{module}: nnx.{attr}" for attr in sorted(used & NNX_BEHIND_THE_WALL)]
    assert not broken


def test_no_private_jax_and_no_drawer_for_everything():
    assert not [module for module, tree in MODULES.items() if "jax._src" in ast.unparse(tree)]
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "misc", "common")]


def leaves_unimported(statement: str, *packages: str) -> None:
    """Runs `statement` in a fresh interpreter and asserts that it imported none of `packages`."""
    code = f"import sys\n{statement}\nprint(*sorted({set(packages)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_deprecation_warnings_of_mmjax_are_errors():
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, "tree.py", 1, module="mmjax.core.tree")


@pytest.mark.skipif(os.environ.get("MMJAX_TEST_ANNOTATIONS") == "0", reason="annotations are left unchecked")
def test_annotations_are_checked():
    with pytest.raises(TypeCheckError, match="Int"):
        positives(jnp.zeros(2, jnp.float32))
    with pytest.raises(TypeCheckError):
        positives(jnp.zeros((2, 2), jnp.int32))


@pytest.mark.smoke
def test_the_command_line_starts_without_jax():
    leaves_unimported("import mmjax.cli", "jax", "flax", "tensorflow", "torch")


@pytest.mark.smoke
def test_no_module_imports_tensorflow():
    # Not torch: where it is installed for parity, tensorboardX looks at it by itself. No line of ours may, as below.
    names = sorted(MODULES)
    leaves_unimported(f"import importlib\nfor m in {names!r}: importlib.import_module(m)", "tensorflow")
    lines = [line for path in (ROOT / "mmjax").rglob("*.py") for line in path.read_text().splitlines()]
    assert not [line for line in lines if line.strip().startswith(("import torch", "from torch"))]
