"""What a dropped text is: no token at all, or the text without a word, in training and in guidance alike."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.diffusion.guidance.conditions import check_empty_text
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.nn.backbones.conditioning import NOTHING, Rates, conditioning_of, drop_conditions, drop_texts
from imagegen_jax.nn.text_encoders.encoding import TextEncoding
from imagegen_jax.text.words import Words

KEY = jax.random.key(0)
WORDS = Words.built(["red circle", "blue square"], 10, 4)
EMPTY = EmptyText.of(WORDS)


class Plain(nn.Module):
    """Tokens are the numbers of the words; all are seen, padding too."""

    context: int = 4
    vocabulary_size: int = 10

    def __call__(self, text, mask, keys=None):
        return TextEncoding(text[..., None] + mask[..., None] / 2)


class Summing(nn.Module):
    """Puts out what it sees of the text."""

    def __call__(self, x, t, conditioning=NOTHING):
        tokens, mask = conditioning.tokens, conditioning.token_mask
        seen = tokens if mask is None else jnp.where(mask[..., None], tokens, 0)
        return jnp.zeros_like(x) + jnp.sum(seen * jnp.arange(1, 5)[:, None], (1, 2))[:, None, None, None]


MODEL = Diffusion(Summing(), prediction="x0", image_shape=(2, 2, 1), text=Plain(), token_dropout=0.5, empty_text=EMPTY)
NETS = {"network": {}, "text": {}}


def rows(*texts):
    """The leaves of texts."""
    encoded = WORDS.encode(texts)
    return {"text": jnp.asarray(encoded.tokens), "text_mask": jnp.asarray(encoded.mask)}


def seen(model, conditions):
    """The estimate of each row at any level, the first pixel."""
    x = jnp.zeros((len(conditions["text"]), 2, 2, 1))
    return np.asarray(model.denoiser(NETS, conditions)(x, jnp.ones(len(x))))[:, 0, 0, 0]


def alone(*texts):
    """What the network makes of these texts."""
    return seen(MODEL, rows(*texts))


def test_guidance_leads_away_from_the_empty_text():
    own, empty = alone("red circle", "blue"), alone("", "")
    guided = seen(MODEL, rows("red circle", "blue") | {"guidance": jnp.float32(3)})
    np.testing.assert_allclose(guided, empty + 3 * (own - empty), rtol=1e-6)
    without = dataclasses.replace(MODEL, empty_text=None)
    guided = seen(without, rows("red circle", "blue") | {"guidance": jnp.float32(3)})
    np.testing.assert_allclose(guided, 3 * own, rtol=1e-6)


def test_a_negative_prompt_takes_its_place_where_it_says_something():
    own, against = alone("red circle", "blue"), alone("square", "")
    negative = rows("square", "")
    negative["text_mask"] = negative["text_mask"].at[1].set(False)  # as `conditions_of` marks one without a word
    given = {f"negative_{name}": value for name, value in negative.items()}
    guided = seen(MODEL, rows("red circle", "blue") | given | {"guidance": jnp.float32(3)})
    np.testing.assert_allclose(guided, against + 3 * (own - against), rtol=1e-6)


def test_training_drops_the_same_rows_as_it_would_without():
    keys, batch = jax.random.split(KEY, 64), rows(*["red circle"] * 64)
    dropped, rates = drop_texts(MODEL, batch, Rates(tokens=0.5), keys)
    kept = np.asarray((dropped["text"] == batch["text"]).all(axis=1))
    assert rates == Rates() and 16 < kept.sum() < 48
    for name, row in rows("").items():
        np.testing.assert_array_equal(dropped[name][~kept], np.broadcast_to(row, (64 - kept.sum(), 4)))
    others = drop_conditions(conditioning_of(MODEL, batch, NETS), Rates(tokens=0.5), keys)
    np.testing.assert_array_equal(np.asarray(others.token_mask).any(axis=1), kept)
    plain = dataclasses.replace(MODEL, empty_text=None)
    assert drop_texts(plain, batch, Rates(tokens=0.5), keys) == (batch, Rates(tokens=0.5))


def test_a_row_of_another_tokenizer_is_refused():
    with pytest.raises(ValueError, match="model.empty_text is given, but model.text is None"):
        check_empty_text(EMPTY, None)
    with pytest.raises(ValueError, match="has 3 tokens, up to 1: model.text reads rows of 4, below 10"):
        check_empty_text(EmptyText((0, 1, 1), 2), Plain())
    with pytest.raises(ValueError, match="has 4 tokens, up to 10"):
        check_empty_text(EmptyText((0, 1, 1, 10), 2), Plain())
