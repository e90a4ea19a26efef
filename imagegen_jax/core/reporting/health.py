"""The health of training, watched at every line of metrics: saturation, diversity, sign statistics, codebooks, players.

A loss reports what it can: images it made (`Aux.images`), and metrics by the names that are watched below. The rest is
the same for every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import Image, Phase, Scalar

SATURATED = 0.99  # of the largest absolute value that a pixel has
PATIENCE = 1_000  # steps after which a model that was never healthy is reported, too


def image_health(images: Image, data: Image) -> dict[str, Scalar]:
    """Measures the `diversity` of made images, as a share of the data's, and the `saturated` share of both."""
    return {**latent_health(images, data), "saturated": saturated(images), "saturated_data": saturated(data)}


def latent_health(latents: Image, data: Image) -> dict[str, Scalar]:
    """Measures the `diversity` of made latents, as a share of the data's; they have no range, so nothing saturates."""
    return {"diversity": diversity(latents) / jnp.maximum(diversity(data), jnp.finfo(jnp.float32).tiny)}


def diversity(images: Image) -> Scalar:
    """Returns the root of the mean squared distance of two images, which is twice their total variance."""
    n = len(images)
    return jnp.sqrt(2 * n / max(n - 1, 1) * jnp.sum(jnp.var(images.astype(jnp.float32), axis=0)))


def saturated(images: Image) -> Scalar:
    """Returns the share of values, in [-1, 1], that are as good as black or white."""
    return jnp.mean(jnp.abs(images) > SATURATED)


def sign_statistics(real: Float[Array, " b"], fake: Float[Array, " b"]) -> dict[str, Scalar]:
    """Returns the means of the signs of a discriminator's logits, in [-1, 1], where high logits mean real.

    `real_sign` is r_t of Karras et al. 2020 (arXiv 2006.06676, Eq. 1): 0 for a discriminator that cannot tell, towards
    1 as it learns its training images by heart; the paper's augmentation keeps it at 0.6.
    """
    return {"real_sign": jnp.mean(jnp.sign(real)), "fake_sign": jnp.mean(jnp.sign(fake))}


def gradient_ratio(phases: tuple[Phase, ...], metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Returns the second player's gradient norm over the first's; {} where no two networks are trained apart."""
    done = [phase for phase in phases if f"{phase.name}/grad_norm" in metrics]
    others = [phase for phase in done if not set(phase.trains) & set(done[0].trains)]
    if not others:
        return {}
    first, second = (metrics[f"{phase.name}/grad_norm"] for phase in (done[0], others[0]))
    return {"players/grad_norm_ratio": second / jnp.maximum(first, jnp.finfo(jnp.float32).tiny)}


class Limit(NamedTuple):
    """The value beyond which a metric is a warning."""

    value: float
    above: bool  # whether the metric must not rise above the value; else it must not fall below it
    meaning: str


LIMITS = {  # by the last part of a metric's name
    "diversity": Limit(
        0.25, False, "images differ by less than a quarter of what the data do: the model collapses, or does not use "
        "its latents",
    ),
    "real_sign": Limit(
        0.95, True, "the discriminator is sure of all real images: it learns them by heart (augment, regularise or "
        "slow it down) or the generator has lost",
    ),
    "codebook_used": Limit(0.05, False, "nearly no code of the codebook is used: restart dead codes or lower its rate"),
}  # fmt: skip


class Watch:
    """Warns when a metric leaves its limits, once until it has been back."""

    def __init__(self) -> None:
        self._seen: set[str] = set()  # metrics that were healthy at some time
        self._out: set[str] = set()  # that are out of their limits

    @property
    def healthy(self) -> bool:
        """Whether no metric is out of its limits now, whatever there was a warning of before."""
        return not self._out

    def look(self, step: int, metrics: Mapping[str, float | None]) -> list[str]:
        """Returns what to warn of in a step's line of metrics, in sentences that name the step.

        A model that is ill from the start is given PATIENCE steps.
        """
        found = []
        for name, value in metrics.items():
            limit = LIMITS.get(name.rpartition("/")[2])
            if limit is None or value is None:
                continue
            if (value > limit.value) != limit.above:
                self._seen.add(name)
                self._out.discard(name)
            elif name not in self._out and (name in self._seen or step >= PATIENCE):
                self._out.add(name)
                side = "above" if limit.above else "below"
                found.append(f"step {step:,}: {name} is {value:.3g}, {side} {limit.value:g}: {limit.meaning}")
        return found
