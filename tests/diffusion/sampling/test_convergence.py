"""How fast solvers converge: along the flow of the mixture, and with noise on normal data; RK45 by its tolerance."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest

from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.variance_preserving import VariancePreserving
from imagegen_jax.diffusion.sampling import heun, solver
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver, UniPC
from imagegen_jax.diffusion.sampling.heun import Heun, Restart
from imagegen_jax.diffusion.sampling.multistep import DEIS, LMS, PNDM, Euler
from imagegen_jax.diffusion.sampling.ode import RK45

KEY = jax.random.key(0)
# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def in_float64():
    with jax.enable_x64(True):
        yield


HIGH, LOW, STD = 5.0, 0.2, 0.5


def geometric(n):
    """Equal steps of log(sigma), but for the first, before which the lower orders of the start have tiny ones."""
    places = np.linspace(0, 1, n + 1)
    return HIGH * (LOW / HIGH) ** np.concatenate([[0], np.array([1, 2, 3]) / n**2, places[1:]])


@pytest.fixture(scope="module")
def flowed():
    """Starts, and where the flow leads them, by steps so small that nothing but rounding is left."""
    with jax.enable_x64(True):
        x = HIGH * jax.random.normal(jax.random.key(1), (64, 2))
        end, _ = jax.jit(lambda x: RK45(1e-11, 1e-12, 10_000).solve(mixture.denoise, [HIGH, LOW], x))(x)
        assert jnp.isfinite(end).all()
        return x, end


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solve", "order", "levels"),
    [
        (Euler(), 1, geometric),
        (EulerAncestral(0.0), 1, geometric),
        (Heun(), 2, geometric),
        (Heun(path=RectifiedFlow()), 2, geometric),
        (Heun(path=VariancePreserving()), 2, geometric),
        (LMS(2), 2, geometric),
        (LMS(3), 3, geometric),
        (LMS(4), 4, geometric),
        (DEIS(2), 2, geometric),
        (DEIS(3), 3, geometric),
        (DEIS(4), 4, geometric),
        (DPMSolver(1), 1, geometric),
        (DPMSolver(2), 2, geometric),
        (DPMSolver(2, second="exact"), 2, geometric),
        (DPMSolver(3), 3, geometric),
        (DPMSolver(3, halve_third=True), 2, geometric),
        (UniPC(1), 2, geometric),
        (UniPC(2), 3, geometric),
        (UniPC(3), 4, geometric),
        (PNDM(), 2, lambda n: np.geomspace(HIGH, LOW, n + 1)),  # its weights are those of equal steps
        (PNDM(), 4, lambda n: np.linspace(1.0, LOW, n + 1)),
    ],
    ids=lambda value: getattr(
        value, "__name__", str(value)
    ),  # a function's str holds its address, another in each process
)
def test_order_of_convergence(in_float64, flowed, solve, order, levels):
    """The error of twice as many steps is 2^order times smaller; the next order is 1 away."""
    x, end = flowed
    if (first := levels(4)[0]) != HIGH:
        x = x * first / HIGH
        end, _ = jax.jit(lambda x: RK45(1e-11, 1e-12, 10_000).solve(mixture.denoise, [first, LOW], x))(x)
    errors = []
    for n in (64, 128):
        y = jit(lambda x, n=n: solve(mixture.denoise, levels(n), x, KEY))(x)
        errors.append(jnp.sqrt(jnp.mean((y - end) ** 2)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def of_normal_data(x, sigma):
    """The best denoiser for data from N(0, STD^2)."""
    return x * (STD**2 / (STD**2 + sigma**2))[:, None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solve", "order"),
    [
        (EulerAncestral(), 1),
        (EulerAncestral(0.5), 1),
        (DDPMAncestral(), 1),
        (DPMSolver(2, eta=1.0), 2),
        (DPMSolver(2, eta=0.5, second="exact"), 2),
        (DPMSolver(3, eta=1.0), 2),  # not more: no estimate knows of the noise that its step adds
        (DPMSolver(3, eta=0.5), 2),
        (Heun(churn=10.0), 2),
        (Restart, 2),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_weak_order_of_convergence(monkeypatch, in_float64, solve, order):
    """Of the variance of normal data, without drawing any: all is linear, so what each noise ends as adds its square.

    The first row is the start without noise; each row behind it starts at 0 and meets the noise of one step alone.
    """

    def in_its_row(key, i, x):
        return jnp.zeros_like(x).at[i + 1].set(1.0)

    monkeypatch.setattr(solver, "noise", in_its_row)
    monkeypatch.setattr(heun, "noise", in_its_row)
    errors = []
    for n in (512, 1024):
        of_n = Restart((heun.RestartInterval(1.0, 3.0, steps=n // 8),)) if solve is Restart else solve
        x = jnp.zeros((2 * n, 1)).at[0].set(math.sqrt(STD**2 + HIGH**2))
        found = jit(lambda x, n=n, of_n=of_n: of_n(of_normal_data, np.geomspace(HIGH, LOW, n + 1), x, KEY))(x)
        errors.append(abs(jnp.sum(found**2) - (STD**2 + LOW**2)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.slow
def test_error_of_adaptive_steps_falls_with_their_tolerance(in_float64):
    """On normal data, whose flow keeps x / sqrt(STD^2 + sigma^2)."""
    x = HIGH * jax.random.normal(KEY, (16, 2))
    end = x * math.sqrt((STD**2 + LOW**2) / (STD**2 + HIGH**2))
    for tolerance in (1e-3, 1e-6, 1e-9):
        found = jit(lambda x, r=tolerance: RK45(r, r)(of_normal_data, [HIGH, LOW], x, KEY))(x)
        assert 0 < jnp.abs(found - end).max() < 3 * tolerance * jnp.abs(x).max()
