"""A mixture of Gaussians in the plane, whose density is known: loss, loop and sampler agree if it is learned."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest
from mixture import MEANS, STD, WEIGHTS

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

pytestmark = pytest.mark.optimised  # thousands of steps


def draw(rng, n):
    return mixture.draw(rng, n).astype(np.float32)


def mixture_log_density(x, signal=1.0, noise=0.0):
    """log q(x_t) of the mixture scaled by `signal` plus noise of deviation `noise`."""
    variance = (signal * STD) ** 2 + noise**2
    square = np.sum((x[:, None] - signal * MEANS) ** 2, axis=-1)
    parts = np.log(WEIGHTS) - square / (2 * variance) - np.log(2 * np.pi * variance)
    top = parts.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(parts - top).sum(axis=1, keepdims=True)))[:, 0], parts, variance


def best_epsilon(x, signal, noise):
    """E[epsilon | x_t] in closed form: -noise * grad log q(x_t)."""
    log_density, parts, variance = mixture_log_density(x, signal, noise)
    share = np.exp(parts - log_density[:, None])[..., None]
    return noise * np.sum(share * (x[:, None] - signal * MEANS), axis=1) / variance


@dataclasses.dataclass(frozen=True)
class Plane:
    """Points of the mixture as images of one pixel with two channels."""

    def open(self):
        return self

    def batch(self, step, n, seed=0, rows=None):
        points = draw(np.random.default_rng([seed, step]), n)
        return {"image": points.reshape(n, 1, 1, 2)[rows if rows is not None else slice(None)]}


class Points(nn.Module):
    """A small network on points and times."""

    @nn.compact
    def __call__(self, x, t, conditioning=None):
        angles = jnp.log1p(t[:, None]) * 2.0 ** jnp.arange(-2, 3)
        h = nn.Dense(128)(jnp.concatenate([x.reshape(len(x), 2), jnp.sin(angles), jnp.cos(angles)], axis=-1))
        for _ in range(3):
            h = h + nn.Dense(128)(nn.swish(nn.Dense(128)(nn.swish(h))))
        return nn.Dense(2)(h).reshape(x.shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    steps = 3000
    experiment = ig.Experiment(
        name="plane", model=DDPM(network=Points(), image_shape=(1, 1, 2), schedule=LinearSchedule()), data=Plane(),
        optim={"network": Adam(CosineDecay(2e-3))}, averages={"ema": HalfLife(30_000.0)}, batch_size=256, steps=steps,
        sample_every=0, checkpoint_every=steps, samples=4, mesh=MeshShape(data=1),
    )  # fmt: skip
    return ig.fit(experiment, tmp_path_factory.mktemp("plane"), quiet=True)


@pytest.mark.slow
def test_the_network_learns_the_closed_form(run):
    rng, alpha_bar = np.random.default_rng(1), run.experiment.model.schedule.alpha_bar
    for t in (100, 400, 800):
        signal, noise = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
        x = signal * draw(rng, 2000) + noise * rng.standard_normal((2000, 2)).astype(np.float32)
        shaped = jnp.asarray(x, jnp.float32).reshape(-1, 1, 1, 2)
        learned = run.experiment.model.network.apply(run.nets["network"], shaped, jnp.full(2000, t)).reshape(-1, 2)
        error = np.sqrt(np.mean((np.asarray(learned) - best_epsilon(x, signal, noise)) ** 2))
        assert error < 0.06, (t, error)  # of a noise of deviation 1


def assert_density(x, share, mean, std, log_density, narrowed=1.0):
    """Bounds on how far samples are from the mixture: in the weights, means and deviations of its parts, and in all.

    `narrowed` is the deviation that each part is known to have, over its own: the log density is then higher by
    1 - narrowed^2, one half for each axis.
    """
    nearest = np.argmin(np.sum((x[:, None] - MEANS) ** 2, axis=-1), axis=1)
    assert np.abs(np.bincount(nearest, minlength=3) / len(x) - WEIGHTS).max() < share
    for mode in range(3):
        own = x[nearest == mode]
        assert np.abs(own.mean(0) - MEANS[mode]).max() < mean * STD
        assert np.abs(own.std(0) / STD - narrowed).max() < std
    # The mean log density of samples from the mixture itself is its negative entropy.
    wanted = mixture_log_density(draw(np.random.default_rng(2), len(x)))[0].mean()
    assert mixture_log_density(x)[0].mean() == pytest.approx(wanted + 1 - narrowed**2, abs=log_density)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", [Ancestral(), Ancestral(variance="small"), DDIM(1000), DDIM(1000, eta=1.0)], ids=str
)
def test_samplers_with_the_closed_form_denoiser_draw_the_mixture(sampler):
    path = sampler.path(LinearSchedule())
    table = path.solver.table(path.sigmas)
    variance = 1 + path.sigmas[0] ** 2  # what becomes of it for a part alone, where every step is linear
    for sigma, of_x, (of_estimate,), of_noise in zip(*table, strict=True):
        variance = (of_x + of_estimate * STD**2 / (STD**2 + sigma**2)) ** 2 * variance + of_noise**2
    x = np.asarray(jax.jit(lambda key: path.draw(mixture.denoise, (20_000, 2), key))(jax.random.key(0)), np.float64)
    assert_density(x, share=0.015, mean=0.1, std=0.05, log_density=0.03, narrowed=math.sqrt(variance) / STD)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Ancestral(250), DDIM(250), DDIM(250, eta=1.0)], ids=str)
def test_the_learned_density_is_the_known_one(run, sampler):
    n, model = 5_000, dataclasses.replace(run.experiment.model, sampler=sampler)
    draw_samples = jax.jit(lambda nets, key: model.sample(nets, key, n, {}))
    x = np.asarray(draw_samples(run.nets, jax.random.key(0)), np.float64).reshape(n, 2)
    assert_density(x, share=0.03, mean=0.4, std=0.3, log_density=0.3)
