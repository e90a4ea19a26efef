"""Auto-binomial fields: conditionals in closed form, Gibbs sampling against all states, and what training finds."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from imagegen_jax.core.model import Inputs
from imagegen_jax.early import markov_field
from imagegen_jax.early.markov_field import RATE, MarkovField, offsets

RNG = np.random.default_rng(0)


def test_a_site_has_the_binomial_distribution():
    model = MarkovField(levels=7)
    x, logits = np.arange(7.0), RNG.normal(size=7)
    wanted = stats.binom.logpmf(x, 6, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(model._log_binomial(jnp.asarray(logits), jnp.asarray(x)), wanted, rtol=1e-4)
    with pytest.raises(ValueError, match="levels=1: must be from 2 to 256"):
        MarkovField(levels=1)


@pytest.mark.parametrize("radius", [1, 2])
def test_no_two_neighbours_are_drawn_at_once_and_each_site_is_drawn_once(radius):
    groups = np.asarray(MarkovField((7, 9, 1), radius)._groups())[..., 0]
    assert (groups.sum(0) == 1).all()
    for down, right in offsets(radius):
        moved = np.roll(groups, (down, right), (1, 2))[:, radius:-radius, radius:-radius]
        assert not (moved & groups[:, radius:-radius, radius:-radius]).any()
    assert len(offsets(radius)) == ((2 * radius + 1) ** 2 - 1) // 2


def test_gibbs_sampling_has_the_distribution_of_all_states():
    """p(x) ~ exp(sum_s a_s x_s + sum_(s,t) b_(t-s) (x_s - 1/2) (x_t - 1/2)) of four sites of two levels."""
    model, n = MarkovField((2, 2, 1), 1, 2, sweeps=25), 8000
    field, weights = 0.05 * RNG.normal(size=(1, 2, 2, 1)), 0.12 * RNG.normal(size=(4, 1))
    nets = {"network": {"params": {"field": jnp.float32(field), "neighbours": jnp.float32(weights)}}}
    images = np.asarray(jax.jit(lambda key: model.sample(nets, key, n, {}))(jax.random.key(0)))
    states = np.array(list(itertools.product((0, 1), repeat=4))).reshape(-1, 2, 2)
    energy = (states * field[0, ..., 0]).sum((1, 2))
    for (down, right), weight in zip(offsets(1), weights[:, 0], strict=True):
        for i, j in itertools.product(range(2), repeat=2):
            if 0 <= i + down < 2 and 0 <= j + right < 2:
                energy += weight * (states[:, i, j] - 0.5) * (states[:, i + down, j + right] - 0.5)
    wanted = np.exp(RATE * energy)
    codes = ((images[..., 0] + 1) / 2).round().astype(int).reshape(n, 4) @ [8, 4, 2, 1]
    found = np.bincount(codes, minlength=16) / n
    assert np.abs(found - wanted / wanted.sum()).sum() / 2 < 0.03


def test_training_finds_stripes_and_nothing_in_noise():
    model = MarkovField((8, 8, 1), 1, 2, placed=False)
    noise = RNG.choice([-1.0, 1.0], (16, 8, 8, 1)).astype(np.float32)
    stripes = np.repeat(noise[:, :, :1], 8, axis=2) * np.where(RNG.random(noise.shape) < 0.1, -1, 1)
    optimiser = optax.adam(0.01)

    @jax.jit
    def step(nets, moments, image):
        loss = lambda nets: model.loss(nets, Inputs({"image": image}, *[None] * 4))[0]  # noqa: E731
        update, moments = optimiser.update(jax.grad(loss)(nets), moments)
        return optax.apply_updates(nets, update), moments

    found = {}
    for name, image in (("noise", noise), ("stripes", np.float32(stripes))):
        nets = model.init(jax.random.key(0), {"image": image})
        moments = optimiser.init(nets)
        for _ in range(40):
            nets, moments = step(nets, moments, image)
        found[name] = dict(zip(offsets(1), np.asarray(nets["network"]["params"]["neighbours"][:, 0]), strict=True))
    assert max(map(abs, found["noise"].values())) < 0.06 < found["stripes"][0, 1]
    assert max(abs(found["stripes"][place]) for place in ((1, 0), (1, 1), (1, -1))) < 0.5 * found["stripes"][0, 1]
    assert markov_field.offsets(1)[0] == (0, 1)
