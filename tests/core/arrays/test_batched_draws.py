"""Draws that are made at once are those that are made one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.batched_draws import batch_draws


class Network(nn.Module):
    """Nine arrays of five shapes, with three ways to draw them, and a pass that nothing of them depends on."""

    @nn.compact
    def __call__(self, x):
        for init in (nn.initializers.xavier_uniform(), nn.initializers.normal(0.1), nn.initializers.orthogonal()):
            x = jnp.sin(nn.Dense(4, kernel_init=init)(nn.Dense(4, kernel_init=init)(x)))
        return nn.Conv(2, (3, 3))(x)


def fresh(seed):
    key = jax.random.fold_in(jax.random.key(seed), 7)
    weights = Network().init(key, jnp.zeros((1, 5, 5, 4)))
    left, right = jax.random.split(key)
    between = [jax.random.uniform(left, (3,), minval=low, maxval=2.0) for low in (0.0, 1.0)]
    later = jax.random.fold_in(right, jax.random.randint(left, (), 0, 9))
    _, looped = jax.lax.scan(lambda key, i: (key, jax.random.normal(jax.random.fold_in(key, i))), right, jnp.arange(3))
    return weights, between, jax.random.normal(later, (2,)), looped, 1.0


def loops(function):
    """How many loops the compiled program has: on a CPU one for each draw and for each key that is folded."""
    return jax.jit(function).lower(np.uint32(0)).compile().as_text().count(" while(")


def test_values_are_the_same_to_a_rounding():
    one, many = jax.jit(fresh), jax.jit(batch_draws(fresh))
    for seed in (np.uint32(0), np.uint32(1)):
        assert jax.tree.structure(one(seed)) == jax.tree.structure(many(seed))
        for a, b in zip(jax.tree.leaves(one(seed)), jax.tree.leaves(many(seed)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_draws_that_differ_in_their_keys_alone_are_one():
    def arrays(seed):
        key = jax.random.key(seed)
        return [jax.random.normal(jax.random.fold_in(key, i), (2 + i // 2,)) for i in range(4)]

    assert loops(arrays) == 8 and loops(batch_draws(arrays)) == 3  # of keys, of two numbers, of three


def test_bounds_and_keys_that_differ_are_told_apart():
    def pairs(seed):
        key = jax.random.key(seed)
        return [jax.random.uniform(key, (), minval=low) for low in (0.0, 0.5)], [jax.random.normal(key)] * 2

    np.testing.assert_array_equal(*map(np.hstack, (jax.jit(pairs)(3), jax.jit(batch_draws(pairs))(3))))


def test_generators_whose_draws_differ_under_vmap_are_left_alone():
    def arrays(seed):
        key = jax.random.key(seed, impl="unsafe_rbg")
        return [jax.random.bits(jax.random.fold_in(key, i), (3,)) for i in range(2)]

    np.testing.assert_array_equal(jax.jit(arrays)(np.uint32(0)), jax.jit(batch_draws(arrays))(np.uint32(0)))


def test_a_function_with_side_effects_is_called_as_it_is():
    seen, seed = [], 3

    def told(seed):
        jax.debug.callback(seen.append, seed)
        return jax.random.normal(jax.random.key(seed), (2,))

    np.testing.assert_array_equal(jax.jit(batch_draws(told))(seed), jax.random.normal(jax.random.key(seed), (2,)))
    jax.effects_barrier()
    assert [int(number) for number in seen] == [seed]


def test_large_draws_stay_as_they_are():
    def arrays(seed):
        key = jax.random.key(seed)
        return [jax.random.normal(jax.random.fold_in(key, i), (2**18,)) for i in range(2)]

    assert loops(batch_draws(arrays)) == loops(arrays) - 1  # the keys alone are made at once
