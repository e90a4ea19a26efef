"""What VQGAN and the KL autoencoder learn from: likeness in pixels and in features, and a discriminator.

The discriminator's part in the loss is weighed by gradients at the decoder's last layer (Esser et al. 2021, arXiv
2012.09841, Eq. 7). Each term's gradient by the image is computed once, and used for both: that of the weight, by one
product with the last layer, and that of the loss. Two whole backward passes more, as in the authors' code, give the
same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Natural, NonNegative
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Aux, Image, Nets, PRNGKey, Scalar, Variables
from imagegen_jax.nn.backbones.patch import PatchDiscriminator
from imagegen_jax.nn.module import Module
from imagegen_jax.nn.objectives import AnyObjective, Hinge, logit_metrics, squared_gradient
from imagegen_jax.nn.perceptual import LPIPS, AnyPerceptual

Kernel = Float[Array, "kh kw i o"]
Pull = Callable[[Image], Kernel]  # from the gradient by an image to that by the last layer's kernel
LARGEST = 1e4  # adaptive weight
DELTA = 1e-4  # of Eq. 7, as in the authors' code; the paper has 1e-6


@runtime_checkable
class KnowsLastLayer(Protocol):
    """A decoder that says which of its parameters make the image out of the last features."""

    @property
    def last_kernel(self) -> tuple[str, ...]:
        """The path of the last layer's kernel in the decoder's parameters."""
        ...


class ImageDiscriminator(Module, Protocol):
    """A network that judges images, or patches of them."""

    def __call__(self, x: Image, train: bool = True) -> Float[Array, "b ..."]:
        """Judges images: [B H W C] in [-1, 1] -> logits, one or more a row, high for real."""
        ...


AnyImageDiscriminator = Annotated[
    ImageDiscriminator,
    Choices(
        "imagegen_jax.nn.backbones.patch:PatchDiscriminator",
        "imagegen_jax.nn.backbones.blurred_discriminator:BlurredDiscriminator",
    ),
]


class Linear(NamedTuple):
    """A function of images at one place: its value there, and its gradient."""

    value: Scalar
    gradient: Image

    def at(self, y: Image) -> Scalar:
        """Returns the value, which to differentiation is a function of `y`, the images that it was computed at."""
        return self.value + jnp.sum(self.gradient * (y - stop_gradient(y)))

    def __rmul__(self, factor: Scalar) -> Linear:  # type: ignore[override]
        return Linear(factor * self.value, factor * self.gradient)


def linearised(function: Callable[[Image], tuple[Scalar, Any]], y: Image) -> tuple[Linear, Any]:
    """Computes value and gradient of a function at images, once for whatever asks for them; and its second result."""
    value, pull, others = jax.vjp(function, stop_gradient(y), has_aux=True)
    return stop_gradient((Linear(value, pull(jnp.ones_like(value))[0]), others))


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How far a reconstruction is from its image: the mean over pixels, and a perceptual distance."""

    pixels: Literal["l1", "l2"] = "l1"
    perceptual: AnyPerceptual | None = LPIPS()  # None: pixels alone
    perceptual_weight: NonNegative = 1.0

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network that is trained elsewhere."""
        return () if self.perceptual is None else ("perceptual",)

    def init(self, key: PRNGKey, image: Image) -> dict[str, Variables]:
        """Makes random weights of that network. Raises ValueError for images that it cannot take."""
        return {} if self.perceptual is None else {"perceptual": self.perceptual.init_weights(key, image)}

    def loss(self, nets: Nets, x: Image, y: Image) -> tuple[Scalar, dict[str, Scalar]]:
        """|x - y| + perceptual_weight d(x, y), a mean over pixels and rows, and both terms by name."""
        apart = x - y
        total = jnp.mean(jnp.abs(apart) if self.pixels == "l1" else apart**2)
        terms: dict[str, Scalar] = {self.pixels: total}
        if self.perceptual is not None:
            terms["perceptual"] = jnp.mean(self.perceptual.distances(nets["perceptual"], x, y))
            total += self.perceptual_weight * terms["perceptual"]
        return total, terms


@dataclasses.dataclass(frozen=True)
class Adversary:
    """A discriminator that starts late, and how much its judgement counts. The defaults are taming-transformers'.

    `penalty_weight` weighs the squared gradient of its judgement of each image, of all patches together.
    """

    discriminator: AnyImageDiscriminator = PatchDiscriminator()
    objective: AnyObjective = Hinge()
    start: Natural = 250_001  # the first step that it takes part in; before, nothing of it is computed
    weight: NonNegative = 0.8  # of its judgement, times the adaptive weight
    adaptive: bool = True  # False: in place of the adaptive weight is 1
    discriminator_weight: NonNegative = 0.5  # of its own objective
    penalty_weight: NonNegative = 0.0  # of E[|grad D(x)|^2] at images, R1 (Mescheder et al. 2018, arXiv 1801.04406)

    def judged(self, nets: Nets, x: Image, y: Image, pull: Pull, likeness: Image) -> tuple[Scalar, dict[str, Scalar]]:
        """weight lambda L_GAN, lambda = |grad L_rec| / (|grad L_GAN| + delta) at the last layer   (Eqs. 6 and 7)

        `likeness` is the gradient of L_rec by the reconstructions `y`, and `pull` takes such gradients to the last
        layer. lambda is at most 10,000, and 1 where it is not `adaptive`.
        """

        def judgement(y: Image) -> tuple[Scalar, None]:
            real = self._logits(nets["discriminator"], x)[0] if self.objective.pairs else None
            return self.objective.generator(self._logits(nets["discriminator"], y)[0], real), None

        adversarial, _ = linearised(judgement, y)
        if not self.adaptive:
            return (jnp.float32(self.weight) * adversarial).at(y), {"adversarial": adversarial.value}
        of_likeness, of_judgement = (jnp.linalg.norm(pull(g).ravel()) for g in (likeness, adversarial.gradient))
        adaptive = stop_gradient(jnp.clip(of_likeness / (of_judgement + DELTA), 0, LARGEST))
        metrics = {"adversarial": adversarial.value, "adaptive_weight": adaptive}
        return (self.weight * adaptive * adversarial).at(y), metrics

    def loss(self, nets: Nets, x: Image, y: Image) -> tuple[Scalar, Aux]:
        """Returns the discriminator's loss for images and reconstructions, each normalised by their own batch."""
        real, stats = self._logits(nets["discriminator"], x)
        fake, stats = self._logits({**nets["discriminator"], **stats}, y)
        loss = self.discriminator_weight * self.objective.discriminator(real, fake)
        metrics = logit_metrics(self.objective, real, fake)
        if self.penalty_weight:
            critic = functools.partial(self._judgements, nets["discriminator"])
            metrics["penalty"] = jnp.mean(squared_gradient(critic, x))
            loss += self.penalty_weight * metrics["penalty"]
        return loss, Aux(metrics, {"discriminator": stats})

    def _judgements(self, variables: Variables, x: Image) -> Float[Array, " b"]:
        """Returns the sum of the logits of each row."""
        logits, _ = self._logits(variables, x)
        return jnp.sum(logits.reshape(len(x), -1), axis=1)

    def _logits(self, variables: Variables, x: Image) -> tuple[Float[Array, " p"], Variables]:
        """Returns the logits of all patches of all rows, and the new statistics."""
        logits, stats = self.discriminator.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits.ravel(), stats


def by_last_layer(
    call: Callable[[Variables], tuple[Image, Any]], variables: Variables, decoder: object
) -> tuple[Image, Pull, Any]:
    """Calls a function of variables that returns images and more.

    `variables` are those of a network whose decoder is called "decoder". Returns the images, what takes gradients by
    them to the last layer's kernel, and the rest.
    """
    path = ("params", "decoder", *last_kernel(decoder))
    kernel: Any = variables
    for name in path:
        kernel = kernel[name]
    y, pull, others = jax.vjp(lambda kernel: call(_replaced(variables, path, kernel)), kernel, has_aux=True)
    return y, lambda gradient: pull(gradient.astype(y.dtype))[0], others


def _replaced(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Array) -> dict[str, Any]:
    name, *rest = path
    return {**tree, name: _replaced(tree[name], tuple(rest), leaf) if rest else leaf}


def last_kernel(decoder: object) -> tuple[str, ...]:
    """Returns the path of the last layer's kernel. Raises ValueError for a decoder that does not say it."""
    if isinstance(decoder, KnowsLastLayer):
        return decoder.last_kernel
    raise ValueError(
        f"model.network.decoder={type(decoder).__name__}: the discriminator is weighed by gradients at the last layer, "
        "and this decoder does not say which that is: give it `last_kernel`, the path of that kernel in its "
        "parameters, or take ConvDecoder or PooledDecoder"
    )
