"""Small models that make images of latents, with random weights that nothing was compiled for."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.autoencoders.networks import MLPDecoder, MLPEncoder
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.gan import cgan, dcgan, r3gan
from imagegen_jax.gan.cgan import CGAN
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.r3gan import R3GAN
from imagegen_jax.gan.residual import sngan
from imagegen_jax.gan.residual.sngan import SNGAN
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Generator
from imagegen_jax.gan.wgan import WGAN

KEY, SHAPE = jax.random.key(0), (8, 8, 1)
STAGES = r3gan.Stages((4, 4), (2, 2), (1, 1))

MODELS = {
    "dcgan": DCGAN(SHAPE, dcgan.Generator(2), dcgan.Discriminator(2), 5),
    "cgan": CGAN(SHAPE, cgan.MLPGenerator(4, 4, 4), cgan.MLPDiscriminator(2, 2, 2), 5, num_classes=3),
    "wgan": WGAN(SHAPE, dcgan.Generator(2), dcgan.Discriminator(2), 5),
    "sngan": SNGAN(SHAPE, sngan.Generator(4, (1, 1)), sngan.Discriminator(4, (1, 1), 1), 5, num_classes=3),
    "r3gan": R3GAN(SHAPE, 3, r3gan.Generator(STAGES, 2), r3gan.Discriminator(STAGES, 4), 5),
    "vae": VAE(SHAPE, MLPEncoder(), MLPDecoder(), latent_dim=5),
}


def filled(init, *arguments):
    """What `init` returns, with other random weights: initialisers would take longer to compile than the tests."""
    random = np.random.default_rng(0)

    def fill(path, leaf):
        ones = path[-1].key in ("scale", "var")
        return jnp.asarray(np.ones(leaf.shape) if ones else random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(init, *arguments))


def attentive(nets):
    """Networks whose weights are small but for those of attention to tokens, so that texts make a difference."""

    def scaled(path, leaf):
        return (2.0 if any(getattr(part, "key", "") == "cross_attention" for part in path) else 0.2) * leaf

    return jax.tree_util.tree_map_with_path(scaled, nets)


@functools.cache
def networks(name):
    batch = {"image": jnp.zeros((2, *SHAPE)), "label": jnp.zeros(2, jnp.int32)}
    return filled(MODELS[name].init, KEY, batch)


@functools.cache
def styled(classes: int = 0):
    """A tiny StyleGAN2 and its generator, whose images are within [-1, 1]."""
    model = StyleGAN2((8, 8, 3), Generator(6, 2, 1.0, 64, 8), latent_dim=4, num_classes=classes)
    labels = jnp.zeros((1, classes)) if classes else None
    init = functools.partial(model.generator.init, image_shape=model.image_shape)
    variables = filled(init, KEY, jnp.zeros((1, 4)), labels)
    for name, layer in variables["params"]["synthesis"].items():
        if name.startswith("image"):
            layer["kernel"], layer["bias"] = 0.03 * layer["kernel"], 0.1 * layer["bias"]
    return model, {"generator": {**variables, "averages": {"w": jnp.zeros(6)}}}


@dataclasses.dataclass
class Painter:
    """The image of (z, label) has the constant value z[0] and 0.1 times the label; it counts its compilations."""

    image_shape: tuple[int, int, int] = (2, 2, 1)
    latent_dim: int = 3
    traced: int = 0

    def generate(self, nets, z, conditions):
        self.traced += 1
        value = z[:, 0] + 0.1 * conditions.get("label", 0) * conditions.get("truncation", 1.0)
        return jnp.broadcast_to(value[:, None, None, None], (len(z), *self.image_shape))
