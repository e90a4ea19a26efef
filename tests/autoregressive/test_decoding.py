"""Drawing codes: what is left of a distribution, how often codes are drawn, and that new values compile nothing new."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoregressive.decoding import check_decoding, draw, draw_in_order, truncated
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import Codes

P = np.array([0.4, 0.1, 0.3, 0.15, 0.05])
LOGITS = jnp.log(jnp.tile(P, (3, 1)))


def left(logits):
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in np.asarray(logits)]


def test_the_largest_are_left():
    assert left(truncated(LOGITS, top_k=jnp.array([1, 3, 5]))) == [[0], [0, 2, 3], [0, 1, 2, 3, 4]]
    assert left(truncated(LOGITS, top_p=jnp.array([0.39, 0.75, 1.0]))) == [[0], [0, 2, 3], [0, 1, 2, 3, 4]]
    np.testing.assert_array_equal(truncated(LOGITS), LOGITS)


def test_of_the_k_largest_the_nucleus_is_left():
    """Of 0.4, 0.3, 0.15 the first is 0.47 of all, and the first two are 0.82."""
    both = truncated(LOGITS, jnp.int32(3), jnp.array([0.46, 0.8, 0.83]))
    assert left(both) == [[0], [0, 2], [0, 2, 3]]


def test_a_loop_in_numpy_leaves_the_same():
    """As the filter of taming's and LlamaGen's loops: a code goes where those before it sum to more than top_p."""
    logits = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    for k, p in ((30, 0.9), (7, 0.5), (12, 1.0), (1, 0.1)):
        for row, found in zip(logits, left(truncated(jnp.asarray(logits), k, p)), strict=True):
            order = np.argsort(-row)[:k]
            weights = np.exp(row[order] - row.max()) / np.exp(row[order] - row.max()).sum()
            assert found == sorted(code for i, code in enumerate(order) if weights[:i].sum() <= p)


def test_codes_are_drawn_as_often_as_their_probabilities_say():
    n = 40_000
    logits = jnp.tile(jnp.log(P), (n, 1))
    for conditions, wanted in (
        ({}, P),
        ({"temperature": 2.0}, np.sqrt(P) / np.sqrt(P).sum()),
        ({"temperature": 0.5, "top_k": 2}, np.array([16, 0, 9, 0, 0]) / 25),
        ({"top_p": 0.5}, np.array([4, 0, 3, 0, 0]) / 7),
    ):
        given = {name: jnp.asarray(value) for name, value in conditions.items()}
        shares = np.bincount(draw(jax.random.key(0), logits, given), minlength=5) / n
        np.testing.assert_allclose(shares, wanted, atol=5 * np.sqrt(0.25 / n))


class Counting(nn.Module):
    """A class makes likely that a code is the last one and 1, more so class 1; none that it is the last one and 2."""

    @nn.compact
    def __call__(self, before, codes, conditioning, at=None):
        seen = self.variable("cache", "seen", jnp.zeros, len(before), jnp.int32)
        seen.value += 1  # so that a lost cache would be seen
        last = jnp.where(at == 0, 0, before[:, 0])
        free = 1 - conditioning.labels.sum(axis=1)
        strength = conditioning.labels @ jnp.array([1.0, 2.0])
        one, two = (jax.nn.one_hot((last + i) % codes.vocabulary, codes.vocabulary) for i in (1, 2))
        logits = strength[:, None] * one + free[:, None] * two
        return jnp.where((seen.value == at + 1)[:, None], logits, jnp.nan)[:, None]


def test_codes_come_one_after_another_and_guidance_moves_logits():
    n, labels = 2_000, np.arange(2_000) % 2
    told = Conditioning(jax.nn.one_hot(labels, 2))
    compiled = jax.jit(lambda given: draw_in_order(Counting(), {}, Codes(4, (2, 3)), told, jax.random.key(0), n, given))
    for scale in (1.0, 3.0, 0.0):
        drawn = np.asarray(compiled({"guidance": jnp.asarray(scale)}))
        assert drawn.shape == (n, 2, 3)
        steps = np.diff(drawn.reshape(n, 6), axis=1, prepend=0) % 4
        for label, strength in ((0, 1.0), (1, 2.0)):
            wanted = np.exp([0, scale * strength, 1 - scale, 0])  # u + s (c - u)
            mine = steps[labels == label]
            found = np.bincount(mine.ravel(), minlength=4) / mine.size
            np.testing.assert_allclose(found, wanted / wanted.sum(), atol=5 * np.sqrt(0.25 / mine.size))
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ({"temperature": np.array([1.0, -2.0])}, "temperature=-2.0: must be above 0"),
        ({"top_k": 65}, "top_k=65: must be an integer from 1 to 64"),
        ({"top_k": 0}, "top_k=0: must be an integer from 1 to 64"),
        ({"top_k": 2.5}, "top_k=2.5: must be an integer"),
        ({"top_p": 0.0}, "top_p=0.0: must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5: must be above 0 and at most 1"),
    ],
)
def test_what_nothing_can_be_drawn_by_is_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        check_decoding(conditions, 64)


def test_what_can_be_drawn_by_is_not_refused():
    check_decoding({"temperature": 0.5, "top_k": np.array([1, 64]), "top_p": 1.0}, 64)
