"""VDVAE: the authors' own numbers, a model whose likelihood is known, and what latents of each layer are for."""

from __future__ import annotations

import dataclasses
import functools
import math

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import channels_last, jit, kernel, layer, official_to_ours, parsed, renamed, same

from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.autoencoders.vdvae_network import TopDownNetwork, compared
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.nn.distributions.pixel import Categorical

KEY = jax.random.key(0)
NARROW = VDVAE(
    (4, 4, 3),
    TopDownNetwork(((4, 2, 2), (2, 1, 1)), 6, 2, bottleneck=0.5, largest_constant=2),
    LogisticMixture(2),
    data_mean=120.63838 / 127.5 - 1,
    data_deviation=64.16736 / 127.5,
)
SMALL = dataclasses.replace(NARROW, image_shape=(4, 4, 1), distribution=Categorical())


# --- the authors' code, of tests/reference/make_vdvae.py --------------------------------------------------------------


@pytest.fixture(scope="module")
def authors(root):
    with np.load(root / "tests/reference/official_vdvae.npz") as arrays:
        return dict(arrays)


def four(ours: str, theirs: str) -> dict:
    """Names of the layers of a block."""
    pairs = zip(("conv_0", "conv_1", "conv_2", "out"), ("c1", "c2", "c3", "c4"), strict=True)
    return {name: of for our, their in pairs for name, of in layer(f"{ours}/{our}", f"{theirs}.{their}").items()}


def names(network: TopDownNetwork) -> dict:
    """Theirs for each of our weights, of a mixture of colours."""
    found = layer("in", "encoder.in_conv")
    up = [(size, i) for size, blocks, _ in network.levels for i in range(blocks)]
    for number, (size, i) in enumerate(up):
        found |= four(f"up_{size}_{i}", f"encoder.enc_blocks.{number}")
    down = [(size, i) for size, _, blocks in network.levels[::-1] for i in range(blocks)]
    for number, (size, i) in enumerate(down):
        ours, theirs = f"down_{size}_{i}", f"decoder.dec_blocks.{number}"
        found |= layer(f"{ours}/told", f"{theirs}.z_proj")
        for our, their in (("posterior", "enc"), ("prior", "prior"), ("residual", "resnet")):
            found |= four(f"{ours}/{our}", f"{theirs}.{their}")
    constants = sorted(size for size, _, _ in network.levels if size <= network.largest_constant)
    for number, size in enumerate(constants):
        found[f"params/constant_{size}"] = (f"decoder.bias_xs.{number}", lambda w: channels_last(w)[0])
    found |= {f"params/{name}": (f"decoder.{name}", np.ravel) for name in ("gain", "bias")}
    out = "decoder.out_net.out_conv"
    found["params/out/kernel"] = (f"{out}.weight", lambda w: official_to_ours(kernel(w), 3))
    found["params/out/bias"] = (f"{out}.bias", lambda w: official_to_ours(same(w), 3))
    return found


@pytest.fixture(scope="module")
def nets(authors):
    """The weights that the authors' model had."""
    weights = {name: drawn_weights.weight(name, *rest) for name, *rest in map(parsed, authors["weights"])}
    return {"network": jax.tree.map(jnp.float32, renamed(names(NARROW.network), weights))}


def noise_of(model: VDVAE, rows: int) -> list[np.ndarray]:
    """What the authors' model was given."""
    drawn = [
        drawn_weights.normal(f"noise {i}", (rows, d, h, w)) for i, (h, w, d) in enumerate(model.network.latent_shapes)
    ]
    return [jnp.float32(channels_last(noise)) for noise in drawn]


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_bound_and_outputs_are_the_authors(authors, nets):
    """Latents of the posterior: both terms, the bound, and the parameters of the mixtures."""
    image = jnp.float32(authors["image"]) / 127.5 - 1

    def terms(noise):
        output, found = NARROW._through(nets, image, noise)
        return output, found.kl, -NARROW._log_prob(output, image)

    output, kl, reconstruction = jit(terms)(noise_of(NARROW, len(image)))
    near(output, official_to_ours(authors["output"], 3))
    near(kl, authors["kl"])
    near(reconstruction / image[0].size, authors["distortion"])
    near(jnp.mean(kl + reconstruction) / image[0].size, authors["elbo"])


def test_what_is_drawn_from_the_prior_is_the_authors(authors, nets):
    """At a temperature, which multiplies the noise."""
    noise = [authors["temperature"] * part for part in noise_of(NARROW, 3)]
    output = jit(lambda noise: NARROW.network.apply(nets["network"], noise, 20)[0])(noise)
    near(output, official_to_ours(authors["prior_output"], 3))


PUBLISHED = {  # rows of levels, width, and the side of images
    "cifar10": (((32, 12, 22), (16, 7, 11), (8, 7, 6), (4, 4, 3), (1, 3, 1)), 384),
    "imagenet32": (((32, 16, 41), (16, 10, 20), (8, 9, 10), (4, 7, 5), (1, 6, 2)), 512),
    "imagenet64": (((64, 12, 13), (32, 21, 32), (16, 10, 16), (8, 9, 8), (4, 8, 4), (1, 5, 2)), 512),
    "ffhq256": (
        ((256, 4, 1), (128, 9, 8), (64, 13, 14), (32, 18, 22), (16, 8, 10), (8, 6, 5), (4, 6, 4), (1, 4, 2)), 512
    ),
}  # fmt: skip


@functools.cache
def count(levels: tuple, width: int) -> int:
    model = VDVAE((levels[0][0], levels[0][0], 3), TopDownNetwork(levels, width))
    shapes = jax.eval_shape(model.init, KEY, {"image": jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)})
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_authors(authors, name):
    """Of a block up and one down at each size; of the others, that to trace takes long, a block of each kind."""
    levels, width = PUBLISHED[name]
    total = count(tuple((size, 1, 1) for size, _, _ in levels), width)
    for small in (True, False):  # blocks of up to 2 pixels have small windows
        ups, downs = (sum(row[way] - 1 for row in levels if (row[0] <= 2) == small) for way in (1, 2))
        side = 1 if small else 4
        one = count(((side, 1, 1),), width)
        total += ups * (count(((side, 2, 1),), width) - one) + downs * (count(((side, 1, 2),), width) - one)
    assert total == authors[f"count/{name}"]


# --- the bound and the likelihood -------------------------------------------------------------------------------------


def test_terms_of_normal_latents_by_hand():
    """KL(N(1, 2^2) || N(0, 1)) = 2 - log 2; it is the mean of the ratio, and both are 0 of equal ones."""
    mu, log_sigma = jnp.ones((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), math.log(2.0))
    noise = jax.random.normal(KEY, (100_000, 1, 1, 1))
    kl, ratio = compared(mu + 2 * noise, noise, mu, log_sigma, 0 * mu, 0 * log_sigma)
    np.testing.assert_allclose(kl, 2 - math.log(2), rtol=1e-6)
    np.testing.assert_allclose(ratio.mean(), 2 - math.log(2), atol=0.03)
    for term in compared(mu + 2 * noise, noise, mu, log_sigma, mu, log_sigma):
        np.testing.assert_allclose(term, 0, atol=1e-5)


@pytest.fixture(scope="module")
def found(nets):
    """The loss of grey images, reconstructions and samples: of one compilation."""
    model = SMALL
    params = nets["network"]["params"]
    # Theirs are of colours: the first weights for what is put out, and one channel of what comes in.
    wide = jnp.asarray(drawn_weights.normal("out", (1, 1, 6, 256)), jnp.float32)
    grey = params | {"in": params["in"] | {"kernel": params["in"]["kernel"][:, :, :1]}}
    grey["out"] = {"kernel": 0.5 * wide, "bias": jnp.zeros(256)}
    nets = {"network": {"params": grey}}
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 4, 4, 1)) / 127.5 - 1, jnp.float32)

    @jit
    def compute(nets, image, z, keys):
        loss, aux = model.loss(nets, Inputs({"image": image}, KEY, keys, jnp.int32(0), {}))
        return {
            "loss": loss, "metrics": aux.metrics,
            "reconstruct": model.reconstruct(nets, image), "generate": model.generate(nets, z, {}),
            "sample": model.sample(nets, KEY, 4, {"temperature": jnp.float32(0.5)}),
        }  # fmt: skip

    z = jnp.zeros((4, model.latent_dim))
    return compute(nets, image, z, jax.random.split(KEY, 4))


def test_loss_and_metrics(found):
    """The loss is in nats a value of an image; metrics are in nats an image, and bits."""
    metrics = dict(found["metrics"])
    both = metrics.pop("reconstruction") + metrics.pop("kl")
    wanted = {"elbo": -both, "bits_per_dim": both / (16 * math.log(2))}
    assert metrics.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["loss"], both / 16, rtol=1e-5)


def test_images_of_latents_and_samples(found):
    """Means are between levels, samples at levels; rows of equal latents are equal images."""
    assert found["sample"].shape == found["reconstruct"].shape == found["generate"].shape == (4, 4, 4, 1)
    level = (np.asarray(found["sample"]) + 1) * 127.5
    np.testing.assert_allclose(level, np.round(level), atol=1e-3)
    assert np.abs(found["reconstruct"]).max() <= 1 and np.ptp(found["reconstruct"][:, 0, 0, 0]) > 0
    np.testing.assert_allclose(found["generate"], found["generate"][:1].repeat(4, 0), atol=1e-5)


@pytest.mark.slow
def test_importance_samples_give_the_likelihood_where_the_bound_is_loose():
    """Where latents tell pixels nothing, -log p(x) is the reconstruction alone, whatever the posterior is."""
    model = VDVAE((2, 2, 1), TopDownNetwork(((2, 1, 1), (1, 1, 1)), 4, 1, 0.5), LogisticMixture(1))
    image = jnp.float32([[[[-1.0], [0.2]], [[0.6], [1.0]]]])
    params = jit(batch_draws(model.init))(KEY, {"image": image})["network"]["params"]
    for name in ("down_2_0", "down_1_0"):
        params[name]["told"] = jax.tree.map(jnp.zeros_like, params[name]["told"])
        params[name]["posterior"]["out"]["bias"] += 0.3  # of means and deviations
    nets, keys = {"network": {"params": params}}, jax.random.split(KEY, 1)
    elbo, nll = jit(lambda: (model.elbo(nets, image, keys), model.nll(nets, image, keys, 2_000)))()
    assert elbo.kl[0] > 0.3
    np.testing.assert_allclose(nll, elbo.reconstruction, atol=0.1)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_levels_follow_the_size_of_images():
    model = VDVAE()
    sizes = {64: (64, 32, 16, 8, 4, 1), 28: (28, 14, 7, 1), 8: (8, 4, 1), 9: (9, 1), 1: (1,)}
    for side, wanted in sizes.items():
        found = model.for_images((side, side, 1), 0)
        assert tuple(size for size, _, _ in found.network.levels) == wanted and found.image_shape == (side, side, 1)
        found.network.check(found.image_shape)
    assert model.for_images((32, 32, 3), 0) == model
    assert model.for_images((64, 64, 3), 0).network.levels[-3:] == ((8, 4, 3), (4, 4, 3), (1, 3, 1))
    with pytest.raises(ValueError, match="images of 8x9: a VDVAE's are square"):
        model.for_images((8, 9, 3), 0)


@pytest.mark.parametrize(
    ("levels", "wrong"),
    [
        (((16, 1, 1), (1, 1, 1)), r"begin with \[16\]"),
        (((4, 1, 1), (3, 1, 1)), "4 is no multiple of 3"),
        (((4, 1, 1), (4, 1, 1)), "4 is no multiple of 4, or not larger"),
        ((), r"begin with \[\]"),
    ],
)
def test_levels_that_do_not_fit_are_refused(levels, wrong):
    model = dataclasses.replace(NARROW, network=TopDownNetwork(levels))
    with pytest.raises(ValueError, match=wrong):
        model.init(KEY, {"image": jnp.zeros((1, 4, 4, 3))})
    with pytest.raises(ValueError, match="temperature=-1.0"):
        NARROW.check_conditions({"temperature": np.float32(-1)})
