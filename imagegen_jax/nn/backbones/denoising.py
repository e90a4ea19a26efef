"""The networks that a diffusion model may have, all called alike, and what makes one fit."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.module import Module


class Network(Module, Protocol):
    """What a diffusion model asks of its network."""

    def __call__(self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning) -> Any:
        """[B H W C], [B] -> [B H W C], a prediction for x at times t, by what else is known"""
        ...


AnyNetwork = Annotated[
    Network,
    Choices(
        "imagegen_jax.nn.backbones.unet:UNet",
        "imagegen_jax.nn.backbones.adm:ADM",
        "imagegen_jax.nn.backbones.ncsnpp:SongUNet",
        "imagegen_jax.nn.backbones.edm2:EDM2UNet",
        "imagegen_jax.nn.backbones.dit:DiT",
    ),
]


class LossNetwork(Module, Protocol):
    """A network that tells the logarithm of the loss to be expected."""

    def __call__(self, t: Num[Array, " b"]) -> Any:
        """[B] -> [B]"""
        ...


class ImageClassifier(Module, Protocol):
    """A network that tells the classes of noisy images."""

    @property
    def num_classes(self) -> int:
        """How many it knows."""
        ...

    def __call__(self, x: Float[Array, "b h w c"], t: Num[Array, " b"], keys: PRNGKeys | None) -> Any:
        """[B H W C], [B] -> logits [B K]; `keys`, one a row, are for dropout"""
        ...


AnyImageClassifier = Annotated[ImageClassifier, Choices("imagegen_jax.nn.backbones.adm:ADMClassifier")]
AnyUncertainty = Annotated[LossNetwork, Choices("imagegen_jax.nn.backbones.edm2:Uncertainty")]


@runtime_checkable
class OwnChannels(Protocol):
    """A network that may put out other channels than images have, as one of its fields says."""

    @property
    def channels_field(self) -> str:
        """The name of that field."""
        ...

    def output_channels(self, channels: int) -> int:
        """How many channels it puts out for images that have `channels`."""
        ...


@runtime_checkable
class ChoosesAttention(Protocol):
    """A network whose attention is computed in one way of several."""

    @property
    def attention(self) -> str:
        """Which: "xla", or "auto" for the fastest."""
        ...


@runtime_checkable
class ToldOfAugmentation(Protocol):
    """A network that reads how its images were augmented, so that it need not draw augmented ones."""

    @property
    def reads_augmentation(self) -> bool:
        """True."""
        ...


Linen = TypeVar("Linen", bound=nn.Module)


def check_channels(network: Network, image_shape: tuple[int, int, int], variance: bool = False) -> None:
    """Raises ValueError where `network` puts out other channels than images have; with `variance`, than twice as many.

    For models whose parts may be set in any order: another network is chosen first, then its fields.
    """
    channels = image_shape[2]
    wanted = 2 * channels if variance else channels
    if isinstance(network, OwnChannels) and network.output_channels(channels) != wanted:
        field = network.channels_field
        of_image = f"images have {channels} channels, and so has what is predicted; a variance is ImprovedDDPM's alone"
        why = f"noise and variance of {channels} channels are {wanted}" if variance else of_image
        raise ValueError(
            f"model.network.{field}={getattr(network, field)} makes {network.output_channels(channels)} channels, but "
            f"{why}"
        )


def forward_differentiable(network: Linen) -> Linen:
    """`network` with an attention that forward mode goes through, which fused kernels refuse."""
    return network.clone(attention="xla") if isinstance(network, ChoosesAttention) else network
