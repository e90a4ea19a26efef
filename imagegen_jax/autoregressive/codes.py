"""What models over the codes of a tokenizer share: their networks, codes in rows, guidance on logits, and checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.core.capabilities import OverCodes, Tokenizing, first_stage_for
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Batch, Image, Model, Nets, PRNGKey, Scalar, check_images, check_labels
from imagegen_jax.nn.backbones.conditioning import Conditioning, conditioning_of, null_conditions
from imagegen_jax.nn.backbones.transformers.code_network import Codes

AnyTokenizer = Annotated[
    Tokenizing, Choices("imagegen_jax.autoencoders.vqvae:VQVAE", "imagegen_jax.autoencoders.vqgan:VQGAN")
]


class DropsLabels(Protocol):
    """A model that may learn to do without labels."""

    @property
    def num_classes(self) -> int: ...

    @property
    def label_dropout(self) -> float: ...


class CodeModel(OverCodes, DropsLabels, Model, Protocol):
    """A model over codes: its networks are "tokenizer", which is frozen, and "prior"."""


M = TypeVar("M", bound=CodeModel)


def check_label_dropout(model: DropsLabels) -> None:
    """Raises ValueError where labels are dropped that are not there."""
    if model.label_dropout and not model.num_classes:
        raise ValueError(
            f"model.label_dropout={model.label_dropout}, model.num_classes=0: without classes there are no labels "
            "to drop; set label_dropout to 0"
        )


def codes_of(tokenizer: Tokenizing) -> Codes:
    """Returns what codes a tokenizer makes of an image."""
    return Codes(tokenizer.codebook_size, tuple(tokenizer.code_shape))


def init_over_codes(
    model: CodeModel, key: PRNGKey, batch: Batch, init: Callable[[PRNGKey, Conditioning], Any]
) -> dict[str, Any]:
    """Makes fresh networks of a model over codes, its prior by `init`.

    Raises ValueError where images or labels do not fit.
    """
    if "codes" not in batch:
        check_images(model, batch)
    check_labels(model, batch)
    tokenizer_key, prior_key = jax.random.split(key)
    prior = init(prior_key, conditioning_of(model, batch))
    return {"tokenizer": model.tokenizer.init_tokenizer(tokenizer_key), "prior": prior}


def for_other_images(model: M, image_shape: tuple[int, int, int], num_classes: int) -> M:
    """Returns a model over codes for images of a shape and so many classes, with a tokenizer for such images.

    Raises ValueError where the tokenizer takes none such.
    """
    tokenizer = first_stage_for(model.tokenizer, image_shape)
    dropout = model.label_dropout if num_classes else 0.0
    changed: Any = dataclasses.replace(
        cast(Any, model), tokenizer=tokenizer, num_classes=num_classes, label_dropout=dropout
    )
    return cast(M, changed)


def encoded(tokenizer: Tokenizing, nets: Nets, image: Image) -> Int[Array, "b l"]:
    """Turns images into the codes of each in a row: [B H W C] -> [B L]."""
    return stop_gradient(tokenizer.encode(nets, image)).reshape(len(image), -1)


def codes_in(tokenizer: Tokenizing, nets: Nets, batch: Batch) -> Int[Array, "b l"]:
    """Returns the codes of each row of a batch: those that the data give, or those of its images."""
    if "codes" not in batch:
        return encoded(tokenizer, nets, batch["image"])
    return batch["codes"].reshape(len(batch["codes"]), -1)


def decoded(tokenizer: Tokenizing, nets: Nets, codes: Int[Array, "b l"]) -> Image:
    """Turns rows of codes into images: [B L] -> [B H W C]."""
    return tokenizer.decode(nets, codes.reshape(-1, *tokenizer.code_shape))


def smoothed_nll(
    logits: Float[Array, "b l v"], codes: Int[Array, "b l"], smoothing: float = 0.0
) -> Float[Array, "b l"]:
    """Returns -log p of codes in nats, where a share of `smoothing` of the target is spread over all codes evenly.

    This is label smoothing (Szegedy et al. 2015, arXiv 1512.00567, section 7).
    """
    log_p = jax.nn.log_softmax(logits)
    of_code = jnp.take_along_axis(log_p, codes[..., None], axis=-1)[..., 0]
    return -(1 - smoothing) * of_code - smoothing * jnp.mean(log_p, axis=-1)


def with_unconditional(tree: Any) -> Any:
    """Repeats the rows of arrays, for a second half of the batch without conditions."""
    return jax.tree.map(lambda x: jnp.concatenate([x, x]), tree)


def both_conditionings(conditioning: Conditioning) -> Conditioning:
    """Returns rows with the conditions as they are, then as many with all conditions dropped."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), conditioning, null_conditions(conditioning))


def guided(logits: Float[Array, "b ..."], scale: Scalar | Float[Array, " n"]) -> Float[Array, "n ..."]:
    """Guides logits by those without conditions: u + s (c - u), of rows c, then u: [2 N ...] -> [N ...].

    A `scale` s of 1 leaves c, 0 leaves u (Ho & Salimans 2022, arXiv 2207.12598, with w = s - 1).
    """
    conditional, free = jnp.split(logits, 2)
    scale = jnp.reshape(scale, (-1, *(1,) * (logits.ndim - 1)))
    return free + scale * (conditional - free)


def check_code_guidance(model: DropsLabels, conditions: Batch) -> None:
    """Raises ValueError where guidance is asked of a model that was never without a label in training."""
    if "guidance" not in conditions or (model.num_classes and model.label_dropout):
        return
    name, scale = type(model).__name__, conditions["guidance"]
    lacks = "no classes" if not model.num_classes else "model.label_dropout=0, so it never was without a label"
    raise ValueError(
        f"guidance={scale}: this {name} has {lacks}, and there is nothing to be guided away from: leave it out, or "
        "train one with classes and a label_dropout, such as 0.1"
    )
