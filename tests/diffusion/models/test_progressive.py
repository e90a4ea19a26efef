"""Progressive distillation: what two steps aim at, what is halved when, and a run from its teacher to its end."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest
from programs import counted
from toys import ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import SGD, Clock, LinearDecay
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.progressive import PerStage, Progressive, aim_of_two
from imagegen_jax.diffusion.process.process import EDM, RectifiedFlow
from imagegen_jax.diffusion.process.times import LogNormal, Uniform
from imagegen_jax.diffusion.process.variance_preserving import Cosine
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Karras, ShiftedFlow, Spaced
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
EIGHT = Spaced(CosineSchedule(8, offset=0.0), None)


class Tiny(nn.Module):
    """One layer on pixels, times and labels, which starts from normal weights."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        labels = conditioning.labels
        given = [x.reshape(len(x), -1), jnp.cos(t)[:, None], *([] if labels is None else [labels])]
        return nn.Dense(x[0].size)(jnp.concatenate(given, axis=-1)).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class Constant:
    """x_0 is `value` whatever is seen, more or less of which the variables may say."""

    value: float = 0.25

    def apply(self, variables, x, t, conditioning):
        return jnp.full_like(x, self.value + variables.get("more", 0.0))


def teacher(network, prediction="v", levels=EIGHT, process=None, times=None, **fields):
    process, times = process or Cosine(0.0), times or Uniform()
    return Diffusion(network, prediction, process, times, levels=levels, solver=Euler(), image_shape=SHAPE, **fields)


def tiny(halvings=2, halve_every=2, **fields):
    return Progressive(teacher(Tiny(), **fields), halvings, halve_every)


def inputs(rows, **leaves):
    image = 0.5 * jax.random.normal(KEY, (rows, *SHAPE))
    return Inputs({"image": image, **leaves}, KEY, jax.random.split(KEY, rows), jnp.int32(0), {})


# --- what a student learns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigmas", [(2e4, 3.0, 0.7), (1.0, 0.5, 0.2), (0.3, 0.1, 0.0)])
def test_one_step_with_the_aim_is_two_steps_of_the_teacher(sigmas):
    with jax.enable_x64(True):
        rows = np.array(mixture.draw(np.random.default_rng(0), 16))
        x = jnp.asarray(rows + sigmas[0] * np.random.default_rng(1).standard_normal(rows.shape))
        now, middle, then = (jnp.full(16, sigma) for sigma in sigmas)
        aim = aim_of_two(mixture.denoise, x, now, middle, then)
        two = Euler()(mixture.denoise, np.array(sigmas), x, KEY)
        one = Euler()(lambda x, sigma: aim, np.array(sigmas)[[0, 2]], x, KEY)
        assert aim.dtype == jnp.float64
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)
        assert float(jnp.abs(aim - mixture.denoise(x, now)).max()) > 1e-3


def test_the_aim_loses_no_digits_where_noise_is_large():
    """In float32, x at a level of 2e4 has digits of 1e-3 alone, but estimates have all of theirs."""
    x = 2e4 * jax.random.normal(KEY, (8, 2))
    now, middle, then = (jnp.full(8, sigma) for sigma in (2e4, 1e4, 5e3))
    aim = aim_of_two(lambda x, sigma: jnp.full_like(x, 0.3), x, now, middle, then)
    np.testing.assert_allclose(aim, 0.3, rtol=1e-6)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_loss_is_the_error_of_x_0_by_the_truncated_snr(stage):
    """Teacher and student put out numbers that differ: the weights' mean over the student's levels is known."""
    model = Progressive(teacher(Constant(), "x0"), 3)
    given = inputs(4_000)
    loss = jax.jit(lambda more: model.loss(stage, {"network": {"more": more}, "teacher": {}}, given))
    levels = model.levels(stage)
    assert len(levels) - 1 == 8 // 2**stage == int(loss(0.1)[1].metrics["steps"]) and levels[-1] == 0
    weights = np.maximum(levels[:-1] ** -2.0, 1)
    step_keys = jax.vmap(lambda key: jax.random.split(key, 2), out_axes=1)(given.keys)[0]
    i = np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, len(weights)))(step_keys))
    assert (np.bincount(i, minlength=len(weights)) > 0.8 * len(i) / len(weights)).all()
    assert float(loss(0.1)[0]) == pytest.approx(0.01 * weights[i].mean(), rel=1e-4)
    assert float(loss(0.0)[0]) < 1e-9


@pytest.mark.parametrize(
    "settings",
    [
        {"prediction": "F", "process": EDM(), "times": LogNormal(), "levels": Karras(4)},
        {"prediction": "velocity", "process": RectifiedFlow(), "levels": ShiftedFlow(4, margin=1e-2)},
    ],
)
def test_any_process_and_prediction(settings):
    """The aim by the teacher's own solver: of each level, the x_0 that leads in one step to where it is after two.

    Estimates that are clipped in sampling are not in training.
    """
    model, given = Progressive(teacher(Tiny(), **settings), 1), inputs(32)
    sigmas = model.diffusion.levels()

    @jax.jit
    def both(key, other_key):
        nets, other = model.init(key, given.batch), model.init(other_key, given.batch)["network"]
        step_keys, epsilon_keys = jax.vmap(lambda key: jax.random.split(key, 2), out_axes=1)(given.keys)
        which = jax.vmap(lambda key: jax.random.randint(key, (), 0, 2))(step_keys)
        epsilon, total = jax.vmap(lambda key: jax.random.normal(key, SHAPE))(epsilon_keys), 0.0
        for i in range(2):
            now, _, then = span = sigmas[2 * i : 2 * i + 3]
            x = given.batch["image"] + now * epsilon
            two = Euler()(model.diffusion.denoiser({"network": nets["teacher"]}, {}), span, x, KEY)
            aim = (two - then / now * x) / (1 - then / now)
            error = model.denoiser({"network": other}, {})(x, jnp.full(len(x), now)) - aim
            total += max(now**-2, 1) * jnp.sum(jnp.mean(error**2, axis=(1, 2, 3)) * (which == i))
        clipped = dataclasses.replace(model, diffusion=dataclasses.replace(model.diffusion, clip=True))
        return [one.loss(1, {**nets, "network": other}, given)[0] for one in (model, clipped)], total / 32

    found, wanted = both(KEY, jax.random.key(1))
    np.testing.assert_allclose(found, wanted, rtol=1e-2)
    assert float(wanted) > 0.01


# --- what is halved when ---------------------------------------------------------------------------------------------


def test_steps_are_halved_to_the_last_student():
    model = tiny(halvings=3, halve_every=10)
    assert [model.stage(step) for step in (0, 9, 10, 19, 20, 1000)] == [1, 1, 2, 2, 3, 3]
    sigmas = EIGHT()
    np.testing.assert_array_equal(model.levels(0), sigmas)
    np.testing.assert_array_equal(model.levels(2), sigmas[[0, 4, 8]])
    np.testing.assert_array_equal(model.path.sigmas, sigmas[[0, 8]])
    np.testing.assert_allclose(sigmas[1:-1], np.tan(np.pi / 2 * np.arange(7, 0, -1) / 8), rtol=1e-9)


def test_the_student_becomes_the_teacher():
    model = tiny()
    nets = jax.jit(batch_draws(model.init))(KEY, inputs(2).batch)
    assert int(nets["network"]["progress"]["steps"]) == 8
    moved = {**nets["network"], "params": jax.tree.map(lambda p: p + 1, nets["network"]["params"])}
    entry = model.enter(2, {**nets, "network": moved})
    assert entry.fresh_optimizers == entry.fresh_averages == ("network",)
    assert int(entry.nets["network"]["progress"]["steps"]) == 2 and set(entry.nets["teacher"]) == {"params"}
    jax.tree.map(np.testing.assert_array_equal, entry.nets["teacher"]["params"], moved["params"])
    jax.tree.map(np.testing.assert_array_equal, entry.nets["network"]["params"], moved["params"])


def test_schedules_run_through_each_stage():
    optimizer = PerStage(SGD(LinearDecay(0.4)), steps=4)
    rates = []
    for step in range(9):
        transform = optimizer.transform(Clock(jnp.int32(step), jnp.int32(100)))
        updates, _ = transform.update(jnp.float32(-1), transform.init(jnp.float32(0)))
        rates.append(float(updates))
    np.testing.assert_allclose(rates, [0.4, 0.3, 0.2, 0.1] * 2 + [0.4], rtol=1e-6)
    assert PerStage().project == ()


def test_samples_take_the_steps_that_the_network_was_trained_for():
    model = tiny(halvings=3, num_classes=3)
    nets = jax.jit(batch_draws(model.init))(KEY, inputs(2, label=jnp.arange(2)).batch)
    given = {"label": jnp.arange(4) % 3}
    sample, traces = counted(model.sample, static_argnums=2)
    found = []
    for stage in (0, 3):
        at = {**nets["network"], "progress": {"steps": jnp.int32(8 // 2**stage)}}
        found.append(sample({**nets, "network": at}, KEY, 4, given))
        sigmas = model.levels(stage)
        x = jax.random.normal(KEY, (4, *SHAPE)) * (1 + sigmas[0] ** 2) ** 0.5
        wanted = Euler()(model.denoiser(nets, given), sigmas, x, KEY)
        np.testing.assert_allclose(found[-1], np.clip(wanted, -1, 1), atol=1e-4)
    assert len(traces) == 1 and not np.allclose(*found, atol=1e-2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="model.diffusion.solver is a Heun"):
        Progressive(dataclasses.replace(teacher(Tiny()), solver=Heun()), 1)
    with pytest.raises(ValueError, match="the 8 steps of model.diffusion.levels.*a multiple of 16"):
        tiny(halvings=4)
    with pytest.raises(ValueError, match="model.halvings=0"):
        tiny(halvings=0)
    with pytest.raises(ValueError, match="PerStage.steps=0"):
        PerStage(steps=0)
    with pytest.raises(ValueError, match="guidance=2.0: students"):
        tiny(num_classes=3, label_dropout=0.5).check_conditions({"guidance": 2.0})


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(tmp_path):
    """An experiment of two stages of two steps, and the weights of the teacher that it starts from."""
    model = tiny(num_classes=3)
    first = jax.device_get(
        jax.jit(batch_draws(model.init))(jax.random.key(7), inputs(2, label=jnp.arange(2)).batch)["teacher"]
    )
    ig.save_network(tmp_path / "teacher.npz", first)
    experiment = ig.Experiment(
        name="taught",
        model=model,
        data=ToyData(),
        optim={"network": PerStage(SGD(LinearDecay(0.1), momentum=0.9), 2)},
        pretrained={"network": str(tmp_path / "teacher.npz")},
        mesh=MeshShape(data=1),
        batch_size=8,
        steps=4,
        samples=3,
        sample_every=0,
    )
    return first["params"], experiment


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.slow
def test_a_run_goes_from_teacher_to_teacher(taught):
    first, experiment = taught
    program = ig.Program(experiment)
    state = program.init({"network": {"params": first}})
    after = []
    for step in range(4):
        state, metrics = program.advance(state, step, program.batch(step))
        assert metrics["distil/steps"] == state.stats["network"]["progress"]["steps"] == [4, 4, 2, 2][step]
        after.append(jax.device_get(state.params))
    assert all(same(params["teacher"], first) for params in after[:2])
    assert all(same(params["teacher"], after[1]["network"]) for params in after[2:])
    assert not same(after[1]["network"], first)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(taught, tmp_path):
    """Stopped at the end of the first stage, and within the second."""
    first, experiment = taught
    whole = ig.fit(experiment, tmp_path / "whole", quiet=True)
    for stop in (2, 3):
        part = tmp_path / str(stop)
        ig.fit(dataclasses.replace(experiment, steps=stop), part, quiet=True)
        assert same(ig.fit(experiment, part, resume_with_changes=True, quiet=True).state, whole.state)
    assert not same(whole.state.params["teacher"], first)
