"""The encoder and decoder of VQGAN: published sizes, shapes, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import pytest

from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder

F16, F8 = (1, 1, 2, 2, 4), (1, 2, 2, 4)
# (multipliers, levels with attention, attention in the middle, z, dimensions of a code, codes, published parameters)
PUBLISHED = {
    "taming f16, K 1024": (F16, (4,), True, 256, 256, 1024, 72_141_699),
    "taming f16, K 16384": (F16, (4,), True, 256, 256, 16384, 76_073_859),
    "taming f8, Gumbel": ((1, 1, 2, 4), (3,), True, 256, 256, 8192, 66_890_627),
    "latent diffusion VQ-f4": ((1, 2, 4), (), True, 3, 3, 8192, 55_322_782),
    "latent diffusion VQ-f4 without attention": ((1, 2, 4), (), False, 3, 3, 8192, 53_219_486),
    "latent diffusion VQ-f8": (F8, (3,), True, 4, 4, 16384, 67_717_295),
    "latent diffusion VQ-f16": (F16, (4,), True, 8, 8, 16384, 69_593_371),
    "LlamaGen VQ-16": (F16, (4,), True, 256, 8, 16384, 71_883_403),
}


def size(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.endswith("f4") else pytest.mark.slow) for name in PUBLISHED]
)
def test_parameters_are_the_published_ones(name):
    """The book's vectors count, though here no gradient trains them."""
    multipliers, levels, middle, z, dim, codes, published = PUBLISHED[name]
    same = {"multipliers": multipliers, "attention_levels": levels, "middle_attention": middle}
    network = Tokenizer(ConvEncoder(features=z, **same), EMACodebook(codes, dim), ConvDecoder(**same), post_features=z)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    found = jax.eval_shape(network.init, jax.random.key(0), image)
    assert size(found["params"]) + codes * dim == published


def test_each_level_but_the_last_halves_the_image():
    encoder, decoder = ConvEncoder(8, (1, 2, 1), 1, features=5), ConvDecoder(8, (1, 2, 1), 1)
    z, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((2, 16, 24, 3)))
    x, found = jax.eval_shape(lambda z: decoder.init_with_output(jax.random.key(0), z, 4), z)
    assert encoder.factor == 4 and z.shape == (2, 4, 6, 5) and x.shape == (2, 16, 24, 4)
    layer, leaf = decoder.last_kernel
    assert found["params"][layer][leaf].shape == (3, 3, 8, 4)


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
def test_levels_that_are_not_there_are_refused(network):
    with pytest.raises(ValueError, match=r"attention_levels=\(3,\): there is no level 3; .* are 0 to 2"):
        network(multipliers=(1, 2, 4), attention_levels=(3,))
    with pytest.raises(ValueError, match=r"multipliers=\(\): give one a level"):
        network(multipliers=())
