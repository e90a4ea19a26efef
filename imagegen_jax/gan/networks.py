"""How GANs call their networks: a protocol for each way, and the package's networks that follow it."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from jaxtyping import Array, Float

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image
from imagegen_jax.nn.module import Module

Logits = Float[Array, " b"]
Latents = Float[Array, "b d"]
Shape = tuple[int, int, int]


class Generator(Module, Protocol):
    """Makes images from latents."""

    def __call__(self, z: Latents, image_shape: Shape, train: bool) -> Image:
        """Makes an image from each latent: [B D] -> [B *image_shape] in [-1, 1].

        With `train`, norms use the batch's statistics and move their running ones.
        """
        ...


class Critic(Module, Protocol):
    """Judges images."""

    def __call__(self, x: Image, train: bool) -> Logits:
        """Judges images: [B H W C] in [-1, 1] -> [B] logits, high for real"""
        ...


class OneHotGenerator(Module, Protocol):
    """Makes images of classes from latents, by one-hot labels [B K]."""

    def __call__(self, z: Latents, labels: Float[Array, "b k"], image_shape: Shape, train: bool) -> Image:
        """Makes an image of a class from each latent: [B D], [B K] -> [B *image_shape] in [-1, 1]"""
        ...


class OneHotCritic(Module, Protocol):
    """Judges images of classes, by one-hot labels [B K]."""

    def __call__(self, x: Image, labels: Float[Array, "b k"], train: bool) -> Logits:
        """Judges images of classes: [B H W C] in [-1, 1], [B K] -> [B] logits, high for a real image of that class"""
        ...


class ClassGenerator(Module, Protocol):
    """Makes images of classes from latents, by integer labels [B]."""

    def __call__(self, z: Latents, labels: Any, image_shape: Shape, num_classes: int, train: bool) -> Image:
        """Makes an image of a class from each latent: [B D], [B] -> [B *image_shape] in [-1, 1]"""
        ...


class ClassCritic(Module, Protocol):
    """Judges images of classes, by integer labels [B]."""

    def __call__(self, x: Image, labels: Any, num_classes: int) -> Any:
        """Judges images of classes: [B H W C] in [-1, 1], [B] -> [B] logits, high for a real image of that class"""
        ...


AnyGenerator = Annotated[
    Generator, Choices("imagegen_jax.gan.dcgan:Generator", "imagegen_jax.gan.resnet:ResNetGenerator")
]
AnyCritic = Annotated[Critic, Choices("imagegen_jax.gan.dcgan:Discriminator", "imagegen_jax.gan.resnet:ResNetCritic")]
AnyOneHotGenerator = Annotated[OneHotGenerator, Choices("imagegen_jax.gan.cgan:Generator, MLPGenerator")]
AnyOneHotCritic = Annotated[OneHotCritic, Choices("imagegen_jax.gan.cgan:Discriminator, MLPDiscriminator")]
AnyClassGenerator = Annotated[
    ClassGenerator,
    Choices(
        "imagegen_jax.gan.residual.biggan_networks:Generator", "imagegen_jax.gan.residual.biggan_deep:DeepGenerator"
    ),
]
AnyClassCritic = Annotated[
    ClassCritic,
    Choices(
        "imagegen_jax.gan.residual.biggan_networks:Discriminator",
        "imagegen_jax.gan.residual.biggan_deep:DeepDiscriminator",
    ),
]
