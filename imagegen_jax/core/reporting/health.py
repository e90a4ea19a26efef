"""The health of training, watched at every line of metrics: saturation, diversity, sign statistics, codebooks, players.

A loss reports what it can: images it made (`Aux.images`), and metrics by the names that are watched below. The rest is
the same for every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.model import Image, Phase, Scalar

SATURATED = 0.99  # of the largest absolute value that a pixel has
PATIENCE = 1_000  # steps after which a model that was never healthy is reported, too


def image_health(images: Image, data: Image) -> dict[str, Scalar]:
    """`diversity` of images made, as a share of that of data, and the `saturated` share of pixels of both."""
    return {**latent_health(images, data), "saturated": saturated(images), "saturated_data": saturated(data)}


def latent_health(latents: Image, data: Image) -> dict[str, Scalar]:
    """`diversity` of latents made, as a share of that of data: they have no range that they could leave."""
    return {"diversity": diversity(latents) / jnp.maximum(diversity(data), jnp.finfo(jnp.float32).tiny)}


def diversity(images: Image) -> Scalar:
    """The root of the mean squared distance between two of the images, which is that of twice their total variance."""
    n = len(images)
    return jnp.sqrt(2 * n / max(n - 1, 1) * jnp.sum(jnp.var(images.astype(jnp.float32), axis=0)))


def saturated(images: Image) -> Scalar:
    """The share of values, in [-1, 1], that are black or white as good as wholly."""
    return jnp.mean(jnp.abs(images) > SATURATED)


def sign_statistics(real: Float[Array, " b"], fake: Float[Array, " b"]) -> dict[str, Scalar]:
    """How a discriminator whose logits are high for real images judges both: the means of their signs, in [-1, 1].

    `real_sign` is r_t of Karras et al. 2020 (arXiv 2006.06676, Eq. 1): 0 for a discriminator that cannot tell, towards
    1 as it learns its training images by heart; their augmentation keeps it at 0.6.
    """
    return {"real_sign": jnp.mean(jnp.sign(real)), "fake_sign": jnp.mean(jnp.sign(fake))}


def codebook_use(indices: Int[Array, ...], size: int) -> dict[str, Scalar]:
    """Of a codebook with `size` codes, the share that a batch's indices use, and their perplexity (1 to `size`)."""
    shares = jnp.bincount(indices.reshape(-1), length=size) / indices.size
    entropy = -jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0))
    return {"codebook_used": jnp.mean(shares > 0), "codebook_perplexity": jnp.exp(entropy)}


def gradient_ratio(phases: tuple[Phase, ...], metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The gradient norm of the second player over that of the first; {} where no two networks are trained apart."""
    done = [phase for phase in phases if f"{phase.name}/grad_norm" in metrics]
    others = [phase for phase in done if not set(phase.trains) & set(done[0].trains)]
    if not others:
        return {}
    first, second = (metrics[f"{phase.name}/grad_norm"] for phase in (done[0], others[0]))
    return {"players/grad_norm_ratio": second / jnp.maximum(first, jnp.finfo(jnp.float32).tiny)}


class Limit(NamedTuple):
    """When a metric is a warning."""

    value: float
    above: bool  # whether it must not rise above the value, or not fall below it
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

    def look(self, step: int, metrics: Mapping[str, float | None]) -> list[str]:
        """What there is to warn of in the line of metrics of a step, in sentences that name the step.

        A model that starts out ill is given PATIENCE steps.
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
