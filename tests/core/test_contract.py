"""Habits that keep the contract in one place, read from the code: each is broken by a line, and found by it."""

import ast
import pathlib

import pytest

import imagegen_jax

PACKAGE = pathlib.Path(imagegen_jax.__file__).parent
MODELS = ("model", "guide", "network", "generator", "encoder")  # what a name or an attribute of one ends in


def probes(tree: ast.AST) -> list[int]:
    """`hasattr` and `getattr` that ask a model or a network for a member by its name: a protocol says what it can."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
            asked, name = node.args[:2]
            if ast.unparse(asked).endswith(MODELS) and isinstance(name, ast.Constant):
                found.append(node.lineno)
    return found


def vmaps(tree: ast.AST) -> list[int]:
    """Keys split, or rows drawn, by a `vmap` of one's own: `core.arrays.random` has them."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.vmap":
            mapped = node.args[0].body if isinstance(node.args[0], ast.Lambda) else node.args[0]
            called = mapped.func if isinstance(mapped, ast.Call) else mapped
            if ast.unparse(called) in [f"jax.random.{draw}" for draw in ("split", "normal", "uniform", "randint")]:
                found.append(node.lineno)
    return found


def losses(tree: ast.AST) -> list[int]:
    """Metrics called "loss": the step puts in what it differentiates, once and for every model."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            found += [key.lineno for key in node.keys if isinstance(key, ast.Constant) and key.value == "loss"]
    return found


@pytest.fixture(scope="module")
def trees():
    """All files of the package, parsed."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize(
    ("find", "allowed"),
    [(probes, ()), (vmaps, ("core/arrays/random.py",)), (losses, ("core/step.py", "pages/explained.py"))],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_file_does_by_hand_what_the_contract_does(trees, find, allowed):
    found = {name: find(tree) for name, tree in trees.items()}
    assert {name: lines for name, lines in found.items() if lines and name not in allowed} == {}


@pytest.mark.parametrize(
    ("find", "line"),
    [
        (probes, 'getattr(self.model, "num_classes", 0)'),
        (probes, 'hasattr(network, "attention")'),
        (vmaps, "jax.vmap(lambda key: jax.random.normal(key, shape))(keys)"),
        (vmaps, "jax.vmap(jax.random.split, out_axes=1)(keys)"),
        (losses, 'Aux({"loss": loss, "error": error})'),
    ],
)
def test_a_line_of_each_kind_is_found(find, line):
    assert find(ast.parse(line)) == [1]
