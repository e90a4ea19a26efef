"""Latents in improved DDPM, as DiT is trained on them, and in MeanFlow: images times a gain, and guidance."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.draw import panels
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.improved import ImprovedDDPM
from imagegen_jax.diffusion.meanflow import MeanFlow
from imagegen_jax.diffusion.schedule import LinearSchedule
from imagegen_jax.nn.adm import ADM
from imagegen_jax.nn.conditioning import Conditioning, Rates, drop_conditions
from imagegen_jax.nn.dit import DiT

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # a sixth of the time

KEY = jax.random.key(0)
SHAPE = (2, 2, 4)
STD = 1.3  # of latents: normal, so that the best denoiser is known
SCHEDULE = LinearSchedule(200, 5e-4, 0.1)
NETS = {"network": {"params": {}}}


@dataclasses.dataclass(frozen=True)
class Shrinks:
    """The noise of normal latents, exactly, plus the number of the label; the least variance."""

    learned_variance: bool = True

    def apply(self, variables, x_t, t, conditioning):
        alpha_bar = jnp.asarray(SCHEDULE.alpha_bar)[(t * SCHEDULE.steps / 1000).round().astype(int)]
        alpha_bar = alpha_bar.reshape(-1, 1, 1, 1)
        epsilon = jnp.sqrt(1 - alpha_bar) * x_t / (1 - alpha_bar + alpha_bar * STD**2)
        if (labels := conditioning.labels) is not None:
            epsilon += 0.01 * (labels @ jnp.arange(labels.shape[1])).reshape(-1, 1, 1, 1)
        return jnp.concatenate([epsilon, -jnp.ones_like(x_t)], axis=-1)


def improved(**fields):
    return ImprovedDDPM(Shrinks(), SCHEDULE, SHAPE, **fields)


def inputs(image, **others):
    return Inputs({"image": image, **others}, KEY, jax.random.split(KEY, len(image)), jnp.int32(0), {})


def loss(model, image, nets=NETS):
    return jit(lambda nets, image: model.loss(nets, inputs(image)))(nets, image)


# --- improved DDPM ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_loss_is_that_of_images_times_the_gain():
    """Which may leave [-1, 1]: at gains other than 1 nothing is clipped."""
    latents = STD * jax.random.normal(KEY, (32, *SHAPE))
    (one, _), (other, _) = (loss(improved(gain=g), latents / g) for g in (8.0, 16.0))
    assert float(one) == pytest.approx(float(other), rel=1e-5)
    small = 0.1 * latents  # that clipping would not touch
    (one, aux), (other, of_pixels) = (loss(improved(gain=g), small / g) for g in (8.0, 1.0))
    assert float(one) == pytest.approx(float(other), rel=0.05) and np.isfinite(float(aux.metrics["vlb"]))


def test_samples_have_the_deviation_of_the_latents_over_the_gain():
    found = jit(lambda key: improved(gain=8.0).sample(NETS, key, 500, {}))(KEY)
    assert float(found.std()) == pytest.approx(STD / 8, rel=0.05)
    assert float(jnp.abs(found).max()) < 1


def test_guidance_extrapolates_the_noise():
    """By the label's own share: the network adds 0.01 a class to it, so a guidance of 3 at class 1 is class 3."""
    model = improved(num_classes=4, label_dropout=0.5, sampling_steps=5, gain=8.0)

    draw = jit(lambda conditions: model.sample(NETS, KEY, 2, conditions))

    def sample(label, **conditions):
        return draw({"label": jnp.full(2, label), **conditions})

    np.testing.assert_allclose(sample(1, guidance=jnp.float32(3)), sample(3), rtol=1e-4)
    np.testing.assert_allclose(sample(3, guidance=jnp.float32(1)), sample(3), rtol=1e-4)
    np.testing.assert_allclose(sample(3, guidance=jnp.float32(0)), sample(0), rtol=1e-4)
    assert float(jnp.abs(sample(3) - sample(0)).max()) > 1e-3


@pytest.mark.slow
def test_labels_are_left_out():
    """Of the share that is asked for: label 100 adds 1 to the noise, and so 1 to the loss of a row that has it."""
    label, keys = jnp.full(400, 100), jax.random.split(KEY, 400)
    one_hot = jax.nn.one_hot(label, 101)
    kept = drop_conditions(Conditioning(one_hot), Rates(0.5), keys).labels.sum(axis=1)
    assert set(np.unique(kept)) == {0, 1} and 160 < kept.sum() < 240
    assert drop_conditions(Conditioning(one_hot), Rates(), keys).labels is one_hot
    batch = inputs(jnp.zeros((400, *SHAPE)), label=label)
    models = (improved(num_classes=101, label_dropout=share) for share in (0.0, 0.5))
    losses = [float(jit(lambda model=model: model.loss(NETS, batch)[0])()) for model in models]
    assert losses[0] - losses[1] == pytest.approx(0.5, abs=0.1)


def test_networks_and_choices_that_do_not_go_together():
    dit = DiT(2, 1, 16, 2)
    with pytest.raises(ValueError, match="out_channels=None: noise and variance of 4 channels are 8"):
        ImprovedDDPM(dit, SCHEDULE, SHAPE)
    with pytest.raises(ValueError, match="learned_variance=False"):
        ImprovedDDPM(ADM(learned_variance=False), SCHEDULE, SHAPE)
    with pytest.raises(ValueError, match="label_dropout=0.1, model.num_classes=0"):
        improved(label_dropout=0.1)
    with pytest.raises(ValueError, match="model.gain=-1: must be above 0"):
        improved(gain=-1)
    with pytest.raises(ValueError, match="guidance=2, but model.label_dropout=0"):
        improved(num_classes=4).check_conditions({"guidance": 2})
    with pytest.raises(ValueError, match="these are latents"):
        improved(gain=8.0).bits(NETS, {"image": jnp.zeros((1, *SHAPE))}, KEY)


# --- MeanFlow --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mean_flow():
    """Its loss and its samples are those of images times the gain; what is drawn is divided by it, then clipped."""
    network = DiT(patch=2, depth=1, width=16, heads=2)
    plain, gained = (MeanFlow(network, SHAPE, num_classes=0, gain=gain) for gain in (1.0, 8.0))
    latents = STD * jax.random.normal(KEY, (4, *SHAPE))
    fresh = jit(lambda key: plain.init(key, {"image": latents}))(jax.random.key(0, impl="unsafe_rbg"))
    nets = jax.tree.map(lambda w: w + 0.05 * np.random.default_rng(0).standard_normal(w.shape, np.float32), fresh)
    one, other = (loss(m, latents / m.gain, nets)[0] for m in (plain, gained))
    assert float(one) == pytest.approx(float(other), rel=1e-5)
    one, other = (jit(lambda key, m=m: m.sample(nets, key, 4, {}))(KEY) for m in (plain, gained))
    np.testing.assert_allclose(jnp.clip(8 * other, -1, 1), one, atol=1e-5)
    assert float(jnp.abs(8 * other).max()) > 1
    with pytest.raises(ValueError, match="model.gain=0: must be above 0"):
        MeanFlow(gain=0)


# --- grids -----------------------------------------------------------------------------------------------------------


def test_grids_of_latents_have_three_channels():
    """Images of four channels keep their transparency."""
    images = np.zeros((2, 4, 4, 4), np.uint8)
    assert panels(None, images, {"image": np.zeros((2, 4, 4, 4), np.float32)}).shape == (2, 4, 4, 3)
    assert panels(None, images, {"image": images}).shape == (2, 4, 4, 4)
