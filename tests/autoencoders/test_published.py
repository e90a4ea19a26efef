"""Published autoencoders: their parameters, shapes of their latents, and a tokenizer before it is quantised."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest
from latent_models import filled

from imagegen_jax.autoencoders.first_stages.published import PUBLISHED, published
from imagegen_jax.autoencoders.first_stages.unquantised import Unquantised
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.core.capabilities import EncodesLatents
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder

KEY = jax.random.key(0)
KINDS = {  # side of the images that a latent stands for, channels, parameters
    "sd": (8, 4, 83_653_863),
    "sd3": (8, 16, 83_819_683),
    "kl_f4": (4, 3, 55_312_063),
    "kl_f16": (16, 16, 69_610_963),
    "mar": (16, 16, 66_456_019),
    "kl_f32": (32, 64, 103_880_131),
    "vq_f4": (4, 3, 55_322_782),
    "taesd": (8, 4, 2_445_063),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_published_autoencoders_have_the_published_parameters(name):
    factor, channels, count = KINDS[name]
    found = published(name, (64, 64, 3))
    assert isinstance(found, EncodesLatents) and found.latent_shape == (64 // factor, 64 // factor, channels)
    params = jax.eval_shape(found.init_autoencoder, KEY)["params"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


def test_names_and_shapes():
    assert KINDS.keys() == PUBLISHED.keys() and published("sd").image_shape == (256, 256, 3)
    with pytest.raises(ValueError, match="no published autoencoder 'sd4': use one of sd, sd3, kl_f4"):
        published("sd4")
    for name in ("sd", "vq_f4", "taesd"):
        with pytest.raises(ValueError, match="both sides must be multiples of"):
            published(name, (250, 250, 3))


def test_a_tokenizer_before_it_is_quantised():
    """Vectors that are no codes' are quantised as they are decoded; the network is the tokenizer's own."""
    levels = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}
    network = Tokenizer(ConvEncoder(**levels, features=6), Codebook(8, 4), ConvDecoder(**levels), post_features=6)
    model = Unquantised((8, 8, 3), network)
    assert model.latent_shape == (4, 4, 4)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)

    nets = {"autoencoder": filled(model.init_autoencoder, KEY)}

    @jax.jit
    def coded(nets, image):
        mean, std = model.encode(nets, image)
        return mean, std, model.decode(nets, mean), network.apply(nets["autoencoder"], image)

    mean, std, decoded, (reconstructed, quantised) = jax.device_get(coded(nets, image))
    assert mean.shape == std.shape == (3, 4, 4, 4) and not std.any()
    np.testing.assert_allclose(decoded, np.clip(reconstructed, -1, 1), atol=1e-5)
    book = np.asarray(nets["autoencoder"]["params"]["quantiser"]["embedding"])
    nearest = np.linalg.norm(mean[..., None, :] - book, axis=-1).argmin(-1)
    np.testing.assert_array_equal(quantised.codes, nearest)
    assert dataclasses.replace(model, image_shape=(16, 16, 3)).latent_shape == (8, 8, 4)
