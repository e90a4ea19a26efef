"""GAN losses against closed forms and torch's BCEWithLogitsLoss."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan.losses import NonSaturating

discriminator_logistic, generator_non_saturating = NonSaturating().discriminator, NonSaturating().generator


@pytest.fixture(scope="module")
def torch(root):
    """Values of torch's losses (tests/reference/make_torch.py)."""
    with np.load(root / "tests/reference/torch_losses.npz") as arrays:
        return dict(arrays)


def test_equal_torch_bce_with_logits(torch):
    logits = jnp.asarray(torch["at/logits"]).ravel()
    np.testing.assert_allclose(generator_non_saturating(logits), torch["at/bce_ones"][0], rtol=1e-6)
    both = torch["at/bce_ones"][0] + torch["at/bce_zeros"][0]
    np.testing.assert_allclose(discriminator_logistic(logits, logits), both, rtol=1e-6)


def test_closed_forms():
    """At D = 1/2 the discriminator's loss is 2 log 2; at D(x) = 3/4, D(G(z)) = 1/4 it is -2 log(3/4)."""
    zeros, third = jnp.zeros(5), jnp.full(5, math.log(3))
    np.testing.assert_allclose(discriminator_logistic(zeros, zeros), 2 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(discriminator_logistic(third, -third), -2 * math.log(0.75), rtol=1e-6)
    np.testing.assert_allclose(generator_non_saturating(-third), -math.log(0.25), rtol=1e-6)


def test_finite_and_unsaturated_at_large_logits():
    """The generator's gradient stays -1 where the discriminator is certain, where log(1 - D) would have none."""
    assert generator_non_saturating(jnp.array([-200.0])) == 200
    np.testing.assert_allclose(jax.grad(generator_non_saturating)(jnp.array([-200.0])), [-1.0])
    assert discriminator_logistic(jnp.array([200.0]), jnp.array([-200.0])) == 0
