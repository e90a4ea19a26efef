"""The networks that a diffusion model may have, all called alike, and what makes one fit."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import flax.linen as nn

from imagegen_jax.core.choices import Choices
from imagegen_jax.nn.module import Module


class Network(Module, Protocol):
    """What a diffusion model asks of its network."""

    def __call__(self, x: Any, t: Any, conditioning: Any, /) -> Any:
        """[B H W C], [B] -> [B H W C]"""
        ...


AnyNetwork = Annotated[
    Network,
    Choices(
        "imagegen_jax.nn.unet:UNet",
        "imagegen_jax.nn.adm:ADM",
        "imagegen_jax.nn.song:SongUNet",
        "imagegen_jax.nn.edm2:EDM2UNet",
        "imagegen_jax.nn.dit:DiT",
    ),
]


class LossNetwork(Module, Protocol):
    """A network that tells the logarithm of the loss to be expected."""

    def __call__(self, t: Any, /) -> Any:
        """[B] -> [B]"""
        ...


AnyUncertainty = Annotated[LossNetwork, Choices("imagegen_jax.nn.edm2:Uncertainty")]


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
    return network.clone(attention="xla") if hasattr(network, "attention") else network
