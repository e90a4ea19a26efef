"""The space that a model works in: what its data are, what of them is denoised, and what its samples are.

Images are denoised as they are, and samples are images. Latents are brought to a deviation that noise is made for.
Where the space has their autoencoder, it decodes samples to images; else samples are latents again: float32, in no
range. `core.arrays.autoencoding` is the way in, from images to latents.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.arrays.tiles import Decoding
from imagegen_jax.core.capabilities import EncodesLatents
from imagegen_jax.core.config.bounds import Positive
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import InSpace, Nets

Shape = tuple[int, int, int]  # height, width, channels
Measured = Literal["measured"]  # what `imagegen encode` has measured of the latents that are trained on

AUTOENCODER = "autoencoder"  # the network of every autoencoder, and of models in the space of its latents
WHITE = 3.0  # deviations above 0 at which a latent is white in a picture, and below 0 black


@runtime_checkable
class Space(Protocol):
    """Encodes rows of data for denoising, and decodes the result to samples."""

    @property
    def clips(self) -> bool:
        """Tells whether what is denoised lies in [-1, 1], so that estimates of it are clipped to that."""
        ...

    @property
    def draws_images(self) -> bool:
        """Tells whether samples are images in [-1, 1]; else they are what the data are."""
        ...

    def sample_shape(self, image_shape: Shape) -> Shape:
        """Returns a sample's shape for data with rows of `image_shape`. Raises ValueError for data of another kind."""
        ...

    def encode(self, data: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Encodes rows of a batch for denoising."""
        ...

    def decode(self, x: Float[Array, "b h w c"], nets: Nets) -> Float[Array, "b hh ww k"]:
        """Maps what was denoised to samples; `nets` are all networks of the model."""
        ...


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images in [-1, 1], denoised as they are."""

    clips: ClassVar[bool] = True
    draws_images: ClassVar[bool] = True

    def sample_shape(self, image_shape: Shape) -> Shape:
        """Returns the shape of the data."""
        return image_shape

    def encode(self, data: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns images as they are."""
        return data

    def decode(self, x: Float[Array, "b h w c"], nets: Nets) -> Float[Array, "b h w c"]:
        """Keeps images in [-1, 1]."""
        return jnp.clip(x, -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Latents:
    """Latents, denoised as (latent - shift) * scale; scale and shift are numbers for all channels, or one for each.

    Stable Diffusion's `scale` is 0.18215. Where an autoencoder comes with means and deviations of its latents, the
    means are the shift, and the scale is 1 over the deviations (EDM2: 0.5 over them); "measured" takes both from the
    data, where `imagegen encode` has written them (`core.arrays.measured`). With the `autoencoder`, which is the frozen
    network "autoencoder" of the model, data may be images as well, and samples are images. Without it, they are
    latents, float32 and not clipped. Raises ValueError for a scale that is not above 0, or a shift that is not finite.
    """

    scale: Positive | tuple[Positive, ...] | Measured = 1.0
    shift: float | tuple[float, ...] | Measured = 0.0  # in units of the data
    autoencoder: EncodesLatents | None = None  # what made the latents, with its own fields; None: samples are latents
    decoding: Decoding = Decoding()  # how much is decoded at a time

    clips: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not all(0 < scale < math.inf for scale in _numbers(self.scale)):
            raise ValueError(f"space.scale={self.scale}: must be above 0; 1 leaves latents as they are")
        if not all(map(math.isfinite, _numbers(self.shift))):
            raise ValueError(f"space.shift={self.shift}: must be finite; 0 leaves latents as they are")

    @property
    def draws_images(self) -> bool:
        """Tells whether there is an autoencoder that decodes samples."""
        return self.autoencoder is not None

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network of the autoencoder, where there is one."""
        return () if self.autoencoder is None else (AUTOENCODER,)

    def sample_shape(self, image_shape: Shape) -> Shape:
        """Returns the shape of the data, or of the autoencoder's images.

        Raises ValueError where scale, shift or the autoencoder are for latents of another shape.
        """
        for name in ("scale", "shift"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != image_shape[2]:
                raise ValueError(
                    f"model.space.{name} has {len(value)} numbers, but latents of {image_shape[2]} channels: give one "
                    "for each channel, or one for all"
                )
        if self.autoencoder is None:
            return image_shape
        given, wanted = ("x".join(map(str, shape)) for shape in (image_shape, self.autoencoder.latent_shape))
        if given != wanted:
            raise ValueError(
                f"model.image_shape={given}, but the latents of model.space.autoencoder are of {wanted}: set "
                "image_shape to that, or take the autoencoder that made the latents"
            )
        return self.autoencoder.image_shape

    def encode(self, data: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns (latent - shift) * scale."""
        return (data - _row(self.shift)) * _row(self.scale)

    def decode(self, x: Float[Array, "b h w c"], nets: Nets) -> Float[Array, "b hh ww k"]:
        """Returns x / scale + shift, or what the autoencoder makes of that: images in [-1, 1]."""
        latents = x / _row(self.scale) + _row(self.shift)
        if self.autoencoder is None:
            return latents
        return self.decoding(functools.partial(self.autoencoder.decode, nets), latents)


class OfImages(Protocol):
    """A model of images, as which latents count here."""

    @property
    def image_shape(self) -> Shape:
        """The height, width and channels of what it denoises or tells apart."""
        ...


@runtime_checkable
class OfAutoencoder(Protocol):
    """A space of the latents of an autoencoder, through which images become data, and samples images."""

    @property
    def autoencoder(self) -> EncodesLatents | None:
        """The autoencoder; None where there is none, and data and samples are latents alone."""
        ...


AnySpace = Annotated[Space, Choices("imagegen_jax.core.arrays.space:Pixels, Latents")]


def space_of(model: object) -> Space:
    """Returns the space that `model` works in: that of images for one that does not say."""
    found: Space = model.space if isinstance(model, InSpace) else Pixels()
    return found


def autoencoder_of(model: object) -> EncodesLatents | None:
    """Returns the autoencoder of the space that `model` works in; None where there is none."""
    space = space_of(model)
    return space.autoencoder if isinstance(space, OfAutoencoder) else None


def sample_shape(model: OfImages) -> Shape:
    """Returns the shape of a sample of `model`: height, width, channels."""
    return space_of(model).sample_shape(model.image_shape)


def sample_words(model: OfImages) -> str:
    """Says what samples of `model` are, such as "32x32x3 images"."""
    return f"{'x'.join(map(str, sample_shape(model)))} {'images' if space_of(model).draws_images else 'latents'}"


def check_space(model: OfImages) -> None:
    """Raises ValueError where `model` is in a space of other data than those of its `image_shape`."""
    space_of(model).sample_shape(model.image_shape)


def between(one: Space, other: Space) -> tuple[float, Float[np.ndarray, " c"] | float]:
    """Returns (factor, offset): what is x where `one` denoises it is factor x + offset where the `other` space does.

    Noise is multiplied by the same factor. Raises ValueError for latents of different autoencoders, for latents whose
    channels would need different factors, and for two different spaces of a user's own.
    """
    if one == other:
        return 1.0, 0.0
    makers = [space.autoencoder for space in (one, other) if isinstance(space, OfAutoencoder)]
    if len(set(makers) - {None}) > 1:
        raise ValueError(
            f"model.space.autoencoder is {makers[0]} of the one model, {makers[1]} of the other: the latents of the "
            "one say nothing to the other; use models of the latents of one autoencoder"
        )
    if isinstance(one, Pixels | Latents) and isinstance(other, Pixels | Latents):
        (scale, shift), (to_scale, to_shift) = _affine(one), _affine(other)
        factors = to_scale / scale
        if np.ptp(factors) <= 1e-6 * factors.max():
            return float(factors.max()), ((shift - to_shift) * to_scale).astype(np.float32)
    raise ValueError(f"{one} and {other}: noise of the one is none of the other; use models of one space")


def _affine(space: Pixels | Latents) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and shift of a space as arrays: one number for all channels, or one for each."""
    scale, shift = (1.0, 0.0) if isinstance(space, Pixels) else (space.scale, space.shift)
    return np.atleast_1d(np.asarray(scale)), np.atleast_1d(np.asarray(shift))


def with_space(items: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model's fields with a space in place of the `gain` of an earlier version, which was for latents."""
    found = dict(items)
    if "gain" in found:
        gain = found.pop("gain")
        found["space"] = Pixels() if gain == 1 else Latents(float(gain))
    return found


def picture_of(model: object, samples: np.ndarray) -> UInt8[np.ndarray, "n h w k"]:
    """Returns samples [n h w c] as images: uint8 ones as they are, and latents as a picture that is only for looking.

    The first three channels of latents become colours, or the first one grey; -3 of what is denoised is black, 3 white.
    """
    if samples.dtype == np.uint8:
        return samples
    return picture_of_latents(np.asarray(space_of(model).encode(jnp.asarray(samples))))


def picture_of_latents(latents: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w k"]:
    """Returns latents of mean 0 and deviation 1 as images: three channels as colours, or the first as grey."""
    channels = 3 if latents.shape[-1] > 2 else 1
    return np.asarray(to_uint8(jnp.asarray(latents[..., :channels], jnp.float32) / WHITE))


def _numbers(value: float | tuple[float, ...] | Measured) -> Sequence[float]:
    """Returns the numbers of a scale or a shift; none where they are to be measured."""
    if isinstance(value, str):
        return ()
    return (value,) if isinstance(value, (int, float)) else value


def _row(value: float | tuple[float, ...] | Measured) -> Float[Array, " c"] | float:
    """Returns a number as it is, and numbers for each channel as a row of float32.

    Raises ValueError for one that is still to be measured, which a training does before it begins.
    """
    if isinstance(value, str):
        raise ValueError(f"model.space says {value!r} of latents that nobody has measured: give it numbers")
    return jnp.asarray(value, jnp.float32) if isinstance(value, tuple) else value
