"""The classifier of noisy images, on the mixture, whose parts are classes of known probability at every noise level."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest

from imagegen_jax.core.drawing import draw
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.guidance.functions import classifier
from imagegen_jax.diffusion.models.noisy_classifier import NEARLY_CLEAN, NoisyClassifier
from imagegen_jax.diffusion.process.process import EDM, RectifiedFlow
from imagegen_jax.diffusion.process.times import LogitNormal, LogNormal, Uniform, WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Cosine, Discrete, VariancePreserving
from imagegen_jax.nn.backbones.adm import ADMClassifier
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

SHAPE = (1, 1, 2)  # a point in the plane as an image
WHOLE = Discrete(LinearSchedule(100))


class Posterior(nn.Module):
    """The mixture's own p(part | x), by a network that sees what the classifier shows it."""

    process: Any = EDM()
    preconditioned: bool = True
    time_scale: float = 1.0
    num_classes: int = 3

    @nn.compact
    def __call__(self, x, t, keys=None):
        if self.preconditioned:
            sigma = jnp.exp(4 * t)
            x = x * jnp.sqrt(sigma**2 + 0.25)[:, None, None, None]
        else:
            alpha = self.process.alpha(t / self.time_scale)
            sigma, x = self.process.sigma(t / self.time_scale) / alpha, x / alpha[:, None, None, None]
        return self.param("gain", nn.initializers.ones, ()) * mixture._parts(x.reshape(-1, 2), sigma)[0]


MODELS = {
    "EDM": NoisyClassifier(Posterior(), image_shape=SHAPE),
    "VP as EDM": NoisyClassifier(Posterior(), VariancePreserving(), Uniform(0.01, 1.0), image_shape=SHAPE),
    "cosine": NoisyClassifier(Posterior(Cosine(), False), Cosine(), Uniform(0.0, 0.9), False, SHAPE),
    "flow": NoisyClassifier(
        Posterior(RectifiedFlow(), False, 1000.0), RectifiedFlow(), LogitNormal(), False, SHAPE, time_scale=1000.0
    ),
    "whole times": NoisyClassifier(Posterior(WHOLE, False), WHOLE, WholeTimes(100), False, SHAPE),
}
NETS = {"network": {"params": {"gain": jnp.ones(())}}}


def points(n, seed=0):
    """Images of the mixture and the parts that they are of."""
    rng = np.random.default_rng(seed)
    parts = rng.choice(3, n, p=mixture.WEIGHTS)
    x = mixture.MEANS[parts] + mixture.STD * rng.standard_normal((n, 2))
    return jnp.asarray(x, jnp.float32).reshape(n, *SHAPE), jnp.asarray(parts, jnp.int32)


def noisy(n=30):
    """Points x = x_0 + sigma epsilon, their parts, and levels that are those of whole times, too."""
    x_0, parts = points(n)
    t = jnp.linspace(3, 99, n).round()
    sigma = WHOLE.sigma(t) / WHOLE.alpha(t)
    return x_0 + sigma[:, None, None, None] * jax.random.normal(jax.random.key(0), x_0.shape), sigma, parts


@pytest.mark.parametrize("name", MODELS)
def test_the_class_is_that_of_x_whatever_the_process(name):
    """`log_probability` in the coordinates of denoisers, of a network that was trained in those of its process."""
    x, sigma, parts = noisy()
    found = jax.jit(MODELS[name].log_probability(NETS, parts))(x, sigma)
    expected = jax.nn.log_softmax(mixture._parts(x.reshape(-1, 2), sigma)[0])
    np.testing.assert_allclose(found, expected[jnp.arange(len(parts)), parts], rtol=2e-3, atol=2e-3)
    if name != "whole times":  # of which none has this level
        expected = jax.nn.log_softmax(mixture._parts(x.reshape(-1, 2), jnp.full(len(x), NEARLY_CLEAN))[0])
        np.testing.assert_allclose(MODELS[name].classify(NETS, x), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_guided_by_its_gradient_the_estimate_is_the_classes():
    """Bayes's rule: E[x_0 | x] becomes E[x_0 | x, part]."""
    x, sigma, parts = noisy()

    def denoise(x, sigma):
        return mixture.denoise(x.reshape(-1, 2), sigma).reshape(x.shape)

    found = classifier(denoise, MODELS["EDM"].log_probability(NETS, parts), 1.0)(x, sigma).reshape(-1, 2)
    gain = (mixture.STD**2 / (mixture.STD**2 + sigma**2))[:, None]
    means = jnp.asarray(mixture.MEANS, jnp.float32)[parts]
    np.testing.assert_allclose(found, means + gain * (x.reshape(-1, 2) - means), atol=2e-3)


def evaluated(model, gain, n=4_000):
    image, label = points(n)
    keys = jax.random.split(jax.random.key(3), n)
    inputs = Inputs({"image": image, "label": label}, jax.random.key(0), keys, jnp.int32(0), {})
    loss, aux = jax.jit(model.loss)({"network": {"params": {"gain": jnp.float32(gain)}}}, inputs)
    return float(loss), {name: float(value) for name, value in aux.metrics.items()}


@pytest.mark.slow
def test_the_loss_is_cross_entropy_and_least_at_the_posterior():
    model = MODELS["EDM"]
    loss, metrics = evaluated(model, 1.0)
    rng = np.random.default_rng(1)
    image, label = map(np.asarray, points(4_000, seed=2))
    sigma = np.exp(model.times.mean + model.times.std * rng.standard_normal(4_000))
    x = image.reshape(-1, 2) + sigma[:, None] * rng.standard_normal((4_000, 2))
    log_prob = np.asarray(jax.nn.log_softmax(mixture._parts(x, sigma)[0]))
    assert loss == pytest.approx(-log_prob[np.arange(4_000), label].mean(), abs=0.03)
    assert metrics["accuracy"] == pytest.approx((log_prob.argmax(axis=1) == label).mean(), abs=0.03)
    low = sigma <= np.median(sigma)
    assert metrics["accuracy_low"] == pytest.approx((log_prob.argmax(axis=1) == label)[low].mean(), abs=0.02)
    assert metrics["accuracy_low"] > metrics["accuracy"] + 0.1
    for gain in (0.5, 2.0):
        assert evaluated(model, gain)[0] > loss + 0.01
    assert evaluated(model, 0.0)[0] == pytest.approx(np.log(3), rel=1e-5)


def test_it_fits_its_data_or_says_so():
    network = ADMClassifier(3, 8, (1,), 1, (), head_channels=8)
    model = NoisyClassifier(network, image_shape=(4, 4, 1))
    image = jnp.zeros((2, 4, 4, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"image": image, "label": jnp.zeros(2, jnp.int32)})
    assert set(shapes) == {"network"} and model.num_classes == 3
    with pytest.raises(ValueError, match="4x4x3.*this NoisyClassifier has model.image_shape=4x4x1"):
        model.init(jax.random.key(0), {"image": jnp.zeros((2, 4, 4, 3))})
    with pytest.raises(ValueError, match="model.num_classes=3, but the batch has no 'label'"):
        model.init(jax.random.key(0), {"image": image})
    with pytest.raises(ValueError, match="model.process is a Discrete, but model.times a LogNormal"):
        NoisyClassifier(network, Discrete(), LogNormal())
    with pytest.raises(TypeError, match="a NoisyClassifier draws no images"):
        draw.sample(model, {}, 2)
