"""Latents in `Diffusion`, in improved DDPM, as DiT is trained on them, and in MeanFlow; and guidance."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.space import Latents, Pixels
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning, Rates, drop_conditions
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # a sixth of the time

KEY = jax.random.key(0)
SHAPE = (2, 2, 4)
STD = 1.3  # of latents: normal, so that the best denoiser is known
SCHEDULE = LinearSchedule(200, 5e-4, 0.1)
NETS = {"network": {"params": {}}}
SPACES = (Latents(), Latents(8.0), Latents((0.1, 2.0, 1.0, 5.0), (20.0, 0.0, -7.0, 1.0)))


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


@dataclasses.dataclass(frozen=True)
class ShrinksNoise(Shrinks):
    """The noise alone, at the times of the schedule."""

    def apply(self, variables, x_t, t, conditioning):
        return super().apply(variables, x_t, t * 1000 / SCHEDULE.steps, conditioning)[..., : x_t.shape[-1]]


def improved(**fields):
    return ImprovedDDPM(Shrinks(), SCHEDULE, SHAPE, **fields)


def elucidated(**fields):
    process, times = Discrete(SCHEDULE), WholeTimes(SCHEDULE.steps)
    levels = Spaced(SCHEDULE, 100)
    known = {"process": process, "times": times, "levels": levels, "solver": Euler(), "image_shape": SHAPE}
    return Diffusion(ShrinksNoise(), "epsilon", **known, **fields)


def inputs(image, **others):
    return Inputs({"image": image, **others}, KEY, jax.random.split(KEY, len(image)), jnp.int32(0), {})


def loss(model, image, nets=NETS):
    return jit(lambda nets, image: model.loss(nets, inputs(image)))(nets, image)


# --- improved DDPM ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [improved, elucidated])
def test_the_loss_is_that_of_what_the_space_makes_of_data(make):
    """Whatever the numbers of each channel are; nothing of it is clipped."""
    latents = STD * jax.random.normal(KEY, (32, *SHAPE))
    of_data = [(loss(make(space=space), space.decode(latents, {}))) for space in SPACES]
    values = [float(value) for value, _ in of_data]
    assert values == pytest.approx([values[0]] * len(values), rel=1e-5)
    other, _ = loss(make(space=Latents(3.0)), latents)
    assert abs(float(other) - values[0]) > 0.05 * values[0]
    small = 0.1 * latents  # that clipping would not touch
    (one, _), (of_pixels, _) = (loss(make(space=space), small) for space in (Latents(), Pixels()))
    assert float(one) == pytest.approx(float(of_pixels), rel=1e-6) and np.isfinite(float(one))


@pytest.mark.parametrize("make", [improved, elucidated])
def test_samples_are_like_the_data(make):
    """Of each channel's mean and deviation, far beyond [-1, 1]: nothing is clipped, unlike those of pixels."""
    draws = [jit(lambda key, space=space: make(space=space).sample(NETS, key, 500, {}))(KEY) for space in SPACES]
    for space, drawn in zip(SPACES, draws, strict=True):
        np.testing.assert_allclose(space.encode(drawn), draws[0], rtol=1e-3, atol=1e-4)
    far, pixels = draws[-1], jit(lambda key: make().sample(NETS, key, 500, {}))(KEY)
    np.testing.assert_allclose(far.std((0, 1, 2)), STD / np.array(SPACES[-1].scale), rtol=0.1)
    np.testing.assert_allclose(far.mean((0, 1, 2)), SPACES[-1].shift, atol=1)
    assert float(jnp.abs(far).max()) > 50 and float(jnp.abs(pixels).max()) == 1


def test_denoisers_and_levels_are_of_what_is_denoised():
    """The same in every space, so that guidance and solvers are those of the papers."""
    x, sigma = jax.random.normal(KEY, (3, *SHAPE)), jnp.array([0.01, 0.4, 6.0])
    for make in (improved, elucidated):
        models = [make(space=space) for space in SPACES]
        wanted = jit(models[0].denoiser(NETS, {}))(x, sigma)
        for model in models:
            np.testing.assert_array_equal(jit(model.denoiser(NETS, {}))(x, sigma), wanted)
            np.testing.assert_array_equal(model.path.sigmas, models[0].path.sigmas)


def test_guidance_extrapolates_the_noise():
    """By the label's own share: the network adds 0.01 a class to it, so a guidance of 3 at class 1 is class 3."""
    model = improved(num_classes=4, label_dropout=0.5, sampling_steps=5, space=Latents(8.0))

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
    dit, batch = DiT(2, 1, 16, 2), {"image": jnp.zeros((1, *SHAPE))}
    with pytest.raises(
        ValueError, match="out_channels=None makes 4 channels, but noise and variance of 4 channels are 8"
    ):
        ImprovedDDPM(dit, SCHEDULE, SHAPE).init(KEY, batch)
    with pytest.raises(ValueError, match="learned_variance=False makes 4 channels"):
        ImprovedDDPM(ADM(learned_variance=False), SCHEDULE, SHAPE).init(KEY, batch)
    with pytest.raises(ValueError, match="label_dropout=0.1, model.num_classes=0"):
        improved(label_dropout=0.1)
    with pytest.raises(ValueError, match="model.space.scale has 2 numbers, but latents of 4 channels"):
        ImprovedDDPM(dit, SCHEDULE, SHAPE, space=Latents((1.0, 2.0))).init(KEY, {"image": jnp.zeros((1, *SHAPE))})
    with pytest.raises(ValueError, match="model.clip=True, model.space=Latents.*: latents have no range"):
        Diffusion(dit, image_shape=SHAPE, clip=True, space=Latents()).init(KEY, {"image": jnp.zeros((1, *SHAPE))})
    with pytest.raises(ValueError, match="guidance=2, but model.label_dropout=0"):
        improved(num_classes=4).check_conditions({"guidance": 2})
    with pytest.raises(ValueError, match="these are latents"):
        improved(space=Latents()).bits(NETS, {"image": jnp.zeros((1, *SHAPE))}, KEY)


# --- MeanFlow --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mean_flow():
    """Its loss and its samples are those of what the space makes of data; what is drawn is not clipped."""
    network = DiT(patch=2, depth=1, width=16, heads=2)
    models = [MeanFlow(network, SHAPE, num_classes=0, space=space) for space in SPACES]
    latents = STD * jax.random.normal(KEY, (4, *SHAPE))
    fresh = jit(lambda key: models[0].init(key, {"image": latents}))(jax.random.key(0, impl="unsafe_rbg"))
    nets = jax.tree.map(lambda w: w + 0.05 * np.random.default_rng(0).standard_normal(w.shape, np.float32), fresh)
    losses = [float(loss(m, m.space.decode(latents, {}), nets)[0]) for m in models]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)
    draws = [jit(lambda key, m=m: m.sample(nets, key, 4, {}))(KEY) for m in models]
    for model, drawn in zip(models, draws, strict=True):
        np.testing.assert_allclose(model.space.encode(drawn), draws[0], rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(draws[0]).max()) > 1
    of_pixels = MeanFlow(network, SHAPE, num_classes=0)
    np.testing.assert_array_equal(jit(lambda key: of_pixels.sample(nets, key, 4, {}))(KEY), jnp.clip(draws[0], -1, 1))
