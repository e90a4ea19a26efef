"""A trained denoiser guided by a second trained network: a classifier of noisy images, or a weaker denoiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.space import Space, between, space_of
from imagegen_jax.core.capabilities import Denoising, reads_text
from imagegen_jax.core.model import (
    Batch,
    Image,
    Model,
    Nets,
    Phase,
    PRNGKey,
    Variables,
    check_labels,
    condition_rows,
    num_classes,
    optional_conditions,
)
from imagegen_jax.diffusion.guidance.conditions import NEGATIVE_TEXT
from imagegen_jax.diffusion.guidance.fields import AnyGuidance, ClassifierFree
from imagegen_jax.diffusion.guidance.functions import Guiding, LogProb, classifier, guiding
from imagegen_jax.diffusion.process.denoiser import Denoise, moved
from imagegen_jax.diffusion.sampling.solver import Path

GUIDE = "guide."  # what the names of the guide's networks begin with


@runtime_checkable
class Classifying(Protocol):
    """A model that knows the classes of noisy images."""

    image_shape: tuple[int, int, int]
    num_classes: int

    def log_probability(self, nets: Nets, labels: Int[Array, " b"]) -> LogProb:
        """Returns the function (x, sigma) -> log p(labels | x) [B], with x as denoisers see it."""
        ...


@runtime_checkable
class OwnSteps(Protocol):
    """A model that takes its own steps instead of those of its path, with any estimates."""

    def draw_by(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch, guide: Guiding) -> Image:
        """Draws as `sample` does, with the estimates that `guide` makes of the denoiser's."""
        ...


@dataclasses.dataclass(frozen=True)
class Guided:
    """A model that draws as `model` does, led by `guide`; `conditions["guidance"]` says how strongly.

    A guide that is a classifier leads towards the labels (`functions.classifier`): 0 is `model` alone, and 1 is Bayes's
    rule where `model` itself knows no classes; where it does, it is given the labels as well. A guide that is a weaker
    denoiser of the same images and classes leads away from itself (`functions.autoguidance`): 1 is `model` alone, 0 the
    guide. The field `guidance` may change either, for example leave it out at some levels; guidance by labels that
    `model` may have of its own is off. What `model` clips is clipped before it is led. Samples follow the `path` of
    `model`, or the model's own steps where it has `OwnSteps` (the learned variance of `ImprovedDDPM`, the learned
    schedule of `VDM`). The networks are those of both, the guide's with "guide." before their names; training leaves
    the guide's as they are. Raises ValueError for two models that do not go together.
    """

    model: Any  # Denoising
    guide: Any  # Classifying, or Denoising
    guidance: AnyGuidance = ClassifierFree()

    def __post_init__(self) -> None:
        model, guide = (type(one).__name__ for one in (self.model, self.guide))
        if not isinstance(self.model, Denoising):
            raise ValueError(f"a {model} has no denoiser that could be guided: use a run of a diffusion model")
        twice = any(isinstance(one, Guided) for one in (self.model, self.guide))
        if twice or not isinstance(self.guide, Classifying | Denoising):
            raise ValueError(
                f"a {guide} cannot guide a {model}: a guide is one NoisyClassifier, or a denoiser such as a smaller "
                f"{model} that was trained less"
            )
        if tuple(self.guide.image_shape) != tuple(self.model.image_shape):
            raise ValueError(
                f"the guide's images are of {tuple(self.guide.image_shape)} (height, width, channels), the model's of "
                f"{tuple(self.model.image_shape)}: use a guide that was trained on images like the model's"
            )
        classes = num_classes(self.model)
        if self.num_classes != classes and not (isinstance(self.guide, Classifying) and classes == 0):
            raise ValueError(
                f"the guide knows {self.num_classes} classes, the model {classes}: use a guide that was trained on the "
                "model's classes"
            )
        between(self.space, space_of(self.guide))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of images, which both models share."""
        return self.model.image_shape

    @property
    def space(self) -> Space:
        """The space of `model`; the guide's may differ from it by a factor and an offset."""
        return space_of(self.model)

    @property
    def num_classes(self) -> int:
        """The number of the guide's classes, which are the model's own where it has any."""
        return num_classes(self.guide)

    @property
    def text(self) -> Any:
        """The encoder of the texts that `model` reads; None where it reads none."""
        return reads_text(self.model)

    @property
    def condition_rows(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The conditions that `model` makes images from."""
        return condition_rows(self.model)

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The guidance scale, and the optional conditions of `model` but for negative prompts."""
        own = (name for name in optional_conditions(self.model) if name not in NEGATIVE_TEXT)
        return tuple({"guidance": None, **dict.fromkeys(own)})

    @property
    def path(self) -> Path:
        """The solver and the noise levels of `model`, for samples and for edits."""
        return self.model.path

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks of both. Raises what their `init` raises."""
        own_key, guide_key = jax.random.split(key)
        return self.joined(self.model.init(own_key, batch), self.guide.init(guide_key, batch))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of `model`: the guide is not trained."""
        return self.model.phases(stage)

    def joined(self, nets: Nets, of_guide: Nets) -> dict[str, Variables]:
        """Joins the networks of `model` and of `guide` to those of this model."""
        return {**nets, **{GUIDE + name: variables for name, variables in of_guide.items()}}

    def check_conditions(self, conditions: Mapping[str, Any]) -> None:
        """Raises ValueError for a negative prompt, and where it is not said how strongly to guide."""
        if any(name in conditions for name in NEGATIVE_TEXT):
            raise ValueError(
                f"a negative prompt, but guidance leads by a {type(self.guide).__name__} here, and away from no text: "
                "leave out the negative prompt, or the guide"
            )
        if "guidance" not in conditions:
            raise ValueError(
                f"guided by a {type(self.guide).__name__}, but how strongly? Say it: guidance=2.0, or --guidance 2"
            )

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws what `model` draws, led by the guide, of the classes `conditions["label"]` where there are any.

        Raises ValueError where the label or the guidance scale is missing.
        """
        if isinstance(self.model, OwnSteps):
            return self.model.draw_by(nets, key, n, _without_scale(conditions), self._guiding(nets, conditions))
        return self.space.decode(self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key), nets)

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the guided denoiser, for solvers and edits."""
        guide = self._guiding(nets, conditions)
        return guide(self.model.denoiser(nets, _without_scale(conditions)))

    def guided_by(self, guide: Model) -> Guided:
        """Raises ValueError: nothing is guided twice."""
        return Guided(self, guide)

    def _guiding(self, nets: Nets, conditions: Batch) -> Guiding:
        """Returns the function that leads estimates of `model` by `guide`.

        Raises ValueError where the label or the guidance scale is missing.
        """
        check_labels(self, conditions)
        self.check_conditions(conditions)
        of_guide = {name.removeprefix(GUIDE): nets[name] for name in nets if name.startswith(GUIDE)}
        scale, (factor, offset) = conditions["guidance"], between(self.space, space_of(self.guide))
        if isinstance(self.guide, Classifying):
            known = self.guide.log_probability(of_guide, conditions["label"])

            def log_prob(x: Image, sigma: Float[Array, " b"]) -> Float[Array, " b"]:
                return known(factor * x + offset, factor * sigma)

            # The weaker twin is `model` less what the classifier knows of the labels.
            return guiding(self.guidance, lambda own: classifier(own, log_prob, -1.0), 1 + scale)
        weaker = moved(self.guide.denoiser(of_guide, _without_scale(conditions)), factor, offset)
        return guiding(self.guidance, lambda own: weaker, scale)


def _without_scale(conditions: Batch) -> dict[str, Array]:
    """Removes the guidance scale, which is for the guide: a model's own guidance is then off."""
    return {name: conditions[name] for name in conditions if name != "guidance"}
