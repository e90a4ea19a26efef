"""What is shipped, what is pinned, and what the Makefile says where it cannot go on."""

from __future__ import annotations

import email
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest

pytestmark = pytest.mark.versions

PINNED = re.compile(r"^([a-z0-9.-]+)==([^ ]+)( ; [^\\]+)? \\$")


def pins(path: pathlib.Path) -> dict[tuple[str, str], str]:
    """(package, environment marker) -> version; fails where a line is neither that nor a hash, or has none."""
    found, hashes = {}, 0
    for line in path.read_text().splitlines():
        pin = PINNED.match(line)
        if pin:
            assert hashes or not found, line
            found[pin[1], (pin[3] or "").strip(" ;")] = pin[2]
            hashes = 0
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
            hashes += 1
    return found


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_every_requirement_is_pinned_and_hashed_and_names_no_address(root: pathlib.Path, name: str) -> None:
    assert len(pins(root / "requirements" / f"{name}.txt")) >= 5


def test_dev_holds_all_that_run_does_and_build_agrees(root: pathlib.Path) -> None:
    build, run, dev = (pins(root / "requirements" / f"{name}.txt") for name in ("build", "run", "dev"))
    assert run.items() <= dev.items()
    assert all(dev.get(package, version) == version for package, version in build.items())


def test_pins_choose_a_jax_for_each_python(root: pathlib.Path) -> None:
    jax = {marker: version for (name, marker), version in pins(root / "requirements/run.txt").items() if name == "jax"}
    assert jax["python_full_version < '3.12'"].startswith("0.10.")
    assert jax["python_full_version >= '3.12'"] > "0.12"


@pytest.fixture(scope="module")
def wheel(root: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=root, check=True)
    (path,) = folder.iterdir()
    assert path.name == "imagegen_jax-0.1.0-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_wheel_holds_the_package_and_the_recipes_whole_and_nothing_else(
    wheel: zipfile.ZipFile, root: pathlib.Path
) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(root)) for path in (root / "imagegen_jax").rglob("*.py")}
    recipes = {f"imagegen_jax/{path.relative_to(root)}" for path in (root / "experiments").rglob("*.py")}
    pages = {
        str(path.relative_to(root))
        for path in (root / "imagegen_jax/pages").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert len(pages) > 20 and names == modules | recipes | pages | {"imagegen_jax/py.typed"}


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = "imagegen_jax-0.1.0.dist-info"
    said = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert said["License-Expression"] == "Apache-2.0" and f"{info}/licenses/LICENSE" in wheel.namelist()
    assert said["Requires-Python"] == ">=3.11" and said.get_payload()
    extras = {"cuda", "tpu", "tfds", "video", "t5", "clip", "parquet", "wandb", "trackio", "tensorboard", "dev"}
    assert set(said.get_all("Provides-Extra")) == extras | {"private", "credentials"}
    needed = [line for line in said.get_all("Requires-Dist") if "extra ==" not in line]
    assert not any(line.startswith("tensorflow>") or line.startswith("tensorflow-cpu") for line in needed)
    assert b"imagegen = imagegen_jax.cli:main" in wheel.read(f"{info}/entry_points.txt")


@pytest.mark.slow
def test_a_wheel_alone_trains_its_recipes(wheel: zipfile.ZipFile, tmp_path: pathlib.Path) -> None:
    wheel.extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    code = textwrap.dedent("""
        import pathlib, sys
        installed, *words = sys.argv[1:]
        sys.path[:] = [installed, *(place for place in sys.path if not pathlib.Path(place, "experiments").exists())]
        from imagegen_jax.cli import main
        main(words)
        assert {name for name in sys.modules if name.startswith("experiments")} == set()
        assert sys.modules["imagegen_jax.experiments"].__file__.startswith(installed)
    """)
    for name in ("vae_mnist", "experiments.vae_mnist"):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "installed", "train", name, "--smoke", "--workdir", name],
            cwd=tmp_path / "empty",
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "empty" / name / "report.html").is_file()


@pytest.mark.slow
def test_what_answers_at_once_is_quick_and_leaves_jax_alone() -> None:
    """The package, its help, and the address of `imagegen play`: what takes seconds comes when it is asked for."""
    code = (
        "import sys, time; start = time.process_time(); import imagegen_jax; from imagegen_jax.cli import commands\n"
        "commands.main_parser(['play']); import imagegen_jax.pages.serving.loading, imagegen_jax.pages.serving.server\n"
        "print(time.process_time() - start, *({'jax', 'flax', 'tensorflow', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    found = [subprocess.check_output(command, text=True, env=compiled).split() for _ in range(3)]
    assert [heavy for _, *heavy in found] == [[], [], []]
    assert min(float(took) for took, *_ in found) < 1.0


@pytest.mark.slow
def test_import_takes_what_all_of_jax_code_does_and_little_more() -> None:
    """What is heavy comes when it is needed; benchmarks/imports.py measures it."""
    code = (
        "import sys, jax, flax.linen, optax; packages = lambda: {name.split('.')[0] for name in sys.modules}\n"
        "before = packages(); import imagegen_jax as ig; ig.Experiment, ig.fit, ig.recipe\n"
        "print(*packages() - before - sys.stdlib_module_names)"
    )
    found = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert found <= {"imagegen_jax", "jaxtyping", "PIL"}  # all quick; Orbax, tyro and their like are not


def test_every_module_is_imported(root: pathlib.Path) -> None:
    """Also by the oldest Python that is supported."""
    paths = [path for top in ("imagegen_jax", "experiments") for path in sorted((root / top).rglob("*.py"))]
    names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    assert len(names) > 100
    for name in names:
        if not name.endswith(".__main__"):  # which is run as it is imported
            importlib.import_module(name)


def environment(root: pathlib.Path, folder: pathlib.Path, **variables: str) -> str:
    """What scripts/environment says when it fails."""
    done = subprocess.run(
        ["/bin/sh", root / "scripts/environment", folder, "run"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr


def stub(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder to be the whole PATH: what a shell script needs, and a stub of a Python that does not run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dirname", "cat", "cksum", "rm", "mv"):
        (folder / name).symlink_to(shutil.which(name) or name)
    stub(folder / "python3.13", "echo 'python3.13: not found' >&2; exit 127")
    return folder


def test_no_python_that_runs_is_said(root: pathlib.Path, tmp_path: pathlib.Path, tools: pathlib.Path) -> None:
    said = environment(root, tmp_path / "venv", PATH=str(tools))
    assert "no Python 3.11 or newer that runs" in said and "PYTHON=/path/to/python" in said
    assert not (tmp_path / "venv").exists()


def test_a_python_that_does_not_run_is_passed_over(
    root: pathlib.Path, tmp_path: pathlib.Path, tools: pathlib.Path
) -> None:
    stub(tools / "python3.12", f'case "$*" in *"-m venv"*) echo chosen >&2; exit 1;; esac; exec {sys.executable} "$@"')
    assert environment(root, tmp_path / "venv", PATH=str(tools)).endswith("chosen\n")


OLD = f"{sys.executable} -c 'import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])'"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            f'[ $1 = --version ] && echo Python 3.10.9 || {OLD} "$2"',
            "is Python 3.10.9: it must be Python 3.11 or newer",
        ),
        ("echo no such version >&2; exit 127", "does not run: no such version"),
    ],
)
def test_python_that_cannot_be_used_is_refused(
    root: pathlib.Path, tmp_path: pathlib.Path, answer: str, message: str
) -> None:
    python = stub(tmp_path / "python", answer)
    said = environment(root, tmp_path / "venv", PYTHON=str(python))
    assert f"PYTHON={python} {message}" in said


def test_a_folder_that_is_no_environment_is_left_alone(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert "is no virtual environment" in environment(root, tmp_path / "mine", PYTHON=sys.executable)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_make_help_lists_every_target(root: pathlib.Path) -> None:
    said = subprocess.run(["make"], cwd=root, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "test-fast", "test-changed", "test-oldest", "check", "notebook", "lock", "clean"):
        assert re.search(rf"^  make {target} +\S", said, re.MULTILINE), target
