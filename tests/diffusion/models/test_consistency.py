"""Consistency training: its levels, its boundary, its optimum."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.sampling import heun
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.nn.backbones.conditioning import NOTHING
from imagegen_jax.nn.backbones.unet import UNet

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)


@dataclasses.dataclass(frozen=True)
class Linear:
    """F = slope c_in x at every level."""

    slope: float = 0.0

    def apply(self, variables, x, t, conditioning):
        return self.slope * x


def inputs(image, step=0):
    return Inputs({"image": image}, KEY, jax.random.split(KEY, len(image)), jnp.int32(step), {})


def test_the_number_of_levels_doubles_to_its_end():
    model = Consistency(double_every=100)
    steps = [0, 99, 100, 250, 699, 700, 10**6]
    assert [int(model.levels_at(jnp.int32(k))) for k in steps] == [11, 11, 21, 41, 641, 1281, 1281]


@pytest.mark.slow
def test_neighbours_are_those_of_the_levels_with_the_papers_shares():
    model = Consistency(first_levels=10)
    low, high = jax.vmap(lambda key: model.neighbours(key[None], jnp.int32(0)))(jax.random.split(KEY, 20_000))
    sigmas = heun.karras(11, 0.002, 80.0)[::-1]
    i = np.argmin(np.abs(np.asarray(low) - sigmas), axis=1)
    np.testing.assert_allclose(low[:, 0], sigmas[i], rtol=1e-3)
    np.testing.assert_allclose(high[:, 0], sigmas[i + 1], rtol=1e-3)
    edges = scipy.special.erf((np.log(sigmas) + 1.1) / (math.sqrt(2) * 2.0))
    np.testing.assert_allclose(
        np.bincount(i, minlength=10) / 20_000, np.diff(edges) / (edges[-1] - edges[0]), atol=0.01
    )


def test_the_estimate_at_the_least_level_is_the_image():
    x = jax.random.normal(KEY, (3, *SHAPE))
    jump = Consistency(Linear(7.0), image_shape=SHAPE).denoiser({"network": {}}, {})
    np.testing.assert_allclose(jump(x, jnp.full(3, 0.002)), x, rtol=1e-6)
    assert float(jnp.abs(jump(x, jnp.full(3, 1.0)) - x).max()) > 0.1


@pytest.mark.parametrize("step", [0, 300])
def test_loss_is_the_pseudo_huber_distance_of_neighbours_over_their_gap(step):
    """With F = 0 both estimates are c_skip x, so that everything is known."""
    model = Consistency(Linear(), image_shape=SHAPE, double_every=100)
    given = inputs(0.5 * jax.random.normal(KEY, (16, *SHAPE)), step)
    keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(given.keys)
    low, high = (np.asarray(s, np.float64) for s in model.neighbours(keys[0], given.step))
    z = np.asarray(jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys[1]), np.float64)
    estimates = []
    for sigma in (low, high):
        c_skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
        estimates.append(c_skip[:, None, None, None] * (given.batch["image"] + sigma[:, None, None, None] * z))
    c = 0.00054 * 2
    distance = np.sqrt(((estimates[1] - estimates[0]) ** 2).sum(axis=(1, 2, 3)) + c**2) - c
    loss, aux = model.loss({"network": {}}, given)
    assert float(loss) == pytest.approx(np.mean(distance / (high - low)), rel=1e-3)
    assert int(aux.metrics["levels"]) == {0: 11, 300: 81}[step]


@pytest.mark.slow
def test_only_the_estimate_at_the_higher_level_is_trained():
    """As F = slope c_in x, the slope's gradient is that of the one side, to which the other is a constant."""
    model = Consistency(image_shape=SHAPE)
    given = inputs(0.5 * jax.random.normal(KEY, (64, *SHAPE)))

    def loss(slope):
        return dataclasses.replace(model, network=Linear(slope)).loss({"network": {}}, given)[0]

    epsilon = 1e-2
    both = (loss(epsilon) - loss(-epsilon)) / (2 * epsilon)
    assert abs(float(jax.grad(loss)(0.0)) - float(both)) > 0.1 * abs(float(both))


def test_further_levels_draw_anew_from_the_jump():
    model = Consistency(Linear(0.3), Listed((80.0, 0.8)), image_shape=SHAPE)
    one = dataclasses.replace(model, levels=Listed((80.0,)))
    first, second = one.sample({"network": {}}, KEY, 4, {}), model.sample({"network": {}}, KEY, 4, {})
    assert first.shape == second.shape == (4, *SHAPE) and not np.allclose(first, second)
    assert float(jnp.abs(second).max()) <= 1


# --- distillation ----------------------------------------------------------------------------------------------------

STD = 0.4


@dataclasses.dataclass(frozen=True)
class Normal:
    """For data of N(0, STD^2), F of the jump to the end of the flow, or of the denoiser where there is a "denoiser"."""

    def apply(self, variables, x, t, conditioning):
        sigma = jnp.exp(4 * t)
        size, above = jnp.sqrt(sigma**2 + 0.25), sigma - 0.002
        if "denoiser" in variables:
            wanted, skip, out = STD**2 / (STD**2 + sigma**2), 0.25 / size**2, 0.5 * sigma / size
        else:
            wanted = jnp.sqrt((STD**2 + 0.002**2) / (STD**2 + sigma**2))
            skip, out = 0.25 / (above**2 + 0.25), 0.5 * above / size
        return broadcast_rows((wanted - skip) / jnp.maximum(out, 1e-6) * size, x) * x


EXACT = {"network": {}, "teacher": {"denoiser": {}}}


def test_the_teacher_leads_by_a_step_of_heun():
    """The denoiser that it is read as is that of `Diffusion`, whose defaults are EDM's."""
    model = Consistency(Normal(), image_shape=SHAPE, distil=True)
    denoise = Diffusion(Normal(), image_shape=SHAPE).denoiser({"network": EXACT["teacher"]}, {})
    x = 3.0 * jax.random.normal(KEY, (4, *SHAPE))
    np.testing.assert_allclose(denoise(x, jnp.full(4, 3.0)), STD**2 / (STD**2 + 9) * x, rtol=1e-4)
    found = model._step_of_teacher(EXACT["teacher"], x, jnp.full(4, 3.0), jnp.full(4, 2.0), NOTHING)
    np.testing.assert_allclose(found, heun.Heun()(denoise, np.array([3.0, 2.0]), x, KEY), rtol=1e-5)
    flow = math.sqrt((STD**2 + 4) / (STD**2 + 9)) * x
    np.testing.assert_allclose(found, flow, rtol=1e-2)


@pytest.mark.slow
def test_the_exact_jump_agrees_with_itself_along_the_flow_alone():
    """Along the teacher's flow it ends where it ended, but not on the straight line to another image."""
    given = inputs(STD * jax.random.normal(KEY, (256, *SHAPE)))
    model = Consistency(Normal(), image_shape=SHAPE, first_levels=160, last_levels=160)
    trained, distilled = (
        jax.jit(dataclasses.replace(model, distil=distil).loss)(EXACT, given)[0] for distil in (False, True)
    )
    assert float(distilled) < 0.02 * float(trained)


@pytest.mark.slow
def test_what_the_network_starts_from_is_the_teacher():
    small = UNet(width=8, multipliers=(1,), blocks=1, attention_at=(), dropout=0.0)
    model = Consistency(small, image_shape=(4, 4, 1), distil=True)
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": jnp.zeros((2, 4, 4, 1))})
    given = {**nets, "network": jax.tree.map(lambda p: p + 1, nets["network"])}
    entry = model.enter(model.stage(0), given)
    assert not entry.fresh_optimizers and not entry.fresh_averages and model.stage(0) == model.stage(10**6)
    for found in (entry.nets["network"], entry.nets["teacher"]):
        jax.tree.map(np.testing.assert_array_equal, found, given["network"])
    alone = dataclasses.replace(model, distil=False)
    assert set(alone.enter(0, {"network": {}}).nets) == {"network"}


def test_what_cannot_be_is_refused():
    for changes, words in [
        ({"sigma_min": 90.0}, "model.sigma_min=90.0"),
        ({"first_levels": 1}, "model.first_levels=1"),
        ({"huber": 0.0}, "model.huber=0.0"),
    ]:
        with pytest.raises(ValueError, match=words):
            Consistency(UNet(), **changes)
    with pytest.raises(ValueError, match="levels.sigmas="):
        Listed((0.8, 80.0))
