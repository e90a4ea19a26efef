"""MaskGIT's tokenizer and its discriminator against the authors' flax code, at random weights."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.autoencoders.adversary import Adversary
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.nn.backbones.blurred_discriminator import BlurredDiscriminator
from imagegen_jax.nn.backbones.pooled_autoencoder import PooledDecoder, PooledEncoder
from imagegen_jax.nn.objectives import NonSaturating

pytestmark = pytest.mark.slow

NEAR, CODES, DIM = 1e-5, 8, 6
SIZES = {"width": 16, "multipliers": (1, 2), "blocks": 1, "dtype": "float64"}
BOOK = Codebook(CODES, DIM, 0.25, entropy=0.1, temperature=0.5)
NETWORK = Tokenizer(PooledEncoder(**SIZES), BOOK, PooledDecoder(**SIZES), dtype="float64")


@pytest.fixture
def load(root):
    return lambda name: official.load(str(root / "tests/reference/official_maskgit_tokenizer.npz"), name)


def leaves(case: official.Case, modules: dict[str, str]) -> official.Names:
    """Names of the leaves of modules: ours by theirs."""
    found = {}
    for name in case.weights:
        module, leaf = name.removeprefix("params/").rsplit("/", 1)
        found[f"params/{modules[module]}/{leaf}"] = (name, official.same)
    return found


def block(theirs: str, ours: str) -> dict[str, str]:
    found = {f"{theirs}/NarrowNorm_{i}/norm": f"{ours}/norm_{i + 1}" for i in range(2)}
    return found | {f"{theirs}/Conv_{i}": f"{ours}/{n}" for i, n in enumerate(("conv_1", "conv_2", "shortcut"))}


def squared(names: official.Names) -> official.Names:
    """The 1x1 convolution of a shortcut is a dense layer in ours."""
    return {
        ours: (theirs, (lambda w: w[0, 0] if w.ndim == 4 else w) if "shortcut" in ours else form)
        for ours, (theirs, form) in names.items()
    }


def test_the_encoder_is_the_authors(load):
    case = load("encoder")
    modules = {"Conv_0": "encoder/conv_in", "Conv_1": "pre", "NarrowNorm_0/norm": "encoder/norm_out"}
    for i, name in enumerate(("down_0_0", "down_1_0", "middle_0")):
        modules |= block(f"ResBlock_{i}", f"encoder/{name}")

    def apply(variables, x):
        return NETWORK.apply(variables, x, method=lambda network, x: network.pre(network.encoder(x))), None

    names = squared(leaves(case, modules))
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


def test_the_decoder_is_the_authors(load):
    case = load("decoder")
    modules = {"Conv_0": "conv_in", "Conv_1": "up_1", "Conv_2": "conv_out", "NarrowNorm_0/norm": "norm_out"}
    for i, name in enumerate(("middle_0", "up_1_0", "up_0_0")):
        modules |= block(f"ResBlock_{i}", name)
    names = squared(leaves(case, modules))
    apply = lambda variables, z: (NETWORK.decoder.apply(variables, z, 3), None)  # noqa: E731
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


def test_the_quantiser_has_the_authors_loss(load):
    """Theirs adds 1e-5 to each probability before it takes the logarithm, so that theirs is larger by as much."""
    case = load("quantiser")
    names = {"params/embedding": ("params/codebook", official.same)}
    apply = lambda variables, z: (BOOK.apply(variables, z).loss[None] + 0.1 * CODES * 1e-5, None)  # noqa: E731
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


def test_the_discriminator_has_the_authors_loss(load):
    """With R1."""
    case = load("discriminator")
    modules = {"Conv_0": "conv_in", "Conv_1": "conv_out", "Dense_0": "dense", "Dense_1": "logit"}
    for i in range(2):
        layers = (f"conv_{i + 1}_0", f"skip_{i + 1}", f"conv_{i + 1}_1")
        modules |= {f"ResBlock_{i}/Conv_{j}": name for j, name in enumerate(layers)}
    judge = Adversary(
        BlurredDiscriminator(8, 16, dtype="float64"), NonSaturating(), discriminator_weight=1.0, penalty_weight=10.0
    )

    def apply(variables, x):
        loss, _ = judge.loss({"discriminator": variables}, x, jnp.asarray(case.inputs["fake"]))
        return loss[None], None

    names = leaves(case, modules)
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


@pytest.mark.parametrize("side", [(12, 12), (2, 2), (16, 18)])
def test_images_that_do_not_halve_to_four_pixels_are_refused(side):
    with pytest.raises(ValueError, match=f"images of {side[0]}x{side[1]}: a BlurredDiscriminator halves them until"):
        BlurredDiscriminator(2).apply({"params": {}}, np.zeros((1, *side, 3)))
