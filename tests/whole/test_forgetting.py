"""What is traced in one module of tests neither hides the patches of another from it, nor keeps its own for others."""

from __future__ import annotations

import sys
import time

import jax
import pytest

HERE = sys.modules[__name__]


def added():
    return 1.0


@jax.jit
def more(x):
    return x + added()


@pytest.fixture
def shared(root, request):
    """tests/conftest.py; what a module has patched before counts for none of these tests."""
    found = request.config.pluginmanager.get_plugin(str(root / "tests" / "conftest.py"))
    found._patches.clear()
    return found


def test_a_patch_is_seen_by_what_was_traced_before_and_by_nothing_later(shared):
    assert more(1.0) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HERE, "added", lambda: 7.0)
        assert more(1.0) == 8
    next(forgetting := shared.forgotten_behind())
    assert not list(forgetting)
    assert more(1.0) == 2 and not shared._patches


def test_patches_of_python_itself_forget_nothing(shared, monkeypatch):
    monkeypatch.setattr(time, "sleep", print)
    monkeypatch.setattr("os.getpid", print)
    monkeypatch.setenv("A_VARIABLE", "b")
    assert not shared._patches
    monkeypatch.setattr(HERE, "added", lambda: 7.0)
    assert shared._patches
