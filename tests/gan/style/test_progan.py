"""ProGAN: published counts, the schedule of sizes, continuity where they change, and what reaches which network."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.config.choices import options_of
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam, Clock, apply
from imagegen_jax.gan.style.deviation import append_deviation
from imagegen_jax.gan.style.growing import Growth, Stage, at_stage, enlarged, fade, stretch
from imagegen_jax.gan.style.progan import ProGAN
from imagegen_jax.gan.style.progan_networks import Conv, Discriminator, Generator, pixel_norm
from imagegen_jax.nn import objectives as losses
from imagegen_jax.nn.resample import upsample_nearest

KEY, ROWS = jax.random.key(0), 4
HELD, FADING, GROWN = Stage(0, False), Stage(1, True), Stage(1, False)


def tiny(**settings) -> ProGAN:
    small = {
        "image_shape": (8, 8, 2),
        "generator": Generator(channel_base=32, channel_max=6),
        "discriminator": Discriminator(channel_base=32, channel_max=6, group=2),
        "latent_dim": 5,
        "growth": Growth(hold=2, fade=4),
    }
    return ProGAN(**{**small, **settings})


def inputs(model: ProGAN, step: int = 0) -> Inputs:
    batch = {"image": jax.random.uniform(KEY, (ROWS, *model.image_shape), minval=-1.0)}
    if model.num_classes:
        batch["label"] = jnp.arange(ROWS) % model.num_classes
    return Inputs(batch, KEY, jax.random.split(KEY, ROWS), jnp.int32(step), {})


@functools.cache
def fresh(model: ProGAN):
    """Networks of normal numbers, biases too, by NumPy: nothing to compile."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, KEY, inputs(model).batch)
    return jax.tree.map(lambda leaf: np.float32(rng.standard_normal(leaf.shape)), shapes)


@functools.cache
def loss(model: ProGAN, phase: int, stage: Stage):
    """step -> (loss, aux), compiled."""
    return jax.jit(lambda step: model.phases(stage)[phase].loss(fresh(model), inputs(model)._replace(step=step)))


@functools.cache
def gradients(model: ProGAN, phase: int, stage: Stage):
    """step -> ((loss, aux), gradients with respect to the parameters that the phase trains), compiled."""
    nets, (trained,) = fresh(model), model.phases(stage)[phase].trains

    def value(params, step):
        given = {**nets, trained: {**nets[trained], "params": params}}
        return model.phases(stage)[phase].loss(given, inputs(model)._replace(step=step))

    return functools.partial(jax.jit(jax.value_and_grad(value, has_aux=True)), nets[trained]["params"])


def at(model: ProGAN, level: float):
    """The networks with `sample` told another level."""
    nets = fresh(model)
    return {**nets, "generator": {**nets["generator"], "progress": {"level": jnp.float32(level)}}}


def images(model: ProGAN, z, levels: range, progress: float = 0.0):
    return _images(model, levels)(fresh(model)["generator"], z, jnp.float32(progress))


@functools.cache
def _images(model: ProGAN, levels: range):
    return jax.jit(lambda variables, z, progress: model._images(variables, z, None, levels, progress))


@functools.cache
def generate(model: ProGAN):
    """(networks, latents, conditions) -> images, compiled."""
    return jax.jit(model.generate)


# --- sizes -----------------------------------------------------------------------------------------------------------


def counts(model: ProGAN) -> dict[str, int]:
    batch = {"image": jnp.zeros((1, *model.image_shape)), "label": jnp.zeros(1, jnp.int32)}
    nets = jax.eval_shape(lambda key: model.init(key, batch), KEY)
    return {name: sum(math.prod(p.shape) for p in jax.tree.leaves(nets[name]["params"])) for name in nets}


@pytest.mark.slow
def test_published_parameter_counts():
    assert counts(ProGAN()) == {"generator": 23_079_115, "discriminator": 23_087_249}
    assert ProGAN().levels == 9


def test_parameter_counts_by_hand():
    """Three levels of 6, 4 and 2 channels: 4x4, 8x8 and 16x16."""
    start, convolutions = 5 * 16 * 6 + 6, (9 * 36 + 6) + (9 * 24 + 4) + (9 * 16 + 4) + (9 * 8 + 2) + (9 * 4 + 2)
    to_images, from_images = (6 + 1) + (4 + 1) + (2 + 1), (6 + 6) + (4 + 4) + (2 + 2)
    blocks = (9 * 4 + 2) + (9 * 8 + 4) + (9 * 16 + 4) + (9 * 24 + 6)
    end = (9 * 7 * 6 + 6) + (16 * 6 * 6 + 6) + (6 + 1)
    wanted = {"generator": start + convolutions + to_images, "discriminator": from_images + blocks + end}
    assert wanted == {"generator": 1_311, "discriminator": 1_481}
    assert counts(tiny(image_shape=(16, 16, 1))) == wanted
    with_classes = {"generator": 1_311 + 3 * 16 * 6, "discriminator": 1_481 + 3 * 7}
    assert counts(tiny(image_shape=(16, 16, 1), num_classes=3)) == with_classes


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="36x32: both sides must be divisible by 8; the nearest that are: 32x32"):
        tiny(image_shape=(36, 32, 1))
    with pytest.raises(ValueError, match="4x4"):
        tiny(image_shape=(4, 4, 1))
    for name in ("hold", "fade"):
        with pytest.raises(ValueError, match=f"growth.{name}=0: must be at least 1"):
            Growth(**{name: 0})
    with pytest.raises(ValueError, match="growth.first=-1"):
        Growth(first=-1)
    with pytest.raises(ValueError, match="growth.first=2: images of this size have levels 0 to 1"):
        tiny(growth=Growth(first=2))
    with pytest.raises(ValueError, match="penalty_target=0.0: must be above 0"):
        tiny(penalty_target=0.0)
    with pytest.raises(ValueError, match="latent_dim=0"):
        tiny(latent_dim=0)
    with pytest.raises(ValueError, match="label"):
        tiny(num_classes=3).init(KEY, {"image": jnp.zeros((2, 8, 8, 2))})
    with pytest.raises(ValueError, match="8x8x1"):
        tiny().init(KEY, {"image": jnp.zeros((2, 8, 8, 1))})


# --- the schedule ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_levels_are_held_and_faded_in():
    growth = Growth(hold=2, fade=4)
    wanted = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2, 2, 2, 2]
    np.testing.assert_array_equal([growth.progress(jnp.int32(step), 3) for step in range(19)], wanted)
    stages = [growth.stage(step, 3) for step in range(19)]
    assert stages[:2] == [Stage(0, False)] * 2 and stages[2:6] == [Stage(1, True)] * 4
    assert stages[6:8] == [Stage(1, False)] * 2 and stages[8:12] == [Stage(2, True)] * 4
    assert stages[12:] == [Stage(2, False)] * 7
    assert [Stage(2, True).levels, Stage(2, False).levels] == [range(1, 3), range(2, 3)]


def test_the_papers_schedule_reaches_the_full_size_after_9_6_million_images():
    model = ProGAN()
    assert model.stage(9_600_000 // 16 - 1) == Stage(8, True)
    assert model.stage(9_600_000 // 16) == Stage(8, False) == model.stage(10**9)
    assert dataclasses.replace(model, growth=Growth(first=1)).stage(0) == Stage(1, False)
    assert float(Growth(first=1).progress(jnp.int32(0), 9)) == 1


@pytest.mark.slow
def test_optimizers_restart_at_each_change():
    nets = fresh(tiny())
    entry = tiny().enter(FADING, nets)
    assert entry.nets is nets and entry.fresh_optimizers == ("generator", "discriminator") and not entry.fresh_averages


@pytest.mark.slow
def test_data_are_averaged_down_and_faded():
    x = jax.random.normal(KEY, (2, 16, 16, 3))
    of_4 = np.asarray(x).reshape(2, 4, 4, 4, 4, 3).mean(axis=(2, 4))
    of_8 = np.asarray(x).reshape(2, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(at_stage(x, Stage(0, False), jnp.float32(0), 3), of_4, atol=1e-6)
    found = at_stage(x, Stage(1, True), jnp.float32(0.25), 3)
    np.testing.assert_allclose(found, 0.75 * of_4.repeat(2, 1).repeat(2, 2) + 0.25 * of_8, atol=1e-6)
    np.testing.assert_array_equal(at_stage(x, Stage(2, False), jnp.float32(2), 3), x)
    np.testing.assert_array_equal(enlarged(x, Stage(0, False), 3), x.repeat(4, 1).repeat(4, 2))


@pytest.mark.slow
def test_fading_is_exact_at_both_ends():
    coarse, fine = jax.random.normal(KEY, (2, 1, 4, 4, 1))
    np.testing.assert_array_equal(fade(coarse, fine, jnp.float32(2), 3), coarse)
    np.testing.assert_array_equal(fade(coarse, fine, jnp.float32(3), 3), fine)
    np.testing.assert_array_equal(fade(coarse, fine, jnp.float32(7.5), 3), fine)
    np.testing.assert_allclose(fade(coarse, fine, jnp.float32(2.25), 3), 0.75 * coarse + 0.25 * fine, atol=1e-6)


# --- continuity ------------------------------------------------------------------------------------------------------


CHANGES = pytest.mark.parametrize(("before", "after", "step"), [(HELD, FADING, 2), (FADING, GROWN, 6)])


@pytest.mark.slow
@CHANGES
@pytest.mark.parametrize("phase", [0, 1])
def test_a_change_of_stage_changes_no_loss(phase, before, after, step):
    """The stage that ends and the one that begins have the same loss and penalty at the step between."""
    model = tiny()
    assert (model.stage(step - 1), model.stage(step)) == (before, after)
    found = (gradients(model, phase, stage)(jnp.int32(step))[0] for stage in (before, after))
    (one, one_aux), (two, two_aux) = found
    np.testing.assert_allclose(one, two, rtol=1e-5)
    for metric in one_aux.metrics:
        np.testing.assert_allclose(one_aux.metrics[metric], two_aux.metrics[metric], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@CHANGES
@pytest.mark.parametrize("phase", [0, 1])
def test_a_change_of_stage_changes_no_gradient(phase, before, after, step):
    model = tiny()
    one, two = (gradients(model, phase, stage)(jnp.int32(step))[1] for stage in (before, after))
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(abs(b).max()) + 1e-6, err_msg=jax.tree_util.keystr(path))


def test_within_a_fade_the_loss_moves():
    model = tiny()
    found = [float(loss(model, 0, FADING)(jnp.int32(step))[0]) for step in (2, 3, 4)]
    assert len(set(found)) == 3


@pytest.mark.slow
def test_samples_show_the_level_of_the_last_step():
    """Square pixels at level 0, a mixture between levels, and the images of the last level at the end."""
    model = tiny()
    z = jax.random.normal(KEY, (3, 5))
    coarse, fine = upsample_nearest(images(model, z, range(0, 1))), images(model, z, range(1, 2))
    for level, wanted in ((0, coarse), (0.25, 0.75 * coarse + 0.25 * fine), (1, fine)):
        found = generate(model)(at(model, level), z, {})
        np.testing.assert_allclose(found, jnp.clip(wanted, -1, 1), atol=1e-5)
        np.testing.assert_allclose(images(model, z, range(0, 2), level), wanted, atol=1e-5)
    assert abs(coarse - fine).mean() > 0.01


@pytest.mark.slow
def test_sampling_is_compiled_once_for_all_levels():
    model = tiny()
    sample, traces = counted(model.sample, static_argnums=2)
    drawn = [sample(at(model, level), KEY, 3, {}) for level in (0, 0.5, 1)]
    assert len(traces) == 1 and not np.array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[0], upsample_nearest(drawn[0][:, ::2, ::2]))


def test_the_generators_phase_takes_the_level_along():
    model = tiny()
    _, aux = loss(model, 1, FADING)(jnp.int32(4))
    assert float(aux.stats["generator"]["progress"]["level"]) == 0.5 == float(aux.metrics["level"])
    assert aux.images.shape == (ROWS, 8, 8, 2)
    _, aux = loss(model, 1, HELD)(jnp.int32(1))
    np.testing.assert_array_equal(aux.images, upsample_nearest(aux.images[:, ::2, ::2]))


@pytest.mark.slow
def test_layers_that_a_level_does_not_use_stay_where_they_are():
    model = tiny()
    network = fresh(model)["discriminator"]["params"]
    grads = gradients(model, 0, HELD)(jnp.int32(0))[1]
    unused = {name for name, layer in grads.items() if not any(g.any() for g in jax.tree.leaves(layer))}
    assert unused == {"image_1", "conv_1", "down_1"}
    clock = Clock(jnp.int32(0), jnp.int32(1))
    optimizer = Adam(1e-3, b1=0.0, b2=0.99)
    after, _ = apply(optimizer, grads, optimizer.transform(clock).init(network), network, clock, 1.0)
    same = {name for name in network if jax.tree.all(jax.tree.map(np.array_equal, network[name], after[name]))}
    assert same == unused


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_drift_and_penalty_reach_the_discriminator_alone():
    model = tiny(objective=losses.Wasserstein(drift=0.0), penalty_weight=0.0)
    heavy = tiny(objective=losses.Wasserstein(drift=0.5), penalty_weight=3.0)
    step = jnp.int32(6)
    assert loss(model, 1, GROWN)(step)[0] == loss(heavy, 1, GROWN)(step)[0]
    plain, aux = loss(model, 0, GROWN)(step)
    more, heavy_aux = loss(heavy, 0, GROWN)(step)
    judge = jax.jit(model._judge, static_argnums=2)
    judged = judge(fresh(model)["discriminator"], inputs(model).batch["image"], GROWN, jnp.float32(1))
    np.testing.assert_allclose(more - plain, 0.5 * jnp.mean(judged.logits**2) + heavy_aux.metrics["penalty"], rtol=1e-4)
    assert "penalty" not in aux.metrics


@pytest.mark.slow
def test_the_penalty_is_of_gradients_by_the_full_image():
    """lambda E[(|grad| / gamma - 1)^2], taken through the averaging of the image."""
    model = tiny(penalty_target=0.1)
    _, aux = loss(model, 0, HELD)(jnp.int32(0))
    latent_keys, penalty_keys = jax.vmap(jax.random.split, out_axes=1)(inputs(model).keys)
    generated = jax.jit(model._generate, static_argnums=2)
    fake, _ = generated(fresh(model)["generator"], latent_keys, HELD, jnp.float32(0))
    real = at_stage(inputs(model).batch["image"], HELD, jnp.float32(0), 2)
    epsilon = jax.vmap(jax.random.uniform)(penalty_keys)[:, None, None, None]
    full = upsample_nearest(epsilon * real + (1 - epsilon) * fake)

    def total(full):
        image = at_stage(full, HELD, jnp.float32(0), 2)
        return jnp.sum(model._judge(fresh(model)["discriminator"], image, HELD, jnp.float32(0)).logits)

    norms = jnp.sqrt(jnp.sum(jax.jit(jax.grad(total))(full) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(aux.metrics["penalty"], 10 * jnp.mean((norms / 0.1 - 1) ** 2), rtol=1e-4)
    assert stretch(HELD, 2) == 2 and stretch(FADING, 2) == stretch(GROWN, 2) == 1


@pytest.mark.slow
@pytest.mark.parametrize("objective", options_of(losses.AnyObjective).load_all())
def test_any_objective(objective):
    model = tiny(objective=objective())
    for stage in (HELD, FADING, GROWN):
        for phase in model.phases(stage):
            value, _ = jax.eval_shape(phase.loss, fresh(tiny()), inputs(model))
            assert (value.shape, value.dtype) == ((), jnp.float32)


@pytest.mark.slow
def test_labels_change_images_and_are_guessed():
    model = tiny(num_classes=3)
    nets, z = fresh(model), jnp.broadcast_to(jax.random.normal(KEY, (1, 5)), (3, 5))
    found = generate(model)(nets, z, {"label": jnp.array([0, 1, 0])})
    assert abs(found[0] - found[1]).max() > 1e-3 and (found[0] == found[2]).all()
    with pytest.raises(ValueError, match="label"):
        model.sample(nets, KEY, 3, {})
    _, aux = loss(model, 0, HELD)(jnp.int32(0))
    assert aux.metrics["class_loss"] > 0 and 0 <= aux.metrics["class_accuracy"] <= 1


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pixel_norm():
    x = jnp.array([[[[3.0, 4.0], [0.0, 0.0], [-2.0, 2.0]]]])
    root = math.sqrt(12.5)
    np.testing.assert_allclose(pixel_norm(x)[0, 0], [[3 / root, 4 / root], [0, 0], [-1, 1]], atol=1e-6)
    assert pixel_norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.slow
def test_deviation_is_appended_as_a_feature():
    """Rows 0 and 2 around 1 in one group, and equal rows in the other: deviations 1 and 0."""
    x = jnp.stack([jnp.full((4, 4, 3), value) for value in (0.0, 2.0, 5.0, 5.0)])
    found = append_deviation(x, 2)
    assert found.shape == (4, 4, 4, 4)
    np.testing.assert_array_equal(found[..., :3], x)
    np.testing.assert_allclose(found[:2, ..., 3], 1, atol=1e-6)
    np.testing.assert_allclose(found[2:, ..., 3], 1e-4, atol=1e-6)  # the root of the epsilon


@pytest.mark.slow
def test_upsampling_convolution_is_nearest_neighbours_and_a_convolution():
    x, conv = jax.random.normal(KEY, (2, 4, 6, 3)), Conv(5, up=True)
    variables = conv.init(KEY, x)
    found = conv.apply(variables, x)
    np.testing.assert_allclose(found, Conv(5).apply(variables, upsample_nearest(x)), atol=1e-5)


@pytest.mark.slow
def test_weights_are_scaled_by_their_fan_in():
    x = jax.random.normal(KEY, (64, 8, 8, 32))
    assert float(jnp.std(Conv(32).apply(Conv(32).init(KEY, x), x)[:, 1:-1, 1:-1])) == pytest.approx(1, abs=0.1)
