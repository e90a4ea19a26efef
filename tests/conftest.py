"""Shared by all tests: eight simulated devices, one compilation cache, and the folder of real data where it exists."""

from __future__ import annotations

import functools
import gc
import os
import pathlib
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported, here and in every subprocess
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("IMAGEGEN_CACHE", str(pathlib.Path(tempfile.gettempdir()) / f"imagegen_tests_{os.getuid()}"))

import jax  # noqa: E402
import pytest  # noqa: E402

from imagegen_jax.core import compile as compiling  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from slowest_tests import name_in_reports  # noqa: E402

compiling.use_persistent_cache()  # of all processes in one folder, before a test gives it another


def pytest_addoption(parser):
    parser.addoption("--reached-since", metavar="REVISION", help="only what changes since then reach")
    parser.addoption("--optimised", action="store_true", help="compile the programs of all tests as users do")


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked as `of` other recipes, and what no change reaches where that is asked for.

    What took long when it was measured is marked as `long`.
    """
    long = set((ROOT / "tests" / "long_tests.txt").read_text().splitlines())
    for item in items:
        if name_in_reports(item.nodeid) in long:
            item.add_marker("long")
    left_out = [item for item in items if (of := item.get_closest_marker("of")) and _recipe(item) not in of.args[0]]
    if revision := config.getoption("--reached-since"):
        left_out += [item for item in _not_reached(items, revision) if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    """Has the collector of garbage pass over what was imported, and look at the rest less often: it is of programs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Has the programs of a test, of its fixtures and processes compiled quickly, unless it is marked `optimised`.

    A program in memory is taken as it was compiled, so a test of the other kind begins without any.
    """
    hasty = not (item.config.getoption("--optimised") or item.get_closest_marker("optimised"))
    if hasty != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", hasty)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(hasty))  # of the processes that it starts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes in the report how long a test kept processors busy, fixtures and processes that it started included."""
    now = sum(os.times()[:4])  # unlike the time that passed, this does not depend on what else the machine does
    if call.when == "setup":
        begun = item.config.stash.get(_COUNTED, now - call.duration)
        item.stash[_BEGUN] = begun
    if call.when == "teardown":
        item.user_properties.append(("cpu_seconds", round(now - item.stash[_BEGUN], 2)))
        item.config.stash[_COUNTED] = now
    return (yield)


MAPPED = 20_000  # pieces of memory, from which on programs are forgotten
_BEGUN, _COUNTED = pytest.StashKey[float](), pytest.StashKey[float]()
_patches = []  # the first thing that a module patches


def _not_reached(items, revision):
    """Tests in files that no change reaches, and those of another recipe where a file is reached by recipes alone."""
    from reached_tests import Files, git, reached_since

    reached, recipes = reached_since(revision, ROOT), Files(ROOT, git("ls-files", root=ROOT)).recipes
    for item in items:
        path = str(item.path.relative_to(ROOT))
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        own = {value for value in values if isinstance(value, str) and value in recipes}
        if path not in reached or (own and reached[path] is not None and not own & reached[path]):
            yield item


def _recipe(item):
    return item.callspec.params["recipe"] if hasattr(item, "callspec") else ""


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real data sets beside the checkout; users do not have it, so what needs it is skipped there."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the real data sets of a 'shared' folder beside the checkout")
    return folder


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The root of the checkout."""
    return ROOT


def forgotten_behind():
    """Steps of training are of one module; what modules share, as sums and slices, is not traced and read by each.

    But what was traced before something is patched, or while it is, is forgotten (`_patched`): no patch is seen in it,
    or one that is gone. So is everything for want of room: each program maps memory, of which a process may hold 65,530
    pieces on Linux, and all tests together need more.
    """
    yield
    compiling._steps.clear()
    if _patches or _mapped() > MAPPED:
        jax.clear_caches()
    _patches.clear()


_programs_are_forgotten = pytest.fixture(scope="module", autouse=True, name="_programs_are_forgotten")(forgotten_behind)


def _patched(change):
    """Has `change`, a method of pytest's patches, forget what was traced before a module's first one."""

    @functools.wraps(change)
    def patched(patch, target, *given, **named):
        if not _patches and not _is_of_python(target):
            jax.clear_caches()
            _patches.append(target)
        return change(patch, target, *given, **named)

    return patched


def _is_of_python(target):
    """Whether a module, a class, an object or the name of one is Python's own, which nothing that is traced reads."""
    of = target if isinstance(target, str) else getattr(target, "__module__", getattr(target, "__name__", ""))
    return (of or "").partition(".")[0] in sys.stdlib_module_names


for _name in ("setattr", "delattr"):
    setattr(pytest.MonkeyPatch, _name, _patched(getattr(pytest.MonkeyPatch, _name)))


def _mapped() -> int:
    """How many pieces of memory this process maps; more than any limit where the system does not say."""
    try:
        return pathlib.Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return sys.maxsize


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Gives a test an empty cache, and an empty folder to work in."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGEGEN_TRACEBACK", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def imagegen(capsys):
    """Runs a command in this process; returns (code, standard output, standard error)."""
    from imagegen_jax import cli

    def run(*arguments):
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run
