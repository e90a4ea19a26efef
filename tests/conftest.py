"""Shared by all tests: eight simulated devices, one compilation cache, and the folder of real data where it exists."""

from __future__ import annotations

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported, here and in every subprocess
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("IMAGEGEN_CACHE", str(pathlib.Path(tempfile.gettempdir()) / f"imagegen_tests_{os.getuid()}"))

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
