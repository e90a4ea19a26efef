"""Likelihoods by the flow against the known density of the mixture, and the convention of bits per dimension."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest

from imagegen_jax.diffusion.likelihood import FlowLikelihood

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def points():
    return jnp.asarray(mixture.draw(np.random.default_rng(0), 64), jnp.float32)


@pytest.mark.slow
def test_exact_likelihood_is_the_known_density(points):
    """At the small level it is the density there, and all but that of the data: 1e-3 nats, at every point."""
    likelihood = FlowLikelihood(0.001, 2000.0, "exact")
    found = jax.jit(lambda x: likelihood(mixture.denoise, x, KEY))(points)
    np.testing.assert_allclose(found.log_prob, mixture.log_density(points, 0.001), atol=1e-3)
    np.testing.assert_allclose(found.log_prob, mixture.log_density(points), atol=1e-3)
    assert found.latent.shape == points.shape and 50 < found.evaluations < 2000


@pytest.mark.slow
def test_latents_are_noise():
    points = jnp.asarray(mixture.draw(np.random.default_rng(1), 2000), jnp.float32)
    latent = jax.jit(lambda x: FlowLikelihood(relative=1e-3)(mixture.denoise, x, KEY))(points).latent
    np.testing.assert_allclose(latent.mean(0) / 80, 0, atol=0.08)
    np.testing.assert_allclose(latent.std(0) / 80, 1, rtol=0.06)


@pytest.mark.slow
def test_random_traces_are_unbiased(points):
    """Of a row that is repeated, each copy has probes of its own: their mean is the exact value."""
    rows = jnp.repeat(points[:2], 512, axis=0)
    exact = mixture.log_density(points[:2], 0.002)
    one, many = (
        jax.jit(lambda x, n=n: FlowLikelihood(sigma_max=2000.0, probes=n, relative=1e-4)(mixture.denoise, x, KEY))(
            rows
        ).log_prob
        for n in (1, 8)
    )
    for found in (one, many):
        mean, error = found.reshape(2, -1).mean(1), found.reshape(2, -1).std(1) / math.sqrt(512)
        assert jnp.all(jnp.abs(mean - exact) < 4 * error + 5e-3)
    assert jnp.all(many.reshape(2, -1).std(1) < 0.5 * one.reshape(2, -1).std(1) + 1e-3)


def test_traces_of_linear_denoisers_are_exact_for_both():
    """Data from N(0, s^2), each value by itself: the Jacobian is a multiple of the identity, which signs see whole."""

    def denoise(x, sigma):
        return 0.25 / (0.25 + sigma**2)[:, None, None, None] * x

    x = 0.5 * jax.random.normal(KEY, (3, 2, 2, 1))
    wanted = jnp.sum(jax.scipy.stats.norm.logpdf(x, scale=math.sqrt(0.25 + 0.002**2)), axis=(1, 2, 3))
    for trace in ("exact", "hutchinson"):
        found = jax.jit(lambda x, t=trace: FlowLikelihood(sigma_max=400.0, trace=t)(denoise, x, KEY).log_prob)(x)
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_bits_per_dim_follow_the_one_convention():
    """Four values from N(0, 1/4): nats of the density to bits, plus the 7 bits of 128 levels in one unit of [-1, 1]."""

    def denoise(x, sigma):
        return 0.25 / (0.25 + sigma**2)[:, None, None, None] * x

    x = 0.5 * jax.random.normal(KEY, (3, 2, 2, 1))
    likelihood = FlowLikelihood()
    nats = -jax.jit(lambda x: likelihood(denoise, x, KEY).log_prob)(x)
    bits = jax.jit(lambda x: likelihood.bits_per_dim(denoise, x, KEY))(x)
    np.testing.assert_allclose(bits, nats / (4 * math.log(2)) + 7, rtol=1e-6)


def test_what_was_not_reached_is_nan(points):
    found = jax.jit(lambda x: FlowLikelihood(most_steps=3)(mixture.denoise, x, KEY))(points[:2])
    assert jnp.isnan(found.log_prob).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sigma_min": 80.0, "sigma_max": 0.002}, "likelihood.sigma_min=80.0, likelihood.sigma_max=0.002"),
        ({"sigma_min": 0.0}, "likelihood.sigma_min=0.0"),
        ({"trace": "some"}, "likelihood.trace='some'"),
        ({"probes": 0}, "likelihood.probes=0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FlowLikelihood(**fields)
