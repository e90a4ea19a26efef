"""Samplers against the schedulers of `diffusers`, against one another, and on data whose denoiser is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.diffusion.process.denoiser import clipped, from_prediction
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling import solver
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral, Solve
from imagegen_jax.diffusion.sampling.levels import Spaced, of_schedule, timesteps
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

SCHEDULE = LinearSchedule()
KEY = jax.random.key(0)


def toy(x, t):
    """The network of tests/reference/make_diffusers.py."""
    return x + 0.3 * jnp.sin(3 * x + t[:, None] / 100)


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/diffusers_samplers.npz") as arrays:
        return dict(arrays)


def denoiser(clip=True):
    """x_0 by the noise that `toy` sees."""
    denoise = from_prediction(toy, Discrete(SCHEDULE), "epsilon")
    return clipped(denoise) if clip else denoise


def samples(sampler, denoise, latent):
    """What noise leads to, without the last clipping to [-1, 1]."""
    solve, sigmas = sampler.path(SCHEDULE)
    return jax.jit(lambda x: solve(denoise, sigmas, x * np.sqrt(1 + sigmas[0] ** 2), KEY))(latent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "sampler", "clip"),
    [
        ("ddpm_large", Ancestral(), True),
        ("ddpm_small", Ancestral(variance="small"), True),
        ("ddpm_large_25", Ancestral(25), True),
        ("ddpm_small_25", Ancestral(25, "small"), False),
        ("ddim_leading_50", DDIM(50), True),
        ("ddim_trailing_20", DDIM(20, spacing="trailing"), False),
        ("ddim_leading_50_eta1", DDIM(50, eta=1.0), True),
        ("ddim_leading_50_whole", DDIM(50, clipped_noise=False), True),
        ("ddim_leading_50_eta1_whole", DDIM(50, eta=1.0, clipped_noise=False), True),
        ("ddim_trailing_20_eta05_whole", DDIM(20, 0.5, "trailing", clipped_noise=False), True),
    ],
)
def test_a_whole_run_is_that_of_diffusers(monkeypatch, reference, run, sampler, clip):
    """At the same times, with the noise that diffusers drew; in their float32, 1 - alpha_bar loses 3 of 7 digits."""
    monkeypatch.setattr(solver, "noise", lambda key, i, x: jnp.asarray(reference[f"{run}/noise"], x.dtype)[i])
    times = Discrete(SCHEDULE).time(sampler.path(SCHEDULE).sigmas[:-1])
    np.testing.assert_allclose(times, reference[f"{run}/t"], atol=1e-9)
    x = samples(sampler, denoiser(clip), reference["start"])
    np.testing.assert_allclose(x, reference[f"{run}/x"][-1], atol=2e-3)


def test_without_clipping_both_noises_are_one():
    start = jax.random.normal(jax.random.key(1), (3, 2))
    found, expected = (samples(DDIM(5, 0.5, clipped_noise=way), denoiser(False), start) for way in (False, True))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_any_solver_at_the_levels_of_whole_times(eta):
    """`Solve` with the parts that `DDIM` is made of is `DDIM`."""
    start = jax.random.normal(jax.random.key(1), (3, 2))
    parts = Solve(EulerAncestral(eta), Spaced(SCHEDULE, 10, "trailing"))
    found, expected = (samples(sampler, denoiser(), start) for sampler in (parts, DDIM(10, eta, "trailing")))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_with_eta_1_is_ancestral_sampling(steps):
    start = jax.random.normal(jax.random.key(1), (64, 2))
    ddim, ancestral = (
        samples(sampler, denoiser(), start) for sampler in (DDIM(steps, 1.0, "linear"), Ancestral(steps, "small"))
    )
    np.testing.assert_allclose(ddim, ancestral, atol=1e-4)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_both_variances_of_ancestral_sampling_are_the_papers(variance):
    """Section 3.2: beta_t, which is exact for data from N(0, 1), or beta~_t of Eq. 7, exact for a single image."""
    levels = of_schedule(SCHEDULE, np.arange(1000))
    table = DDPMAncestral(variance).table(levels)
    alpha_bar, beta = SCHEDULE.alpha_bar, SCHEDULE.betas
    sigma = table.of_noise[::-1][1:] * np.sqrt(alpha_bar[:-1])  # of x_t, where solvers see x_t over sqrt(alpha_bar)
    posterior = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:]
    np.testing.assert_allclose(sigma**2, {"large": beta[1:], "small": posterior}[variance], rtol=1e-9)
    assert table.of_noise[-1] == 0


SAMPLERS = [
    Ancestral(),
    Ancestral(100, "small"),
    DDIM(50),
    DDIM(50, spacing="quadratic"),
    DDIM(50, spacing="trailing"),
    DDIM(50, 1.0, "linear"),
    Solve(),
]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_image_is_found_exactly(sampler):
    """All noise is gone at the end: what comes out is the last estimate."""
    image = jnp.linspace(-1, 1, 12).reshape(1, 2, 3, 2)
    x = samples(sampler, lambda x, sigma: image + 0 * x, jnp.ones((4, 2, 3, 2)))
    np.testing.assert_allclose(x, jnp.broadcast_to(image, x.shape), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(variance="small"), DDIM(500), DDIM(100, 0.0, "quadratic")])
def test_samples_of_a_gaussian_have_its_mean_and_deviation(sampler):
    """The best denoiser of data from N(m, s^2) is m + s^2 / (s^2 + sigma^2) (x - m); m = 0.5, s = 0.2."""

    def denoise(x, sigma):
        return 0.5 + 0.2**2 / (0.2**2 + sigma[:, None] ** 2) * (x - 0.5)

    x = samples(sampler, denoise, jax.random.normal(jax.random.key(2), (10_000, 2)))
    np.testing.assert_allclose(x.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(x.std(0), 0.2, rtol=0.04)


@pytest.mark.parametrize("spacing", ["linear", "leading", "trailing"])
def test_all_steps_are_the_schedule(spacing):
    np.testing.assert_array_equal(timesteps(30, None, spacing), np.arange(30))


@pytest.mark.parametrize("spacing", ["leading", "quadratic"])
def test_a_single_step_from_time_0_is_refused(spacing):
    """Hardly any noise is there, so that noise would be returned as the image."""
    with pytest.raises(ValueError, match=f"steps=1, spacing='{spacing}': that is time 0 alone"):
        DDIM(1, spacing=spacing).path(SCHEDULE)
    assert len(DDIM(1, spacing="trailing").path(SCHEDULE).sigmas) == 2


def test_impossible_samplers_are_refused():
    with pytest.raises(ValueError, match="spacing='even': must be one of 'linear', 'leading'"):
        timesteps(1000, 50, "even")
    with pytest.raises(ValueError, match="steps=1001 is not between 1 and the 1000 steps"):
        Ancestral(1001).path(SCHEDULE)
    with pytest.raises(ValueError, match="steps=0"):
        DDIM(0).path(SCHEDULE)
    with pytest.raises(ValueError, match="sampler.eta=1.5"):
        DDIM(eta=1.5)
