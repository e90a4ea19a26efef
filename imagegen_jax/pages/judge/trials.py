"""The trials of a person: which pair, on which sides, in an order of their own, and how long pictures are seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imagegen_jax.pages.judge.pairs import scrambled
from imagegen_jax.pages.judge.study import Settings, Study

# The staircase of HYPE (Zhou et al. 2019, arXiv 1904.01121, Sec. 3.1): three times as far up as down ends where three
# of four answers are right.
FIRST, UP, DOWN, SHORTEST, LONGEST = 500, 30, 10, 100, 1_000  # milliseconds


class Trial(NamedTuple):
    """A pair of pictures to choose from."""

    number: int  # from 0
    pair: int  # the row of both sets
    swapped: bool  # whether the picture of `b`, or of a catch trial the good one, is on the left
    catch: bool  # whether it shows a picture of `b` beside its own pixels in another order


def trials_of(study: Study, voter: str) -> list[Trial]:
    """Returns the trials of a person: a function of the study's seed and their name.

    Each pair comes once before any comes again. Catch trials are spread evenly, none of them first.
    """
    settings = study.settings
    digest = hashlib.sha256(f"{settings.seed} {voter}".encode()).digest()
    random = np.random.default_rng(list(digest))
    rounds = -(-settings.trials // len(study))
    pairs = np.concatenate([random.permutation(len(study)) for _ in range(rounds)])
    caught = _spread(settings, random)
    swapped = random.random(settings.trials) < 0.5
    return [Trial(i, int(pairs[i]), bool(swapped[i]), i in caught) for i in range(settings.trials)]


def _spread(settings: Settings, random: np.random.Generator) -> set[int]:
    """Returns the numbers of catch trials: one in each of as many equal parts of the whole."""
    count = settings.trials - settings.answers
    ends = np.linspace(1, settings.trials, count + 1)
    return {
        int(random.integers(int(low), max(int(low) + 1, int(high)))) for low, high in zip(ends, ends[1:], strict=False)
    }


def pictures_of(study: Study, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Returns a trial's left and right picture, uint8 [h w c]."""
    good = study.b[trial.pair]
    other = scrambled(good, study.settings.seed + trial.pair) if trial.catch else study.a[trial.pair]
    return (good, other) if trial.swapped else (other, good)


def chosen_a(trial: Trial, side: int) -> bool:
    """Tells whether a choice of the left (0) or right (1) picture is that of `a`, or of the scrambled one."""
    return (side == 1) == trial.swapped


def milliseconds(settings: Settings, right: Sequence[bool]) -> int | None:
    """Returns how long the next pictures are seen; None: until the answer.

    `right` says of each answer so far whether it was.
    """
    if not settings.staircase:
        return settings.milliseconds
    time = settings.milliseconds or FIRST
    for answer in right:
        time = min(LONGEST, max(SHORTEST, time - DOWN if answer else time + UP))
    return time
