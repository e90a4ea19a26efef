"""Improved DDPM: the bound's terms against closed forms, the hybrid's gradients, the choice of times."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.bits_per_dim import log_prob_of_level
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.process.importance import HISTORY, drawn_times, remembered
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule, Step, posterior
from imagegen_jax.nn.text_encoders.clip import CLIPText

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
IMAGE = (jnp.array([[0, 100], [170, 255]]) / 127.5 - 1)[..., None]
SCHEDULE = LinearSchedule(50, 1e-3, 0.2)


@dataclasses.dataclass(frozen=True)
class Knows:
    """Puts out the noise in the one image that there is, times `share`, and `v` for the variance."""

    v: float = 0.0
    share: float = 1.0
    learned_variance: bool = True

    def apply(self, variables, x_t, t, conditioning):
        alpha_bar = jnp.asarray(SCHEDULE.alpha_bar)[(t * SCHEDULE.steps / 1000).round().astype(int)]
        alpha_bar = alpha_bar.reshape(-1, 1, 1, 1)
        epsilon = (x_t - jnp.sqrt(alpha_bar) * IMAGE) / jnp.sqrt(1 - alpha_bar)
        return jnp.concatenate([self.share * epsilon, jnp.full_like(x_t, 2 * self.v - 1)], axis=-1)


def model_of(network, **fields):
    return ImprovedDDPM(network, SCHEDULE, SHAPE, **fields)


def inputs(rows):
    image = jnp.broadcast_to(IMAGE, (rows, *SHAPE))
    return Inputs({"image": image}, KEY, jax.random.split(KEY, rows), jnp.int32(0), {})


NETS = {"network": {"params": {}}}


@pytest.mark.parametrize("std", [0.001, 0.05, 3.0])
def test_probabilities_of_all_levels_add_up_to_one(std):
    x = jnp.linspace(-1, 1, 256)
    p = Step(jnp.full(256, 0.3), jnp.full(256, 2 * np.log(std)))
    assert float(jnp.exp(log_prob_of_level(x, *p)).sum()) == pytest.approx(1, abs=2e-4)


@pytest.mark.slow
def test_bound_of_a_known_image_is_its_prior_term():
    """With the true noise and the posterior's variance every divergence is 0, and the last step is certain."""
    found = jax.jit(lambda key: model_of(Knows()).bits(NETS, {"image": IMAGE[None]}, key))(KEY)
    a = SCHEDULE.alpha_bar[-1]
    nats = 0.5 * np.sum(a * np.asarray(IMAGE, np.float64) ** 2 + (1 - a) - 1 - np.log(1 - a))
    first = -np.sum(log_prob_of_level(IMAGE, *Step(IMAGE, jnp.full(SHAPE, np.log(SCHEDULE.betas[0] / 3)))))
    assert float(found[0]) == pytest.approx(nats / (4 * np.log(2)), abs=max(0.01, float(first)))


def test_divergence_of_the_other_extreme_is_that_of_two_normals():
    """v = 1 has the variance beta in place of beta~: KL = (r - 1 - log r) / 2 with r = beta~ / beta."""
    bits = {
        v: float(jax.jit(lambda v=v: model_of(Knows(v)).bits(NETS, {"image": IMAGE[None]}, KEY))()[0]) for v in (0, 1)
    }
    alpha_bar = SCHEDULE.alpha_bar
    r = posterior(alpha_bar[1:], alpha_bar[:-1]).variance / SCHEDULE.betas[1:]
    expected = np.sum((r - 1 - np.log(r)) / 2) / np.log(2)  # the same in each dimension
    table = model_of(Knows())._table(None)
    ends = [
        -np.sum(log_prob_of_level(IMAGE, *Step(IMAGE, jnp.full(SHAPE, column[0])))) / (4 * np.log(2))
        for column in (table.log_least, table.log_most)
    ]
    assert bits[1] - bits[0] == pytest.approx(expected + float(ends[1] - ends[0]), rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "moves"), [("hybrid", False), ("vlb", True)])
def test_the_bound_moves_the_mean_only_where_it_is_all_that_there_is(objective, moves):
    given = inputs(64)

    def vlb(share):
        return model_of(Knows(0.5, share), objective=objective).loss(NETS, given)[1].metrics["vlb"]

    assert (abs(float(jax.grad(vlb)(0.9))) > 1e-3) == moves


def test_the_bound_alone_moves_the_mean_of_images_out_of_range_too():
    """Each divergence is quadratic in the error of the noise, also where images are cut off; L_0 is almost."""
    given = inputs(64)

    def vlb(share):
        return model_of(Knows(0.5, share), objective="vlb").loss(NETS, given)[1].metrics["vlb"]

    slope = jax.jit(jax.grad(vlb))
    slopes = [float(slope(share)) for share in (-1.0, -3.0, -9.0)]
    np.testing.assert_allclose(np.divide(slopes, slopes[0]), [1, 2, 5], rtol=0.01)


@pytest.mark.slow
def test_hybrid_is_the_simple_loss_and_a_thousandth_of_the_bound():
    model = model_of(Knows(0.3, 0.8))
    loss, aux = model.loss(NETS, inputs(512))
    silent = 1 - 0.8  # what is left of the noise
    simple = float(loss) - 0.001 * float(aux.metrics["vlb"])
    assert simple == pytest.approx(silent**2, rel=0.1)


def test_the_known_image_is_drawn():
    for steps in (None, 10):
        drawn = model_of(Knows(0.2), sampling_steps=steps).sample(NETS, KEY, 3, {})
        np.testing.assert_allclose(drawn, jnp.broadcast_to(IMAGE, drawn.shape), atol=2e-3)


@pytest.fixture
def history():
    """Each time's last losses, with those of time 7 ten times the others'."""
    losses = jnp.ones((SCHEDULE.steps, HISTORY)).at[7].set(10.0)
    return {"network": {"params": {}, "history": {"losses": losses, "count": jnp.full(SCHEDULE.steps, HISTORY)}}}


def test_times_of_great_losses_come_more_often_and_weigh_less(history):
    t, weight = drawn_times(SCHEDULE.steps, history["network"]["history"], jax.random.split(KEY, 20_000))
    expected = 0.999 * 10 / (SCHEDULE.steps - 1 + 10) + 0.001 / SCHEDULE.steps
    assert float(jnp.mean(t == 7)) == pytest.approx(expected, rel=0.05)
    np.testing.assert_allclose(weight[t == 7], 1 / (SCHEDULE.steps * expected), rtol=1e-4)
    assert float(jnp.mean(weight)) == pytest.approx(1, abs=0.02)  # so the loss keeps its mean


@pytest.mark.slow
def test_times_are_uniform_until_all_are_known(history):
    history["network"]["history"]["count"] = history["network"]["history"]["count"].at[3].set(HISTORY - 1)
    t, weight = drawn_times(SCHEDULE.steps, history["network"]["history"], jax.random.split(KEY, 5_000))
    assert (weight == 1).all() and float(jnp.mean(t == 7)) < 0.05


def test_history_keeps_the_last_losses_of_each_time(history):
    t, rows = jnp.array([2, 2, 4]), jnp.array([5.0, 6.0, 8.0])
    found = remembered(history["network"]["history"], t, rows)
    np.testing.assert_array_equal(found["count"][jnp.array([2, 3, 4])], [HISTORY + 2, HISTORY, HISTORY + 1])
    np.testing.assert_array_equal(found["losses"][2], [5, 6] + [1] * 8)
    np.testing.assert_array_equal(found["losses"][4], [8] + [1] * 9)


@pytest.mark.slow
def test_a_step_remembers_what_it_saw():
    model = ImprovedDDPM(
        ADM(8, (1,), 1, (), learned_variance=True, head_channels=4), CosineSchedule(10), (4, 4, 1), importance=True
    )
    image = jax.random.uniform(KEY, (6, 4, 4, 1), minval=-1)
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": image})
    given = Inputs({"image": image}, KEY, jax.random.split(KEY, 6), jnp.int32(0), {})
    (loss, aux), _ = jax.jit(jax.value_and_grad(lambda nets: model.loss(nets, given), has_aux=True, allow_int=True))(
        nets
    )
    kept = aux.stats["network"]["history"]
    assert jnp.isfinite(loss) and int(kept["count"].sum()) == 6
    assert float(kept["losses"].sum()) == pytest.approx(6 * float(loss), rel=1e-4)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="learned_variance=False"):
        ImprovedDDPM(ADM(learned_variance=False)).init(KEY, {"image": jnp.zeros((1, 32, 32, 3))})
    with pytest.raises(ValueError, match="model.sampling_steps=5000 is not"):
        ImprovedDDPM(sampling_steps=5000)
    with pytest.raises(ValueError, match="model.vlb_weight=0"):
        ImprovedDDPM(vlb_weight=0.0)


@pytest.mark.slow
def test_its_denoiser_is_had_from_the_noise():
    """So solvers and edits see what its own sampler sees, at the levels of the times that it samples at."""
    model = model_of(Knows(), sampling_steps=5)
    sigmas = model.path.sigmas
    assert len(sigmas) == 6 and sigmas[0] == pytest.approx(np.sqrt(1 / SCHEDULE.alpha_bar[-1] - 1))
    x = jax.random.normal(KEY, (3, *SHAPE))
    for sigma in sigmas[:-1]:
        np.testing.assert_allclose(
            model.denoiser(NETS, {})(sigma * x, jnp.full(3, sigma)), jnp.broadcast_to(IMAGE, x.shape), atol=1e-4
        )
    np.testing.assert_allclose(model.path.draw(model.denoiser(NETS, {}), (1, *SHAPE), KEY)[0], IMAGE, atol=1e-4)


@dataclasses.dataclass(frozen=True)
class OfLabels(Knows):
    """As `Knows` with a label, and no noise at all without one."""

    def apply(self, variables, x_t, t, conditioning):
        return super().apply(variables, x_t, t, conditioning) * conditioning.labels.sum(axis=1).reshape(-1, 1, 1, 1)


def test_its_denoiser_is_guided():
    """Guidance w moves the noise from that without a label, 0 here, to w times that with one."""
    model = model_of(OfLabels(), num_classes=3, label_dropout=0.1)
    sigma = float(model.path.sigmas[20])
    x, given = 0.3 * jnp.ones((1, *SHAPE)), {"label": jnp.array([1])}
    plain, free = (np.asarray(model.denoiser(NETS, given | {"guidance": w})(x, jnp.full(1, sigma))) for w in (1.0, 0.0))
    np.testing.assert_allclose(plain[0], IMAGE, atol=1e-4)
    np.testing.assert_allclose(free, np.clip(x, -1, 1), atol=1e-4)
    half = model.denoiser(NETS, given | {"guidance": 0.5})(x, jnp.full(1, sigma))
    np.testing.assert_allclose(half, (plain + free) / 2, atol=1e-4)


def test_a_text_is_frozen_or_trained_and_dropped_as_the_empty_one():
    text = CLIPText(20, context=4, width=8, depth=1, heads=2)
    network = PixArt(depth=1, width=16, heads=2, out_channels=2, extent=2)
    model = ImprovedDDPM(
        network, SCHEDULE, (4, 4, 1), text=text, train_text=False, token_dropout=0.5, empty_text=EmptyText((1,) * 4, 2)
    )
    assert model.frozen == ("text",) and model.phases(None)[0].trains == ("network",)
    trained = dataclasses.replace(model, train_text=True)
    assert trained.frozen == () and trained.phases(None)[0].trains == ("network", "text")
    rows = jnp.full((8, 4), 3), jnp.ones((8, 4), bool)
    batch = {"image": jnp.zeros((8, 4, 4, 1)), "text": rows[0], "text_mask": rows[1]}
    nets = jax.eval_shape(model.init, KEY, batch)
    rng = np.random.default_rng(0)  # layers start at 0
    nets = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), nets)

    @functools.partial(jax.jit, static_argnums=1)
    def loss(batch, rate):
        inputs = Inputs(batch, KEY, jax.random.split(KEY, 8), jnp.int32(0), {})
        return dataclasses.replace(model, token_dropout=rate).loss(nets, inputs)[0]

    empty = batch | {"text": jnp.full((8, 4), 1), "text_mask": jnp.arange(4)[None].repeat(8, 0) < 2}
    assert loss(batch, 0.0) != loss(empty, 0.0)
    assert loss(batch, 0.999999) == loss(empty, 0.0)
