"""Perceptual distances for losses: how different two images look to a network that others have trained.

Its weights are never trained here: models hold it as a frozen network, whose weights `pretrained` names. Variables have
the names of the published files, so that such a file can be given as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, PRNGKey, Variables
from imagegen_jax.nn.backbones import lpips, mobilenet

Distances = Float[Array, " b"]


class Perceptual(Protocol):
    """A distance between images by a network, whose weights are given with each call."""

    def __hash__(self) -> int: ...

    def init_weights(self, key: PRNGKey, image: Image) -> Variables:
        """Makes random weights. Raises ValueError for images that it cannot take."""
        ...

    def distances(self, variables: Variables, a: Image, b: Image) -> Distances:
        """Measures pairs of images: [B H W C], [B H W C] in [-1, 1] -> [B], from 0 on; differentiable."""
        ...


AnyPerceptual = Annotated[Perceptual, Choices("imagegen_jax.nn.perceptual:LPIPS, MobileNet")]


@dataclasses.dataclass(frozen=True)
class LPIPS:
    """LPIPS, as VQGAN is trained with (Zhang et al. 2018, arXiv 1801.03924, Eq. 1).

    Its file holds torchvision's tower ("features.0.weight", ...) and version 0.1's heads ("lin0.model.1.weight", ...)
    of richzhang/PerceptualSimilarity. These are two files, which one line of torch joins:

        torch.save(torch.load("vgg16-397923af.pth") | torch.load("vgg.pth"), "lpips_vgg.pth")
    """

    tower: Literal["alex", "vgg"] = "vgg"

    def init_weights(self, key: PRNGKey, image: Image) -> Variables:
        """Makes random weights. Raises ValueError for too small images, and unless these are grey or in colour."""
        _check(image, f"LPIPS on {self.tower!r}", lpips.SMALLEST[self.tower])
        return _nested(_drawn(key, lpips.shapes(self.tower)), ".")

    def distances(self, variables: Variables, a: Image, b: Image) -> Distances:
        """Measures pairs of images: [B H W C], [B H W C] in [-1, 1] -> [B], from 0 on."""
        return lpips.distance(self.tower, _flat(variables, "."), _coloured(a), _coloured(b))


@dataclasses.dataclass(frozen=True)
class MobileNet:
    """The mean over some blocks of MobileNetV1 of |u(a) - u(b)|^2, u the output with unit length at each position.

    That is LPIPS without learned heads, on a network whose weights are small and free: Keras' file of width 1.0
    ("conv1/kernel", ...). Distances are 0 to 2, since outputs are not negative.
    """

    blocks: tuple[Count, ...] = (1, 3, 5, 11)  # of 12, from 1: the last of each resolution but the lowest

    def __post_init__(self) -> None:
        most = len(mobilenet.BLOCKS)
        if not self.blocks or not all(1 <= block <= most for block in self.blocks):
            raise ValueError(f"blocks={self.blocks} of MobileNet: name one or more of 1 to {most}")

    def init_weights(self, key: PRNGKey, image: Image) -> Variables:
        """Makes random weights. Raises ValueError unless the images are grey or in colour."""
        _check(image, "MobileNet", 1)
        return _nested(_drawn(key, mobilenet.shapes(max(self.blocks))), "/")

    def distances(self, variables: Variables, a: Image, b: Image) -> Distances:
        """Measures pairs of images: [B H W C], [B H W C] in [-1, 1] -> [B], from 0 on."""
        weights = _flat(variables, "/")
        of_a, of_b = (mobilenet.activations(weights, _coloured(x), max(self.blocks)) for x in (a, b))
        apart = (lpips.unit(of_a[block - 1]) - lpips.unit(of_b[block - 1]) for block in self.blocks)
        return jnp.mean(jnp.stack([jnp.mean(jnp.sum(x**2, axis=3), axis=(1, 2)) for x in apart]), axis=0)


def _check(image: Image, name: str, smallest: int) -> None:
    height, width, channels = image.shape[1:]
    if channels not in (1, 3):
        raise ValueError(
            f"{name} compares grey or colour images, and these have {channels} channels: use no perceptual"
        )
    if min(height, width) < smallest:
        raise ValueError(f"{name} takes images of {smallest} pixels or more, and these have {height}x{width}")


def _coloured(x: Image) -> Image:
    return jnp.repeat(x, 3, axis=3) if x.shape[3] == 1 else x


def _drawn(key: PRNGKey, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Draws weights for smoke runs: kernels that keep the size of what passes, norms that change nothing."""
    return {name: _one(jax.random.fold_in(key, i), name, shape) for i, (name, shape) in enumerate(shapes.items())}


def _one(key: PRNGKey, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) > 1:
        fan_in = math.prod(shape) // max(shape[0], shape[-1])
        drawn = jax.random.normal(key, (math.prod(shape),)).reshape(shape) * math.sqrt(2 / fan_in)
        return jnp.abs(drawn) if name.startswith("lin") else drawn  # heads weigh squares
    return (jnp.ones if name.endswith(("gamma", "variance")) else jnp.zeros)(shape)


def _nested(flat: Mapping[str, Array], separator: str) -> dict[str, Any]:
    """Returns mappings inside mappings, as `core.checkpoints.weights.FromFile` reads names."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, leaf = name.split(separator)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = array
    return tree


def _flat(tree: Mapping[str, Any], separator: str) -> dict[str, Array]:
    leaves = jax.tree.leaves_with_path(dict(tree))
    return {jax.tree_util.keystr(path, simple=True, separator=separator): leaf for path, leaf in leaves}
