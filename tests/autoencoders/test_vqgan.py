"""VQGAN and the KL autoencoder: what they are made of, when the discriminator starts, and what they refuse."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.autoencoders.adversary import Adversary, Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.autoencoders.quantise import EMACodebook, MultiScaleCodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.capabilities import EncodesLatents, ForImages, Tokenizing, TokenizingByScale
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import SGD
from imagegen_jax.data import Digits
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.patch import PatchDiscriminator
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.nn.perceptual import LPIPS, MobileNet

LEVELS = {"width": 4, "multipliers": (1, 2), "blocks": 1}
TOKENIZER = Tokenizer(ConvEncoder(**LEVELS, features=4), EMACodebook(8, 4), ConvDecoder(**LEVELS), 4)
PIXELS, JUDGE = Likeness(perceptual=None), Adversary(PatchDiscriminator(4, 1), start=3)
SMALL = VQGAN((8, 8, 3), TOKENIZER, PIXELS, JUDGE)
KL = AutoencoderKL((8, 8, 3), KLNetwork(TOKENIZER.encoder, TOKENIZER.decoder, 2), PIXELS, JUDGE)
KEY = jax.random.key(0)


@functools.cache
def given(model):
    """(the shapes of the networks, inputs of four images)"""
    image = jnp.zeros((4, *model.image_shape))
    nets = jax.eval_shape(model.init, KEY, {"image": image})
    return nets, Inputs({"image": image}, KEY, jax.random.split(KEY, 4), jnp.int32(0), nets)


@pytest.mark.parametrize("quantiser", [EMACodebook(8, 4), MultiScaleCodebook(EMACodebook(8, 4), (1, 2, 4), 1)])
def test_it_follows_other_images_and_its_grids_with_them(quantiser):
    """As VQ-VAE does, with which it shares what tokenizers have in common."""
    model = dataclasses.replace(SMALL, network=TOKENIZER.clone(quantiser=quantiser))
    other = model.for_images((16, 16, 1), 0)
    assert isinstance(model, TokenizingByScale) and isinstance(model, ForImages)
    assert other == dataclasses.replace(model, image_shape=(16, 16, 1), network=other.network)
    assert (other.code_sizes[-1], other.code_dim) == (8, 4) if other.code_sizes else other.code_shape == (8, 8)
    codes = jax.ShapeDtypeStruct((2, *other.code_shape), jnp.int32)
    nets = {"tokenizer": jax.eval_shape(other.init_tokenizer, KEY)}
    assert jax.eval_shape(other.decode, nets, codes).shape == (2, 16, 16, 1)
    with pytest.raises(ValueError, match="such as 14 or 16"):
        model.for_images((15, 15, 1), 0)


class Brightness:
    """A discriminator without weights."""

    def apply(self, variables, x, train, mutable):
        return x.mean((1, 2, 3)), {}


def test_without_an_adaptive_weight_the_judgement_counts_as_it_is():
    """And R1 of a judgement whose gradient is 1 over the number of values everywhere."""
    judge = Adversary(Brightness(), NonSaturating(), weight=0.1, adaptive=False, penalty_weight=10.0)
    nets, x, y = {"discriminator": {}}, jnp.zeros((2, 4, 4, 3)), jnp.full((2, 4, 4, 3), 0.5)

    def judged(y):
        return judge.judged(nets, x, y, None, None)[0]

    value, gradient = jax.value_and_grad(judged)(y)
    np.testing.assert_allclose(value, 0.1 * np.log1p(np.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(gradient, -0.1 / (1 + np.exp(0.5)) / y.size, rtol=1e-5)
    loss, aux = judge.loss(nets, x, y)
    wanted = 0.5 * (np.log(2) + np.log1p(np.exp(0.5))) + 10 / 48
    np.testing.assert_allclose((loss, aux.metrics["penalty"]), (wanted, 1 / 48), rtol=1e-6)


# --- the discriminator's part ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("model", [SMALL, KL], ids=["vqgan", "kl"])
def test_the_discriminator_costs_nothing_before_it_starts(model):
    nets, inputs = given(model)
    assert [model.stage(step) for step in (0, 2, 3, 9)] == [False, False, True, True]
    (before,), (first, second) = model.phases(False), model.phases(True)
    assert before.trains == first.trains and second.trains == ("discriminator",)
    without = {name: variables for name, variables in nets.items() if name != "discriminator"}
    _, aux = jax.eval_shape(before.loss, without, inputs)
    _, later = jax.eval_shape(first.loss, nets, inputs)
    assert later.metrics.keys() - aux.metrics.keys() == {"adversarial", "adaptive_weight"}


# --- what models do ---------------------------------------------------------------------------------------------------


def test_both_encode_and_decode_and_say_so():
    assert isinstance(SMALL, Tokenizing) and not isinstance(SMALL, EncodesLatents)
    assert isinstance(KL, EncodesLatents) and not isinstance(KL, Tokenizing)
    nets, inputs = given(SMALL)
    codes = jax.eval_shape(SMALL.encode, nets, inputs.batch["image"])
    assert codes.shape == (4, *SMALL.code_shape) == (4, 4, 4) and SMALL.codebook_size == 8
    assert jax.eval_shape(SMALL.decode, nets, codes).shape == (4, 8, 8, 3)
    nets, inputs = given(KL)
    moments = jax.eval_shape(KL.encode, nets, inputs.batch["image"])
    assert moments.mean.shape == moments.std.shape == (4, *KL.latent_shape) == (4, 4, 4, 2)
    assert jax.eval_shape(KL.decode, nets, moments.mean).shape == (4, 8, 8, 3)
    assert "likelihood" not in jax.eval_shape(dataclasses.replace(KL, learned_variance=False).init, KEY, inputs.batch)
    alone = dataclasses.replace(KL, adversary=None)
    assert "discriminator" not in jax.eval_shape(alone.init, KEY, inputs.batch)
    assert not alone.stage(10**9) and [phase.name for phase in alone.phases(False)] == ["autoencoder"]


# --- perceptual distances ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("perceptual, size", [(MobileNet((1,)), 8), (LPIPS("alex"), 32)])
def test_equal_images_are_at_no_distance_and_others_at_some(perceptual, size):
    a = jax.random.uniform(KEY, (2, size, size, 1), minval=-1)
    b = a.at[1].multiply(-1)

    def distances(key):
        return perceptual.distances(perceptual.init_weights(key, a), a, b)

    same, other = jax.jit(distances, compiler_options={"xla_backend_optimization_level": 0})(KEY)
    assert same == 0 and 0 < other


def test_mobilenet_compares_directions_of_features(monkeypatch):
    """A quarter turn is at a squared distance of 2, half of one at 2 - sqrt 2, and a change of length at none."""
    features = {0.0: [1.0, 0.0], 1.0: [0.0, 3.0], 2.0: [2.0, 2.0], 3.0: [5.0, 0.0]}
    monkeypatch.setattr(
        "imagegen_jax.nn.backbones.mobilenet.activations",
        lambda weights, x, blocks: [jnp.array([[[features[float(row[0, 0, 0])]]] for row in x])] * blocks,
    )
    a, b = (jnp.array(values).reshape(-1, 1, 1, 3) for values in ([[0.0] * 3] * 3, [[v] * 3 for v in (1.0, 2.0, 3.0)]))
    found = MobileNet((1, 2)).distances({}, a, b)
    np.testing.assert_allclose(found, [2, 2 - math.sqrt(2), 0], atol=1e-6)


# --- bad input --------------------------------------------------------------------------------------------------------


def experiment(model, **changes):
    optim = {"tokenizer": SGD(0.1), "discriminator": SGD(0.1)}
    settings = {"batch_size": 8, "steps": 8, "optim": optim, **changes}
    return ig.Experiment("small", model, Digits(size=8, channels=3), **settings)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"image_shape": (9, 8, 3)}, r"image_shape=9x8: .* multiples of 2, such as 8 or 10"),
        ({"network": Tokenizer(decoder=ResidualDecoder())}, r"decoder=ResidualDecoder: .* give it `last_kernel`"),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    "model, changes, words",
    [
        (SMALL, {"optim": {"tokenizer": SGD(0.1)}}, r"trains 'discriminator', which has no optimizer"),
        (
            dataclasses.replace(SMALL, likeness=Likeness(perceptual=MobileNet((1,)))),
            {},
            r"'perceptual' is frozen and has no weights",
        ),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_before_it_is_compiled(model, changes, words):
    with pytest.raises(ValueError, match=words):
        ig.Program(experiment(model, **changes))


@pytest.mark.parametrize(
    "model, words",
    [
        (dataclasses.replace(SMALL, likeness=Likeness()), r"LPIPS on 'vgg' takes images of 16 pixels or more"),
        (
            VQGAN((8, 8, 2), TOKENIZER, Likeness(perceptual=MobileNet()), JUDGE),
            r"MobileNet compares grey or colour images, and these have 2 channels",
        ),
        (
            AutoencoderKL(
                (8, 8, 3), KLNetwork(TOKENIZER.encoder, TOKENIZER.decoder, 3, pointwise=False), PIXELS, JUDGE
            ),
            r"makes 4 features, but .* latent_channels=3 are 6",
        ),
        (dataclasses.replace(SMALL, adversary=Adversary()), r"halvings=3 .* images of 8x8: use at most 1"),
    ],
)
def test_networks_that_do_not_go_together_are_named(model, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(model.init, KEY, {"image": jnp.zeros((2, *model.image_shape))})


def test_blocks_that_mobilenet_has_not_are_refused():
    with pytest.raises(ValueError, match=r"blocks=\(13,\) of MobileNet: name one or more of 1 to 12"):
        MobileNet((13,))


# --- files of others --------------------------------------------------------------------------------------------------


def test_a_frozen_network_takes_its_part_of_a_larger_file(tmp_path):
    """Such as Keras' MobileNet, which goes on with a classifier; one that lacks an array is another network's."""
    likeness = Likeness(perceptual=MobileNet((1,)))
    weights = likeness.init(KEY, jnp.zeros((1, 8, 8, 3)))["perceptual"]
    flat = {f"{layer}/{name}": np.asarray(a) for layer, arrays in weights.items() for name, a in arrays.items()}
    np.savez(tmp_path / "larger.npz", **flat, **{"dense/kernel": np.zeros((3, 2))})
    given = {"pretrained": {"perceptual": str(tmp_path / "larger.npz")}}
    found = ig.Program(experiment(dataclasses.replace(SMALL, likeness=likeness), **given)).pretrained()["perceptual"]
    assert jax.tree.structure(found) == jax.tree.structure(dict(weights))
    np.savez(tmp_path / "larger.npz", **{n: a for n, a in flat.items() if n != "conv1/kernel"}, other=np.zeros(2))
    with pytest.raises(ValueError, match=r"pretrained\['perceptual'\].*conv1/kernel: none there"):
        ig.Program(experiment(dataclasses.replace(SMALL, likeness=likeness), **given)).pretrained()
