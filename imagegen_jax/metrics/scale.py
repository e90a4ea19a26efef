"""What the values of a score can be, and which of them are good: a field of each metric, which its cards have too."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Better = Literal["lower", "higher", "neither"]  # "neither": fresh data have a value of their own, in between


class Scale(NamedTuple):
    """A score's direction and its range; as it is, that of a distance."""

    better: Better = "lower"
    least: float = 0.0
    greatest: float = math.inf

    def loss(self, value: float) -> float:
        """Returns a number that is lowest for the best value, as far as any is best."""
        return -value if self.better == "higher" else value


DISTANCE = Scale()
ESTIMATE = Scale(least=-math.inf)  # of a distance: it may end below zero where distributions are nearly equal
SHARE = Scale("higher", 0.0, 1.0)
