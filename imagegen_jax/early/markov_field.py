"""Markov random field of grey values: the auto-binomial model (Cross & Jain 1983, IEEE PAMI 5(1)).

A value of G levels has, given its neighbours, the binomial distribution of G - 1 trials with logit a + sum_r b_r
(x_(s+r) + x_(s-r)). It is trained by its pseudo-likelihood (Besag 1975), and drawn from by Gibbs sampling (Geman &
Geman 1984) of sites that are no neighbours of one another, all at once (Besag 1974). Neighbours count from the middle
grey, so that what lies beyond the edge counts for nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.config.bounds import Count, Natural, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    Variables,
    check_images,
    check_labels,
)

RATE = 10.0  # by which the field's parameters count, so that one learning rate serves them and their gradients


@dataclasses.dataclass(frozen=True)
class MarkovField:
    """Auto-binomial field, with one logit a for all places of a texture, or one a place and class for a picture."""

    image_shape: Shape = (28, 28, 1)
    radius: Count = 2  # rows and columns away that neighbours are, at most
    levels: Count = 16  # of grey, G
    sweeps: Count = 50  # of Gibbs sampling, over all sites
    placed: bool = True  # whether each place has its own logit a; not for textures
    num_classes: Natural = 0

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels={self.levels}: must be from 2 to 256")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Begins with independent sites, each level by the fair binomial. Raises ValueError as checks of images do."""
        check_images(self, batch)
        check_labels(self, batch)
        height, width, channels = self.image_shape
        place = (height, width) if self.placed else (1, 1)
        params = {
            "field": jnp.zeros((max(1, self.num_classes), *place, channels)),
            "neighbours": jnp.zeros((len(offsets(self.radius)), channels)),
        }
        return {"network": {"params": params}}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the pseudo-likelihood rises."""
        return (Phase(("network",), self.loss, "pseudo_likelihood"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """The mean over sites of -log p(x_s | its neighbours), in nats (Besag 1975)."""
        x = self._levels_of(inputs.batch["image"])
        logits = self._logits(nets["network"]["params"], x, inputs.batch)
        nats = -jnp.mean(self._log_binomial(logits, x))
        return nats, Aux({"nats_a_site": nats})

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images at `levels` of grey, after `sweeps` of Gibbs sampling from noise."""
        check_labels(self, conditions)
        params, groups = nets["network"]["params"], self._groups()
        of_start, of_sweeps = jax.random.split(key)
        start = jax.random.randint(of_start, (n, *self.image_shape), 0, self.levels).astype(jnp.float32)

        def draw(i: Array, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
            logits = self._logits(params, x, conditions)[..., None]
            each = self._log_binomial(logits, jnp.arange(self.levels, dtype=jnp.float32))
            below = jnp.cumsum(jnp.exp(each[..., :-1]), axis=-1)  # of each level but the last: one number draws a site
            number = jax.random.uniform(jax.random.fold_in(of_sweeps, i), (*x.shape, 1))
            drawn = jnp.sum(number > below, axis=-1).astype(jnp.float32)
            return jnp.where(groups[i % len(groups)], drawn, x)

        x = lax.fori_loop(0, self.sweeps * len(groups), draw, start)
        return 2 * x / (self.levels - 1) - 1

    def _groups(self) -> Bool[Array, "g h w 1"]:
        """Returns sets of sites, as masks, in which no two are neighbours: Besag's coding sets."""
        period = self.radius + 1
        height, width, _ = self.image_shape
        numbers = np.arange(height)[:, None] % period * period + np.arange(width) % period
        return jnp.stack([jnp.asarray(numbers == number)[..., None] for number in range(period**2)])

    def _levels_of(self, image: Image) -> Float[Array, "b h w c"]:
        return jnp.round((image + 1) / 2 * (self.levels - 1))

    def _logits(self, params: Variables, x: Float[Array, "b h w c"], batch: Batch) -> Float[Array, "b h w c"]:
        labels = batch["label"] if self.num_classes else jnp.zeros(len(x), jnp.int32)
        centred = jnp.pad(x / (self.levels - 1) - 0.5, ((0, 0), *((self.radius,) * 2,) * 2, (0, 0)))
        height, width, _ = self.image_shape
        total = params["field"][labels]
        for (down, right), weight in zip(offsets(self.radius), params["neighbours"], strict=True):
            for sign in (1, -1):
                top, left = self.radius + sign * down, self.radius + sign * right
                total += weight * centred[:, top : top + height, left : left + width]
        return RATE * total

    def _log_binomial(self, logits: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log p of x successes in G - 1 trials whose log-odds are `logits`."""
        trials = self.levels - 1
        gamma = jax.scipy.special.gammaln
        ways = gamma(trials + 1.0) - gamma(x + 1.0) - gamma(trials - x + 1.0)
        return ways + x * jax.nn.log_sigmoid(logits) + (trials - x) * jax.nn.log_sigmoid(-logits)


def offsets(radius: int) -> list[tuple[int, int]]:
    """Returns one of each pair of neighbours r, -r up to `radius` rows and columns away."""
    around = range(-radius, radius + 1)
    return [place for place in itertools.product(around, around) if place > (0, 0)]
