"""What a model can do beside being trained and drawn from: editing, guidance and commands ask for these protocols.

None of these is inherited from: a class that has the members takes part, as with those of `core.model`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from imagegen_jax.core.model import (
    Batch,
    Generative,
    Image,
    Model,
    Nets,
    PRNGKey,
    PRNGKeys,
    Variables,
    optional_conditions,
)

Latents = Float[Array, "n z"]
Styles = Float[Array, "n l d"]  # a style for each layer
Denoise = Callable[[Float[Array, "b ..."], Float[Array, " b"]], Float[Array, "b ..."]]  # (x, sigma) -> x_0


@runtime_checkable
class FromLatents(Protocol):
    """A model that makes each image from a latent, by which images can be edited."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def latent_dim(self) -> int:
        """The number of values in a latent."""
        ...

    def generate(self, nets: Nets, z: Latents, conditions: Batch) -> Image:
        """Makes images in [-1, 1] from latents and `conditions`, which have a row a latent, and nothing else."""
        ...


@runtime_checkable
class DrawsLatents(Protocol):
    """A model whose latents are not drawn from a standard normal."""

    def latents(self, key: PRNGKey, n: int, conditions: Batch) -> Latents:
        """Draws `n` latents, as `sample` does."""
        ...


@runtime_checkable
class StyleBased(FromLatents, Protocol):
    """A model that turns latents into styles, one for each layer, and styles into images."""

    @property
    def layers(self) -> int:
        """The number of styles of an image."""
        ...

    def styles(
        self,
        nets: Nets,
        z: Latents,
        label: Int[Array, " n"] | None = None,
        truncation: float | Float[Array, " n"] = 1.0,
    ) -> Styles:
        """Turns latents into styles."""
        ...

    def synthesise(self, nets: Nets, w: Styles, keys: PRNGKeys | None = None) -> Float[Array, "n h w k"]:
        """Makes images from styles, not clipped; without keys, with the constant noise."""
        ...


@runtime_checkable
class Denoising(Protocol):
    """A model that draws by a denoiser, so that its images can be guided, edited and restored.

    Path and denoiser work on what the model's space makes of data (`core.arrays.space`): pixels stay as they are.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def path(self) -> Any:
        """The solver that draws and the levels that it goes along, a `diffusion.sampling.solver.Path`."""
        ...

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the function that solvers call, made of the network and the conditions."""
        ...


@runtime_checkable
class GuidedModel(Generative, Protocol):
    """A model that draws as another does, guided by a second one; `conditions["guidance"]` says how strongly."""

    def joined(self, nets: Nets, of_guide: Nets) -> Mapping[str, Variables]:
        """Joins the networks of the model and of its guide to the networks of this model."""
        ...


@runtime_checkable
class Guidable(Protocol):
    """A model whose samples another can guide, such as a classifier of noisy images or a weaker model of its kind."""

    def guided_by(self, guide: Model) -> GuidedModel:
        """Returns this model, guided by another. Raises ValueError where the two do not go together."""
        ...


@runtime_checkable
class SetsGuidance(Protocol):
    """A model with fields that say what a guidance scale does; nothing reads them where no scale is given."""

    @property
    def guidance_settings(self) -> Mapping[str, Any]:
        """The values of these fields, by name."""
        ...


@runtime_checkable
class ForImages(Protocol):
    """A model that can be made anew for other images: for one in which more than `image_shape` follows from these."""

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> Model:
        """Returns this model for images of a shape and so many classes (0: none). Raises ValueError where it cannot."""
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """A model that turns images into codes, integers that stand for patches, and codes into images.

    All that does so is one network, "tokenizer", so that a model over its codes names it by one entry of `pretrained`.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        ...

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of one image's codes, such as (height, width)."""
        ...

    def init_tokenizer(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        ...

    def encode(self, nets: Nets, image: Image) -> Int[Array, "b ..."]:
        """Turns images in [-1, 1] into codes: [B *image_shape] -> [B *code_shape]."""
        ...

    def decode(self, nets: Nets, codes: Int[Array, "b ..."]) -> Image:
        """Turns codes into images in [-1, 1]: [B *code_shape] -> [B *image_shape]."""
        ...


@runtime_checkable
class ReadsText(Protocol):
    """A model that makes images from texts, which its network "text" encodes. `reads_text(model)` asks any model."""

    @property
    def text(self) -> Any:
        """The network, an `nn.text_encoders.encoding.TextEncoder`; None where the model reads no texts."""
        ...


@runtime_checkable
class OfOneNetwork(Protocol):
    """A model whose field `network` is what its weights called "network" belong to."""

    @property
    def network(self) -> Any:
        """The network, a linen module."""
        ...


@runtime_checkable
class Classifying(Protocol):
    """Tells the classes of images, so that it can choose among samples of another model."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def num_classes(self) -> int: ...

    def classify(self, nets: Nets, image: Image) -> Float[Array, "b k"]:
        """Returns the log-probability of each class for images in [-1, 1]: [B *image_shape] -> [B num_classes]."""
        ...


class Moments(NamedTuple):
    """Mean and deviation of the latents of images, as `data.formats.latents` reads them from files."""

    mean: Float[Array, "b ..."]
    std: Float[Array, "b ..."]


@runtime_checkable
class EncodesLatents(Protocol):
    """A model that turns images into the moments of latents, and latents into images.

    All that does so is one network, "autoencoder", so that a model of its latents names it by one entry of
    `pretrained`.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one image's latents, such as (height, width, channels)."""
        ...

    def init_autoencoder(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        ...

    def encode(self, nets: Nets, image: Image) -> Moments:
        """Returns the moments of the latents of images in [-1, 1]: [B *image_shape] -> [B *latent_shape], twice."""
        ...

    def decode(self, nets: Nets, latents: Float[Array, "b ..."]) -> Image:
        """Turns latents into images in [-1, 1]: [B *latent_shape] -> [B *image_shape]."""
        ...


@runtime_checkable
class OverCodes(Protocol):
    """A model of a tokenizer's codes, with the tokenizer as its frozen network "tokenizer".

    Its loss takes "codes" where batches have them, and else encodes "image".
    """

    @property
    def tokenizer(self) -> Tokenizing: ...


@runtime_checkable
class Reconstructing(Protocol):
    """A model that makes of each image what its encoder and decoder leave of it, such as a VAE."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def reconstruct(self, nets: Nets, image: Image) -> Image:
        """Encodes and decodes images in [-1, 1]: [B *image_shape] -> [B *image_shape]."""
        ...


@runtime_checkable
class TokenizingByScale(Tokenizing, Protocol):
    """A tokenizer whose codes are those of square grids, from coarse to fine, each of which adds to those before."""

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """The height and width of each grid; () where this tokenizer's codes are no such grids."""
        ...

    @property
    def code_dim(self) -> int:
        """The number of values in the vector that a code stands for."""
        ...

    def next_inputs(self, nets: Nets, codes: Int[Array, "b m"]) -> Float[Array, "b n d"]:
        """Returns what the codes of the first grids tell of the second and of each up to the next, at its own size."""
        ...


def reads_text(model: object) -> Any:
    """Returns the network that encodes the texts that `model` makes images from; None where it reads none."""
    return model.text if isinstance(model, ReadsText) else None


def completes(model: object) -> bool:
    """Tells whether `model.sample` draws what is not "known" [n h w 1] of an "image" [n h w c] in its conditions."""
    return {"image", "known"} <= set(optional_conditions(model))


def first_stage_for(first_stage: Any, image_shape: tuple[int, int, int]) -> Any:
    """Returns a tokenizer or autoencoder for images of a shape. Raises ValueError where it takes none such."""
    if isinstance(first_stage, ForImages):
        return first_stage.for_images(image_shape, 0)
    return dataclasses.replace(first_stage, image_shape=image_shape)
