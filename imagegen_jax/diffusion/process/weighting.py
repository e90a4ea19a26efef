"""Weights of the squared error at each time, written for one prediction and used with any.

Errors of different predictions are multiples of one another: an error e in what the network predicts is an error b e in
x_0, with the b of `prediction.coefficients`. So a weight that a paper gives for its own prediction can be converted to
any other, and each class here returns it for the prediction at hand.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Protocol

import jax.numpy as jnp

from imagegen_jax.core.config.bounds import NonNegative, Positive
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, Kind, coefficients
from imagegen_jax.diffusion.process.process import Point


class Weighting(Protocol):
    """What a loss asks of its weights."""

    def __call__(self, kind: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> Any:
        """Returns the weight of each row's squared error in a prediction of `kind`, [B]; or one number for all."""
        ...


AnyWeighting = Annotated[Weighting, Choices("imagegen_jax.diffusion.process.weighting:Plain, MinSNR, P2")]


@dataclasses.dataclass(frozen=True)
class Plain:
    """Weight 1 for the squared error of the prediction `of`; None: of what the network predicts.

    With "epsilon" it is DDPM's L_simple (Ho et al. 2020, 2006.11239, Eq. 14), with "F" the weight of EDM (Karras et al.
    2022, 2206.00364, Table 1), with "velocity" that of flow matching (Lipman et al. 2023, 2210.02747, Eq. 9).
    """

    of: Kind | None = None

    def __call__(self, kind: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> Any:
        """Returns the weight of each row, [B], or one number where it is the same for all."""
        return 1.0 if self.of in (None, kind) else _exchange(kind, self.of, point, sigma_data)


@dataclasses.dataclass(frozen=True)
class MinSNR:
    """Weight min(SNR, gamma) for the error of x_0, with SNR = alpha^2 / sigma^2.

    Hang et al. (2023, arXiv 2303.09556, section 3.4).
    """

    gamma: Positive = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"weighting.gamma={self.gamma}: must be above 0, as the paper's 5")

    def __call__(self, kind: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> Any:
        """Returns the weight of each row, [B]."""
        return jnp.minimum(_snr(point), self.gamma) * _exchange(kind, "x0", point, sigma_data)


@dataclasses.dataclass(frozen=True)
class P2:
    """Weight 1 / (k + SNR)^gamma for the error of epsilon (Choi et al. 2022, arXiv 2204.00227)."""

    k: NonNegative = 1.0
    gamma: NonNegative = 1.0

    def __post_init__(self) -> None:
        if not (self.k > 0 and self.gamma >= 0):
            raise ValueError(f"weighting.k={self.k}, weighting.gamma={self.gamma}: must obey k > 0 and gamma >= 0")

    def __call__(self, kind: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> Any:
        """Returns the weight of each row, [B]."""
        return (self.k + _snr(point)) ** -self.gamma * _exchange(kind, "epsilon", point, sigma_data)


def _snr(point: Point) -> Any:
    return (point.alpha / point.sigma) ** 2


def _exchange(kind: Kind, other: Kind, point: Point, sigma_data: float) -> Any:
    """Returns the squared error in `other` that belongs to a squared error of 1 in `kind`."""
    return coefficients(kind, other, point, sigma_data)[1] ** 2
