"""The small transformer of texts: what it counts, and that padding is not seen."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from latent_models import filled

from imagegen_jax.nn.text_encoders.small import TextTransformer

ENCODER = TextTransformer(vocabulary_size=20, context=6, width=8, depth=2, heads=2)
TEXT = np.asarray([[2, 5, 6, 3, 0, 0], [2, 7, 8, 9, 9, 3]], np.int32)
MASK = np.asarray([[True] * 4 + [False] * 2, [True] * 6])


apply = jax.jit(ENCODER.apply)


@pytest.fixture(scope="module")
def variables():
    return filled(ENCODER.init, jax.random.key(0), TEXT, MASK)


def test_its_parameters_are_those_of_its_layers(variables):
    """Words and places; of each block 12 d^2 weights, their 9 d biases and two norms; and a last norm."""
    d = ENCODER.width
    counted = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert counted == (20 + 6) * d + 2 * (12 * d**2 + 9 * d + 4 * d) + 2 * d


def test_what_only_fills_a_row_up_changes_nothing(variables):
    padded = TEXT.copy()
    padded[0, 4:] = 11
    one, other = (apply(variables, text, MASK) for text in (TEXT, padded))
    np.testing.assert_array_equal(one.tokens[0, :4], other.tokens[0, :4])
    np.testing.assert_array_equal(one.pooled, other.pooled)
    np.testing.assert_allclose(one.pooled[0], np.mean(one.tokens[0, :4], axis=0), atol=1e-6)
    assert (one.mask == MASK).all()


def test_each_token_sees_those_after_it(variables):
    """Unlike in GPT, since nothing is predicted."""
    changed = TEXT.copy()
    changed[1, 4] = 10
    one, other = (np.asarray(apply(variables, text, MASK).tokens)[1, 0] for text in (TEXT, changed))
    assert np.abs(one - other).max() > 1e-4
