"""Labels that are left out in training, so that a network learns to do without: what classifier-free guidance needs.

Ho & Salimans (2022, arXiv 2207.12598), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import Batch, PRNGKeys, check_labels, one_hot_labels
from imagegen_jax.diffusion.denoiser import Denoise, with_gain
from imagegen_jax.diffusion.guidance import Images, Number, known
from imagegen_jax.diffusion.guidances import AnyGuidance

Labels = Float[Array, "b k"] | None  # one-hot


def check_label_dropout(model: Any) -> None:
    """Raises ValueError where `model.label_dropout` is no share of labels, or there are no labels to leave out."""
    share, classes = model.label_dropout, model.num_classes
    if not 0 <= share < 1 or (share and not classes):
        raise ValueError(
            f"model.label_dropout={share}, model.num_classes={classes}: it must be at least 0 and below 1, and 0 "
            "without classes"
        )


def check_guidance(model: Any, conditions: Batch) -> None:
    """Raises ValueError for guidance where there is no label, or none was ever left out in training."""
    if "guidance" in conditions and not model.label_dropout:
        raise ValueError(
            f"guidance={conditions['guidance']}, but model.label_dropout=0: the network has not learned to do without "
            "labels, so there is nothing to guide away from; train with label_dropout 0.1, say, or give another run as "
            "a guide"
        )


def drop_labels(labels: Labels, share: float, keys: PRNGKeys) -> Labels:
    """One-hot labels of which this share of rows is 0, as the unconditional network sees them."""
    if labels is None or not share:
        return labels
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - share))(keys)
    return labels * kept[:, None]


def of_conditions(model: Any, denoiser: Callable[[Labels], Denoise], conditions: Batch) -> Denoise:
    """What solvers see of `model`: the `denoiser` of the labels, guided where `conditions` has "guidance".

    That is the scale of the guidance `model.guidance`. The `denoiser` knows images times `model.gain`, and is guided as
    such, since guidance like levels is made for what the network knows. Raises ValueError where the label is missing,
    or guidance cannot be.
    """
    check_labels(model, conditions)
    check_guidance(model, conditions)
    labels = one_hot_labels(model, conditions)
    denoise = denoiser(labels)
    if labels is not None and "guidance" in conditions:
        denoise = model.guidance(denoise, denoiser(jnp.zeros_like(labels)), conditions["guidance"])
    return with_gain(denoise, model.gain)


def guided_noise(
    guidance: AnyGuidance, x: Images, sigma: Float[Array, "b ..."], conditional: Images, free: Images, scale: Number
) -> Images:
    """The noise in x = x_0 + `sigma` epsilon by two estimates of it: guidance speaks of the images that they leave."""
    denoise = guidance(known(x - sigma * conditional), known(x - sigma * free), scale)
    return (x - denoise(x, sigma.reshape(-1))) / sigma
