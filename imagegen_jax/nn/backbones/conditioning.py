"""The conditions that a denoising network sees beside a noisy image and its time: made, dropped and nulled here.

Every denoising network, also a user's own, is called as `network(x, t, conditioning)`, and so is its `init`. Dropping a
condition in training and guiding by it in sampling is classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.arrays.random import bernoulli_rows, fold_rows
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.model import (
    Batch,
    Nets,
    PRNGKey,
    PRNGKeys,
    check_condition_rows,
    check_labels,
    condition_rows,
    one_hot_labels,
)


class Conditioning(NamedTuple):
    """All that a network sees beside x and t, one row for each image; None where there is nothing."""

    labels: Float[Array, "b k"] | None = None  # one-hot; a row of zeros is a dropped label
    tokens: Float[Array, "b m e"] | None = None  # for example a text's
    token_mask: Bool[Array, "b m"] | None = None  # False where a token is not seen; None: all are
    source: Float[Array, "b hh ww s"] | None = None  # an image to go by, in [-1, 1]: see `resample.with_source`
    span: Num[Array, " b"] | None = None  # t - r, r being MeanFlow's second time: see `DiT`
    augment_labels: Float[Array, "b a"] | None = None  # how the image was augmented: see `SongUNet`
    pooled: Float[Array, "b p"] | None = None  # a vector of the whole text, dropped with its tokens
    sizes: Num[Array, "b s"] | None = None  # of the picture, in pixels: see `LatentUNet` and `PixArt`; never dropped
    keys: PRNGKeys | None = None  # for dropout layers; None: no dropout


NOTHING = Conditioning()
NO_NETS: Nets = FrozenMap()
TEXT = ("text", "text_mask")  # of a batch


class Rates(NamedTuple):
    """The share of rows, for each condition, that lose it in training, independently of the other conditions."""

    labels: float = 0.0
    tokens: float = 0.0
    source: float = 0.0

    @property
    def dropped(self) -> tuple[str, ...]:
        """The names of conditions that are sometimes dropped, so that a network learns to do without."""
        return tuple(name for name, rate in self._asdict().items() if rate)


@runtime_checkable
class NeedsConditions(Protocol):
    """A network that cannot do without some conditions."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Their names, as in `Conditioning`."""
        ...


@runtime_checkable
class SeesSizes(Protocol):
    """A network that may be told of the sizes of a picture."""

    def sizes_of(self, height: int, width: int) -> tuple[int, ...]:
        """Returns the `sizes` of a picture of so many pixels that nothing was cut off."""
        ...


@runtime_checkable
class _OfNetwork(Protocol):
    @property
    def network(self) -> Any: ...


def conditioning_of(model: Any, batch: Batch, nets: Nets = NO_NETS, keys: PRNGKeys | None = None) -> Conditioning:
    """Makes a network's conditioning from a batch, or from the conditions of sampling: labels, tokens, source.

    It has labels where the model has classes, and whatever the model's `condition_rows` name; "tokens" come with the
    batch's "token_mask" where it has one. Of a model that reads text, the tokens are what its network "text", one of
    `nets`, makes of the batch's. A network that needs a vector of the whole text, or the sizes of a picture, has that
    of its text encoder, and those of the model's samples, whole. `keys` are for dropout, there and in the network that
    sees the conditioning. Raises ValueError where something is missing, or has another shape.
    """
    check_labels(model, batch)
    check_condition_rows(model, batch)
    check_token_mask(batch)
    rows = condition_rows(model)
    tokens, mask = (batch["tokens"], batch.get("token_mask")) if "tokens" in rows else (None, None)
    pooled = None
    if encoder := reads_text(model):
        tokens, mask, pooled = encoder.apply(nets["text"], batch["text"], batch["text_mask"], keys)
    mask = None if mask is None else jnp.asarray(mask, bool)
    source = batch["source"] if "source" in rows else None
    more = {} if tokens is None else _beside_tokens(model, len(tokens), pooled)
    return Conditioning(one_hot_labels(model, batch), tokens, mask, source, keys=keys, **more)


def _beside_tokens(model: Any, rows: int, pooled: Float[Array, "b p"] | None) -> dict[str, Array]:
    """Returns what the model's network needs beside tokens: a vector of the whole text, the sizes of the picture."""
    network = model.network if isinstance(model, _OfNetwork) else None
    needed, found = network.needed if isinstance(network, NeedsConditions) else (), {}
    if "pooled" in needed:
        if pooled is None:
            raise ValueError(
                f"model.text={type(reads_text(model)).__name__}: a {type(network).__name__} needs a vector of the "
                "whole text, which this does not make: set model.text to a CLIPText, BERTText or TextTransformer"
            )
        found["pooled"] = pooled
    if "sizes" in needed and isinstance(network, SeesSizes):
        height, width, _ = sample_shape(model)
        found["sizes"] = jnp.tile(jnp.float32(network.sizes_of(height, width)), (rows, 1))
    return found


def init_text(model: Any, key: PRNGKey, batch: Batch) -> dict[str, Any]:
    """Makes the network "text" of a model that reads text, by name; {} for any other.

    Raises ValueError where the batch has no text, or of another length.
    """
    if not (encoder := reads_text(model)):
        return {}
    check_condition_rows(model, batch)
    return {"text": encoder.init(key, batch["text"], batch["text_mask"])}


def check_token_mask(batch: Batch) -> None:
    """Raises ValueError where there is a "token_mask" that does not say for each token whether it is seen."""
    if "token_mask" in batch and "tokens" in batch and batch["token_mask"].shape != batch["tokens"].shape[:2]:
        raise ValueError(
            f"'token_mask' has the shape {batch['token_mask'].shape}, but there are 'tokens' of "
            f"{batch['tokens'].shape}: it must be {batch['tokens'].shape[:2]}, False where a token is not to be seen"
        )


def drop_conditions(conditioning: Conditioning, rates: Rates, keys: PRNGKeys) -> Conditioning:
    """Drops conditions of rows, each with its own rate, by one key a row; a dropped condition looks as if nulled."""
    for name, rate in rates._asdict().items():
        if rate and conditioning._asdict()[name] is not None:
            conditioning = keep_conditions(conditioning, _kept(rates, name, keys), name)
    return conditioning


@runtime_checkable
class SeesEmptyText(Protocol):
    """A model that may see, where a text is dropped, the text without a word, as Stable Diffusion does."""

    @property
    def empty_text(self) -> EmptyText | None:
        """The row of that text; None: where a text is dropped, none of its tokens is seen."""
        ...


def empty_text_of(model: object) -> EmptyText | None:
    """Returns the text that a model sees where one is dropped; None where it then sees none."""
    return model.empty_text if isinstance(model, SeesEmptyText) else None


def drop_texts(model: object, batch: Batch, rates: Rates, keys: PRNGKeys) -> tuple[Batch, Rates]:
    """Drops texts before they are encoded, where the model then sees the empty one; returns the rates that are left.

    The rows are those whose tokens `drop_conditions` would drop.
    """
    empty = empty_text_of(model)
    if empty is None or not rates.tokens:
        return batch, rates
    return keep_texts(empty, batch, _kept(rates, "tokens", keys)), rates._replace(tokens=0.0)


def keep_texts(empty: EmptyText, batch: Batch, kept: Bool[Array, " b"]) -> dict[str, Array]:
    """Puts the empty text in the place of those that are not kept."""
    rows = jnp.asarray(empty.tokens, jnp.int32), jnp.asarray(empty.mask)
    found = {name: jnp.where(kept[:, None], batch[name], row) for name, row in zip(TEXT, rows, strict=True)}
    return {**batch, **found}


def _kept(rates: Rates, name: str, keys: PRNGKeys) -> Bool[Array, " b"]:
    """Draws the rows that keep a condition."""
    place = Rates._fields.index(name)
    own = fold_rows(keys, place) if place else keys  # the first one, labels, draws from the key itself
    return bernoulli_rows(own, 1 - rates._asdict()[name])


def null_conditions(conditioning: Conditioning, names: tuple[str, ...] = Rates._fields) -> Conditioning:
    """Nulls some conditions of all rows, to what a network sees where they were dropped: zeros, and no token seen."""
    for name in names:
        value = conditioning._asdict()[name]
        if value is not None:
            conditioning = keep_conditions(conditioning, jnp.zeros(len(value), bool), name)
    return conditioning


def keep_conditions(conditioning: Conditioning, kept: Bool[Array, " b"], name: str) -> Conditioning:
    """Nulls one condition of the rows that are not kept."""
    value = conditioning._asdict()[name]
    changed = {name: jnp.where(kept.reshape(-1, *(1,) * (value.ndim - 1)), value, 0)}
    if name == "tokens":
        mask = conditioning.token_mask
        seen = jnp.ones(value.shape[:2], bool) if mask is None else mask
        changed["token_mask"] = seen & kept[:, None]
        if conditioning.pooled is not None:
            changed["pooled"] = jnp.where(kept[:, None], conditioning.pooled, 0)
    return conditioning._replace(**changed)


def check_seen(
    network: nn.Module,
    conditioning: Conditioning,
    *seen: str,
    cross_attention: bool | None = None,
    needed: tuple[str, ...] = (),
) -> None:
    """Raises ValueError where a condition is given that `network` does not see, or where one that it needs is not.

    `seen` names what it sees, beside what is `needed`; dropout's keys may always be given. `cross_attention` is the
    field that switches tokens on, or None for a network without such a field. Raises TypeError where there is no
    `Conditioning`.
    """
    name = type(network).__name__
    if not isinstance(conditioning, Conditioning):
        raise TypeError(
            f"a {name} is called as network(x, t, conditioning), where a Conditioning(labels, tokens, ...) holds all "
            f"else, but is given a {type(conditioning).__name__}"
        )
    given = {name for name, value in conditioning._asdict().items() if value is not None}
    if missing := [condition for condition in needed if condition not in given]:
        raise ValueError(f"a {name} needs {' and '.join(missing)}, which its conditioning lacks: give it, for all rows")
    if cross_attention and "tokens" not in given:
        raise ValueError(
            "cross_attention=True, but no tokens are given: give tokens [B L D], and a mask of False for rows that "
            "have none, or set cross_attention to False"
        )
    if "tokens" in given and cross_attention is False:
        raise ValueError("tokens are given, but cross_attention=False, so the network would not see them: set it True")
    if "token_mask" in given and "tokens" not in given:
        raise ValueError(f"a {name} is given a token_mask, but no tokens: give both, or neither")
    unseen = given - {"keys", *seen, *needed} - ({"tokens", "token_mask"} if cross_attention else set())
    if unseen:
        raise ValueError(
            f"a {name} is given {' and '.join(sorted(unseen))}, but sees {', '.join((*needed, *seen))} alone: use a "
            "network that sees it, or leave it out"
        )
