"""A recipe of each family for images of one's own: networks, rates and lengths that follow from the images' size.

They are made for some hundreds to some ten thousands of images and one accelerator: their networks are narrower than
the papers', training is shorter, and weights are averaged. Each says what it follows; numbers that are no paper's are
round ones. Longer training (`--steps`) is better. `fit.fitted` gives them the shape and the classes of the data.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from imagegen_jax.autoencoders.likelihood import Gaussian
from imagegen_jax.autoencoders.networks import ConvDecoder, ConvEncoder
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.optim import Adam, CosineDecay, WarmUp
from imagegen_jax.data import Digits, HorizontalFlip
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import EDMAugment
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Karras, ShiftedFlow
from imagegen_jax.gan import cgan, dcgan, r3gan
from imagegen_jax.gan.augment import ADA
from imagegen_jax.gan.residual import sngan
from imagegen_jax.gan.style import stylegan2_networks
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.wgan import WGAN
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.shipped import recipes

SIZE = 64  # pixels, where nothing says another
NARROW = 8  # channels of the networks of smoke runs
_UNET = {"model.network.width": NARROW, "model.network.blocks": 1, "model.network.attention_at": (1,)}
_BRIEF = {"batch_size": 8, "samples": 10, "steps": 8}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An experiment, on digits until it is given the images that it is for, and what makes it a run of seconds."""

    experiment: Experiment
    smoke: Mapping[str, Any]


def recipe_of(family: str, size: int = SIZE) -> Recipe:
    """Returns the recipe of a family for square images of a size; raises ValueError for a name that is none."""
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if family in recipes():
            hint = f"; a recipe takes other images by --data: imagegen train {family} --data PHOTOS"
        raise ValueError(f"--recipe {family}: there is no such family, only {', '.join(FAMILIES)}{hint}")
    return FAMILIES[family](size)


def _recipe(name: str, model: Any, networks: Mapping[str, Any], smoke: Mapping[str, Any], **fields: Any) -> Recipe:
    """Makes a recipe with the settings that all have in common; images are mirrored at random."""
    settings: dict[str, Any] = {
        "augment": (HorizontalFlip(),), "batch_size": 64, "steps": 20_000, "log_every": 50, "sample_every": 1_000,
        "checkpoint_every": 1_000,
    }  # fmt: skip
    h, w, c = model.image_shape
    experiment = Experiment(name=name, model=model, data=Digits(h, c), optim=networks, **{**settings, **fields})
    return Recipe(experiment, {**_BRIEF, **smoke})


def _generator_average() -> Mapping[str, Any]:
    return {"ema": HalfLife(images=10_000, networks=("generator",))}


# --- adversarial -----------------------------------------------------------------------------------------------------


def _dcgan(size: int) -> Recipe:
    """Makes DCGAN as in `experiments.dcgan_celeb_a64` (arXiv 1511.06434), but with an average; it knows no classes."""
    model = dcgan.DCGAN(image_shape=(size, size, 3))
    networks = {name: Adam(2e-4, b1=0.5) for name in ("generator", "discriminator")}
    smoke = {"model.generator.width": NARROW, "model.discriminator.width": NARROW, "model.latent_dim": NARROW}
    return _recipe("dcgan", model, networks, smoke, averages=_generator_average())


def _cgan(size: int) -> Recipe:
    """Makes a conditional GAN as in `experiments.cgan_mnist` (arXiv 1411.1784), at DCGAN's width."""
    model = cgan.CGAN((size, size, 3), cgan.Generator(width=64), cgan.Discriminator(width=64))
    networks = {name: Adam(2e-4, b1=0.5) for name in ("generator", "discriminator")}
    smoke = {"model.generator.width": NARROW, "model.discriminator.width": NARROW, "model.latent_dim": NARROW}
    return _recipe("cgan", model, networks, smoke, averages=_generator_average())


def _wgan(size: int) -> Recipe:
    """Makes WGAN-GP with strided networks (arXiv 1704.00028): five steps of the critic, rates of Algorithm 1."""
    model = WGAN((size, size, 3), dcgan.Generator(width=64), dcgan.Discriminator(width=64, batch_norm=False))
    networks = {name: Adam(1e-4, b1=0.0, b2=0.9) for name in ("generator", "critic")}
    smoke = {
        "model.generator.width": NARROW, "model.critic.width": NARROW, "model.latent_dim": NARROW,
        "model.critic_steps": 2,
    }  # fmt: skip
    return _recipe("wgan", model, networks, smoke, averages=_generator_average(), steps=50_000)


def _sngan(size: int) -> Recipe:
    """Makes SNGAN (arXiv 1802.05957): a block for each halving down to about 4 pixels, and a projection for classes."""
    halvings = max(1, round(math.log2(size / 4)))
    up = tuple(min(8, 2 ** (halvings - i)) for i in range(halvings + 1))  # channels halve as the size doubles
    model = sngan.SNGAN(
        image_shape=(size, size, 3),
        generator=sngan.Generator(width=64, multipliers=up),
        discriminator=sngan.Discriminator(width=64, multipliers=up[::-1], halvings=halvings),
        discriminator_steps=1,  # at rates of their own (arXiv 1706.08500) in place of five
    )
    networks = {"generator": Adam(1e-4, b1=0.0, b2=0.9), "discriminator": Adam(4e-4, b1=0.0, b2=0.9)}
    smoke = {"model.generator.width": 2, "model.discriminator.width": 2, "model.latent_dim": NARROW}
    return _recipe("sngan", model, networks, smoke, averages=_generator_average(), steps=50_000)


def _stylegan2(size: int) -> Recipe:
    """Makes StyleGAN2 with adaptive augmentation, as its authors' code sets it for one GPU ("auto", arXiv 2006.06676).

    Batch, gamma, channels and the average's half-life follow from the size. It sees a million images, the paper's 25.
    """
    batch = max(4, min(4096 // size, 32))
    base = 32_768 if size >= 512 else 16_384
    model = StyleGAN2(
        image_shape=(size, size, 3),
        generator=stylegan2_networks.Generator(mapping_layers=2, channel_base=base),
        discriminator=stylegan2_networks.Discriminator(channel_base=base, group=4),
        r1_weight=0.0002 * size**2 / batch,
        augment=ADA(),
    )
    rate = 0.002 if size >= 1024 else 0.0025
    networks = {name: Adam(rate, b1=0.0, b2=0.99) for name in ("generator", "discriminator")}
    smoke = {
        "model.generator": stylegan2_networks.Generator(NARROW, 1, 1.0, 32, NARROW),
        "model.discriminator": stylegan2_networks.Discriminator(32, NARROW), "model.latent_dim": NARROW,
        "model.r1_every": 2, "model.path_every": 2,
    }  # fmt: skip
    average = HalfLife(images=batch * 10_000 / 32, networks=("generator",))
    return _recipe(
        "stylegan2", model, networks, smoke, averages={"ema": average}, batch_size=batch, steps=1_000_000 // batch
    )


def _r3gan(size: int) -> Recipe:
    """Makes R3GAN (arXiv 2501.05441), a third as wide, with the schedules of `experiments.r3gan_cifar10`."""
    steps = 50_000
    stages = r3gan.Stages((256,), (32,), (2,))
    model = r3gan.R3GAN(
        (4, 4, 3),
        generator=r3gan.Generator(stages),
        discriminator=r3gan.Discriminator(stages, embedding=256),
        gamma_steps=steps,
    ).for_images((size, size, 3), 0)
    adam = Adam(CosineDecay(2e-4, 5e-5, steps=steps), b1=0.0, b2=CosineDecay(0.9, 0.99, steps=steps))
    count = len(model.generator.stages.widths)
    smoke = {
        f"model.{network}.stages.{field}": (value,) * count
        for network in ("generator", "discriminator")
        for field, value in (("widths", NARROW), ("groups", 2), ("blocks", 1))
    } | {"model.latent_dim": NARROW, "model.gamma_steps": 8}
    networks = {"generator": adam, "discriminator": adam}
    return _recipe("r3gan", model, networks, smoke, averages=_generator_average(), steps=steps)


# --- autoencoders ----------------------------------------------------------------------------------------------------


def _vae(size: int) -> Recipe:
    """Makes a VAE as in `experiments.vae_cifar10` (arXiv 1312.6114): convolutional, normal pixels, no classes."""
    model = VAE((size, size, 3), ConvEncoder(width=64), ConvDecoder(width=64), Gaussian(), latent_dim=128)
    networks = {name: Adam(CosineDecay(1e-3, warmup=500)) for name in ("encoder", "decoder")}
    smoke = {"model.encoder.width": NARROW, "model.decoder.width": NARROW, "model.latent_dim": NARROW}
    return _recipe("vae", model, networks, smoke, clip_norm=10_000.0)  # nats of a whole image


# --- diffusion -------------------------------------------------------------------------------------------------------


def _levels(size: int) -> tuple[int, ...]:
    """Returns the multipliers of a U-Net's channels: a level for each halving down to 8 pixels, four at most."""
    return (1, 2, 2, 2)[: max(1, min(4, round(math.log2(max(size, 8) / 8)) + 1))]


def _average() -> Mapping[str, Any]:
    return {"ema": HalfLife(images=100_000)}


def _edm(size: int) -> Recipe:
    """Makes EDM as in `experiments.edm_ffhq64` (arXiv 2206.00364) at half the width, with non-leaking augmentation."""
    network = SongUNet(width=64, multipliers=_levels(size), blocks=2, dropout=0.1)
    model = Diffusion(
        network, levels=Karras(18), image_shape=(size, size, 3), num_classes=10, label_dropout=0.1,
        augment=EDMAugment(0.15),
    )  # fmt: skip
    networks = {"network": Adam(WarmUp(2e-4, steps=1_000))}
    smoke = {**_UNET, "model.levels.steps": 3}
    return _recipe("edm", model, networks, smoke, averages=_average(), augment=(), steps=50_000)


def _ddpm(size: int) -> Recipe:
    """Makes DDPM as in `experiments.ddpm_cifar10` (arXiv 2006.11239) at half the width; 100 steps of DDIM draw."""
    model = DDPM(UNet(width=64, multipliers=_levels(size)), sampler=DDIM(steps=100), image_shape=(size, size, 3))
    networks = {"network": Adam(WarmUp(2e-4, steps=1_000))}
    smoke = {**_UNET, "model.sampler.steps": 4}
    return _recipe("ddpm", model, networks, smoke, averages=_average(), clip_norm=1.0, steps=50_000)


def _flow(size: int) -> Recipe:
    """Makes flow matching along straight lines, as in `experiments.flow_digits`, with the U-Net of `ddpm`."""
    model = Diffusion(
        network=UNet(width=64, multipliers=_levels(size)), prediction="velocity", process=RectifiedFlow(),
        times=Uniform(), time_scale=1000.0, levels=ShiftedFlow(50), solver=Heun(), image_shape=(size, size, 3),
        num_classes=10, label_dropout=0.1,
    )  # fmt: skip
    networks = {"network": Adam(WarmUp(2e-4, steps=1_000))}
    smoke = {**_UNET, "model.levels.steps": 3}
    return _recipe("flow", model, networks, smoke, averages=_average(), clip_norm=1.0, steps=50_000)


FAMILIES: Mapping[str, Callable[[int], Recipe]] = {
    "dcgan": _dcgan, "cgan": _cgan, "wgan": _wgan, "sngan": _sngan, "stylegan2": _stylegan2, "r3gan": _r3gan,
    "vae": _vae, "ddpm": _ddpm, "edm": _edm, "flow": _flow,
}  # fmt: skip
