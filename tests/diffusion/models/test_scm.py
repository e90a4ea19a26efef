"""sCM on normal data, whose consistency function is known, and its tangent against differences along the flow."""

from __future__ import annotations

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import SGD
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.scm import SCM, LearnedWeight
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.process.variance_preserving import Cosine
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.nn.backbones.conditioning import NOTHING
from imagegen_jax.nn.backbones.unet import UNet

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
STD, SIGMA_D = 0.4, 0.5


def spread(t):
    """The deviation of x_t for data of N(0, STD^2): the flow multiplies by it."""
    return jnp.sqrt(STD**2 * jnp.cos(t) ** 2 + SIGMA_D**2 * jnp.sin(t) ** 2)


@dataclasses.dataclass(frozen=True)
class Normal:
    """F of the exact consistency function, scaled, or where the variables say so of the exact denoiser."""

    scale: float = 1.0

    def apply(self, variables, x, t, conditioning):
        if variables.get("denoises"):
            slope = (SIGMA_D**2 - STD**2) * jnp.sin(t) * jnp.cos(t) / spread(t) ** 2
            return broadcast_rows(slope, x) * x
        return self.scale * broadcast_rows((jnp.cos(t) - STD / spread(t)) / jnp.sin(t), x) * x


class Tiny(nn.Module):
    """One layer on pixels and times, which starts from normal weights."""

    @nn.compact
    def __call__(self, x, t, conditioning=None):
        return nn.Dense(x[0].size)(jnp.append(x.reshape(len(x), -1), jnp.cos(t)[:, None], axis=1)).reshape(x.shape)


EXACT = {"network": {}, "teacher": {"denoises": True}, "weight": {}}


@dataclasses.dataclass(frozen=True)
class Even:
    """A weight of e^`value` at all times."""

    value: float = 0.0

    def apply(self, variables, t):
        return jnp.full_like(t, self.value)


def exact(**fields):
    return SCM(Normal(), Even(), image_shape=SHAPE, **fields)


def inputs(rows, step=10**6):
    image = STD * jax.random.normal(jax.random.key(5), (rows, *SHAPE))
    return Inputs({"image": image}, KEY, jax.random.split(KEY, rows), jnp.int32(step), {})


@functools.partial(jax.jit, static_argnums=(0, 1))
def metrics_of(model, denoises, given):
    nets = {**EXACT, "network": EXACT["teacher"]} if denoises else EXACT
    return model.loss(nets, given)[1].metrics


# --- the tangent -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A network whose weights, those that start from 0 too, are normal, and a place on two paths."""
    network = UNet(width=8, multipliers=(1,), blocks=1, attention_at=(2,), dropout=0.0)
    nets = jax.eval_shape(network.init, KEY, jnp.zeros((1, *SHAPE)), jnp.zeros(1))
    rng = np.random.default_rng(0)
    nets = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape), nets)
    x_0, z = rng.standard_normal((2, 3, *SHAPE))
    return network, nets, x_0, z, np.array([0.2, 0.8, 1.4])


@pytest.mark.slow
def test_the_tangent_is_that_of_differences_along_the_path(small):
    """cos(t) df/dt, f = cos(t) x_t - sin(t) sigma_d F; with r, a share of what goes through F and x_t."""
    network, nets, x_0, z, t = small
    model = SCM(network, image_shape=SHAPE)

    def along(t):
        return broadcast_rows(np.cos(t), x_0) * x_0 + broadcast_rows(np.sin(t), x_0) * z

    @jax.jit
    def field(x, t):
        return network.apply(nets, x, t)

    def f(t):
        return broadcast_rows(np.cos(t), x_0) * along(t) - broadcast_rows(np.sin(t), x_0) * SIGMA_D * field(
            along(t) / SIGMA_D, t
        )

    slope = broadcast_rows(np.cos(t), x_0) * z - broadcast_rows(np.sin(t), x_0) * x_0
    tangent = jax.jit(lambda share: model.tangent(field, *map(jnp.float32, (along(t), t, slope)), share))
    F, g = tangent(1.0)
    np.testing.assert_allclose(F, field(along(t) / SIGMA_D, t), atol=1e-5)
    h, cos = 1e-2, broadcast_rows(np.cos(t), x_0)
    whole = cos * (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)
    direct = -(cos**2) * (SIGMA_D * np.asarray(F) - slope)
    np.testing.assert_allclose(g, whole, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(tangent(0.25)[1], direct + 0.25 * (whole - direct), rtol=1e-3, atol=1e-3)
    assert float(np.abs(whole - direct).max()) > 0.1


def test_no_gradient_goes_through_the_tangent(small):
    network, nets, x_0, z, t = small
    model = SCM(network, image_shape=SHAPE)

    def total(x):
        return jnp.sum(model.tangent(lambda x, t: network.apply(nets, x, t), x, t, z)[1])

    assert not jnp.any(jax.jit(jax.grad(total))(jnp.float32(x_0)))


@pytest.mark.slow
def test_the_exact_consistency_function_does_not_change_along_the_teachers_flow():
    tangents = [float(metrics_of(exact(distil=distil), False, inputs(256))["tangent"]) for distil in (True, False)]
    assert tangents[0] < 1e-4 < 0.1 < tangents[1]


def test_without_a_teacher_the_gradient_vanishes_at_the_exact_function():
    """On average over the images that a noisy one may come from; a large floor leaves tangents as they are."""
    model, given = exact(floor=1e4), inputs(40_000)

    def loss(scale):
        return dataclasses.replace(model, network=Normal(scale)).loss(EXACT, given)[0]

    gradient = jax.jit(jax.grad(loss))
    at_best, beside = gradient(1.0), gradient(1.3)
    assert abs(float(at_best)) < 0.1 * abs(float(beside))


def test_until_the_warmup_is_over_the_tangent_is_that_of_a_denoiser():
    """At step 0 the exact denoiser, not the consistency function, is where nothing is to learn."""
    model = exact(distil=True, warmup=100)
    tangents = [float(metrics_of(model, True, inputs(256, step))["tangent"]) for step in (0, 50, 100, 200)]
    assert tangents[0] < 1e-5 and tangents[1] == pytest.approx(tangents[2] / 2, rel=1e-4)
    assert tangents[2] == tangents[3] > 0.01


# --- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_loss_is_the_papers():
    """e^w / D |g / (|g| + c)|^2 - w, since F and its own value cancel."""
    given = inputs(16)
    model = dataclasses.replace(exact(floor=0.5), weight=Even(0.7))
    keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(given.keys)
    t = jnp.arctan(jnp.exp(-1.0 + 1.4 * jax.vmap(jax.random.normal)(keys[0])) / SIGMA_D)
    z = SIGMA_D * jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys[1])
    cos, sin = broadcast_rows(jnp.cos(t), z), broadcast_rows(jnp.sin(t), z)
    x_0 = given.batch["image"]
    field = lambda x, t: Normal().apply({}, x, t, None)  # noqa: E731
    _, g = model.tangent(field, cos * x_0 + sin * z, t, cos * z - sin * x_0)
    norm = np.sqrt(np.sum(np.asarray(g) ** 2, axis=(1, 2, 3)))
    loss, aux = model.loss(EXACT, given)
    assert float(loss) == pytest.approx(math.exp(0.7) / 4 * np.mean((norm / (norm + 0.5)) ** 2) - 0.7, rel=1e-4)
    assert float(aux.metrics["tangent"]) == pytest.approx(norm.mean(), rel=1e-4)


def test_the_weight_learns_to_make_all_errors_1():
    """E[e^w error - w] is least where e^w is 1 / error: at each t by itself."""
    weight, t = LearnedWeight(64), jnp.linspace(0.05, 1.5, 64)
    error = 0.1 + t**2
    variables = weight.init(KEY, t)
    assert not weight.apply(variables, t).any()
    params, constants = variables["params"], variables["constants"]

    def loss(params):
        w = weight.apply({"params": params, "constants": constants}, t)
        return jnp.mean(jnp.exp(w) * error - w)

    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params)))
    for _ in range(1000):
        params = step(params)
    found = jnp.exp(weight.apply({"params": params, "constants": constants}, t)) * error
    assert float(jnp.mean(found)) == pytest.approx(1, abs=0.05) and float(jnp.std(found)) < 0.3


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigmas", [(80.0,), (80.0, SIGMA_D * math.tan(1.1))])
def test_samples_of_the_exact_function_have_the_datas_deviation(sigmas):
    drawn = exact(levels=Listed(sigmas)).sample(EXACT, KEY, 4_000, {})
    assert drawn.shape == (4_000, *SHAPE) and float(jnp.abs(drawn).max()) <= 1
    inside = jnp.abs(drawn) < 0.8  # what is cut at 1 is left out, of a normal distribution too
    normal = STD * jax.random.normal(jax.random.key(9), drawn.shape)
    assert float(jnp.std(drawn[inside])) == pytest.approx(float(jnp.std(normal[jnp.abs(normal) < 0.8])), rel=0.02)


def test_the_jump_in_the_solvers_coordinates():
    """x = x_t / cos(t) at sigma = sigma_d tan(t) ends at STD / spread(t) x_t."""
    t = jnp.array([0.1, 0.9, 1.5])
    x_t = jax.random.normal(KEY, (3, *SHAPE))
    found = exact().denoiser(EXACT, {})(x_t / broadcast_rows(jnp.cos(t), x_t), SIGMA_D * jnp.tan(t))
    np.testing.assert_allclose(found, broadcast_rows(STD / spread(t), x_t) * x_t, rtol=1e-3)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_v_prediction_of_equal_angles_is_a_teacher():
    """For `sigma_data` 1 its network is F, of t itself; a run's network and its teacher start from it."""
    times = {"process": Cosine(0.0), "times": Uniform(), "time_scale": math.pi / 2}
    diffusion = Diffusion(Tiny(), "v", **times, image_shape=SHAPE)
    first = jax.device_get(jax.jit(batch_draws(diffusion.init))(jax.random.key(7), inputs(2).batch)["network"])
    model = SCM(Tiny(), image_shape=SHAPE, sigma_data=1.0, distil=True)
    experiment = ig.Experiment(
        name="distilled",
        model=model,
        data=ToyData(),
        optim={"network": SGD(0.1), "weight": SGD(0.1)},
        mesh=MeshShape(data=1),
        batch_size=8,
    )
    program = ig.Program(experiment)
    state = program.init({"network": first})
    for _ in range(2):  # in the first step there is nothing to learn: the tangent counts for 0
        state, _ = program.step(state)
    found = jax.device_get(state.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, found["teacher"], first["params"]))
    assert not jax.tree.all(jax.tree.map(np.array_equal, found["network"], first["params"]))

    t, x_t = jnp.array([0.3, 1.2]), jax.random.normal(KEY, (2, *SHAPE))
    cos, sin = broadcast_rows(jnp.cos(t), x_t), broadcast_rows(jnp.sin(t), x_t)
    F = model._field({"params": found["teacher"]}, NOTHING)(x_t, t)
    denoised = diffusion.denoiser({"network": first}, {})(x_t / cos, jnp.tan(t))
    np.testing.assert_allclose(denoised, cos * x_t - sin * F, atol=1e-5)


def test_what_cannot_be_is_refused():
    for changes, words in [({"warmup": 0}, "model.warmup=0"), ({"floor": 0.0}, "model.floor=0.0")]:
        with pytest.raises(ValueError, match=words):
            SCM(**changes)
