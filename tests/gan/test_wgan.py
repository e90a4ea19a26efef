"""Wasserstein GANs: torch's networks and losses at random weights, published sizes, what is due when, closed forms."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam, ClipWeights, RMSprop
from imagegen_jax.core.step import due_at
from imagegen_jax.data import Digits
from imagegen_jax.gan import dcgan, regularizers
from imagegen_jax.gan.regularizers import gradient_penalty
from imagegen_jax.gan.resnet import DownBlock, ResNetCritic, ResNetGenerator, UpBlock, double, halve, plain
from imagegen_jax.gan.wgan import DRAGAN, WGAN, GradientPenalty
from imagegen_jax.nn.objectives import NonSaturating, RelativisticPairing, Wasserstein

KEY = jax.random.key(0)


def tiny(**settings) -> WGAN:
    defaults = {"image_shape": (16, 16, 2), "latent_dim": 5, "generator": ResNetGenerator(4), "critic": ResNetCritic(4)}
    return WGAN(**{**defaults, **settings})


def strided(**settings) -> WGAN:
    return tiny(generator=dcgan.Generator(3), critic=dcgan.Discriminator(3, batch_norm=False), **settings)


def inputs(image, key=KEY) -> Inputs:
    return Inputs({"image": image}, key, jax.random.split(key, len(image)), jnp.int32(0), {})


def images(shape=(16, 16, 2), n=4):
    return jnp.tanh(jax.random.normal(jax.random.key(1), (n, *shape)))


def networks(model: WGAN):
    """Initialised networks, which its losses have no part in."""
    return _initialised(model.generator, model.critic)


@functools.cache
def _initialised(generator, critic):
    return jax.jit(batch_draws(tiny(generator=generator, critic=critic).init))(KEY, {"image": images()})


def counts(nets) -> dict[str, int]:
    return {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}


# --- against torch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch(root):
    """The arrays of tests/reference/make_gan.py."""
    with np.load(root / "tests/reference/torch_wgan.npz") as arrays:
        return dict(arrays)


def ported(arrays, prefix: str) -> dict:
    """Torch's parameters `prefix`/NAME, or their gradients, in this package's names and layouts."""
    params: dict = {}
    for name, value in arrays.items():
        owner, _, path = name.partition("/")
        if owner != prefix or "running" in path:
            continue
        *parents, leaf = path.split(".")
        if value.ndim == 4:
            leaf, value = "kernel", value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            leaf, value = "kernel", value.T
        elif leaf == "weight":
            leaf = "scale"
        if prefix.startswith("generator") and parents == ["project"]:  # its outputs are [C 4 4] there, [4 4 C] here
            rows = value.reshape(-1, value.shape[-1] // 16, 16)
            value = rows.transpose(0, 2, 1).reshape(value.shape)
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return params


def nhwc(image):
    return jnp.asarray(image).transpose(0, 2, 3, 1)


@pytest.fixture
def same(torch, monkeypatch):
    """(model, networks with torch's weights, inputs), which draws torch's latents and torch's point between images."""
    model, given = tiny(), inputs(nhwc(torch["at/real"]))
    nets = networks(model)
    monkeypatch.setattr(WGAN, "_latents", lambda self, keys: jnp.asarray(torch["at/z"]))
    monkeypatch.setattr(regularizers, "uniform_rows", lambda keys, shape: jnp.full((len(keys), *shape), 0.3))
    return model, {name: {**nets[name], "params": ported(torch, name)} for name in nets}, given


@pytest.mark.slow
def test_parameters_have_the_structure_that_is_ported(torch):
    fresh = jax.eval_shape(tiny().init, KEY, {"image": images()})
    for name, variables in fresh.items():
        assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, ported(torch, name))


@pytest.mark.slow
def test_networks_equal_torch(same, torch):
    model, nets, given = same
    found = jax.jit(model._generate)(nets["generator"], torch["at/z"])[0]
    np.testing.assert_allclose(found, nhwc(torch["at/fake"]), atol=1e-5)
    for name, image in (("real", given.batch["image"]), ("fake", nhwc(torch["at/fake"]))):
        judged = jax.jit(model._judge)(nets["critic"], image)[0]
        np.testing.assert_allclose(judged, torch[f"at/{name}_logits"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator", "critic"])
def test_losses_and_gradients_equal_torch(same, torch, name):
    """The penalty's second derivatives included."""
    model, nets, given = same
    (phase,) = [phase for phase in model.phases(None) if phase.trains == (name,)]

    def loss(params):
        return phase.loss({**nets, name: {**nets[name], "params": params}}, given)

    (value, aux), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(nets[name]["params"])
    np.testing.assert_allclose(value, torch[f"{name}_loss"], rtol=1e-5)
    if name == "critic":
        np.testing.assert_allclose(aux.metrics["penalty"], torch["at/penalty"], rtol=1e-5)
    wanted = ported(torch, f"{name}_gradient")
    assert jax.tree.structure(gradient) == jax.tree.structure(wanted)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(wanted))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-6 * largest), gradient, wanted
    )


# --- sizes and layers ------------------------------------------------------------------------------------------------


def test_published_parameter_counts():
    batch = {"image": jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)}
    published = {"generator": 1_204_483, "critic": 1_053_825}  # igul222/improved_wgan_training
    assert counts(jax.eval_shape(WGAN().init, KEY, batch)) == published
    sngan = WGAN(generator=ResNetGenerator(256))
    assert counts(jax.eval_shape(sngan.init, KEY, batch)) == published | {"generator": 4_276_739}


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 1), (33, 70, 4), (64, 64, 3)])
@pytest.mark.parametrize("make", [tiny, strided])
def test_every_size(make, shape):
    model = make(image_shape=shape)
    batch = {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32)}
    nets = jax.eval_shape(model.init, KEY, batch)
    sample = jax.eval_shape(lambda nets, key: model.sample(nets, key, 2, {}), nets, KEY)
    assert (sample.shape, sample.dtype) == ((2, *shape), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(KEY, 2))
    for phase in model.phases(None):
        loss, aux = jax.eval_shape(phase.loss, nets, Inputs(batch, KEY, keys, jnp.int32(0), {}))
        assert (loss.shape, loss.dtype) == ((), jnp.float32)
        (name,) = aux.stats
        assert aux.stats[name] == {c: v for c, v in nets[name].items() if c != "params"}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"7x64: height and width must be at least 8"):
        WGAN(image_shape=(7, 64, 3))
    for name in ("latent_dim", "critic_steps", "generator_batches"):
        with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
            WGAN(**{name: 0})
    with pytest.raises(ValueError, match="16x16x1.*16x16x2"):
        tiny().init(KEY, {"image": jnp.zeros((2, 16, 16, 1))})


@pytest.mark.slow
def test_resampling_of_odd_sizes():
    """Doubling leaves the last row out; halving takes the mean of what there is."""
    x = jnp.arange(6.0).reshape(1, 3, 2, 1)
    np.testing.assert_array_equal(double(x, (5, 4))[0, :, :, 0], np.kron([[0, 1], [2, 3], [4, 5]], np.ones((2, 2)))[:5])
    np.testing.assert_array_equal(halve(x)[0, :, :, 0], [[1.5], [4.5]])


@pytest.mark.slow
def test_blocks_start_with_the_variance_of_the_authors_code():
    """He's 4 / (fan in + fan out) on the residual branch, Glorot's 2 / (...) on the shortcut; biases at 0."""
    x = jnp.zeros((1, 8, 8, 64))
    blocks = UpBlock(64, plain("auto"), lambda name: lambda x: x), DownBlock(64, plain("auto"))
    for block, more in zip(blocks, [((16, 16),), ()], strict=True):
        params = jax.jit(block.init, static_argnums=2)(KEY, x, *more)["params"]
        for name, area, scale in (("conv_1", 9, 4), ("conv_2", 9, 4), ("shortcut", 1, 2)):
            variance = scale / (2 * 64 * area)
            np.testing.assert_allclose(params[name]["kernel"].var(), variance, rtol=0.05)
            assert abs(params[name]["kernel"]).max() <= math.sqrt(3 * variance)
            assert (params[name]["bias"] == 0).all()


# --- phases ----------------------------------------------------------------------------------------------------------


def test_the_generator_is_due_at_every_fifth_step():
    phases = WGAN().phases(None)
    assert [due_at(phases, step) for step in range(5)] == [("critic",)] * 4 + [("critic", "generator")]
    assert len(tiny(critic_steps=1).phases(None)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, strided])
@pytest.mark.parametrize("penalty", [GradientPenalty(), GradientPenalty(1.0, 0.0), DRAGAN(), None])
def test_the_critics_loss_is_the_distance_and_the_penalty(make, penalty):
    model = make(penalty=penalty)
    given = inputs(images())
    nets = networks(model)
    loss, aux = jax.jit(model.critic_loss)(nets, given)
    wanted = aux.metrics["fake_logit"] - aux.metrics["real_logit"] + aux.metrics.get("penalty", 0.0)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    assert ("penalty" in aux.metrics) == (penalty is not None)
    assert "real_sign" not in aux.metrics and aux.images is None
    assert set(aux.stats) == {"critic"}


@pytest.mark.slow
def test_the_penalty_is_weighed_and_drawn_apart_from_the_latents():
    """Each row's key is split in two."""
    model, given = strided(), inputs(images())
    nets = networks(model)
    found = jax.jit(model.critic_loss)(nets, given)[1].metrics["penalty"]

    @jax.jit
    def by_hand(nets, keys):
        latent_keys, penalty_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        fake = model._generate(nets["generator"], model._latents(latent_keys))[0]
        return gradient_penalty(lambda x: model._judge(nets["critic"], x)[0], images(), fake, penalty_keys)

    np.testing.assert_allclose(found, 10 * by_hand(nets, given.keys), rtol=1e-5)


@pytest.mark.slow
def test_the_generator_may_draw_more_images_than_the_batch_has():
    model, given = tiny(generator_batches=2), inputs(images())
    nets = networks(model)
    loss, aux = jax.jit(model.generator_loss)(nets, given)
    assert aux.images.shape == (8, 16, 16, 2) and set(aux.stats) == {"generator"}
    assert len(np.unique(np.asarray(aux.images).reshape(8, -1), axis=0)) == 8
    np.testing.assert_allclose(loss, -aux.metrics["fake_logit"])
    paired = tiny(generator_batches=2, objective=RelativisticPairing())
    assert np.isfinite(jax.jit(paired.generator_loss)(nets, given)[0])


@pytest.mark.slow
def test_other_objectives_report_their_signs():
    """DRAGAN has the objective of the first GAN."""
    model, given = strided(penalty=DRAGAN(), objective=NonSaturating(), critic_steps=1), inputs(images())
    nets = networks(model)
    assert "real_sign" in jax.jit(model.critic_loss)(nets, given)[1].metrics


@pytest.mark.slow
def test_an_image_of_a_sample_does_not_depend_on_the_others():
    model = tiny()
    nets = networks(model)
    found = jax.jit(model.sample, static_argnums=2)(nets, KEY, 4, {})
    z = jax.random.normal(KEY, (4, model.latent_dim))
    alone = jax.jit(lambda *given: model.generator.apply(*given, model.image_shape, train=False))(
        nets["generator"], z[:1]
    )
    np.testing.assert_allclose(found[:1], alone, atol=1e-6)


# --- what is learnt --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.optimised
def test_a_trained_critic_measures_the_distance_of_two_points():
    """Of real images all alike and generated ones all alike, at distance d: d (1 + d / (2 lambda)).

    A critic of slope s between them has the loss -s d + lambda (s - 1)^2, which is least at s = 1 + d / (2 lambda).
    """
    critic, weight, distance = dcgan.Discriminator(8, batch_norm=False), 10.0, 2.0
    direction = jax.random.normal(jax.random.key(3), (8, 8, 1))
    real = jnp.zeros((16, 8, 8, 1)) + distance * direction / jnp.linalg.norm(direction)
    fake = jnp.zeros_like(real)
    optimizer = optax.adam(optax.linear_schedule(5e-3, 0.0, 400), b1=0.5, b2=0.9)

    def loss(params, keys):
        judge = lambda x: critic.apply({"params": params}, x, train=True)  # noqa: E731
        gap = jnp.mean(judge(real)) - jnp.mean(judge(fake))
        value = Wasserstein().discriminator(judge(real), judge(fake))
        return value + weight * gradient_penalty(judge, real, fake, keys), gap

    @jax.jit
    def step(params, state, key):
        (_, gap), gradient = jax.value_and_grad(loss, has_aux=True)(params, jax.random.split(key, 16))
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, gap

    params = jax.jit(functools.partial(critic.init, train=True))(KEY, real)["params"]
    state = optimizer.init(params)
    for i in range(400):
        params, state, gap = step(params, state, jax.random.fold_in(KEY, i))
    np.testing.assert_allclose(gap, distance * (1 + distance / (2 * weight)), rtol=0.03)


RECIPES = {
    "WGAN-GP": ({}, {"batch_norm": False}, Adam(1e-3, b1=0.5, b2=0.9), Adam(1e-3, b1=0.5, b2=0.9)),
    "DRAGAN": (
        {"penalty": DRAGAN(), "objective": NonSaturating(), "critic_steps": 1},
        {"batch_norm": False},
        Adam(5e-4, b1=0.5, b2=0.9),
        Adam(5e-4, b1=0.5, b2=0.9),
    ),
    "WGAN": ({"penalty": None}, {}, RMSprop(2e-4), RMSprop(2e-4, project=(ClipWeights(0.01),))),
}


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("name", RECIPES)
def test_all_digits_are_generated(name, tmp_path):
    """Of 500 images of 8x8, a classifier of the real ones takes at least 5 for each digit; no two are alike."""
    settings, critic, generator_optimizer, critic_optimizer = RECIPES[name]
    experiment = ig.Experiment(
        name="wgan_digits",
        model=WGAN((8, 8, 1), dcgan.Generator(32), dcgan.Discriminator(32, **critic), 16, **settings),
        data=Digits(),
        optim={"generator": generator_optimizer, "critic": critic_optimizer},
        steps=2_000,
        batch_size=64,
        mesh=MeshShape(data=1),
        log_every=500,
        checkpoint_every=2_000,
        samples=10,
    )
    run = ig.fit(experiment, tmp_path, quiet=True)
    images = run.sample(500, seed=1).reshape(500, -1)
    pixels, digits = load_digits(return_X_y=True)
    classes = SVC(C=10.0).fit(pixels / 16, digits).predict(images / 255)
    assert np.bincount(classes, minlength=10).min() >= 5
    assert len(np.unique(images, axis=0)) == 500
    nearest = np.sqrt(((images[:, None] / 255 - pixels[None] / 16) ** 2).sum(-1).min(1))
    assert nearest.mean() < 2.0  # 1.0 between real ones, 3.6 for uniform noise
