"""Variational diffusion: its bound on normal data, whose terms are known, and its theorem on the schedule's shape."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.vdm import VDM, log_prob_of_levels
from imagegen_jax.metrics.likelihood import bits_per_dim
from imagegen_jax.nn.vdm import LearnedGamma, VDMUNet

KEY = jax.random.key(0)
SHAPE = (1, 1, 2)
STD = 0.3
ENDS = (-6.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Exact:
    """The best prediction of the noise for data from N(0, STD^2): sigma z / (alpha^2 STD^2 + sigma^2); scaled."""

    scale: float = 1.0

    def apply(self, variables, z, gamma, labels, keys):
        variance = jax.nn.sigmoid(gamma)[:, None, None, None]
        return self.scale * jnp.sqrt(variance) * z / ((1 - variance) * STD**2 + variance)


class Curved(nn.Module):
    """Another shape between the same ends."""

    power: float
    gamma_min: float = ENDS[0]
    gamma_max: float = ENDS[1]

    @nn.compact
    def __call__(self, t):
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t**self.power


def model_of(gamma, scale=1.0):
    return VDM(Exact(scale), gamma, SHAPE)


def mean_bound(model, rows=20_000):
    """The terms' means, at evenly spread times."""
    keys = jax.random.split(KEY, rows)
    x = STD * jax.random.normal(jax.random.key(1), (rows, *SHAPE))
    t = (jnp.arange(rows) + 0.5) / rows
    bound = jax.jit(lambda x: model.bound({"network": {}, "gamma": {}}, {"image": x}, t, keys))(x)
    return {name: float(jnp.mean(term)) for name, term in bound._asdict().items()}


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_the_shape_of_the_schedule_does_not_matter(scale):
    """The paper's theorem: in continuous time the bound depends on the ends alone, for any network, good or not."""
    straight, early, late = (mean_bound(model_of(Curved(power), scale))["diffusion"] for power in (1.0, 0.8, 2.0))
    assert early == pytest.approx(straight, rel=0.03) and late == pytest.approx(straight, rel=0.03)


def test_terms_of_normal_data_are_known():
    """1/2 int E|epsilon - best|^2 dgamma, with the error a / (a + sigma^2), a = alpha^2 STD^2, in each dimension."""
    found = mean_bound(model_of(Curved(1.0)))
    gamma = np.linspace(*ENDS, 20_001)
    variance = 1 / (1 + np.exp(-gamma))
    error = (1 - variance) * STD**2 / ((1 - variance) * STD**2 + variance)
    assert found["diffusion"] == pytest.approx(np.trapezoid(error, gamma), rel=0.03)  # half of two dimensions
    last = variance[-1]
    assert found["prior"] == pytest.approx((1 - last) * STD**2 + last - 1 - math.log(last), rel=0.05)


def test_a_worse_network_has_a_greater_bound():
    assert mean_bound(model_of(Curved(1.0), 0.7))["diffusion"] > mean_bound(model_of(Curved(1.0)))["diffusion"] + 0.05


def test_probabilities_of_levels():
    """They add up to 1, and with little noise all of it is at the level that was there."""
    levels = jnp.linspace(-1, 1, 256)
    total = jnp.exp(log_prob_of_levels(levels, jnp.full(256, 0.1234), jnp.float32(-6.0))).sum()
    assert float(total) == pytest.approx(1, abs=1e-5)
    sure = log_prob_of_levels(levels, levels + 1e-4, jnp.float32(-13.3))
    np.testing.assert_allclose(jnp.exp(sure), 1, atol=0.02)


def test_loss_is_the_bound_in_bits_at_evenly_spread_times():
    model = model_of(LearnedGamma(*ENDS))
    x = STD * jax.random.normal(jax.random.key(1), (8, *SHAPE))
    given = Inputs({"image": x}, KEY, jax.random.split(KEY, 8), jnp.int32(0), {})
    t = np.sort(model._times(given))
    np.testing.assert_allclose(np.diff(t), 1 / 8, atol=1e-6)
    nets = {"network": {}, "gamma": model.gamma.init(KEY, jnp.zeros(1))}
    loss, aux = model.loss(nets, given)
    parts = [aux.metrics[name] for name in ("prior", "reconstruction", "diffusion")]
    assert float(loss) == pytest.approx(float(sum(parts)), rel=1e-6)
    keys = jax.vmap(lambda key: jax.random.split(key, 2), out_axes=1)(given.keys)
    bound = model.bound(nets, given.batch, model._times(given), keys[0])
    assert float(loss) == pytest.approx(float(jnp.mean(bits_per_dim(sum(bound), SHAPE))), rel=1e-5)


def test_the_ends_of_the_schedule_are_learned():
    model = model_of(LearnedGamma(*ENDS))
    x = STD * jax.random.normal(jax.random.key(1), (64, *SHAPE))
    given = Inputs({"image": x}, KEY, jax.random.split(KEY, 64), jnp.int32(0), {})
    gamma = model.gamma.init(KEY, jnp.zeros(1))
    gradient = jax.grad(lambda gamma: model.loss({"network": {}, "gamma": gamma}, given)[0])(gamma)
    assert all(float(jnp.abs(leaf)) > 1e-4 for leaf in jax.tree.leaves(gradient))


def gamma_from(low, high):
    """The variables of a `LearnedGamma` that has learned these ends."""
    return {"params": {"b": jnp.float32(low), "w": jnp.float32(high - low)}}


def test_samples_of_the_exact_network_have_the_datas_deviation():
    model = dataclasses.replace(model_of(LearnedGamma(-3.0, 1.0)), steps=200)
    nets = {"network": {}, "gamma": gamma_from(-10.0, 8.0)}
    drawn = jax.jit(lambda key: model.sample(nets, key, 4_000, {}))(KEY)
    assert float(drawn.std()) == pytest.approx(STD, rel=0.05)


def test_samples_go_from_the_learned_end_to_the_other():
    """A single step is a draw from q(z_0 | z_1, x_0) over alpha_0: its variance is known."""
    model = dataclasses.replace(model_of(LearnedGamma(-10.0, 8.0)), steps=1)
    low, high = -4.0, -1.0
    drawn = jax.jit(lambda key: model.sample({"network": {}, "gamma": gamma_from(low, high)}, key, 20_000, {}))(KEY)
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
