"""Guidance on the mixture, whose parts are the classes: identities, Bayes's rule, and the papers' own coordinates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest
from programs import counted

from imagegen_jax.diffusion.guidance import functions as guidance
from imagegen_jax.diffusion.guidance.functions import (
    autoguidance,
    cfg_zero_star,
    classifier,
    classifier_free,
    interval,
    projected,
    rescaled,
    thresholded,
)
from imagegen_jax.diffusion.sampling.exponential import DPMSolver

SIGMA = jnp.array([0.02, 0.2, 1.0, 7.0])
X = jnp.asarray(mixture.draw(np.random.default_rng(0), 4), jnp.float32) + SIGMA[:, None]
unconditional = mixture.denoise


def conditional(x, sigma, part=1):
    """E[x_0 | x, the part]."""
    gain = (mixture.STD**2 / (mixture.STD**2 + sigma**2))[:, None]
    return mixture.MEANS[part] + gain * (x - mixture.MEANS[part])


def other(x, sigma):
    return conditional(x, sigma, part=2)


def log_prob(x, sigma, part=1):
    """log p(the part | x)."""
    parts, _ = mixture._parts(x, sigma)
    return jax.nn.log_softmax(parts, axis=-1)[:, part]


def same(a, b, **tolerance):
    np.testing.assert_allclose(a(X, SIGMA), b(X, SIGMA), **{"rtol": 1e-5, "atol": 1e-6} | tolerance)


GUIDED = {
    "classifier_free": classifier_free,
    "autoguidance": autoguidance,
    "projected": lambda c, u, scale: projected(c, u, scale, along=1.0),
}


@pytest.mark.parametrize("name", GUIDED)
def test_scale_1_is_the_conditional_and_0_the_unconditional(name):
    same(GUIDED[name](conditional, unconditional, 1.0), conditional)
    same(GUIDED[name](conditional, unconditional, 0.0), unconditional)
    same(GUIDED[name](conditional, unconditional, 3.0), classifier_free(conditional, unconditional, 3.0))


def test_scales_are_numbers_arrays_rows_or_functions_of_sigma():
    scale = jnp.array([0.0, 1.0, 2.0, 3.0])
    rows = classifier_free(conditional, unconditional, scale)(X, SIGMA)
    for i, one in enumerate(scale):
        np.testing.assert_allclose(rows[i], classifier_free(conditional, unconditional, one)(X, SIGMA)[i], rtol=1e-6)
    same(classifier_free(conditional, unconditional, lambda sigma: jnp.arange(4.0)), lambda x, sigma: rows)


def test_other_scales_compile_nothing():
    def guided(scale, low, high, share):
        free = classifier_free(conditional, unconditional, interval(scale, low, high))
        denoise = thresholded(rescaled(free, conditional, share))
        return DPMSolver()(denoise, np.array([9.0, 3.0, 1.0, 0.1, 0.0]), 9 * X, jax.random.key(0))

    sample, traces = counted(guided)
    numbers = [[1.0, 0.1, 5.0, 0.3], [3.0, 0.2, 8.0, 0.7]]
    first, second = (sample(*map(jnp.asarray, n)) for n in numbers)
    assert jnp.abs(first - second).max() > 1e-3 and len(traces) == 1


def test_guidance_in_an_interval_is_there_alone():
    guided = classifier_free(conditional, unconditional, interval(3.0, 0.2, 1.0))(X, SIGMA)
    full = classifier_free(conditional, unconditional, 3.0)(X, SIGMA)
    expected = jnp.where(jnp.array([False, False, True, False])[:, None], full, conditional(X, SIGMA))
    np.testing.assert_allclose(guided, expected, rtol=1e-5, atol=1e-6)
    same(
        classifier_free(conditional, unconditional, interval(lambda s: 1 + s, 0.0, 10.0)),
        classifier_free(conditional, unconditional, 1 + SIGMA),
    )


def test_a_classifier_with_scale_1_is_bayes_rule():
    same(classifier(unconditional, log_prob, 1.0), conditional, rtol=1e-4, atol=1e-4)
    same(classifier(unconditional, log_prob, 0.0), unconditional, atol=0)


def test_guidances_commute_where_they_are_linear():
    """Guidance by differences and by a classifier: the order does not matter. Thresholds come last."""
    both = classifier_free(classifier(conditional, log_prob, 2.0), classifier(unconditional, log_prob, 2.0), 3.0)
    same(classifier(classifier_free(conditional, unconditional, 3.0), log_prob, 2.0), both, rtol=1e-4, atol=1e-4)
    inner = autoguidance(classifier_free(conditional, other, 3.0), classifier_free(unconditional, other, 3.0), 2.0)
    outer = classifier_free(autoguidance(conditional, unconditional, 2.0), autoguidance(other, other, 2.0), 3.0)
    same(inner, outer)


def output_of(kind, x_0):
    """What a network puts out whose process preserves variance: alpha^2 = 1 / (1 + s^2), s being sigma / alpha."""
    s = SIGMA[:, None]
    epsilon = (X - x_0) / s
    return {"x0": x_0, "epsilon": epsilon, "v": (epsilon - s * x_0) / jnp.sqrt(1 + s**2)}[kind]


@pytest.mark.parametrize("kind", ["v", "epsilon", "x0"])
def test_rescaling_is_the_papers_of_what_a_network_puts_out(kind):
    """Eq. 15 and 16, and `rescale_noise_cfg` of diffusers."""
    free = classifier_free(conditional, unconditional, 5.0)
    same(rescaled(free, conditional, 0.0, kind), free, atol=2e-6)
    cfg, positive = (output_of(kind, one(X, SIGMA)) for one in (free, conditional))
    scaled = cfg * positive.std(axis=1, keepdims=True) / cfg.std(axis=1, keepdims=True)
    for phi in (0.7, 1.0):
        found = output_of(kind, rescaled(free, conditional, phi, kind)(X, SIGMA))
        np.testing.assert_allclose(found, phi * scaled + (1 - phi) * cfg, rtol=1e-3, atol=1e-4)
    assert jnp.all(rescaled(lambda x, s: 0 * x, conditional, 0.7, "x0")(X, SIGMA) == 0)


def flow(denoise):
    """The velocity epsilon - x_0 of a rectified flow."""
    return (X - denoise(X, SIGMA)) / SIGMA[:, None] - denoise(X, SIGMA)


def test_cfg_zero_star_is_the_papers_in_velocities():
    v_c, v_u = flow(conditional), flow(unconditional)
    s = jnp.sum(v_c * v_u, axis=1, keepdims=True) / jnp.sum(v_u**2, axis=1, keepdims=True)
    guided = cfg_zero_star(conditional, unconditional, 3.0)
    np.testing.assert_allclose(flow(guided), (1 - 3) * s * v_u + 3 * v_c, rtol=1e-3, atol=1e-4)
    same(cfg_zero_star(conditional, unconditional, 1.0), conditional, rtol=1e-4)
    np.testing.assert_allclose(flow(cfg_zero_star(conditional, unconditional, 0.0)), s * v_u, rtol=1e-3, atol=1e-4)
    assert jnp.abs(s - 1).max() > 0.1  # so that a scale of 0 is not the unconditional denoiser
    still = cfg_zero_star(conditional, unconditional, 3.0, still_above=0.5)
    np.testing.assert_allclose(flow(still)[2:], 0, atol=1e-5)
    np.testing.assert_allclose(flow(still)[:2], flow(guided)[:2], rtol=1e-5)


def test_projection_leaves_the_estimates_length_and_shortens_the_difference():
    guided = projected(conditional, unconditional, 4.0)(X, SIGMA)
    c, u = conditional(X, SIGMA), unconditional(X, SIGMA)
    np.testing.assert_allclose(jnp.sum((guided - c) * c, axis=1), 0, atol=1e-5)
    along = jnp.sum((c - u) * c, axis=1, keepdims=True) / jnp.sum(c**2, axis=1, keepdims=True) * c
    np.testing.assert_allclose(projected(conditional, unconditional, 0.0)(X, SIGMA), u + along, rtol=1e-4, atol=1e-6)
    assert jnp.abs(along).max() > 0.1  # so that a scale of 0 is not the unconditional denoiser
    same(projected(conditional, unconditional, 1.0), conditional)
    short = projected(conditional, unconditional, 4.0, along=1.0, radius=0.05)(X, SIGMA)
    length = np.minimum(np.linalg.norm(c - u, axis=1), 0.05)
    np.testing.assert_allclose(np.linalg.norm(short - c, axis=1), 3 * length, rtol=1e-4, atol=1e-6)
    assert length.min() < 0.05 == length.max()


def test_thresholds_are_imagens():
    x = jnp.concatenate([jnp.linspace(-4, 4, 101)[None], jnp.linspace(-0.9, 0.9, 101)[None]])
    seen = thresholded(lambda x, sigma: x, 0.9)(x, jnp.ones(2))
    np.testing.assert_allclose(seen[0], jnp.clip(x[0], -3.6, 3.6) / 3.6, rtol=1e-5)
    np.testing.assert_array_equal(seen[1], x[1])
    np.testing.assert_allclose(thresholded(lambda x, s: x, 0.9, most=1.0)(x, jnp.ones(2))[0], jnp.clip(x[0], -1, 1))
    np.testing.assert_allclose(thresholded(lambda x, s: x, 0.9, most=2.0)(x, jnp.ones(2))[0], jnp.clip(x[0], -2, 2) / 2)


def test_samples_of_guided_denoisers_are_of_the_class():
    """With scale 1 they are the part's; above 1 still nearer to it than to the others."""
    sigmas = np.append(np.geomspace(20, 0.01, 30), 0.0)
    x = 20 * jax.random.normal(jax.random.key(0), (2000, 2))
    for scale in (1.0, 2.0):
        denoise = classifier_free(conditional, unconditional, scale)
        found = np.asarray(jax.jit(lambda x, d=denoise: DPMSolver()(d, sigmas, x, jax.random.key(1)))(x))
        nearest = np.argmin(np.sum((found[:, None] - mixture.MEANS) ** 2, axis=-1), axis=1)
        assert np.mean(nearest == 1) > 0.999
        if scale == 1:
            np.testing.assert_allclose(found.mean(0), mixture.MEANS[1], atol=0.01)
            np.testing.assert_allclose(found.std(0), mixture.STD, rtol=0.05)


def test_images_of_any_shape_are_guided():
    x = jnp.ones((2, 4, 4, 3))
    for name in ("classifier_free", "cfg_zero_star", "projected"):
        denoise = getattr(guidance, name)(lambda x, s: 0.5 * x, lambda x, s: 0.2 * x, jnp.array([1.0, 2.0]))
        assert thresholded(rescaled(denoise, lambda x, s: 0.5 * x))(x, jnp.array([0.1, 2.0])).shape == x.shape
