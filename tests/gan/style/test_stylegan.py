"""StyleGAN: published counts, continuity where sizes change, and what styles, noise and truncation do."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.capabilities import FromLatents, StyleBased
from imagegen_jax.core.config.choices import options_of
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.core.model import Inputs
from imagegen_jax.editing.latents import mixing_grid, truncation_sweep
from imagegen_jax.gan.style import styles
from imagegen_jax.gan.style.growing import Growth, Stage, at_stage
from imagegen_jax.gan.style.progan_networks import Conv, Discriminator
from imagegen_jax.gan.style.stylegan import StyleGAN
from imagegen_jax.gan.style.stylegan_networks import Generator
from imagegen_jax.nn import objectives as losses
from imagegen_jax.nn.resample import upsample_nearest
from imagegen_jax.nn.upfirdn import BINOMIAL, upfirdn

KEY, ROWS = jax.random.key(0), 4
HELD, FADING, GROWN = Stage(0, False), Stage(1, True), Stage(1, False)


def tiny(**settings) -> StyleGAN:
    small = {
        "image_shape": (8, 8, 1),
        "generator": Generator(style_dim=3, mapping_layers=2, mapping_rate=1.0, channel_base=16, channel_max=4),
        "discriminator": Discriminator(channel_base=16, channel_max=4, group=2, taps=BINOMIAL),
        "latent_dim": 3,
        "growth": Growth(hold=2, fade=4),
    }
    return StyleGAN(**{**small, **settings})


def inputs(model: StyleGAN, step: int = 0) -> Inputs:
    batch = {"image": jax.random.uniform(KEY, (ROWS, *model.image_shape), minval=-1.0)}
    if model.num_classes:
        batch["label"] = jnp.arange(ROWS) % model.num_classes
    return Inputs(batch, KEY, jax.random.split(KEY, ROWS), jnp.int32(step), {})


@functools.cache
def fresh(model: StyleGAN):
    """Grown networks of normal numbers, noise, strengths and means too, by NumPy: nothing to compile."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, KEY, inputs(model).batch)
    nets = jax.tree.map(lambda leaf: np.float32(rng.standard_normal(leaf.shape)), shapes)
    nets["generator"]["progress"]["level"] = jnp.float32(model.levels - 1)
    return nets


@functools.cache
def gradients(model: StyleGAN, phase: int, stage: Stage):
    """step -> ((loss, aux), gradients with respect to the parameters that the phase trains), compiled."""
    nets, (trained,) = fresh(model), model.phases(stage)[phase].trains

    def value(params, step):
        given = {**nets, trained: {**nets[trained], "params": params}}
        return model.phases(stage)[phase].loss(given, inputs(model)._replace(step=step))

    return functools.partial(jax.jit(jax.value_and_grad(value, has_aux=True)), nets[trained]["params"])


@functools.cache
def loss(model: StyleGAN, phase: int, stage: Stage):
    """step -> (loss, aux), compiled."""
    return jax.jit(lambda step: model.phases(stage)[phase].loss(fresh(model), inputs(model)._replace(step=step)))


@functools.cache
def synthesise(model: StyleGAN):
    return jax.jit(model.synthesise)


@functools.cache
def styles_of(model: StyleGAN):
    return jax.jit(model.styles)


# --- sizes -----------------------------------------------------------------------------------------------------------


def counts(model: StyleGAN):
    batch = {"image": jnp.zeros((1, *model.image_shape)), "label": jnp.zeros(1, jnp.int32)}
    nets = jax.eval_shape(lambda key: model.init(key, batch), KEY)
    return nets, {name: count(nets[name]["params"]) for name in nets}


def count(tree) -> int:
    return sum(math.prod(p.shape) for p in jax.tree.leaves(tree))


@pytest.mark.slow
def test_published_parameter_counts():
    """The generator's is published; the discriminator is ProGAN's. Stored noise and means are no parameters."""
    nets, found = counts(StyleGAN())
    assert found == {"generator": 26_219_627, "discriminator": 23_087_249}
    assert count(nets["generator"]["params"]["mapping"]) == 2_101_248
    assert count(nets["generator"]["noise"]) == 2 * sum(4**k for k in range(2, 11))
    assert StyleGAN().layers == 18 and StyleGAN().stage(0) == Stage(1, False)


def test_parameter_counts_by_hand():
    """Two levels of 4 and 2 channels: 4x4 and 8x8."""
    mapping, start = (3 * 3 + 3) + (3 * 3 + 3), 16 * 4
    convolutions = 9 * (4 * 4 + 4 * 2 + 2 * 2)
    finish = sum(c + c + (3 + 1) * 2 * c for c in (4, 4, 2, 2))  # noise, bias, style
    generator = mapping + start + convolutions + finish + (4 + 1) + (2 + 1)
    blocks = (1 * 4 + 4) + (1 * 2 + 2) + (9 * 2 * 2 + 2) + (9 * 2 * 4 + 4)
    discriminator = blocks + (9 * 5 * 4 + 4) + (16 * 4 * 4 + 4) + (4 + 1)
    assert counts(tiny())[1] == {"generator": generator, "discriminator": discriminator}
    with_classes = {"generator": generator + 5 * 3 + 3 * 3, "discriminator": discriminator + 4 * (4 + 1)}
    assert counts(tiny(num_classes=5))[1] == with_classes


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="33x32: both sides must be divisible by 8"):
        tiny(image_shape=(33, 32, 3))
    with pytest.raises(ValueError, match=r"mixing=1.5: must be from 0 to 1"):
        tiny(mixing=1.5)
    with pytest.raises(ValueError, match="growth.fade=0: must be at least 1"):
        tiny(growth=Growth(fade=0))
    with pytest.raises(ValueError, match="growth.first=2"):
        tiny(growth=Growth(first=2))
    with pytest.raises(ValueError, match="label"):
        tiny(num_classes=3).init(KEY, {"image": jnp.zeros((2, 8, 8, 1))})
    for truncation in (-0.1, 1.5, float("nan"), np.array([0.5, 2.0])):
        with pytest.raises(ValueError, match="truncation"):
            check_conditions(tiny(), 2, {"truncation": truncation})
    check_conditions(tiny(), 2, {"truncation": 0.7})


# --- growth ----------------------------------------------------------------------------------------------------------


CHANGES = pytest.mark.parametrize(("before", "after", "step"), [(HELD, FADING, 2), (FADING, GROWN, 6)])


@pytest.mark.slow
@CHANGES
@pytest.mark.parametrize("phase", [0, 1])
def test_a_change_of_stage_changes_no_loss(phase, before, after, step):
    """The stage that ends and the one that begins have the same loss and penalty then, but for mixing."""
    model = tiny(mixing=0.0)
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
    model = tiny(mixing=0.0)
    one, two = (gradients(model, phase, stage)(jnp.int32(step))[1] for stage in (before, after))
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(abs(b).max()) + 1e-6, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_samples_show_the_level_of_the_last_step():
    model, nets = tiny(), fresh(tiny())
    w = styles_of(model)(nets, jax.random.normal(KEY, (2, 3)))

    @functools.partial(jax.jit, static_argnums=0)
    def image(levels, progress):
        return model._synthesise(nets["generator"], w, None, levels, jnp.float32(progress))

    coarse, fine = upsample_nearest(image(range(0, 1), 0)), image(range(1, 2), 1)
    for level, wanted in ((0, coarse), (0.25, 0.75 * coarse + 0.25 * fine), (1, fine)):
        at = {**nets, "generator": {**nets["generator"], "progress": {"level": jnp.float32(level)}}}
        np.testing.assert_allclose(synthesise(model)(at, w), wanted, atol=1e-5)
    assert abs(coarse - fine).mean() > 0.01


@pytest.mark.slow
def test_r1_is_of_gradients_by_the_full_image():
    model = tiny()
    total, aux = loss(model, 0, HELD)(jnp.int32(0))

    def judged(full):
        image = at_stage(full, HELD, jnp.float32(0), 2)
        return jnp.sum(model._judge(fresh(model)["discriminator"], image, None, HELD, jnp.float32(0)))

    gradient = jax.jit(jax.grad(judged))(inputs(model).batch["image"])
    penalty = jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3)))
    np.testing.assert_allclose(aux.metrics["penalty"], penalty, rtol=1e-4)
    without, _ = loss(tiny(r1_weight=0.0), 0, HELD)(jnp.int32(0))
    np.testing.assert_allclose(total - without, 5 * penalty, rtol=1e-3)


@pytest.mark.slow
def test_statistics_move_as_they_should():
    model, nets = tiny(mixing=0.0), fresh(tiny())
    _, aux = loss(model, 1, FADING)(jnp.int32(4))
    found = aux.stats["generator"]
    assert set(aux.stats) == {"generator"} and float(found["progress"]["level"]) == 0.5
    generate = jax.jit(model._generate, static_argnums=3)
    _, first = generate(nets["generator"], inputs(model).keys, None, FADING, jnp.float32(0.5))
    wanted = 0.995 * nets["generator"]["averages"]["w"] + 0.005 * first.mean(axis=0)
    np.testing.assert_allclose(found["averages"]["w"], wanted, atol=1e-6)
    assert aux.images.shape == (ROWS, 8, 8, 1)
    assert jax.eval_shape(lambda: model.discriminator_loss(FADING, nets, inputs(model)))[1].stats == {}


@pytest.mark.slow
@pytest.mark.parametrize("objective", options_of(losses.AnyObjective).load_all())
def test_any_objective(objective):
    model = tiny(objective=objective())
    for stage in (HELD, FADING, GROWN):
        for phase in model.phases(stage):
            value, _ = jax.eval_shape(phase.loss, fresh(tiny()), inputs(model))
            assert (value.shape, value.dtype) == ((), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0, 1])
def test_a_gradient_reaches_all_that_a_phase_trains(phase):
    """But for the images of a level that is held no longer."""
    model = tiny(mixing=0.0)
    grads = gradients(model, phase, GROWN)(jnp.int32(6))[1]
    zero = {jax.tree_util.keystr(path) for path, grad in jax.tree.leaves_with_path(grads) if not grad.any()}
    assert {name for name in zero if "image_0" not in name} == set()


# --- styles ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_layer_reads_its_own_style():
    model, nets = tiny(), fresh(tiny())
    w = styles_of(model)(nets, jax.random.normal(KEY, (1, 3)))
    plain = synthesise(model)(nets, w)
    for layer in range(model.layers):
        assert abs(synthesise(model)(nets, w.at[:, layer].add(1.0)) - plain).max() > 1e-4, layer


@pytest.mark.slow
def test_noise_is_by_channel_and_follows_the_keys():
    """Of other keys the images are others, of none always the same; a strength is of one channel alone."""
    model, nets = tiny(), fresh(tiny())
    w, keys = styles_of(model)(nets, jax.random.normal(KEY, (2, 3))), jax.random.split(KEY, 2)
    one, two = synthesise(model)(nets, w, keys), synthesise(model)(nets, w, keys[::-1])
    assert abs(one - two).max() > 1e-3
    np.testing.assert_array_equal(synthesise(model)(nets, w), synthesise(model)(nets, w))
    strengths = [layer["noise"]["strength"] for name, layer in nets["generator"]["params"]["synthesis"].items()
                 if name.startswith("finish")]  # fmt: skip
    assert sorted(s.shape for s in strengths) == [(2,), (2,), (4,), (4,)]


@pytest.mark.slow
def test_truncation():
    """At 0 all styles are the mean, at 1 all is as it was, and 1/2 lies between; one psi for all, or one a row."""
    model, nets = tiny(), fresh(tiny())
    z = jax.random.normal(KEY, (3, 3))
    mean, full = nets["generator"]["averages"]["w"], styles_of(model)(nets, z)
    np.testing.assert_allclose(styles_of(model)(nets, z, truncation=0.0), jnp.broadcast_to(mean, full.shape), atol=1e-6)
    np.testing.assert_allclose(styles_of(model)(nets, z, truncation=jnp.float32(0.5)), (full + mean) / 2, atol=1e-6)
    each = styles_of(model)(nets, z, truncation=jnp.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(each[1], full[1], atol=1e-6)
    sample, traces = counted(model.sample, static_argnums=2)
    spreads = [sample(nets, KEY, 16, {"truncation": jnp.float32(psi)}).std(axis=0).mean() for psi in (0, 0.5, 1)]
    assert spreads[0] < spreads[1] < spreads[2] and len(traces) == 1


@pytest.mark.slow
def test_style_mixing_swaps_later_layers():
    """A tenth of the images keep one style; the others change to a second one at layers that are all as likely."""
    first, second = jnp.zeros((4000, 1)), jnp.ones((4000, 1))
    w = np.asarray(styles.mix(first, second, jax.random.split(KEY, 4000), 0.9, 4))[..., 0]
    assert (w[:, 0] == 0).all() and (w[:, 1:] >= w[:, :-1]).all()
    shares = np.bincount(w.sum(axis=1).astype(int), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.1, 0.3, 0.3, 0.3], atol=0.03)
    assert (styles.mix(first, second, jax.random.split(KEY, 4000), 0.0, 4) == 0).all()


@pytest.mark.slow
def test_styles_serve_grids_of_mixtures_and_truncation():
    model, nets = tiny(), fresh(tiny())
    assert isinstance(model, StyleBased) and isinstance(model, FromLatents)
    rows, columns = jax.random.normal(KEY, (2, 3)), jax.random.normal(jax.random.key(1), (3, 3))
    grid = jax.jit(mixing_grid, static_argnums=(0, 4, 5))(model, nets, rows, columns, 0, model.layers)
    generate = jax.jit(model.generate)
    assert grid.shape == (2, 3, 8, 8, 1)
    np.testing.assert_allclose(grid[0], generate(nets, columns, {}), atol=1e-5)
    with pytest.raises(ValueError, match="layers 0 to 4: this model has layers 0 to 3"):
        mixing_grid(model, nets, rows, columns, 0, 5)
    sweep = jax.jit(truncation_sweep, static_argnums=0)(model, nets, rows, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(sweep[0, 0], sweep[1, 0], atol=1e-5)
    np.testing.assert_allclose(sweep[:, 1], generate(nets, rows, {}), atol=1e-5)


@pytest.mark.slow
def test_labels_choose_styles_and_logits():
    model = tiny(num_classes=3)
    nets = fresh(model)
    z = jnp.broadcast_to(jax.random.normal(KEY, (1, 3)), (3, 3))
    w = styles_of(model)(nets, z, jnp.array([0, 1, 0]))
    np.testing.assert_array_equal(w[0], w[2])
    assert abs(w[0] - w[1]).max() > 1e-2
    with pytest.raises(ValueError, match="label"):
        model.sample(nets, KEY, 3, {})
    image = jnp.broadcast_to(inputs(model).batch["image"][:1], (3, 8, 8, 1))
    judge = jax.jit(model._judge, static_argnums=3)
    logits = judge(nets["discriminator"], image, jnp.array([0, 1, 0]), GROWN, jnp.float32(1))
    assert logits[0] == logits[2] != logits[1]


@pytest.mark.slow
def test_upsampling_is_by_nearest_neighbours_a_convolution_and_a_blur():
    """As in the authors' code, but at the border."""
    x, conv = jax.random.normal(KEY, (2, 6, 6, 3)), Conv(5, True, BINOMIAL)
    variables = conv.init(KEY, x)
    blurred = upfirdn(Conv(5).apply(variables, upsample_nearest(x)), (0.25, 0.5, 0.25), pad=(1, 1))
    np.testing.assert_allclose(conv.apply(variables, x)[:, 3:-3, 3:-3], blurred[:, 3:-3, 3:-3], atol=1e-5)
