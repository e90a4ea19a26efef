"""Every guidance, as the annotation of a model's field: `guidance: AnyGuidance = ClassifierFree()`.

A guidance is a frozen dataclass, called as `guidance(conditional, unconditional, scale)`, and returns a denoiser. In
place of the two there may be a denoiser and its weaker twin. The scale, whose convention is in `functions`, comes with
the conditions of each call, so that another scale does not compile again; a change of fields does. Some guidances
change another one, `of`, and so they nest: `Rescaled(0.7, of=GuidanceInterval(0.2, 2.0))`. They raise ValueError for
fields out of range.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, get_args

from jaxtyping import Array, Float

from imagegen_jax import moved
from imagegen_jax.core.config.bounds import NonNegative, Positive, Share
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import check_choice
from imagegen_jax.diffusion.guidance import functions as guidance
from imagegen_jax.diffusion.guidance.functions import Guidance, Images, Output, Scale, Sigmas, constant
from imagegen_jax.diffusion.process.denoiser import Denoise

__getattr__ = moved.attributes(__name__)


AnyGuidance = Annotated[
    Guidance,
    Choices(
        "imagegen_jax.diffusion.guidance.fields:ClassifierFree, CFGZeroStar, Projected, GuidanceInterval",
        "imagegen_jax.diffusion.guidance.fields:Rescaled, Thresholded",
    ),
]


@dataclasses.dataclass(frozen=True)
class ClassifierFree:
    """Guidance away from the estimate without a label, the same at all levels (`functions.classifier_free`)."""

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the denoiser D_u + scale (D_c - D_u)."""
        return guidance.classifier_free(conditional, unconditional, scale)


@dataclasses.dataclass(frozen=True)
class CFGZeroStar:
    """Guidance of rectified flows by velocities, CFG-Zero* (`functions.cfg_zero_star`)."""

    still_above: Positive = math.inf  # the noise level above which nothing moves

    def __post_init__(self) -> None:
        if not self.still_above > 0:
            raise ValueError(f"guidance.still_above={self.still_above}: must be above 0; inf stops nothing")

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the denoiser guided by velocities, with the unconditional one scaled by s* first."""
        return guidance.cfg_zero_star(conditional, unconditional, scale, self.still_above)


@dataclasses.dataclass(frozen=True)
class Projected:
    """Guidance across the conditional estimate: APG without its momentum (`functions.projected`)."""

    along: float = 0.0  # eta, the weight of the part along the estimate
    radius: Positive = math.inf  # r, the greatest length of a difference

    def __post_init__(self) -> None:
        if not (math.isfinite(self.along) and self.radius > 0):
            raise ValueError(
                f"guidance.along={self.along}, guidance.radius={self.radius}: along must be finite, and radius above 0"
            )

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the denoiser guided mostly across the conditional estimate."""
        return guidance.projected(conditional, unconditional, scale, self.along, self.radius)


@dataclasses.dataclass(frozen=True)
class GuidanceInterval:
    """The guidance `of`, at `low` < sigma <= `high` alone (`functions.interval`).

    Both are in units of the model's `levels`, which are noise levels of what its space makes of data: the authors' code
    guides EDM2-XXL, of latents, from 1.61 to 0.28.
    """

    low: NonNegative = 0.0
    high: NonNegative = math.inf
    of: AnyGuidance = ClassifierFree()

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"guidance.low={self.low}, guidance.high={self.high}: must obey 0 <= low < high")

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the denoiser guided by `of`, with a scale of 1 outside the interval."""
        return self.of(conditional, unconditional, guidance.interval(scale, self.low, self.high))


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """The guidance `of`, with its deviation brought back to the conditional estimate's (`functions.rescaled`)."""

    share: Share = 0.7  # phi: 0 changes nothing, 1 is all the way
    output: Output = "v"  # which prediction of the network is rescaled
    of: AnyGuidance = ClassifierFree()

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"guidance.share={self.share}: must be from 0 to 1")
        check_choice("guidance.output", self.output, get_args(Output))

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the rescaled denoiser, which evaluates the conditional one once."""

        def denoise(x: Images, sigma: Sigmas) -> Float[Array, "b ..."]:
            positive = constant(conditional(x, sigma))
            guided = self.of(positive, unconditional, scale)
            return guidance.rescaled(guided, positive, self.share, self.output)(x, sigma)

        return denoise


@dataclasses.dataclass(frozen=True)
class Thresholded:
    """The guidance `of`, kept in the range of images by dynamic thresholds (`functions.thresholded`); for pixels."""

    percentile: Share = 0.995  # which quantile of an image's absolute values is its threshold
    most: Positive = math.inf  # the greatest threshold; with 1 estimates are clipped
    of: AnyGuidance = ClassifierFree()

    def __post_init__(self) -> None:
        if not (0 < self.percentile <= 1 <= self.most):
            raise ValueError(
                f"guidance.percentile={self.percentile}, guidance.most={self.most}: must obey 0 < percentile <= 1 <= "
                "most"
            )

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the thresholded denoiser, at all levels, guided there or not."""
        return guidance.thresholded(self.of(conditional, unconditional, scale), self.percentile, self.most)
