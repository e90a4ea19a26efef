"""Samplers against the schedulers of `diffusers`, against one another, and on data whose denoiser is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.diffusion.denoiser import from_epsilon
from imagegen_jax.diffusion.sampler import DDIM, Ancestral, timesteps
from imagegen_jax.diffusion.schedule import LinearSchedule

SCHEDULE = LinearSchedule()
KEY = jax.random.key(0)


def toy(x, t):
    """The network of tests/reference/make_diffusers.py."""
    return x + 0.3 * jnp.sin(3 * x + t[:, None] / 100)


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/diffusers_samplers.npz") as arrays:
        return dict(arrays)


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
    ],
)
def test_trajectory_is_that_of_diffusers(reference, run, sampler, clip):
    """Each step from where diffusers stood before it, and the whole way with the noise that diffusers drew."""
    expected, noise = reference[f"{run}/x"], reference[f"{run}/noise"]
    transitions = sampler.transitions(SCHEDULE)
    np.testing.assert_array_equal(transitions.t, reference[f"{run}/t"])
    denoise = jax.jit(from_epsilon(toy, SCHEDULE, clip))
    x = before = reference["start"]
    for (t, of_x_0, of_x, sigma), z, after in zip(zip(*transitions, strict=True), noise, expected, strict=True):
        t = jnp.full(len(x), t)
        one = of_x_0 * denoise(before, t) + of_x * before + sigma * z
        np.testing.assert_allclose(one, after, atol=1e-4)  # theirs are in float32: 1 - alpha_bar loses 3 of 7 digits
        x = (of_x_0 * denoise(x, t) + of_x * x + sigma * z).astype(np.float32)
        before = after
    np.testing.assert_allclose(x, expected[-1], atol=2e-3)


@pytest.mark.parametrize("sampler", [Ancestral(8), DDIM(8), DDIM(8, eta=0.5)])
def test_call_takes_the_transitions_in_turn(sampler):
    x = start = jax.random.normal(jax.random.key(1), (3, 2))
    denoise = from_epsilon(toy, SCHEDULE)
    for i, (t, of_x_0, of_x, sigma) in enumerate(zip(*sampler.transitions(SCHEDULE), strict=True)):
        z = jax.random.normal(jax.random.fold_in(KEY, i), x.shape)
        x = of_x_0 * denoise(x, jnp.full(3, t)) + of_x * x + sigma * z
    np.testing.assert_allclose(jax.jit(lambda x: sampler(denoise, SCHEDULE, x, KEY))(start), x, atol=1e-5)


@pytest.mark.parametrize("steps", [10, 1000])
def test_ddim_with_eta_1_is_ancestral_sampling(steps):
    ddim, ancestral = DDIM(steps, 1.0, "linear"), Ancestral(steps, "small")
    for ours, theirs in zip(ddim.transitions(SCHEDULE), ancestral.transitions(SCHEDULE), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_both_variances_of_ancestral_sampling_are_the_papers(variance):
    """Section 3.2: beta_t, which is exact for data from N(0, 1), or beta~_t of Eq. 7, exact for a single image."""
    sigma = Ancestral(variance=variance).transitions(SCHEDULE).sigma[::-1]
    alpha_bar, beta = SCHEDULE.alpha_bar, SCHEDULE.betas
    posterior = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:]
    expected = {"large": beta[1:], "small": posterior}[variance]
    np.testing.assert_allclose(sigma[1:] ** 2, expected, rtol=1e-9)
    assert sigma[0] == 0


SAMPLERS = [
    Ancestral(),
    Ancestral(100, "small"),
    DDIM(50),
    DDIM(50, spacing="quadratic"),
    DDIM(50, spacing="trailing"),
    DDIM(50, 1.0, "linear"),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_image_is_found_exactly(sampler):
    """All noise is gone at the end: what comes out is the last estimate."""
    image = jnp.linspace(-1, 1, 12).reshape(1, 2, 3, 2)
    x = jax.jit(lambda x: sampler(lambda x, t: image + 0 * x, SCHEDULE, x, KEY))(jnp.ones((4, 2, 3, 2)))
    np.testing.assert_allclose(x, jnp.broadcast_to(image, x.shape), atol=1e-6)


def gaussian(t):
    """The best denoiser of data from N(m, s^2), m = 0.5, s = 0.2: E[x_0 | x_t] = m + gain (x_t - sqrt(alpha_bar) m)."""
    alpha_bar = jnp.asarray(SCHEDULE.alpha_bar, jnp.float32)[t]
    return jnp.sqrt(alpha_bar), jnp.sqrt(alpha_bar) * 0.2**2 / (alpha_bar * 0.2**2 + 1 - alpha_bar)


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(variance="small"), DDIM(500), DDIM(100, 0.0, "quadratic")])
def test_samples_of_a_gaussian_have_its_mean_and_deviation(sampler):
    def denoise(x, t):
        signal, gain = gaussian(t)
        return 0.5 + gain[:, None] * (x - signal[:, None] * 0.5)

    start = jax.random.normal(jax.random.key(2), (10_000, 2))
    x = jax.jit(lambda x: sampler(denoise, SCHEDULE, x, KEY))(start)
    np.testing.assert_allclose(x.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(x.std(0), 0.2, rtol=0.04)


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 50), (1.0, 250)])
def test_error_of_ddim_is_of_first_order_in_its_steps(eta, steps):
    """On Gaussian data a sampler is linear, so the deviation of its samples follows without drawing any."""

    def deviation(steps):
        variance = 1.0
        for t, of_x_0, of_x, sigma in zip(*DDIM(steps, eta, "linear").transitions(SCHEDULE), strict=True):
            variance = (of_x_0 * gaussian(t)[1] + of_x) ** 2 * variance + sigma**2
        return np.sqrt(variance)

    errors = [0.2 - deviation(n * steps) for n in (1, 2, 4)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, atol=0.25)


def test_from_epsilon_inverts_the_forward_process():
    x_0, epsilon = jnp.array([[0.5, -2.0]]), jnp.array([[0.1, 1.5]])
    t = jnp.array([300])
    a = SCHEDULE.alpha_bar[300]
    x_t = np.sqrt(a) * x_0 + np.sqrt(1 - a) * epsilon
    np.testing.assert_allclose(from_epsilon(lambda x, t: epsilon, SCHEDULE, clip=False)(x_t, t), x_0, atol=1e-5)
    np.testing.assert_allclose(from_epsilon(lambda x, t: epsilon, SCHEDULE)(x_t, t), [[0.5, -1.0]], atol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("linear", [0, 25, 50, 74, 99]),
        ("leading", [0, 20, 40, 60, 80]),
        ("trailing", [19, 39, 59, 79, 99]),
        ("quadratic", [0, 5, 20, 45, 80]),
    ],
)
def test_spacings(spacing, expected):
    np.testing.assert_array_equal(timesteps(100, 5, spacing), expected)


@pytest.mark.parametrize("spacing", ["linear", "leading", "trailing"])
def test_all_steps_are_the_schedule(spacing):
    np.testing.assert_array_equal(timesteps(30, None, spacing), np.arange(30))


def test_impossible_samplers_are_refused():
    with pytest.raises(ValueError, match="sampler.steps=1001 is not between 1 and the 1000 steps"):
        Ancestral(1001).transitions(SCHEDULE)
    with pytest.raises(ValueError, match="sampler.steps=0"):
        DDIM(0).transitions(SCHEDULE)
    with pytest.raises(ValueError, match="sampler.eta=1.5"):
        DDIM(eta=1.5)
