"""`core.arrays.random`: each row draws by itself."""

import jax
import numpy as np

from imagegen_jax.core.arrays.random import bernoulli_rows, fold_rows, integer_rows, normal_rows, streams, uniform_rows

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


def test_a_number_of_a_row_follows_from_its_key_alone() -> None:
    keys = jax.random.split(jax.random.key(1), 2000)
    for draw, low, high, mean in (
        (lambda keys: bernoulli_rows(keys, 0.2), 0, 1, 0.2),
        (lambda keys: integer_rows(keys, 5), 0, 4, 2.0),
        (lambda keys: uniform_rows(keys, 2.0, 3.0), 2, 3, 2.5),
    ):
        whole = np.asarray(draw(keys), np.float32)
        assert whole.shape == (2000,) and whole.min() >= low and whole.max() <= high
        np.testing.assert_allclose(whole.mean(), mean, atol=0.1)
        np.testing.assert_array_equal(draw(keys[5:9]), whole[5:9])


def test_a_number_is_folded_into_each_key() -> None:
    folded = fold_rows(KEYS, 7)
    assert all(folded[row] == jax.random.fold_in(key, 7) for row, key in enumerate(KEYS))
