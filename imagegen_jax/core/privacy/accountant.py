"""What private training proves: epsilon, by privacy loss distributions (Google's dp-accounting, the extra "private").

Epsilon bounds how much likelier any outcome is with an image than where nothing stands in its place, but for delta. It
is of the weights, and of what is drawn from them alone. Not covered: the number of the data and the names of classes,
losses and scores, which look at the data without noise, and choices that were made by them, such as of settings.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

from imagegen_jax.core.privacy.poisson import capacity
from imagegen_jax.core.privacy.private import DifferentialPrivacy

REMEDY = "pip install 'imagegen_jax[private]' (or `pip install dp-accounting`)"


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a private run has spent; `epsilon` is None where the accountant is not installed."""

    privacy: DifferentialPrivacy
    rows: int  # images of the data
    batch_size: int
    steps: int
    epsilon: float | None
    seed: int  # from which noise and draws follow

    @property
    def words(self) -> str:
        """Says epsilon and delta, and after how many steps; and where the seed is what everyone tries first."""
        guessed = "; but its seed is 0, which is tried first, so that it protects nobody: give a secret one, --seed"
        return self._figures + ("" if self.seed else guessed)

    @property
    def _figures(self) -> str:
        if self.epsilon is None:
            return f"private, but epsilon is not known without dp-accounting: {REMEDY}"
        return (
            f"private: epsilon {self.epsilon:.3g} at delta {self.privacy.delta:g} after {self.steps:,} steps (noise "
            f"{self.privacy.noise:g}, {self.batch_size:,} of {self.rows:,} images a step)"
        )


def spent(privacy: DifferentialPrivacy, rows: int, batch_size: int, steps: int, seed: int) -> Spent:
    """Returns what training on `rows` images has spent after some steps; infinite without noise."""
    found = epsilon(privacy, rows, batch_size, steps) if is_there() else None
    return Spent(privacy, rows, batch_size, steps, found, seed)


def is_there() -> bool:
    """Tells whether the accountant is installed."""
    return importlib.util.find_spec("dp_accounting") is not None


def epsilon(privacy: DifferentialPrivacy, rows: int, batch_size: int, steps: int) -> float:
    """Computes epsilon at the privacy's delta. Raises ImportError without the accountant."""
    if privacy.noise == 0:
        return float("inf") if steps else 0.0
    import dp_accounting
    from dp_accounting import pld

    most = capacity(rows, batch_size)
    step: Any = dp_accounting.dp_event.TruncatedSubsampledGaussianDpEvent(rows, batch_size / rows, most, privacy.noise)
    if most == rows:  # nothing is ever left out
        step = dp_accounting.PoissonSampledDpEvent(batch_size / rows, dp_accounting.GaussianDpEvent(privacy.noise))
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    accountant = pld.PLDAccountant(relation)
    return float(accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps)).get_epsilon(privacy.delta))
