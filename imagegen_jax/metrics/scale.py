"""The possible values of a score, and which are good: a field of each metric and of its cards."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Better = Literal["lower", "higher", "neither"]  # "neither": fresh data have a value of their own, in between


class Scale(NamedTuple):
    """A score's direction and its range; the defaults are a distance's."""

    better: Better = "lower"
    least: float = 0.0
    greatest: float = math.inf

    def loss(self, value: float) -> float:
        """Returns a number that is lowest for the best value, where values are better or worse at all."""
        return -value if self.better == "higher" else value


DISTANCE = Scale()
ESTIMATE = Scale(least=-math.inf)  # of a distance: it may end below zero where distributions are nearly equal
SHARE = Scale("higher", 0.0, 1.0)
LEAK = Scale("lower", 0.0, 1.0)  # a share that gives something away
