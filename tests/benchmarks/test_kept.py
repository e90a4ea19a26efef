"""Parts of benchmarks: each is printed and stored as it is done, and none is done twice."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

from kept import Kept  # noqa: E402
from sides import take_turns  # noqa: E402


class Interrupted(Exception):
    """What ends a benchmark; not Ctrl-C's own, which would end the tests with it."""


class Counting:
    """A side that answers with how often it was asked, until somebody interrupts it."""

    def __init__(self, most: int = 99) -> None:
        self.asked, self.most = [], most

    def ask(self, request):
        if len(self.asked) == self.most:
            raise Interrupted
        self.asked.append(request)
        return [float(len(self.asked))]


def test_an_interrupted_comparison_goes_on_with_the_turns_that_are_missing(tmp_path, capsys):
    cases, settings = {"step": ("here", "torch"), "sample": ("here",)}, {"batch": 2}
    sides = {"here": Counting(most=3), "torch": Counting()}  # stops in the second round's second case
    with pytest.raises(Interrupted):
        take_turns(sides, cases, 2, 1, Kept("toy", settings, tmp_path, "a"))
    assert capsys.readouterr().out.count("\n") == 3  # each as it was done
    with (tmp_path / "toy.parts.jsonl").open("a") as file:
        file.write('{"part": "sample ro')  # killed as it wrote
    again = {"here": Counting(), "torch": Counting(most=0)}
    kept = Kept("toy", settings, tmp_path, "a")
    assert take_turns(again, cases, 2, 1, kept) == {"step": {"here": [1.0, 3.0], "torch": [1.0, 2.0]},
                                                    "sample": {"here": [2.0, 1.0]}}  # fmt: skip
    assert again["here"].asked == ["1 sample"]
    assert len(Kept("toy", settings, tmp_path, "a").found) == 4  # the cut line has cost nothing else
    kept.done()
    assert not list(tmp_path.iterdir())


def test_parts_of_other_settings_or_other_code_are_measured_again(tmp_path):
    Kept("toy", {"batch": 2}, tmp_path, "a").part("step", lambda: 1)
    for settings, code, value in (({"batch": 2}, "a", 1), ({"batch": 3}, "a", 2), ({"batch": 2}, "b", 2)):
        assert Kept("toy", settings, tmp_path, code).part("step", lambda: 2) == value
