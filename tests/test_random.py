"""`core.random`: each row draws by itself."""

import jax
import numpy as np

from imagegen_jax.core.random import normal_rows, streams

KEYS = jax.random.split(jax.random.key(0), 3)


def test_streams_are_the_splits_of_each_key_by_itself() -> None:
    first, second = streams(KEYS, 2)
    for row, key in enumerate(KEYS):
        expected = jax.random.split(key, 2)
        assert first[row] == expected[0] and second[row] == expected[1]


def test_a_row_of_noise_follows_from_its_key_alone() -> None:
    whole = normal_rows(KEYS, (4, 5))
    assert whole.shape == (3, 4, 5)
    np.testing.assert_array_equal(whole[1:2], normal_rows(KEYS[1:2], (4, 5)))
    np.testing.assert_array_equal(whole[2], jax.random.normal(KEYS[2], (4, 5)))
