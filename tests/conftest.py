"""Shared by all tests: eight simulated devices, one compilation cache, and the folder of real data where it exists."""

from __future__ import annotations

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported, here and in every subprocess
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("IMAGEGEN_CACHE", str(pathlib.Path(tempfile.gettempdir()) / f"imagegen_tests_{os.getuid()}"))

import pytest  # noqa: E402

from imagegen_jax.core import compile as compiling  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    """Where tests run on several processes (pytest-xdist), those of a file stay on one, or those of a recipe."""
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        recipe = item.callspec.params.get("recipe", "") if hasattr(item, "callspec") else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name} {recipe}"))


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


@pytest.fixture(scope="module", autouse=True)
def _programs_are_forgotten():
    """Each program maps memory, of which a process may hold 65,530 pieces on Linux; all tests together need more."""
    yield
    compiling.forget()
