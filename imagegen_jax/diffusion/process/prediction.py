"""Predictions: what a network may predict, and how each kind is converted to every other.

All kinds are linear in x_0 and epsilon, with the numbers that `row` gives, and so is x_t = alpha x_0 + sigma epsilon.
These two equations are solved for the kind that is wanted. Nothing is lost, so a network trained on one kind can be
read as any other.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.diffusion.process.process import Point, Process, Value, at, numpy_of

Kind = Literal["x0", "epsilon", "v", "score", "velocity", "F"]
SIGMA_DATA = 0.5  # the deviation of images in [-1, 1] that EDM assumes


class Row(NamedTuple):
    """prediction = (of_x_0 x_0 + of_epsilon epsilon) / divisor."""

    of_x_0: Any
    of_epsilon: Any
    divisor: Any = 1.0


def row(kind: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> Row:
    """Returns the numbers that make `kind` of x_0 and epsilon, at one point of a process.

    `v` = alpha epsilon - sigma x_0 (Salimans & Ho 2022, arXiv 2202.00512, appendix D). `score` = grad log q(x_t) =
    -epsilon / sigma (Song et al. 2021, arXiv 2011.13456). `velocity` = dx_t/dt along the flow, alpha' x_0 + sigma'
    epsilon (Lipman et al. 2023, arXiv 2210.02747). `F` is the network inside EDM's preconditioning, D(x; s) = c_skip x
    + c_out F with x = x_t / alpha and s = sigma / alpha (Karras et al. 2022, arXiv 2206.00364, Eq. 7 and Table 1); with
    `sigma_data` 1 and a process that preserves variance it is -v. Raises ValueError for another name.
    """
    alpha, sigma, alpha_rate, sigma_rate = point
    if kind == "F":
        # (x_0 - c_skip (x_0 + s epsilon)) / c_out, where s cancels, so that both ends are regular
        size = numpy_of(alpha).sqrt(sigma**2 + alpha**2 * sigma_data**2)
        return Row(sigma / (sigma_data * size), -alpha * sigma_data / size)
    rows = {
        "x0": Row(1.0, 0.0),
        "epsilon": Row(0.0, 1.0),
        "v": Row(-sigma, alpha),
        "score": Row(0.0, -1.0, sigma),
        "velocity": Row(alpha_rate, sigma_rate),
    }
    if kind not in rows:
        raise ValueError(f"prediction {kind!r} is not one of {', '.join(get_args(Kind))}")
    return rows[kind]


def coefficients(source: Kind, target: Kind, point: Point, sigma_data: float = SIGMA_DATA) -> tuple[Any, Any]:
    """Returns (a, b) such that target = a x_t + b source.

    Some ends of a process have no answer. Where sigma is 0, x_t is the image, and an estimate of x_0 says nothing about
    epsilon; where alpha is 0, x_t is the noise, and an estimate of epsilon says nothing about x_0. The score of images
    without noise does not exist, and velocities may be infinite (`process`). There NumPy's values raise ValueError, and
    JAX's become infinite or NaN.
    """
    alpha, sigma, *_ = point
    if source == target:
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    p, q = row(source, point, sigma_data), row(target, point, sigma_data)
    if {source, target} == {"epsilon", "score"}:  # multiples of each other, even where x_0 is lost
        _check(source, target, point, (p, q), 1.0)
        return 0.0 * alpha, -p.divisor / q.divisor
    determinant = alpha * p.of_epsilon - sigma * p.of_x_0
    _check(source, target, point, (p, q), determinant)
    scale = determinant * q.divisor
    of_x_t = (q.of_x_0 * p.of_epsilon - q.of_epsilon * p.of_x_0) / scale
    return of_x_t, (q.of_epsilon * alpha - q.of_x_0 * sigma) / scale * p.divisor


def convert(
    prediction: Float[Array, "b ..."],
    x_t: Float[Array, "b ..."],
    t: Value,
    process: Process,
    source: Kind,
    target: Kind,
    sigma_data: float = SIGMA_DATA,
) -> Float[Array, "b ..."]:
    """Converts a `prediction` of kind `source` to kind `target`, for images `x_t` at `t`, a number or one for each row.

    Raises ValueError as `coefficients` does.
    """
    a, b = coefficients(source, target, at(process, t), sigma_data)
    return broadcast_rows(a, x_t) * x_t + broadcast_rows(b, x_t) * prediction


def broadcast_rows(values: Any, x: Any) -> Any:
    """Gives numbers, one for each row of `x`, as many axes as `x`; a single number stays as it is."""
    return values.reshape(-1, *(1,) * (x.ndim - 1)) if np.ndim(values) else values


def _check(source: Kind, target: Kind, point: Point, rows: tuple[Row, Row], determinant: Any) -> None:
    if numpy_of(determinant * point.alpha) is not np:
        return
    known = np.isfinite([*map(np.sum, (*rows[0], *rows[1]))]).all()
    if not known or np.any(determinant == 0) or np.any(np.equal(rows[1].divisor, 0)):
        raise ValueError(
            f"{target} does not follow from {source} where alpha is {point.alpha} and sigma {point.sigma}: "
            "leave out that end of the process, or have the network predict v or F, which both ends determine"
        )
