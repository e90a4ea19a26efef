"""The networks that a diffusion model may have, all called alike, and checks that one fits."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import LabelRows, PRNGKeys
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.module import Module


class Network(Module, Protocol):
    """A network as diffusion models call it."""

    def __call__(self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning) -> Any:
        """Predicts for x at times t, given the other conditions: [B H W C], [B] -> [B H W C]"""
        ...


AnyNetwork = Annotated[
    Network,
    Choices(
        "imagegen_jax.nn.backbones.unet:UNet",
        "imagegen_jax.nn.backbones.adm:ADM",
        "imagegen_jax.nn.backbones.ncsnpp:SongUNet",
        "imagegen_jax.nn.backbones.edm2:EDM2UNet",
        "imagegen_jax.nn.backbones.dit:DiT",
        "imagegen_jax.nn.backbones.latent_unet:LatentUNet",
        "imagegen_jax.nn.backbones.transformers.pixart:PixArt",
        "imagegen_jax.nn.backbones.transformers.mmdit:MMDiT",
    ),
]


class LossNetwork(Module, Protocol):
    """A network that estimates the logarithm of the expected loss."""

    def __call__(self, t: Num[Array, " b"]) -> Any:
        """Estimates the logarithm of the loss at times t: [B] -> [B]"""
        ...


class ImageClassifier(Module, Protocol):
    """A network that classifies noisy images."""

    @property
    def num_classes(self) -> int:
        """The number of classes that it knows."""
        ...

    def __call__(self, x: Float[Array, "b h w c"], t: Num[Array, " b"], keys: PRNGKeys | None) -> Any:
        """Returns logits of noisy images at times t: [B H W C], [B] -> [B K]; `keys`, one a row, are for dropout."""
        ...


AnyImageClassifier = Annotated[ImageClassifier, Choices("imagegen_jax.nn.backbones.adm:ADMClassifier")]
AnyUncertainty = Annotated[LossNetwork, Choices("imagegen_jax.nn.backbones.edm2:Uncertainty")]


@runtime_checkable
class OwnChannels(Protocol):
    """A network with a field that may give its output other channels than images have."""

    @property
    def channels_field(self) -> str:
        """The name of that field."""
        ...

    def output_channels(self, channels: int) -> int:
        """Returns how many channels it puts out for images that have `channels`."""
        ...


@runtime_checkable
class ChoosesAttention(Protocol):
    """A network that can compute its attention in several ways."""

    @property
    def attention(self) -> str:
        """The way: "xla", or "auto" for the fastest."""
        ...


@runtime_checkable
class ToldOfAugmentation(Protocol):
    """A network that sees how its images were augmented, so that it need not draw augmented ones itself."""

    @property
    def reads_augmentation(self) -> bool:
        """Tells that the network reads `augment_labels`: True."""
        ...


@runtime_checkable
class OwnLabelRows(Protocol):
    """A network whose layer "label" is more than a row for each class, so that a class more changes the others."""

    @property
    def label_rows(self) -> LabelRows:
        """What it makes of the rows."""
        ...


Linen = TypeVar("Linen", bound=nn.Module)


def check_channels(network: Network, image_shape: tuple[int, int, int], variance: bool = False) -> None:
    """Raises ValueError unless `network` puts out as many channels as images have; with `variance`, twice as many.

    Models call it late, since their parts may be set in any order: another network is chosen first, then its fields.
    """
    channels = image_shape[2]
    wanted = 2 * channels if variance else channels
    if isinstance(network, OwnChannels) and network.output_channels(channels) != wanted:
        field = network.channels_field
        of_image = (
            f"images have {channels} channels, and so has a prediction; a variance is ImprovedDDPM's alone (Diffusion "
            "leaves it unused with model.unused_variance=True)"
        )
        why = f"noise and variance of {channels} channels are {wanted}" if variance else of_image
        raise ValueError(
            f"model.network.{field}={getattr(network, field)} makes {network.output_channels(channels)} channels, but "
            f"{why}"
        )


def forward_differentiable(network: Linen) -> Linen:
    """Returns `network` with an attention that forward mode can differentiate; fused kernels refuse that."""
    return network.clone(attention="xla") if isinstance(network, ChoosesAttention) else network
