"""Variational bounds of a few 8-bit images whose probabilities are known: no less than their entropy, and near it."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.vdm import VDM
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SHAPE = (1, 1, 2)
IMAGES = np.array([[30, 200], [90, 60], [120, 140], [240, 220]]) / 127.5 - 1
SHARES = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
ENTROPY = (1 / 2 + 2 / 4 + 3 / 8 + 3 / 8) / 2  # -log P in bits per dimension, on average
ROWS = np.int64(8_192 * SHARES)


def noise_of(z, alpha, sigma):
    """E[epsilon | z = alpha x + sigma epsilon], by the share that each image has in z [B 1 1 2]."""
    z, alpha, sigma = z.reshape(-1, 2), alpha[:, None], sigma[:, None]
    square = jnp.sum((z[:, None] - alpha[..., None] * IMAGES) ** 2, axis=-1)
    share = jax.nn.softmax(jnp.log(SHARES) - square / (2 * sigma**2), axis=-1)
    return ((z - alpha * (share @ IMAGES)) / sigma).reshape(-1, *SHAPE)


@dataclasses.dataclass(frozen=True)
class OfTimes:
    """The best network for `ImprovedDDPM`; its variance is that of steps to an image that is known."""

    schedule: LinearSchedule
    learned_variance: bool = True

    def apply(self, variables, x_t, t, conditioning):
        alpha_bar = jnp.asarray(self.schedule.alpha_bar)[jnp.round(t * self.schedule.steps / 1000).astype(int)]
        epsilon = noise_of(x_t, jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar))
        return jnp.concatenate([epsilon, -jnp.ones_like(epsilon)], axis=-1)


class OfGamma:
    """The best network for `VDM`, its prediction times a number."""

    def apply(self, variables, z, gamma, conditioning):
        return variables["scale"] * noise_of(z, jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma)))


def bound_of(model, **options):
    """networks -> the bound over the images in their proportions, and its standard error."""
    image = jnp.asarray(np.repeat(IMAGES, ROWS, axis=0).reshape(-1, *SHAPE), jnp.float32)
    bits = jit(lambda nets: model.bits(nets, {"image": image}, jax.random.key(0), **options))

    def bound(**nets):
        of_image = np.split(np.float64(bits(nets)), np.cumsum(ROWS)[:-1])
        error = math.sqrt(sum(share**2 * np.var(one) / len(one) for share, one in zip(SHARES, of_image, strict=True)))
        return SHARES @ [one.mean() for one in of_image], error

    return bound


@pytest.mark.slow
def test_bound_of_improved_ddpm_falls_to_the_entropy_with_more_steps():
    """What it is above is of the order of a step: its steps back are normal, the images' are not."""
    above = []
    for steps in (100, 200):
        schedule = LinearSchedule(steps, 1e-6, 20 / steps)
        bound, error = bound_of(ImprovedDDPM(OfTimes(schedule), schedule, SHAPE))(network={"params": {}})
        assert bound - ENTROPY > 5 * error
        above.append(bound - ENTROPY)
    assert above[1] < 0.07
    assert above[0] / above[1] == pytest.approx(2, abs=0.6)


@pytest.mark.slow
def test_bound_of_vdm_is_the_entropy():
    """In continuous time, for the best network and between ends that leave nothing out; else it is above."""
    bound_between = bound_of(VDM(OfGamma(), image_shape=SHAPE), times=64)

    def above(low, high, scale=1.0):
        gamma = {"params": {"b": jnp.float32(low), "w": jnp.float32(high - low)}}
        bound, error = bound_between(network={"scale": jnp.float32(scale)}, gamma=gamma)
        return bound - ENTROPY, error

    difference, error = above(-16, 10)
    assert abs(difference) < 4 * error < 0.04
    for case in ((-12, 5), (-16, -1), (-16, 10, 0.9)):
        difference, error = above(*case)
        assert difference > 5 * error, case
