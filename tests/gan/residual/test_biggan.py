"""BigGAN and BigGAN-deep: published sizes, latents in parts, truncation, standing statistics, orthogonality."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.gan.regularizers import orthogonality
from imagegen_jax.gan.residual.biggan import BigGAN, truncated_normal
from imagegen_jax.gan.residual.biggan_deep import DeepDiscriminator, DeepDownBlock, DeepGenerator, DeepUpBlock
from imagegen_jax.gan.residual.biggan_networks import Discriminator, Generator
from imagegen_jax.gan.resnet import plain

KEY = jax.random.key(0)


def tiny(**settings) -> BigGAN:
    defaults = {
        "image_shape": (8, 8, 2),
        "generator": Generator(4, (1, 1), shared_dim=4, attention=0, start="normal"),
        "discriminator": Discriminator(4, (1, 1), halvings=1, attention=0, start="normal"),
        "latent_dim": 6,
        "num_classes": 3,
    }
    return BigGAN(**{**defaults, **settings})


def batch(n=4, shape=(8, 8, 2)):
    return {"image": jnp.tanh(jax.random.normal(KEY, (n, *shape))), "label": jnp.arange(n) % 3}


@pytest.fixture(scope="module")
def generator():
    """That of `tiny`, whose weights have left their small start."""
    fresh, random = (
        jax.jit(batch_draws(lambda key: tiny().init(key, batch())["generator"]))(KEY),
        np.random.default_rng(0),
    )
    params = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.3 * random.standard_normal(p.shape)), fresh["params"])
    return {**fresh, "params": params}


@pytest.fixture(scope="module")
def nets(generator):
    """Of `tiny`."""
    return {**jax.jit(batch_draws(tiny().init))(KEY, batch()), "generator": generator}


# --- sizes -----------------------------------------------------------------------------------------------------------

LAUNCH_CIFAR = BigGAN(
    (32, 32, 3),
    Generator(64, (4, 4, 4, 4), shared_dim=0, hierarchical=False, attention=0),
    Discriminator(64, (4, 4, 4, 4), halvings=2, attention=0),
    latent_dim=128,
    num_classes=10,
)
STUDIO_CIFAR = BigGAN(
    (32, 32, 3),
    Generator(96, (4, 4, 4, 4), attention=16),
    Discriminator(96, (2, 2, 2, 2), halvings=2, attention=16),
    latent_dim=80,
    num_classes=10,
)
DEEP_128 = BigGAN(generator=DeepGenerator(), discriminator=DeepDiscriminator(), latent_dim=128)
DEEP_256 = BigGAN(
    (256, 256, 3),
    DeepGenerator(multipliers=(16, 16, 8, 8, 4, 2, 1)),
    DeepDiscriminator(multipliers=(1, 2, 4, 8, 8, 16, 16), halvings=6),
    latent_dim=128,
)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (BigGAN(), (70_433_988, 87_982_370)),
        (LAUNCH_CIFAR, (4_304_387, 4_207_361)),
        (STUDIO_CIFAR, (9_416_196, 2_415_170)),
        (DEEP_128, (50_244_484, 34_590_210)),
        (DEEP_256, (55_736_708, 38_247_426)),
    ],
    ids=["128", "cifar BigGAN-PyTorch", "cifar StudioGAN", "deep 128", "deep 256"],
)
def test_published_parameter_counts(model, published):
    image = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)
    nets = jax.eval_shape(model.init, KEY, {"image": image, "label": jax.ShapeDtypeStruct((2,), jnp.int32)})
    found = {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}
    assert (found["generator"], found["discriminator"]) == published


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 70, 3)])
def test_every_size(shape, deep):
    generator, discriminator = (DeepGenerator, DeepDiscriminator) if deep else (Generator, Discriminator)
    model = tiny(
        image_shape=shape,
        generator=generator(width=4, multipliers=(2, 2, 1), attention=0),
        discriminator=discriminator(width=4, multipliers=(1, 2, 2), halvings=2, attention=0),
        standing_batches=2,
    )
    given = batch(2, shape)
    nets = jax.eval_shape(model.init, KEY, given)
    sample = jax.eval_shape(lambda nets: model.sample(nets, KEY, 2, {"label": given["label"]}), nets)
    assert (sample.shape, sample.dtype) == ((2, *shape), jnp.float32)
    for phase in model.phases(None):
        loss, _ = jax.eval_shape(phase.loss, nets, Inputs(given, KEY, jax.random.split(KEY, 2), jnp.int32(0), {}))
        assert (loss.shape, loss.dtype) == ((), jnp.float32)


@pytest.mark.slow
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="num_classes=0"):
        tiny(num_classes=0)
    with pytest.raises(ValueError, match="standing_batches=-1"):
        tiny(standing_batches=-1)
    with pytest.raises(ValueError, match="latent_dim .it is 5.*2 in all"):
        tiny(latent_dim=5).init(KEY, batch())
    with pytest.raises(ValueError, match="hierarchical=True needs shared_dim above 0"):
        tiny(generator=Generator(4, (1, 1), shared_dim=0, attention=0)).init(KEY, batch())
    with pytest.raises(ValueError, match=r"DeepDiscriminator.multipliers=\(2, 1\): must not fall"):
        tiny(discriminator=DeepDiscriminator(4, (2, 1), 1, attention=0)).init(KEY, batch())
    with pytest.raises(ValueError, match=r"attention=64.*\[8\]"):
        tiny(generator=Generator(4, (1, 1))).init(KEY, batch())


@pytest.mark.slow
def test_kernels_start_orthogonal():
    """And the embedding of the classes: rows or columns of length 1 at right angles."""
    model = tiny(generator=Generator(4, (2, 1), shared_dim=4, attention=0))
    params = jax.jit(batch_draws(model.init))(KEY, batch())["generator"]["params"]
    kernels = [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key in ("kernel", "embedding")]
    assert len(kernels) == 1 + 1 + 3 + 2 * 2 + 1
    for kernel in kernels:
        matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
        gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


# --- blocks ----------------------------------------------------------------------------------------------------------


def silenced(block, *arguments):
    """The block with zeros in its last convolution: what is left is its shortcut."""
    variables = block.init(KEY, *arguments)
    params = {**variables["params"], "conv_4": jax.tree.map(jnp.zeros_like, variables["params"]["conv_4"])}
    return block.apply({"params": params}, *arguments)


@pytest.mark.slow
def test_deep_shortcuts_drop_channels_or_make_the_missing_ones():
    x = jax.random.normal(KEY, (2, 4, 4, 8))
    doubled = silenced(DeepUpBlock(4, plain("float32"), lambda name: lambda x: x), x, (8, 8))
    np.testing.assert_array_equal(doubled, jnp.repeat(jnp.repeat(x[..., :4], 2, 1), 2, 2))
    halved = silenced(DeepDownBlock(12, plain("float32"), halves=True), x)
    assert halved.shape == (2, 2, 2, 12)
    np.testing.assert_allclose(halved[..., :8], x.reshape(2, 2, 2, 2, 2, 8).mean(axis=(2, 4)), atol=1e-6)


def test_each_part_of_the_latent_reaches_the_image(generator):
    """Part 0 makes the base; part 1 does no more than scale and shift channels."""
    model, labels = tiny(), jnp.zeros(2, jnp.int32)
    z = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)

    @jax.jit
    def generate(z):
        return model.generator.apply(generator, z, labels, model.image_shape, 3, train=False)

    image = np.asarray(generate(z))
    for part in (slice(0, 3), slice(3, 6)):
        moved = z.copy()
        moved[:, part] += 1
        assert abs(generate(moved) - image).max() > 1e-4


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_orthogonal_regularisation_is_of_the_generator_without_the_embedding(nets):
    given = Inputs(batch(), KEY, jax.random.split(KEY, 4), jnp.int32(0), {})
    without, _ = jax.jit(tiny(orthogonal_weight=0.0).generator_loss)(nets, given)
    loss, aux = jax.jit(tiny(orthogonal_weight=0.1).generator_loss)(nets, given)
    params = {**nets["generator"]["params"]}
    penalty = orthogonality(params)
    np.testing.assert_allclose(loss - without, 0.1 * penalty, rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["orthogonality"], penalty, rtol=1e-5)
    del params["shared"]
    np.testing.assert_allclose(orthogonality(params), penalty, rtol=1e-6)


# --- sampling --------------------------------------------------------------------------------------------------------


def test_truncated_normal():
    """Within the threshold of its share, with the variance of a truncated normal; whole at 1, nothing at 0."""
    shape = (20_000, 2)
    np.testing.assert_array_equal(truncated_normal(KEY, shape, 1.0), jax.random.normal(KEY, shape))
    assert (truncated_normal(KEY, shape, 0.0) == 0).all()
    for threshold, share in [(2.0, 0.954), (1.0, 0.683), (0.5, 0.383), (0.04, 0.032)]:
        assert abs(math.erf(threshold / math.sqrt(2)) - share) < 6e-4
        z = truncated_normal(KEY, shape, math.erf(threshold / math.sqrt(2)))
        assert 0.99 * threshold < abs(z).max() <= threshold * (1 + 1e-5)
        density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
        variance = 1 - 2 * threshold * density / math.erf(threshold / math.sqrt(2))
        np.testing.assert_allclose(z.var(), variance, rtol=0.03)


def test_truncation_is_a_condition_of_sampling(generator):
    """A number or one a row; by default none; one compilation for all values."""
    model, labels, nets = tiny(), jnp.zeros(3, jnp.int32), {"generator": generator}
    sample, traces = counted(lambda psi: model.sample(nets, KEY, 3, {"label": labels, "truncation": psi}))
    half, whole = sample(jnp.float32(0.5)), sample(jnp.float32(1.0))
    assert len(traces) == 1
    np.testing.assert_allclose(whole, jax.jit(lambda: model.sample(nets, KEY, 3, {"label": labels}))(), atol=1e-6)
    assert abs(half - whole).max() > 1e-3
    mixed = sample(jnp.array([0.5, 1.0, 0.5]))
    np.testing.assert_allclose(mixed, jnp.stack([half[0], whole[1], half[2]]), atol=1e-6)
    point = sample(jnp.float32(0.0))
    np.testing.assert_allclose(point, jnp.broadcast_to(point[:1], point.shape), atol=1e-6)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan, np.array([0.5, 2.0])])
def test_truncation_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"truncation .*from 0 .* to 1"):
        tiny().check_conditions({"truncation": wrong})


def test_truncation_in_range_is_accepted():
    for given in ({}, {"truncation": 0.0}, {"truncation": np.array([0.0, 0.4, 1.0])}):
        tiny().check_conditions(given)


@pytest.mark.slow
def test_standing_statistics_are_those_of_the_batches(nets):
    """With one batch, its own images are as in training; with two, the statistics are the mean of both."""
    model, n, share = tiny(standing_batches=1), 8, 0.5
    standing = jax.jit(model.standing, static_argnums=1)(nets["generator"], n, share)
    (key,) = jax.random.split(jax.random.key(0), 1)
    latent_key, label_key = jax.random.split(key)
    z, labels = truncated_normal(latent_key, (n, 6), share), jax.random.randint(label_key, (n,), 0, 3)

    def images(variables, train):
        out = model.generator.apply(
            variables, z, labels, model.image_shape, 3, train=train, mutable=["batch_stats"] if train else False
        )
        return out[0] if train else out

    np.testing.assert_allclose(images(standing, False), images(nets["generator"], True), atol=1e-4)
    assert abs(images(nets["generator"], False) - images(standing, False)).max() > 1e-2


@pytest.mark.slow
def test_sampling_takes_standing_statistics_where_they_are_asked_for(nets):
    labels = jnp.zeros(4, jnp.int32)
    plain, standing = (
        jax.jit(lambda model=model: model.sample(nets, KEY, 4, {"label": labels}))()
        for model in (tiny(), tiny(standing_batches=2))
    )
    assert abs(plain - standing).max() > 1e-2
