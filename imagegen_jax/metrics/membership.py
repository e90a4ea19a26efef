"""Whether a model gives away what it was trained on: membership, guessed by the loss (Yeom et al. 2018, 1709.01604)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from imagegen_jax.metrics.scores.interval import bootstrap
from imagegen_jax.metrics.scores.pair import Pair, Score, required

NO_RUN = "it reads a run's loss on its own training images: give the run"
DRAWS = 500  # of the bootstrap
FALSE = 0.01  # of others are taken for members, where the share of members that are found is said

Losses = Float[np.ndarray, " n"]


def auc(members: Losses, others: Losses) -> float:
    """Computes the share of pairs in which the member has the lower loss, ties as half: 0.5 gives nothing away."""
    others = np.sort(others)
    lower = np.searchsorted(others, members, "left").sum() + np.searchsorted(others, members, "right").sum()
    return float(1 - lower / (2 * len(members) * len(others)))


def found_at(members: Losses, others: Losses) -> float:
    """Computes the share of members with a loss below that of all but 1 % of others (Carlini et al. 2022)."""
    return float(np.mean(members < np.quantile(others, FALSE)))


def membership(pair: Pair) -> list[Score]:
    """Measures how well the loss tells training images from held-out ones, and, as a control, halves of these."""
    members, others = required(pair.losses, "losses")
    halves = np.random.default_rng(pair.seed).permutation(others)
    one, other = halves[: len(halves) // 2], halves[len(halves) // 2 :]
    how = f"bootstrap over training and held-out images, {DRAWS} draws"
    scores = []
    for name, measure, sides, of_held_out in (
        ("membership AUC", auc, (members, others), False),
        ("membership found at 1 % false", found_at, (members, others), False),
        ("membership AUC, control", auc, (one, other), True),
    ):
        interval = bootstrap(measure, *sides, draws=DRAWS, seed=pair.seed, of_limit=False)
        note = "halves of the held-out images: 0.5 but for chance" if of_held_out else ""
        n, m = map(len, sides)
        scores.append(Score(name, interval.value, interval, how, of_held_out, samples=n, references=m, note=note))
    return scores
