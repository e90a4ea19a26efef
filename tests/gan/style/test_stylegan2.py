"""StyleGAN2: torch at random weights with both penalties, published counts, and what styles, noise and phases do."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import lazy_correction
from imagegen_jax.editing.latents import mixing_grid, truncation_sweep
from imagegen_jax.gan import regularizers
from imagegen_jax.gan.augment import ADA, DiffAugment
from imagegen_jax.gan.style.deviation import minibatch_deviation
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator, resolutions

KEY = jax.random.key(0)

# One program for each kind of call, in place of one for each operation.
styles = jax.jit(StyleGAN2.styles, static_argnums=0)
synthesise = jax.jit(StyleGAN2.synthesise, static_argnums=0)
training_styles = jax.jit(StyleGAN2._training_styles, static_argnums=0)


def tiny(**settings) -> StyleGAN2:
    small = {
        "image_shape": (8, 8, 3),
        "generator": Generator(style_dim=6, mapping_layers=2, channel_base=32, channel_max=5),
        "discriminator": Discriminator(channel_base=32, channel_max=5, mapping_layers=2),
        "latent_dim": 4,
    }
    return StyleGAN2(**{**small, **settings})


def inputs(model: StyleGAN2, n: int = 8, key=KEY, step: int = 0) -> Inputs:
    batch = {"image": jax.random.uniform(KEY, (n, *model.image_shape), minval=-1.0)}
    if model.num_classes:
        batch["label"] = jnp.arange(n) % model.num_classes
    return Inputs(batch, key, jax.random.split(key, n), jnp.int32(step), {})


def fresh(model: StyleGAN2):
    """Networks with noise that is heard, and another mean style than 0."""
    nets = jax.jit(batch_draws(model.init))(KEY, inputs(model).batch)
    for name, layer in nets["generator"]["params"]["synthesis"].items():
        if name.startswith("conv"):
            layer["noise_strength"] = jnp.float32(0.3)
    nets["generator"]["averages"]["w"] += 0.5
    return nets


@functools.cache
def plain():
    model = tiny()
    return model, fresh(model)


def augmented(augment):
    """The model with an augmentation, and the networks of the plain one with its state."""
    _, nets = plain()
    state = {"augment": augment.start()} if isinstance(augment, ADA) else {}
    return tiny(augment=augment), {**nets, "discriminator": {**nets["discriminator"], **state}}


# --- against torch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["plain", "classes"])
def torch(request, root):
    """(model, networks with torch's weights, torch's arrays); of make_stylegan2.py"""
    with np.load(root / "tests/reference/torch_stylegan2.npz") as arrays:
        found = {n.partition("/")[2]: a for n, a in arrays.items() if n.startswith(f"{request.param}/")}
    model = StyleGAN2(
        (16, 16, 3),
        Generator(style_dim=6, mapping_layers=2, channel_base=48, channel_max=7),
        Discriminator(48, 7, residual=request.param == "plain", group=2, mapping_layers=2),
        latent_dim=5,
        num_classes=3 if request.param == "classes" else 0,
    )
    noise = {name: {"constant": jnp.asarray(a)[..., None]} for name, a in tree(found, "noise")["synthesis"].items()}
    nets = {
        "generator": {"params": tree(found, "generator"), "noise": {"synthesis": noise}},
        "discriminator": {"params": tree(found, "discriminator")},
    }
    return model, nets, {n.removeprefix("at/"): a for n, a in found.items() if n.startswith("at/")}, found


def tree(arrays, prefix: str):
    """Arrays by "prefix/a/b/c" as nested dicts."""
    root = {}
    for name, value in arrays.items():
        owner, *path, leaf = name.split("/")
        if owner == prefix:
            node = functools.reduce(lambda node, part: node.setdefault(part, {}), path, root)
            node[leaf] = jnp.asarray(value)
    return root


def nhwc(image):
    return jnp.asarray(image).transpose(0, 2, 3, 1)


def labels(model):
    return jnp.array([0, 2, 1, 2]) if model.num_classes else None


def one_hot(model):
    return jax.nn.one_hot(labels(model), 3) if model.num_classes else None


def close(found, wanted):
    """Within 1e-4 of the largest value of each array."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-7, err_msg=jax.tree_util.keystr(path))


def test_parameters_have_the_structure_that_torch_was_given(torch):
    model, nets, at, _ = torch
    batch = {"image": jnp.zeros((2, 16, 16, 3)), "label": jnp.zeros(2, jnp.int32)}
    found = jax.eval_shape(model.init, KEY, batch)
    assert jax.tree.map(jnp.shape, found["discriminator"]) == jax.tree.map(jnp.shape, nets["discriminator"])
    for collection in ("params", "noise"):
        of_both = [jax.tree.map(jnp.shape, n["generator"][collection]) for n in (found, nets)]
        assert of_both[0] == of_both[1]


@pytest.mark.slow
def test_images_and_logits_equal_torch(torch):
    model, nets, at, _ = torch
    nets["generator"]["averages"] = {"w": jnp.zeros(6), "path_length": jnp.zeros(())}
    w = styles(model, nets, at["z"], labels(model))
    close([w[:, 0], w[:, -1]], [at["w"], at["w"]])
    close([synthesise(model, nets, w)], [nhwc(at["fake"])])
    logits = jax.jit(model.discriminator.apply)(nets["discriminator"], nhwc(at["real"]), one_hot(model))
    close([logits], [at["logits"]])


@pytest.mark.slow
def test_gradients_of_path_lengths_equal_torch(torch):
    """A second derivative, through the mapping too."""
    model, nets, at, found = torch

    def penalty(params):
        changed = {"generator": {**nets["generator"], "params": params}}
        w = model.generator.apply({"params": params}, at["z"], one_hot(model), method="styles")
        w = jnp.repeat(w[:, None], model.layers, axis=1)
        lengths = regularizers.path_lengths(lambda w: model.synthesise(changed, w), w, nhwc(at["y"]))
        return jnp.mean((lengths - 0.3) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(penalty))(nets["generator"]["params"])
    np.testing.assert_allclose(value, at["path"], rtol=1e-4)
    close(gradient, tree(found, "path_gradient"))


@pytest.mark.slow
def test_gradients_of_r1_equal_torch(torch):
    model, nets, at, found = torch

    def penalty(params):
        critic = functools.partial(model.discriminator.apply, {"params": params}, labels=one_hot(model))
        return regularizers.zero_centred_penalty(critic, nhwc(at["real"]))

    value, gradient = jax.jit(jax.value_and_grad(penalty))(nets["discriminator"]["params"])
    np.testing.assert_allclose(value, at["r1"], rtol=1e-4)
    close(gradient, tree(found, "r1_gradient"))


# --- sizes -----------------------------------------------------------------------------------------------------------

HALF = {"channel_base": 16_384}
PUBLISHED = {  # of the authors' networks
    "config-f 1024": (StyleGAN2(), 30_370_060, 29_012_513),
    "paper512": (StyleGAN2((512, 512, 3)), 30_276_583, 28_982_849),
    "auto256": (
        StyleGAN2((256, 256, 3), Generator(mapping_layers=2, **HALF), Discriminator(**HALF)), 23_191_522, 24_001_089,
    ),
    "cifar": (
        StyleGAN2((32, 32, 3), Generator(mapping_layers=2), Discriminator(residual=False), num_classes=10),
        20_215_315, 23_089_664,
    ),
}  # fmt: skip


def count(params) -> int:
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    model, generator, discriminator = PUBLISHED[name]
    batch = {"image": jnp.zeros((1, *model.image_shape)), "label": jnp.zeros(1, jnp.int32)}
    nets = jax.eval_shape(lambda key: model.init(key, batch), KEY)
    assert {n: count(nets[n]["params"]) for n in nets} == {"generator": generator, "discriminator": discriminator}
    if name == "config-f 1024":
        assert count(nets["generator"]["params"]["mapping"]) == 2_101_248
        assert model.layers == 18


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "base", "levels"), [((28, 28, 1), (7, 7), 3), ((48, 80, 4), (6, 10), 4)])
def test_rectangles_and_other_sizes(shape, base, levels):
    model = tiny(image_shape=shape)
    assert resolutions(*shape[:2])[0] == base and model.layers == 2 * levels
    batch = {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32)}
    nets = jax.eval_shape(model.init, KEY, batch)
    sample = jax.eval_shape(lambda nets, key: model.sample(nets, key, 3, {}), nets, KEY)
    assert (sample.shape, sample.dtype) == ((3, *shape), jnp.float32)
    for phase in model.phases(None):
        loss, _ = jax.eval_shape(phase.loss, nets, inputs(model))
        assert (loss.shape, loss.dtype) == ((), jnp.float32)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="33x32: both sides must be divisible by 8; the nearest that are: 32x32"):
        tiny(image_shape=(33, 32, 3))
    with pytest.raises(ValueError, match="7x64"):
        tiny(image_shape=(7, 64, 3))
    with pytest.raises(ValueError, match=r"mixing=1.5: must be from 0 to 1"):
        tiny(mixing=1.5)
    with pytest.raises(ValueError, match="r1_every=0"):
        tiny(r1_every=0)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        tiny(image_shape=(8, 8, 4), augment=DiffAugment())
    with pytest.raises(ValueError, match="label"):
        tiny(num_classes=3).init(KEY, {"image": jnp.zeros((2, 8, 8, 3))})


@pytest.mark.slow
def test_minibatch_deviation_is_of_groups():
    x = jax.random.normal(KEY, (6, 4, 4, 3))
    for group, size in ((4, 3), (2, 2), (1, 1), (32, 6)):  # 4 does not divide 6
        deviation = np.asarray(x).reshape(6 // size, size, 4, 4, 3).std(axis=1).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(minibatch_deviation(x, group), np.repeat(deviation, size), atol=2e-4)


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_latents_and_noise_change_the_image():
    model, nets = plain()
    z = jax.random.normal(KEY, (2, 4))
    w = styles(model, nets, z)
    a, b = synthesise(model, nets, w)
    assert abs(a - b).mean() > 0.01
    keys = jax.random.split(KEY, 2)
    one, two = synthesise(model, nets, w, keys), synthesise(model, nets, w, keys[::-1])
    assert 0 < abs(one - two).mean()
    np.testing.assert_allclose(one, synthesise(model, nets, w, keys))


@pytest.mark.slow
def test_each_layer_reads_its_own_style():
    """The last style colours the image alone: it is that of the last 1x1 convolution."""
    model, nets = plain()
    w = styles(model, nets, jax.random.normal(KEY, (1, 4)))
    for layer in range(model.layers):
        moved = synthesise(model, nets, w.at[:, layer].add(1.0))
        assert abs(moved - synthesise(model, nets, w)).max() > 1e-4, layer


@pytest.mark.slow
def test_truncation():
    """At 0 all styles are the mean, at 1 all is as it was, and 1/2 lies between; one psi for all, or one a row."""
    model, nets = plain()
    z = jax.random.normal(KEY, (3, 4))
    mean, full = nets["generator"]["averages"]["w"], styles(model, nets, z)
    np.testing.assert_allclose(styles(model, nets, z, truncation=0.0), jnp.broadcast_to(mean, full.shape), atol=1e-6)
    np.testing.assert_allclose(styles(model, nets, z, truncation=jnp.float32(0.5)), (full + mean) / 2, atol=1e-6)
    each = styles(model, nets, z, truncation=jnp.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(each[1], full[1], atol=1e-6)
    images = synthesise(model, nets, styles(model, nets, z, truncation=0.0))
    np.testing.assert_allclose(images[1:], images[:-1], atol=1e-6)


@pytest.mark.slow
def test_truncation_is_a_condition_of_sampling():
    """One compilation serves all values."""
    model, nets = plain()
    sample, traces = counted(model.sample, static_argnums=2)
    spreads = [sample(nets, KEY, 16, {"truncation": jnp.float32(psi)}).std(axis=0).mean() for psi in (0, 0.5, 1)]
    assert spreads[0] < spreads[1] < spreads[2] and len(traces) == 1
    np.testing.assert_array_equal(sample(nets, KEY, 16, {"truncation": jnp.float32(1)}), sample(nets, KEY, 16, {}))


@pytest.mark.slow
def test_labels_choose_styles():
    model = tiny(num_classes=3)
    nets = fresh(model)
    z = jnp.broadcast_to(jax.random.normal(KEY, (1, 4)), (3, 4))
    w = styles(model, nets, z, jnp.array([0, 1, 0]))
    assert (w[0] == w[2]).all() and abs(w[0] - w[1]).max() > 0.01
    images = jax.jit(model.sample, static_argnums=2)(nets, KEY, 3, {"label": jnp.array([0, 1, 2])})
    assert images.shape == (3, 8, 8, 3) and abs(images).max() <= 1


@pytest.mark.slow
def test_mixing_grid_and_truncation_sweep():
    model, nets = plain()
    rows, columns = jax.random.normal(KEY, (2, 4)), jax.random.normal(jax.random.key(1), (3, 4))
    mixed = jax.jit(mixing_grid, static_argnums=(0, 4, 5))
    grid = mixed(model, nets, rows, columns, 0, model.layers)
    assert grid.shape == (2, 3, 8, 8, 3)
    of_columns = jnp.clip(synthesise(model, nets, styles(model, nets, columns)), -1, 1)
    np.testing.assert_allclose(grid, jnp.broadcast_to(of_columns, grid.shape), atol=1e-5)
    fine = mixed(model, nets, rows, columns, 2, 4)
    assert abs(fine - grid).max() > 1e-3
    with pytest.raises(ValueError, match="layers 0 to 4: this model has layers 0 to 3"):
        mixing_grid(model, nets, rows, columns, 0, 5)
    sweep = jax.jit(truncation_sweep, static_argnums=0)(model, nets, rows, jnp.array([0.0, 1.0]))
    assert sweep.shape == (2, 2, 8, 8, 3)
    np.testing.assert_allclose(sweep[0, 0], sweep[1, 0], atol=1e-5)
    of_rows = jnp.clip(synthesise(model, nets, styles(model, nets, rows)), -1, 1)
    np.testing.assert_allclose(sweep[:, 1], of_rows, atol=1e-5)


@pytest.mark.slow
def test_style_mixing_swaps_later_layers():
    """A tenth of the images keep one style; the others change to a second one at layers that are all as likely."""
    model, nets = plain()
    w, first = training_styles(model, nets, jax.random.split(KEY, 4000), None)
    own = np.asarray((w == first[:, None]).all(axis=-1))
    assert own[:, 0].all() and (own[:, :-1] >= own[:, 1:]).all()
    shares = np.bincount(own.sum(axis=1), minlength=5)[1:] / 4000
    np.testing.assert_allclose(shares, [0.3, 0.3, 0.3, 0.1], atol=0.03)
    unmixed, _ = training_styles(dataclasses.replace(model, mixing=0.0), nets, jax.random.split(KEY, 4), None)
    assert (unmixed == unmixed[:, :1]).all()


# --- phases ----------------------------------------------------------------------------------------------------------


def test_phases_and_their_lazy_corrections():
    model = tiny()
    names = [(phase.name, phase.trains, phase.every) for phase in model.phases(None)]
    assert names == [
        ("generator", ("generator",), 1), ("path", ("generator",), 4),
        ("discriminator", ("discriminator",), 1), ("r1", ("discriminator",), 16),
    ]  # fmt: skip
    assert lazy_correction({"generator": (1, 4), "discriminator": (1, 16)}) == {
        "generator": 4 / 5, "discriminator": 16 / 17,
    }  # fmt: skip
    without = tiny(path_weight=0.0, r1_weight=0.0).phases(None)
    assert [phase.name for phase in without] == ["generator", "discriminator"]


@functools.cache
def losses():
    """(loss, aux, gradients with respect to what it trains) of each phase of a model with ADA.

    Its flips and shifts alone: what gradients pass through in the other transforms is tested below.
    """
    model, nets = augmented(ADA(p=0.5, geometry=False, colour=False))
    given = inputs(model, step=3)

    def value(params, nets, phase):
        return phase.loss({n: {**nets[n], "params": params.get(n, nets[n]["params"])} for n in nets}, given)

    descend = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=2)
    found = {}
    for phase in model.phases(None):
        (loss, aux), grads = descend({n: nets[n]["params"] for n in phase.trains}, nets, phase)
        found[phase.name] = loss, aux, grads
    return model, nets, given, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "untouched"),
    [
        ("generator", set()),
        ("path", {"image_0/bias", "image_1/bias"}),  # nothing that is added to the image changes its Jacobian
        ("discriminator", set()),
        ("r1", {"last_conv/bias", "dense/bias", "logit/bias"}),  # behind the last nonlinear step, but for kinks
    ],
)
def test_a_gradient_reaches_all_that_a_phase_trains(name, untouched):
    *_, found = losses()
    trained = "generator" if name in ("generator", "path") else "discriminator"
    zero = {
        "/".join(str(part.key) for part in path[-2:])
        for path, grad in jax.tree.leaves_with_path(found[name][2][trained])
        if not grad.any()
    }
    assert zero == untouched


@pytest.mark.slow
def test_statistics_move_as_they_should():
    model, nets, given, found = losses()
    averages, augment = nets["generator"]["averages"], nets["discriminator"]["augment"]
    after = {name: aux.stats for name, (_, aux, _) in found.items()}
    assert after["r1"] == {}
    w = after["generator"]["generator"]["averages"]
    assert w["path_length"] == averages["path_length"]
    keys = jax.vmap(lambda key: jax.random.split(key, 4), out_axes=1)(given.keys)[0]
    first = training_styles(model, nets, keys, None)[1].mean(axis=0)
    np.testing.assert_allclose(w["w"], 0.995 * averages["w"] + 0.005 * first, atol=1e-6)
    path = after["path"]["generator"]["averages"]
    assert (path["w"] == averages["w"]).all()
    lengths = found["path"][1].metrics["path_length"]
    assert lengths > 0
    np.testing.assert_allclose(path["path_length"], 0.01 * lengths, rtol=1e-5)
    moved = after["discriminator"]["discriminator"]["augment"]["p"] - augment["p"]
    np.testing.assert_allclose(abs(moved), 8 / 500_000, rtol=0.05)


@pytest.mark.slow
def test_penalties_carry_the_weight_of_the_steps_that_lack_them():
    model, nets, given, found = losses()
    for name, every, weight in (("path", 4, model.path_weight), ("r1", 16, 5)):
        loss, aux, _ = found[name]
        np.testing.assert_allclose(loss, every * weight * aux.metrics["penalty"], rtol=1e-6)
    a = found["path"][1].metrics["mean_path_length"]
    assert a == pytest.approx(0.01 * float(found["path"][1].metrics["path_length"]))


@pytest.mark.slow
def test_the_mean_path_length_has_a_gradient_too():
    """With a mean of 0 before, the loss is of degree 2 in the weights of all image layers together (Euler's theorem).

    Without the gradient of the batch's share of the mean, it would seem 1 % steeper.
    """
    _, nets, _, found = losses()
    loss, _, grads = found["path"]
    assert nets["generator"]["averages"]["path_length"] == 0
    slope = sum(
        jnp.vdot(grads["generator"]["synthesis"][name]["kernel"], layer["kernel"])
        for name, layer in nets["generator"]["params"]["synthesis"].items()
        if name.startswith("image_")
    )
    np.testing.assert_allclose(slope, 2 * loss, rtol=1e-3)


@pytest.mark.slow
def test_microbatches_see_the_latents_of_their_rows():
    """A row's styles and noise do not depend on what else is in the batch."""
    model, nets = plain()
    keys = jax.random.split(KEY, 6)
    w, _ = training_styles(model, nets, keys, None)
    part, _ = training_styles(model, nets, keys[4:], None)
    np.testing.assert_allclose(part, w[4:], atol=1e-6)
    np.testing.assert_allclose(synthesise(model, nets, part, keys[4:]), synthesise(model, nets, w, keys)[4:], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("augment", [DiffAugment(), ADA(p=0.5)])
def test_gradients_reach_the_generator_through_augmentation(augment):
    model, nets = augmented(augment)
    given = inputs(model)
    gradient = jax.jit(jax.grad(lambda image: jnp.sum(model._discriminate(nets, image, None, given.keys))))
    slope = gradient(given.batch["image"])
    assert jnp.isfinite(slope).all() and (abs(slope).sum(axis=(1, 2, 3)) > 0).all()
