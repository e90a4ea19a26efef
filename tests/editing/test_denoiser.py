"""Inverse problems and edits on data whose answers are known: normal data, and the mixture in the plane."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest

from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse

KEY = jax.random.key(0)
STD = 0.5
COVARIANCE = np.array([[0.25, 0.2], [0.2, 0.25]])
LEVELS = Karras(40, 0.01, 20.0)()
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def plain(x, sigma):
    """The best denoiser of data from N(0, STD^2)."""
    return x * (STD**2 / (STD**2 + sigma**2)).reshape(-1, *(1,) * (x.ndim - 1))


def correlated(x, sigma):
    """That of data from N(0, COVARIANCE), in the plane."""
    values, vectors = np.linalg.eigh(COVARIANCE)
    gain = values / (values + sigma[:, None] ** 2)
    return ((x @ vectors) * gain) @ vectors.T


MASK = jnp.arange(16).reshape(4, 4, 1) % 3 == 0
KERNEL = np.array([[0.1, 0.3], [0.2, 0.1], [0.05, 0.25]])
OPERATORS = {
    "masked": inverse.masked(MASK),
    "pooled": inverse.pooled(2),
    "grey": inverse.grey(3),
    "blurred": inverse.blurred(KERNEL),
    "blurred, with lost frequencies": inverse.blurred(np.full((2, 2), 0.25)),
}


def dense(operator):
    """The matrix of an operator on images of 4x4x3."""
    basis = jnp.eye(48).reshape(48, 4, 4, 3)
    return np.asarray(operator.forward(basis), np.float64).reshape(48, -1).T


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_adjoints_and_inverses(name):
    """<A x, y> = <x, A^T y>, and A A^+ y = y for every y that there can be."""
    operator = OPERATORS[name]
    x, other = jax.random.normal(KEY, (2, 3, 4, 4, 3))
    y = operator.forward(other)
    assert float(jnp.vdot(operator.forward(x), y)) == pytest.approx(float(jnp.vdot(x, operator.adjoint(y))), rel=1e-4)
    np.testing.assert_allclose(operator.forward(operator.inverse(y)), y, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_solutions_are_those_of_linear_algebra(name):
    operator, s = OPERATORS[name], np.array([0.0, 1e-3, 0.5])
    a = dense(operator)
    y = operator.forward(jax.random.normal(KEY, (3, 4, 4, 3)))
    found = operator.solve(y, jnp.asarray(s, jnp.float32).reshape(-1, 1, 1, 1))
    for row, one, of_row in zip(np.asarray(y), np.asarray(found), s, strict=True):
        expected = np.linalg.pinv(a @ a.T + of_row * np.eye(len(a)), rcond=1e-6) @ row.ravel()
        np.testing.assert_allclose(one.ravel(), expected, atol=2e-4 * abs(expected).max())
    expected = np.linalg.pinv(a, rcond=1e-3) @ np.asarray(y[0]).ravel()
    np.testing.assert_allclose(np.asarray(operator.inverse(y))[0].ravel(), expected, atol=1e-4)


@pytest.mark.slow
def test_blurring_is_a_sum_of_shifted_images():
    x = np.asarray(jax.random.normal(KEY, (2, 5, 6, 3)))
    expected = sum(np.roll(x, (i - 1, j - 1), axis=(1, 2)) * KERNEL[i, j] for i in range(3) for j in range(2))
    np.testing.assert_allclose(inverse.blurred(KERNEL).forward(x), expected, atol=1e-6)


def test_a_gaussian_damps_waves_as_its_transform_says():
    """A wave of frequency f becomes exp(-2 (pi sigma f)^2) of itself."""
    kernel, sigma, f = inverse.gaussian(1.5, 15), 1.5, np.array([1, 2, 4]) / 16
    assert kernel.sum() == pytest.approx(1) and kernel[7, 7] == kernel.max()
    waves = np.cos(2 * np.pi * f[:, None, None, None] * np.arange(16)[:, None, None]) * np.ones((16, 16, 1))
    expected = waves * np.exp(-2 * (np.pi * sigma * f[:, None, None, None]) ** 2)
    np.testing.assert_allclose(inverse.blurred(kernel).forward(jnp.asarray(waves)), expected, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_pseudoinverse_guidance_is_the_posteriors_mean_of_normal_data(name, deviation):
    """x_0 given x is N(D, r^2); y = A x_0 + noise makes of it D + r^2 A^T (r^2 A A^T + s^2)^-1 (y - A D)."""
    operator = OPERATORS[name]
    a = dense(operator)
    x, sigma = jax.random.normal(KEY, (2, 4, 4, 3)), jnp.array([0.2, 3.0])
    y = operator.forward(jax.random.normal(jax.random.key(1), x.shape))
    found = inverse.pigdm(plain, y, operator, deviation, STD)(x, sigma)
    for i, level in enumerate(np.asarray(sigma, np.float64)):
        r2, d = level**2 * STD**2 / (level**2 + STD**2), np.asarray(plain(x, sigma)[i], np.float64).ravel()
        weight = np.linalg.pinv(r2 * a @ a.T + deviation**2 * np.eye(len(a)), rcond=1e-6)
        expected = d + r2 * a.T @ weight @ (np.asarray(y[i]).ravel() - a @ d)
        np.testing.assert_allclose(np.asarray(found[i]).ravel(), expected, atol=1e-4)
    if not deviation:
        np.testing.assert_allclose(operator.forward(found), y, atol=1e-5)


@pytest.mark.slow
def test_posterior_sampling_adds_the_gradient_of_the_likelihood():
    x, y, sigma = jax.random.normal(KEY, (3, 2)), jnp.ones((3, 1)), jnp.array([0.1, 1.0, 4.0])

    def forward(x):
        return jnp.sin(x).sum(axis=1, keepdims=True)

    def log_likelihood(x):
        return -jnp.sum((y - forward(correlated(x, sigma))) ** 2) / (2 * 0.7**2)

    expected = correlated(x, sigma) + sigma[:, None] ** 2 * jax.grad(log_likelihood)(x)
    np.testing.assert_allclose(inverse.dps(correlated, y, forward, 0.7)(x, sigma), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolver(2), DDPMAncestral(), editing.RePaint(2)], ids=str)
def test_known_values_stay_bit_for_bit(solver):
    image, mask = jax.random.normal(KEY, (8, 2)), jnp.array([True, False])
    found = jit(lambda image: editing.inpaint(solver, correlated, LEVELS, image, mask, KEY))(image)
    np.testing.assert_array_equal(found[:, 0], image[:, 0])
    assert jnp.isfinite(found).all() and not np.allclose(found[:, 1], image[:, 1], atol=0.05)


@pytest.mark.slow
def test_the_rest_follows_what_is_known():
    """x_2 given x_1 is normal with mean 0.8 x_1 and variance 0.09; replacement alone sees too little of x_1."""
    known, n = 0.6, 4_000
    image, mask = jnp.full((n, 2), known), jnp.array([True, False])
    levels = Karras(60, 0.01, 20.0)()
    drawn = {
        solver: np.asarray(jit(lambda image, s=solver: editing.inpaint(s, correlated, levels, image, mask, KEY))(image))
        for solver in (DDPMAncestral("small"), editing.RePaint(8))
    }
    alone, painted = (found[:, 1] for found in drawn.values())
    assert abs(painted.mean() - 0.48) < 0.05 < abs(alone.mean() - 0.48)
    assert painted.std() == pytest.approx(0.3, rel=0.15)


def test_repaint_once_is_ddpm():
    rows, table = editing.RePaint(1).rows(LEVELS), DDPMAncestral("small").table(LEVELS)
    np.testing.assert_array_equal(rows[:, 1:3], np.column_stack([table.sigma, table.of_x]))
    assert not rows[:, 0].any()
    again = editing.RePaint(3).rows(LEVELS)
    assert len(again) == 3 * (len(LEVELS) - 1) - 2
    np.testing.assert_allclose(again[1, 0] ** 2, LEVELS[0] ** 2 - LEVELS[1] ** 2)


@pytest.mark.slow
def test_a_reference_gives_what_the_operator_sees_of_it():
    reference = jax.random.normal(KEY, (2, 4, 4, 1))
    noise = jax.random.normal(jax.random.key(1), reference.shape)
    operator = inverse.pooled(2)
    denoise = inverse.refined(plain, reference, operator, noise)
    found = jit(lambda x: Heun()(denoise, LEVELS, x, KEY))(20 * jax.random.normal(jax.random.key(2), (2, 4, 4, 1)))
    np.testing.assert_allclose(operator.forward(found), operator.forward(reference), atol=1e-5)
    free = inverse.refined(plain, reference, operator, noise, low=5.0)
    np.testing.assert_array_equal(free(found, jnp.array([1.0, 1.0])), plain(found, jnp.array([1.0, 1.0])))


@pytest.mark.slow
def test_strength_0_is_the_image_and_more_goes_further_from_it():
    image = jnp.asarray(mixture.draw(np.random.default_rng(0), 500), jnp.float32)

    def edited(strength):
        return editing.sdedit(DDPMAncestral("small"), mixture.denoise, LEVELS, image, strength, KEY)

    np.testing.assert_array_equal(edited(0.0), image)
    moved = [float(jnp.abs(jit(lambda s=strength: edited(s))() - image).mean()) for strength in (0.3, 0.6, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
    final = mixture.log_density(jit(lambda: edited(0.6))()).mean()  # what comes out is of the data
    assert float(final) == pytest.approx(float(mixture.log_density(image).mean()), abs=0.25)


@pytest.mark.slow
def test_inversion_leads_back_and_its_error_is_of_first_order():
    image = jnp.asarray(mixture.draw(np.random.default_rng(0), 64), jnp.float32)
    errors = []
    for n in (100, 200):
        levels = Karras(n, 0.01, 20.0)()[:-1]
        noise = jit(lambda x, levels=levels: editing.invert(mixture.denoise, levels, x))(image)
        back = jit(lambda x, levels=levels: Euler()(mixture.denoise, levels, x, KEY))(noise)
        errors.append(float(jnp.sqrt(jnp.mean((back - image) ** 2))))
    assert errors[0] < 0.1 and errors[0] / errors[1] == pytest.approx(2, abs=0.6)


def part(i):
    """The best denoiser of a part of the mixture."""

    def denoise(x, sigma):
        gain = (mixture.STD**2 / (mixture.STD**2 + sigma**2))[:, None]
        return mixture.MEANS[i] + gain * (x - mixture.MEANS[i])

    return denoise


@pytest.mark.slow
def test_a_bridge_leads_from_class_to_class():
    """Between parts that differ in their means alone, everything moves by the difference of these."""
    image = jnp.asarray(mixture.MEANS[0] + mixture.STD * np.random.default_rng(0).standard_normal((64, 2)), jnp.float32)
    levels = Karras(200, 0.002, 20.0)()

    def bridged(target, strength):
        return jit(lambda x: editing.bridge(part(0), part(target), levels, x, strength))(image)

    np.testing.assert_allclose(bridged(2, 1.0), image + mixture.MEANS[2] - mixture.MEANS[0], atol=0.03)
    np.testing.assert_allclose(bridged(0, 1.0), image, atol=0.02)
    np.testing.assert_array_equal(editing.bridge(part(0), part(2), levels, image, 0.0), image)
    half = np.linalg.norm(np.asarray(bridged(2, 0.4) - image).mean(axis=0))
    assert 0.02 < half < 0.9 * np.linalg.norm(mixture.MEANS[2] - mixture.MEANS[0])


@pytest.mark.slow
def test_between_two_noises_is_noise():
    first, second = jax.random.normal(KEY, (2, 3, 8, 8, 3))
    for share, end in ((0.0, first), (1.0, second)):
        np.testing.assert_allclose(editing.interpolate(first, second, jnp.full(3, share)), end, atol=1e-5)
    between = editing.interpolate(first, second, jnp.array([0.25, 0.5, 0.75]))
    assert float(between.std()) == pytest.approx(1, abs=0.06)


def test_what_cannot_be_is_refused():
    image = jnp.zeros((1, 2))
    for mask in (jnp.array([True, True]), jnp.array([False, False])):
        with pytest.raises(ValueError, match="the mask says that (all|nothing) is known"):
            editing.inpaint(Euler(), plain, LEVELS, image, mask, KEY)
    with pytest.raises(ValueError, match=r"strength=1.2"):
        editing.sdedit(Euler(), plain, LEVELS, image, 1.2, KEY)
    with pytest.raises(ValueError, match=r"strength=-0.1"):
        editing.bridge(plain, plain, LEVELS, image, -0.1)
    with pytest.raises(ValueError, match="solver.repeats=0"):
        editing.RePaint(0)
    with pytest.raises(ValueError, match="do not divide into squares of factor=3"):
        inverse.pooled(3).forward(jnp.zeros((1, 4, 4, 1)))
    for settings in ((0.0, 3), (-1.0, 3), (1.0, 4)):
        with pytest.raises(ValueError, match="sigma must be above 0, size odd"):
            inverse.gaussian(*settings)
    with pytest.raises(ValueError, match="a kernel of 3x2 is larger than the images of 2x4"):
        inverse.blurred(KERNEL).forward(jnp.zeros((1, 2, 4, 1)))
