"""The cache: complete or not there, whatever happens while it is filled."""

from __future__ import annotations

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from imagegen_jax.core.files.regular import cache_root
from imagegen_jax.data import Digits, from_arrays
from imagegen_jax.data.cache import cached

pytestmark = pytest.mark.versions


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Each test starts with an empty cache."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process cannot grow beyond 100 kB: a real failure to write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(folder: pathlib.Path) -> None:
    """Content for a folder of the cache."""
    (folder / "file").write_text("content")


def test_root(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """IMAGEGEN_CACHE, else XDG_CACHE_HOME, else the home folder."""
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("IMAGEGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == pathlib.Path("/xdg/imagegen_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == pathlib.Path.home() / ".cache" / "imagegen_jax"


def test_built_once_a_key(own_cache: pathlib.Path) -> None:
    """The second call builds nothing; another key has another folder; no lock or partial folder stays."""
    built = []

    def build(folder: pathlib.Path) -> None:
        built.append(folder)
        write(folder)

    folders = [cached("a title", {"key": key}, build) for key in (1, 1, 2)]
    assert folders[0] == folders[1] != folders[2] and len(built) == 2
    assert sorted(own_cache.iterdir()) == sorted(set(folders))
    assert (folders[0] / "file").read_text() == "content"


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_nothing(own_cache: pathlib.Path, error: BaseException) -> None:
    """And the next one starts afresh."""

    def build(folder: pathlib.Path) -> None:
        write(folder)
        raise error

    with pytest.raises(type(error)):
        cached("title", {}, build)
    assert list(own_cache.iterdir()) == []
    assert (cached("title", {}, write) / "file").exists()


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails(own_cache: pathlib.Path) -> None:
    """Half-way through the images: a clear error, and nothing left."""
    with pytest.raises(OSError, match="no room for the prepared images in .*IMAGEGEN_CACHE") as caught:
        Digits(size=32, channels=1).open()
    assert caught.value.errno == errno.EFBIG
    assert list(own_cache.iterdir()) == []
    with pytest.raises(OSError, match="IMAGEGEN_CACHE"):
        from_arrays(np.zeros((500, 32, 32, 1), np.uint8))
    assert list(own_cache.iterdir()) == []


def test_a_disk_without_room(own_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is seen before the images are written."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(OSError, match="no room .*7 MB needed, 1 MB free"):
        Digits(size=64).open()
    assert list(own_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(own_cache: pathlib.Path) -> None:
    """A file where the folder should be."""
    own_cache.parent.write_text("a file")
    with pytest.raises(OSError, match="cannot write the cache folder .*IMAGEGEN_CACHE"):
        cached("title", {}, write)


def test_a_damaged_cache_is_said(own_cache: pathlib.Path) -> None:
    """A file that was cut short or deleted: which folder, and what to do."""
    Digits().open()
    (folder,) = own_cache.iterdir()
    os.truncate(folder / "images.npy", 1000)
    with pytest.raises(ValueError, match=f"{folder.name} are damaged or deleted .*delete the folder"):
        Digits().open()
    (folder / "info.json").unlink()
    with pytest.raises(ValueError, match="delete the folder"):
        Digits().open()


def test_the_second_waits_for_the_first(caplog: pytest.LogCaptureFixture) -> None:
    """And uses what the first has built, saying why it waits."""
    started, finish, built = threading.Event(), threading.Event(), []

    def slow(folder: pathlib.Path) -> None:
        write(folder)
        built.append(folder)
        started.set()
        assert finish.wait(20)

    first = threading.Thread(target=cached, args=("my images", {}, slow))
    first.start()
    assert started.wait(20)
    second = threading.Thread(target=cached, args=("my images", {}, slow))
    second.start()
    deadline = time.monotonic() + 20
    while "another process prepares my images: waiting" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    finish.set()
    first.join()
    second.join()
    assert len(built) == 1


_HANGING = """
import pathlib, sys, time
from imagegen_jax.data.cache import cached

def hang(folder):
    (folder / "half").write_text("half")
    print("started", flush=True)
    time.sleep(60)

cached(sys.argv[1], {}, hang)
"""


@pytest.mark.slow
def test_a_killed_process(own_cache: pathlib.Path) -> None:
    """SIGKILL releases its lock; what it left is deleted by the next build of that key or of any other."""
    children = [
        subprocess.Popen([sys.executable, "-c", _HANGING, title], stdout=subprocess.PIPE) for title in ("same", "other")
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == b"started\n"
    assert len(list(own_cache.glob("*.partial"))) == 2
    cached("third", {}, write)
    assert len(list(own_cache.glob("*.partial"))) == 2  # of live processes
    for child in children:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    folder = cached("same", {}, write)
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert not list(own_cache.glob("*.partial"))
