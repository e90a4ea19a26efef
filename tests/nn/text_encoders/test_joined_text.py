"""Text encoders as one: features side by side, tokens of another after those."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import jit

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

FIRST = CLIPText(9, 3, width=8, depth=1, heads=1)
SECOND = CLIPText(11, 3, width=12, depth=1, heads=1, projection=5)
T5 = T5Encoder(20, 4, width=24, depth=1, heads=1, head_channels=8, hidden=8)
TEXT = jnp.array([[1, 2, 3, 4, 5, 6, 16, 17, 18, 19]])
MASK = jnp.array([[1, 1, 0, 1, 0, 0, 1, 1, 1, 0]], bool)


@pytest.fixture(scope="module")
def joined():
    encoder = JoinedText((FIRST, SECOND), T5, width=24, pooled="all")
    params = jit(batch_draws(encoder.init))(jax.random.key(0), TEXT, MASK)
    return encoder, params, jit(encoder.apply)(params, TEXT, MASK)


def test_each_encoder_reads_its_own_part(joined):
    encoder, params, found = joined
    assert encoder.context == 10 and encoder.vocabulary_size == 20
    own = {name: {"params": tree} for name, tree in params["params"].items()}
    assert set(own) == {"encoders_0", "encoders_1", "after"}
    first = FIRST.apply(own["encoders_0"], TEXT[:, :3], MASK[:, :3])
    second = SECOND.apply(own["encoders_1"], TEXT[:, 3:6], MASK[:, 3:6])
    after = T5.apply(own["after"], TEXT[:, 6:], MASK[:, 6:])
    beside = jnp.pad(jnp.concatenate([first.tokens, second.tokens], -1), ((0, 0), (0, 0), (0, 4)))
    np.testing.assert_allclose(found.tokens, jnp.concatenate([beside, after.tokens], 1), atol=1e-5)
    np.testing.assert_allclose(found.pooled, jnp.concatenate([first.pooled, second.pooled], -1), atol=1e-5)
    np.testing.assert_array_equal(found.mask, [[1, 1, 1, 1, 1, 1, 0]])


@pytest.mark.parametrize(
    ("changes", "tokens", "pooled"),
    [
        ({"after": None, "width": None, "pooled": "last"}, (1, 3, 20), (1, 5)),
        ({"after": None, "blank": 2}, (1, 5, 24), (1, 13)),
        ({"after": T5.clone(masked=False)}, (1, 7, 24), (1, 13)),
    ],
)
def test_without_a_mask_all_tokens_are_seen(joined, changes, tokens, pooled):
    encoder = joined[0].clone(**changes)
    found = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), TEXT, MASK)[0])
    assert found.mask is None and found.tokens.shape == tokens and found.pooled.shape == pooled


def test_too_many_features_are_refused(joined):
    with pytest.raises(ValueError, match="tokens of 20 features, but text.width=16"):
        jax.eval_shape(joined[0].clone(width=16).init, jax.random.key(0), TEXT, MASK)
