"""What networks need beside a text's tokens: the vector of the whole text, the sizes of a picture, if they see them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import filled
from official import jit

from imagegen_jax.autoencoders.kl import AutoencoderKL
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.nn.backbones.conditioning import conditioning_of
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

CLIP = CLIPText(12, 6, 8, 1, 2, projection=5)
MASK = jnp.arange(6) < jnp.array([[3], [2]])
TEXT = {"text": jnp.array([[1, 5, 11, 0, 0, 0], [1, 11, 0, 0, 0, 0]]), "text_mask": MASK}
BATCH = {"image": jnp.zeros((2, 8, 4, 4)), **TEXT}
SPACE = Latents(autoencoder=AutoencoderKL((64, 32, 3)))
UNET = LatentUNet(32, (1, 2), 1, depths=(0, 1), heads=1)
PIXART = PixArt(depth=1, width=24, heads=2, out_channels=None)
SEEN = {  # whether the whole text is, and the sizes
    "stable_diffusion_1": (UNET, False, None),
    "sdxl": (UNET.clone(added=True), True, [64, 32, 0, 0, 64, 32]),
    "stable_diffusion_3": (MMDiT(depth=1, width=16, heads=2, largest=12, extent=4), True, None),
    "pixart": (PIXART, False, None),
    "pixart_1024": (PIXART.clone(sizes=True), False, [64, 32]),
}


def model_of(network, text=CLIP):
    return Diffusion(network, image_shape=(8, 4, 4), space=SPACE, text=text)


@pytest.mark.parametrize("name", SEEN)
def test_a_model_gives_its_network_what_it_needs(name):
    nets = jax.eval_shape(model_of(SEEN[name][0]).init, jax.random.key(0), BATCH)
    assert ("added_0" in nets["network"]["params"]) == (name == "sdxl")


def test_the_text_is_the_encoder_s_and_sizes_are_the_image_s():
    variables = filled(CLIP.init, jax.random.key(0), *TEXT.values())
    nets = {"text": variables}
    models = {name: model_of(network) for name, (network, _, _) in SEEN.items()}
    told, encoded = jit(
        lambda: (
            {name: conditioning_of(model, TEXT, nets) for name, model in models.items()},
            CLIP.apply(variables, *TEXT.values()),
        )
    )()
    for name, (_, whole, sizes) in SEEN.items():
        np.testing.assert_array_equal(told[name].tokens, encoded.tokens)
        assert (told[name].pooled is not None) == whole and (told[name].sizes is not None) == bool(sizes)
        if whole:
            np.testing.assert_array_equal(told[name].pooled, encoded.pooled)
        if sizes:
            np.testing.assert_array_equal(told[name].sizes, [sizes, sizes])


def test_an_encoder_without_a_vector_of_the_whole_text_is_refused():
    model = model_of(SEEN["stable_diffusion_3"][0], T5Encoder(12, 6, 8, 1, 2, 4, 8))
    with pytest.raises(ValueError, match="model.text=T5Encoder: a MMDiT needs a vector of the whole text"):
        jax.eval_shape(model.init, jax.random.key(0), BATCH)
