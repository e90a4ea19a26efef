"""Objectives of GANs: torch's BCEWithLogitsLoss, the divergences that they are at their optimum, and gradients."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.nn.objectives import (
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticPairing,
    Saturating,
    Wasserstein,
    logit_metrics,
)

ALL = [NonSaturating(), Saturating(), LeastSquares(), Hinge(), Wasserstein(), RelativisticPairing()]
every_objective = pytest.mark.parametrize("objective", ALL, ids=lambda objective: type(objective).__name__)


@pytest.fixture(scope="module")
def torch(root):
    """Values of torch's losses (tests/reference/make_torch.py)."""
    with np.load(root / "tests/reference/torch_losses.npz") as arrays:
        return dict(arrays)


# --- the logistic losses ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_torch_bce_with_logits(torch):
    logits, objective = jnp.asarray(torch["at/logits"]).ravel(), NonSaturating()
    np.testing.assert_allclose(objective.generator(logits), torch["at/bce_ones"][0], rtol=1e-6)
    both = torch["at/bce_ones"][0] + torch["at/bce_zeros"][0]
    np.testing.assert_allclose(objective.discriminator(logits, logits), both, rtol=1e-6)
    np.testing.assert_allclose(Saturating().generator(logits), -torch["at/bce_zeros"][0], rtol=1e-6)


@pytest.mark.slow
def test_closed_forms():
    """At D = 1/2 the discriminator's loss is 2 log 2; at D(x) = 3/4, D(G(z)) = 1/4 it is -2 log(3/4)."""
    zeros, third, objective = jnp.zeros(5), jnp.full(5, math.log(3)), NonSaturating()
    np.testing.assert_allclose(objective.discriminator(zeros, zeros), 2 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(objective.discriminator(third, -third), -2 * math.log(0.75), rtol=1e-6)
    np.testing.assert_allclose(objective.generator(-third), -math.log(0.25), rtol=1e-6)


@pytest.mark.slow
def test_finite_and_unsaturated_at_large_logits():
    """The generator's gradient stays -1 where the discriminator is certain, where log(1 - D) has none."""
    certain, objective = jnp.array([-200.0]), NonSaturating()
    assert objective.generator(certain) == 200
    np.testing.assert_allclose(jax.grad(objective.generator)(certain), [-1.0])
    np.testing.assert_allclose(jax.grad(Saturating().generator)(certain), [0.0], atol=1e-30)
    assert objective.discriminator(-certain, certain) == 0


# --- divergences at the optimum: p = N(1, 1) is real, q = N(-1, 1) generated -----------------------------------------

QUANTILES = jax.scipy.special.ndtri((jnp.arange(40_000) + 0.5) / 40_000)  # their mean is an integral over N(0, 1)
REAL, FAKE = QUANTILES + 1, QUANTILES - 1


def densities():
    """(p, q, width of a cell) on a grid."""
    x = np.linspace(-12, 12, 100_001)
    p, q = (np.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (1, -1))
    return p, q, x[1] - x[0]


def check_optimum(objective, optimal, minimum):
    """The loss of the critic `optimal` is `minimum`, and no change of the critic lowers it."""

    def loss(critic):
        return float(objective.discriminator(critic(REAL), critic(FAKE)))

    np.testing.assert_allclose(loss(optimal), minimum, rtol=1e-4)
    for change in (lambda x: 0.1 * jnp.ones_like(x), lambda x: 0.1 * jnp.sin(x), lambda x: 0.1 * jnp.tanh(x)):
        for sign in (1, -1):
            assert loss(lambda x, c=change, s=sign: optimal(x) + s * c(x)) > loss(optimal)


@pytest.mark.slow
def test_logistic_loss_is_the_jensen_shannon_divergence():
    """2 log 2 - 2 JSD(p, q), at logit log p/q, here 2x (Goodfellow et al. 2014, Theorem 1)."""
    p, q, cell = densities()
    middle = (p + q) / 2
    jsd = cell * np.sum(p * np.log(p / middle) + q * np.log(q / middle)) / 2
    check_optimum(NonSaturating(), lambda x: 2 * x, 2 * math.log(2) - 2 * jsd)


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (-1.0, 1.0)])
def test_least_squares_optimum(a, b):
    """(b p + a q) / (p + q), with (b - a)^2 / 2 times the integral of p q / (p + q) (Mao et al. 2017, Eq. 5)."""
    p, q, cell = densities()
    minimum = (b - a) ** 2 / 2 * cell * np.sum(p * q / (p + q))
    check_optimum(LeastSquares(b, a), lambda x: a + (b - a) * jax.nn.sigmoid(2 * x), minimum)


@pytest.mark.slow
def test_hinge_loss_is_the_total_variation():
    """2 - 2 TV(p, q), at the sign of p - q; the total variation of these two is erf(1 / sqrt(2))."""
    check_optimum(Hinge(), jnp.sign, 2 - 2 * math.erf(1 / math.sqrt(2)))


def test_wasserstein_loss_is_the_distance_for_the_identity():
    """Of two point masses and of two shifted Gaussians: minus the shift. Their drift weighs the second moment."""
    np.testing.assert_allclose(Wasserstein().discriminator(jnp.full(4, 3.0), jnp.full(4, 0.5)), -2.5)
    np.testing.assert_allclose(Wasserstein().discriminator(REAL, FAKE), -2, rtol=1e-5)
    np.testing.assert_allclose(Wasserstein(drift=0.5).discriminator(REAL, FAKE), -2 + 0.5 * 2, rtol=1e-3)


# --- details ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hinge_has_no_gradient_beyond_its_margins():
    gradient = jax.grad(Hinge().discriminator, (0, 1))
    real, fake = gradient(jnp.array([1.5, 0.5]), jnp.array([-1.5, -0.5]))
    np.testing.assert_array_equal(real, [0, -0.5])
    np.testing.assert_array_equal(fake, [0, 0.5])


@pytest.mark.slow
def test_relativistic_pairing_compares_rows():
    real, fake, objective = jnp.array([2.0, -1.0]), jnp.array([1.0, -4.0]), RelativisticPairing()
    wanted = np.mean(np.log1p(np.exp([-1.0, -3.0])))
    np.testing.assert_allclose(objective.discriminator(real, fake), wanted, rtol=1e-6)
    np.testing.assert_allclose(objective.discriminator(real + 7, fake + 7), wanted, rtol=1e-5)
    assert objective.discriminator(real, fake[::-1]) != objective.discriminator(real, fake)
    np.testing.assert_allclose(objective.generator(fake, real), objective.discriminator(fake, real), rtol=1e-6)
    with pytest.raises(ValueError, match="needs the logits of the real images"):
        objective.generator(fake)


@pytest.mark.slow
@every_objective
def test_gradients_push_apart_and_pull_up(objective):
    """The discriminator raises real logits and lowers generated ones; the generator raises its own; by differences."""
    real, fake = jnp.array([0.2, 0.7, 0.4]), jnp.array([0.6, 0.1, 0.3])
    of_real, of_fake = jax.grad(objective.discriminator, (0, 1))(real, fake)
    of_generator = jax.grad(objective.generator)(fake, real)
    assert (of_real < 0).all() and (of_fake > 0).all() and (of_generator < 0).all()
    with jax.enable_x64(True):
        real, fake, step = (np.asarray(x, np.float64) for x in (real, fake, 1e-6 * np.eye(3)[1]))
        differences = (
            objective.discriminator(real + step, fake) - objective.discriminator(real - step, fake),
            objective.discriminator(real, fake + step) - objective.discriminator(real, fake - step),
            objective.generator(fake + step, real) - objective.generator(fake - step, real),
        )
    np.testing.assert_allclose([of_real[1], of_fake[1], of_generator[1]], np.array(differences) / 2e-6, rtol=1e-5)


@every_objective
def test_losses_are_means_over_rows(objective):
    """A batch twice over has the same loss."""
    real, fake = jnp.array([0.2, -1.7]), jnp.array([0.6, 0.1])
    twice = [jnp.tile(x, 2) for x in (real, fake)]
    np.testing.assert_allclose(objective.discriminator(*twice), objective.discriminator(real, fake), rtol=1e-6)
    np.testing.assert_allclose(objective.generator(*twice[::-1]), objective.generator(fake, real), rtol=1e-6)


@every_objective
def test_signs_are_reported_where_they_are_judgements(objective):
    """The optimum at p = q is a logit of 0 for those, and every other logit means as much for Wasserstein's."""
    found = logit_metrics(objective, jnp.array([1.0, 3.0]), jnp.array([-2.0, 1.0]))
    assert found["real_logit"] == 2 and found["fake_logit"] == -0.5
    assert set(found) == {"real_logit", "fake_logit"} | ({"real_sign", "fake_sign"} if objective.signed else set())
    assert objective.signed == isinstance(objective, (NonSaturating, Hinge))
