"""Which tests a change reaches, in small checkouts and in this one."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from reached_tests import Files, git, reached_since  # noqa: E402

pytestmark = pytest.mark.versions

CHECKOUT = {
    "imagegen_jax/__init__.py": "from imagegen_jax.command import main\nfrom imagegen_jax.core import Core",
    "imagegen_jax/__main__.py": "from imagegen_jax import main",
    "imagegen_jax/command.py": "def main():\n    from imagegen_jax import gan, vae",
    "imagegen_jax/core.py": "TEMPLATE = 'page.html'\nclass Core: pass",
    "imagegen_jax/gan.py": "from imagegen_jax.core import Core",
    "imagegen_jax/vae.py": "def later():\n    from imagegen_jax import core",
    "imagegen_jax/names.py": "OLD = {'imagegen_jax.was:Vae': 'imagegen_jax.vae:Vae'}\nROOM = 'imagegen_jax.gan'",
    "imagegen_jax/page.html": "",
    "experiments/__init__.py": "",
    "experiments/gan/dcgan.py": "from imagegen_jax import gan, main\nif __name__ == '__main__':\n    main()",
    "experiments/vae.py": "import imagegen_jax.vae\nSIZES = {'vae_small': 1, 'vae_large': 2}",
    "tests/conftest.py": "def imagegen():\n    from imagegen_jax.command import main",
    "tests/recipes.py": "def of(name):\n    return __import__(f'experiments.{name}')",
    "tests/reference/torch.npz": "",
    "tests/test_alone.py": '"""Not imagegen_jax.core."""\nimport os',
    "tests/test_command.py": "def test_it(imagegen):\n    pass",
    "tests/test_data.py": "PATH = 'reference/torch.npz'",
    "tests/gan/test_gan.py": "from imagegen_jax.gan import Core",
    "tests/test_module.py": "COMMAND = ['-m', 'imagegen_jax']",
    "tests/test_names.py": "from imagegen_jax import names",
    "tests/test_process.py": "PROGRAM = 'import sys; from imagegen_jax.vae import later'",
    "tests/test_recipe.py": "COMMAND = ['train', 'experiments.vae_large']",
    "tests/test_recipes.py": "import recipes",
    "tests/test_short.py": "import imagegen_jax as ig\nig.Core",
    "README.md": "",
}


@pytest.fixture
def checkout(tmp_path):
    for path, text in CHECKOUT.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


COMMANDS = {"test_command": None, "test_module": None}
GAN, VAE = frozenset({"dcgan"}), frozenset({"vae_small", "vae_large"})


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ("README.md", {}),
        ("tests/test_alone.py", {"test_alone": None}),
        ("tests/reference/torch.npz", {"test_data": None}),
        ("imagegen_jax/vae.py", COMMANDS | {"test_process": None, "test_recipe": None, "test_recipes": VAE}),
        ("imagegen_jax/gan.py", COMMANDS | {"test_gan": None, "test_recipes": GAN}),
        ("experiments/vae.py", {"test_recipe": None, "test_recipes": VAE}),
        ("tests/recipes.py", {"test_recipes": None}),
        ("imagegen_jax/names.py", {"test_names": None}),
    ],
)  # fmt: skip
def test_a_change_reaches_what_imports_or_names_it(checkout, changed, reached):
    found = Files(checkout, CHECKOUT).reached([changed])
    assert {pathlib.Path(path).stem: recipes for path, recipes in found.items()} == reached


@pytest.mark.parametrize(("changed", "more"), [("imagegen_jax/core.py", {"names"}), ("imagegen_jax/page.html", set())])
def test_what_is_imported_or_named_on_the_way_counts(checkout, changed, more):
    """What a package around it imports does, too, but not all that this can do."""
    found = Files(checkout, CHECKOUT).reached([changed])
    assert found.pop("tests/test_recipes.py") == GAN | VAE
    everything = {"gan", "process", "recipe", "command", "module", "short", *more}
    assert {pathlib.Path(path).stem for path in found} == {f"test_{name}" for name in everything}


@pytest.mark.parametrize("changed", ["pyproject.toml", "tests/conftest.py", "imagegen_jax/__init__.py"])
def test_some_changes_reach_all_that_runs_the_package(checkout, changed):
    found = Files(checkout, [*CHECKOUT, "pyproject.toml"]).reached([changed])
    everything = {path for path in CHECKOUT if pathlib.Path(path).name.startswith("test_")}
    assert set(found) >= everything - {"tests/test_alone.py", "tests/test_data.py"}


def test_changes_are_those_since_the_branches_parted_and_what_is_not_committed(checkout):
    def commit(text):
        names = ("-c", "user.name=a", "-c", "user.email=a@b")
        git("add", "-A", root=checkout)
        git(*names, "commit", "-q", "-m", text, root=checkout)

    git("init", "-q", "-b", "main", root=checkout)
    commit("all")
    git("switch", "-q", "-c", "work", root=checkout)
    assert reached_since("main", checkout) == {}
    (checkout / "tests/test_alone.py").write_text("import sys")
    commit("a test")
    (checkout / "tests/test_new.py").write_text("")
    (checkout / "tests/reference/torch.npz").unlink()
    assert set(reached_since("HEAD", checkout)) == {"tests/test_new.py", "tests/test_data.py"}
    assert set(reached_since("main", checkout)) == {"tests/test_alone.py", "tests/test_new.py", "tests/test_data.py"}


@functools.cache
def files(root):
    return Files(root, [str(path.relative_to(root)) for top in ("imagegen_jax", "experiments", "tests", "scripts")
                        for path in (root / top).rglob("*") if path.is_file()])  # fmt: skip


def test_here_every_module_is_reached_from_some_test(root):
    found = files(root)
    closures = set().union(*(found.closure(test) for test in found.tests), *map(found.closure, found.recipes.values()))
    modules = {path for path in found.paths if path.startswith("imagegen_jax/") and path.endswith(".py")}
    assert modules <= closures


def test_here_a_model_reaches_its_own_recipes_alone(root):
    found = files(root)
    (path,) = [path for path in found.paths if path.endswith("/stylegan.py")]
    reached = found.reached([path])
    assert {name for recipes in reached.values() for name in recipes or ()} == {"stylegan_ffhq1024"}
    assert any(recipes is not None for recipes in reached.values())


@pytest.mark.slow
def test_pytest_runs_what_is_reached(root):
    """With nothing changed but a recipe: its tests, and those that are of no recipe or of all."""
    program = (
        "import sys, pytest, reached_tests\n"
        "reached_tests.reached_since = lambda *_: {'tests/recipes/test_experiments.py': frozenset({'dcgan_mnist'})}\n"
        "words = ['-q', '--collect-only', '--reached-since', 'HEAD', 'tests/recipes/test_experiments.py']\n"
        "sys.exit(pytest.main(words))"
    )
    path = os.pathsep.join([str(root), str(root / "scripts")])
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True
    )
    names = [line for line in done.stdout.splitlines() if "::" in line]
    of_recipes = [name for name in names if "[" in name]
    assert done.returncode == 0 and len(of_recipes) >= 4 and len(names) > len(of_recipes), done.stdout
    assert all("[dcgan_mnist]" in name for name in of_recipes)
