"""Variational diffusion: its bound on normal data, whose terms are known, and its theorem on the schedule's shape."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.vdm import VDM, log_prob_of_levels
from imagegen_jax.diffusion.models.vdm_networks import LearnedGamma, VDMUNet

# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

KEY = jax.random.key(0)
SHAPE = (1, 1, 2)
STD = 0.3
ENDS = (-6.0, 4.0)


class Exact:
    """The best prediction of the noise for data from N(0, STD^2): sigma z / (alpha^2 STD^2 + sigma^2); scaled."""

    def apply(self, variables, z, gamma, conditioning):
        variance = jax.nn.sigmoid(gamma)[:, None, None, None]
        return variables.get("scale", 1.0) * jnp.sqrt(variance) * z / ((1 - variance) * STD**2 + variance)


class Curved:
    """Other shapes between the same ends."""

    def apply(self, variables, t):
        return ENDS[0] + (ENDS[1] - ENDS[0]) * t ** variables["power"]


def model_of(gamma):
    return VDM(Exact(), gamma, SHAPE)


X = np.float32([0.4, -0.2]).reshape(SHAPE)
NODES, SHARES = np.polynomial.legendre.leggauss(64)


@jit
def terms(x, scale, power):
    """For one image and always the same noise, at all nodes."""
    rows, t = len(NODES), np.float32((NODES + 1) / 2)
    nets, batch = {"network": {"scale": scale}, "gamma": {"power": power}}, {"image": jnp.repeat(x[None], rows, axis=0)}
    return model_of(Curved()).bound(nets, batch, t, jnp.repeat(KEY[None], rows))


def bound_of(x, scale=1.0, power=1.0):
    """The terms, that of diffusion by quadrature over t."""
    return {name: float(SHARES @ np.float64(term) / 2) for name, term in terms(x, scale, power)._asdict().items()}


def mean_diffusion(scale):
    """Its mean over the data and the noise: the error is linear in both, so its square has a share of each's alone."""
    nothing, of_noise, plus, minus = (
        bound_of(x, share)["diffusion"] for x, share in ((X, 0.0), (0 * X, scale), (X, scale), (-X, scale))
    )
    expected = ENDS[1] - ENDS[0]  # of `nothing`, half of the noise's square in two dimensions
    return of_noise * expected / nothing + ((plus + minus) / 2 - of_noise) * 2 * STD**2 / np.sum(X**2)


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_the_shape_of_the_schedule_does_not_matter(scale):
    """The paper's theorem: in continuous time the bound depends on the ends alone, for any network, good or not.

    It holds for each image and noise, and so for their mean.
    """
    straight, *curved = (bound_of(X, scale, power)["diffusion"] for power in (1.0, 2.0, 3.0))
    np.testing.assert_allclose(curved, straight, rtol=1e-5)


def test_terms_of_normal_data_are_known():
    """1/2 int E|epsilon - best|^2 dgamma, with the error a / (a + sigma^2), a = alpha^2 STD^2, in each dimension."""
    gamma = np.linspace(*ENDS, 20_001)
    variance = 1 / (1 + np.exp(-gamma))
    error = (1 - variance) * STD**2 / ((1 - variance) * STD**2 + variance)
    assert mean_diffusion(1.0) == pytest.approx(np.trapezoid(error, gamma), rel=1e-5)  # half of two dimensions
    last, size = variance[-1], np.sum(X**2)
    prior = ((1 - last) * size + 2 * (last - 1 - math.log(last))) / 2
    assert bound_of(X)["prior"] == pytest.approx(prior, rel=1e-4)


def test_a_worse_network_has_a_greater_bound():
    assert min(mean_diffusion(0.95), mean_diffusion(1.05)) > mean_diffusion(1.0) + 1e-3


def test_probabilities_of_levels():
    """They add up to 1, and with little noise all of it is at the level that was there."""
    levels = jnp.linspace(-1, 1, 256)
    total = jnp.exp(log_prob_of_levels(levels, jnp.full(256, 0.1234), jnp.float32(-6.0))).sum()
    assert float(total) == pytest.approx(1, abs=1e-5)
    sure = log_prob_of_levels(levels, levels + 1e-4, jnp.float32(-13.3))
    np.testing.assert_allclose(jnp.exp(sure), 1, atol=0.02)


@pytest.mark.slow
def test_loss_is_the_bound_in_bits_at_evenly_spread_times():
    model = model_of(LearnedGamma(*ENDS))
    x = STD * jax.random.normal(jax.random.key(1), (8, *SHAPE))
    given = Inputs({"image": x}, KEY, jax.random.split(KEY, 8), jnp.int32(0), {})
    t = np.sort(model._times(given))
    np.testing.assert_allclose(np.diff(t), 1 / 8, atol=1e-6)
    nets = {"network": {}, "gamma": model.gamma.init(KEY, jnp.zeros(1))}
    loss, aux = jit(model.loss)(nets, given)
    parts = [aux.metrics[name] for name in ("prior", "reconstruction", "diffusion")]
    assert float(loss) == pytest.approx(float(sum(parts)), rel=1e-6)
    keys = jax.vmap(lambda key: jax.random.split(key, 2), out_axes=1)(given.keys)
    bound = jit(model.bound)(nets, given.batch, model._times(given), keys[0])
    assert float(loss) == pytest.approx(float(jnp.mean(bits_per_dim(sum(bound), SHAPE))), rel=1e-5)


def test_the_ends_of_the_schedule_are_learned():
    model = model_of(LearnedGamma(*ENDS))
    x = STD * jax.random.normal(jax.random.key(1), (64, *SHAPE))
    given = Inputs({"image": x}, KEY, jax.random.split(KEY, 64), jnp.int32(0), {})
    gamma = model.gamma.init(KEY, jnp.zeros(1))
    gradient = jit(jax.grad(lambda gamma: model.loss({"network": {}, "gamma": gamma}, given)[0]))(gamma)
    assert all(float(jnp.abs(leaf)) > 1e-4 for leaf in jax.tree.leaves(gradient))


def gamma_from(low, high):
    """The variables of a `LearnedGamma` that has learned these ends."""
    return {"params": {"b": jnp.float32(low), "w": jnp.float32(high - low)}}


def test_samples_of_the_exact_network_have_the_datas_deviation():
    model = dataclasses.replace(model_of(LearnedGamma(-3.0, 1.0)), steps=200)
    nets = {"network": {}, "gamma": gamma_from(-10.0, 8.0)}
    drawn = jit(lambda key: model.sample(nets, key, 4_000, {}))(KEY)
    assert float(drawn.std()) == pytest.approx(STD, rel=0.05)


def test_samples_go_from_the_learned_end_to_the_other():
    """A single step is a draw from q(z_0 | z_1, x_0) over alpha_0: its variance is known."""
    model = dataclasses.replace(model_of(LearnedGamma(-10.0, 8.0)), steps=1)
    low, high = -4.0, -1.0
    drawn = jit(lambda key: model.sample({"network": {}, "gamma": gamma_from(low, high)}, key, 20_000, {}))(KEY)
    now, then = math.exp(high), math.exp(low)  # s^2 at gamma(1) and gamma(0)
    kept = then / now
    of_x = kept + (1 - kept) * STD**2 / (STD**2 + now)
    inside = math.sqrt(of_x**2 * (1 + now) + kept * (now - then))
    expected = jnp.clip(inside * jax.random.normal(jax.random.key(9), (200_000,)), -1, 1)
    assert float(drawn.std()) == pytest.approx(float(expected.std()), rel=0.02)


def test_times_of_their_own():
    given = Inputs({}, KEY, jax.random.split(KEY, 1_000), jnp.int32(0), {})
    t = VDM(VDMUNet(), stratified=False)._times(given)
    assert 0 <= float(t.min()) and float(t.max()) < 1 and float(t.mean()) == pytest.approx(0.5, abs=0.04)
