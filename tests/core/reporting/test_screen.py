"""The live line's papers: a terminal's last line, and one block of text in a notebook's cell."""

import io
import sys
import types

from rich.console import Console

from imagegen_jax.core.reporting import screen
from imagegen_jax.core.reporting.progress import Progress, activity
from imagegen_jax.core.reporting.screen import Screen, bar_and


class Counted:
    fraction = 0.5

    def line(self, width):
        return "50 of 100"[:width]


def blocks_of_notebook(monkeypatch):
    """Has a test run in a notebook's kernel; returns the blocks of text that its cells show, and the kernel's shell."""
    found = {}

    def display(data, raw, display_id, update):
        assert raw and update == (display_id in found)
        found[display_id] = data["text/plain"]

    shell = types.SimpleNamespace(kernel=1, execution_count=1)
    for name in ("IPython", "IPython.core.getipython"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    return found, shell


def test_a_notebooks_cell_has_a_block_of_what_was_said_above_the_live_line(monkeypatch):
    blocks, shell = blocks_of_notebook(monkeypatch)
    with Progress("images", 4, "images") as progress:
        progress.say("resumed")
        progress.add(2)
        progress._screen.draw()
        (text,) = blocks.values()
        said, live = text.splitlines()
        assert said == "resumed" and "━━━━━" in live and "images: 2 of 4 images ( 50 %)" in live and "\x1b" not in live
    assert list(blocks.values()) == ["resumed"]
    with activity("writing"):
        assert list(blocks.values()) == ["resumed\nwriting 0:00"]
    shell.execution_count = 2
    with activity("reading"):
        pass
    assert list(blocks.values()) == ["resumed", "reading 0:00"]  # an empty block would stay, too
    assert sys.stderr.getvalue() == ""


def test_the_kernels_other_streams_are_no_notebook(monkeypatch):
    blocks_of_notebook(monkeypatch)
    assert not Screen(io.StringIO()).live and Screen(sys.stderr).live


def test_a_bar_is_as_long_as_its_share():
    console = Console(file=io.StringIO(), color_system=None)
    for fraction, full in ((0.0, 0), (0.25, 5), (1.0, screen.BAR)):
        assert bar_and("a | b", fraction, console) == "━" * full + " " * (screen.BAR - full) + " a | b"


def test_a_narrow_terminal_has_no_bar():
    shown = Screen(io.StringIO())
    shown.show(Counted())
    assert shown._line(59) == ("50 of 100", None) and shown._line(60) == ("50 of 100", 0.5)
