"""Optimizers against hand computation and torch's formulas; schedules against closed forms; lazy corrections."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.config.bounds import check_fields
from imagegen_jax.core.config.serial import from_dict
from imagegen_jax.core.optim import (
    SGD,
    Adam,
    AdamW,
    ClipWeights,
    Clock,
    CosineDecay,
    ExponentialDecay,
    InverseSqrt,
    LinearDecay,
    RMSprop,
    WarmUp,
    apply,
    lazy_correction,
    value,
)

pytestmark = pytest.mark.versions


def clock(step, steps=100):
    return Clock(jnp.int32(step), jnp.int32(steps))


def run(optimizer, grads, lazy=1.0, start=1.0, steps=100):
    """The parameter after each of a list of scalar gradients."""
    params, found = {"w": jnp.float32(start)}, []
    opt = optimizer.transform(clock(0)).init(params)
    for t, grad in enumerate(grads):
        params, opt = apply(optimizer, {"w": jnp.float32(grad)}, opt, params, clock(t, steps), lazy)
        found.append(float(params["w"]))
    return np.array(found)


def adam_by_hand(grads, lr, b1, b2, eps, start=1.0, decay=0.0):
    m = v = 0.0
    w, found = start, []
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w -= lr * ((m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps) + decay * w)
        found.append(w)
    return np.array(found)


GRADS = [0.3, -1.2, 0.7, 0.05, 2.0]


def test_adam_is_algorithm_1():
    np.testing.assert_allclose(run(Adam(0.1, 0.8, 0.95, 1e-3), GRADS), adam_by_hand(GRADS, 0.1, 0.8, 0.95, 1e-3), 2e-6)


def test_adamw_decays_apart_from_the_gradient():
    found = run(AdamW(0.1, 0.9, 0.99, 1e-8, weight_decay=0.2), GRADS)
    np.testing.assert_allclose(found, adam_by_hand(GRADS, 0.1, 0.9, 0.99, 1e-8, decay=0.2), 2e-6)


def test_adamw_spares_vectors_when_asked():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    optimizer = AdamW(0.1, weight_decay=0.5, decay_vectors=False)
    zeros = jax.tree.map(jnp.zeros_like, params)
    after, _ = apply(optimizer, zeros, optimizer.transform(clock(0)).init(params), params, clock(0), 1.0)
    np.testing.assert_allclose(after["kernel"], 0.95, 1e-6)
    np.testing.assert_array_equal(after["bias"], 1.0)


def test_adamw_spares_all_but_kernels_when_asked():
    params = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "code": {"embedding": jnp.ones((2, 2))}}
    optimizer = AdamW(0.1, weight_decay=0.5, kernels_only=True)
    zeros = jax.tree.map(jnp.zeros_like, params)
    after, _ = apply(optimizer, zeros, optimizer.transform(clock(0)).init(params), params, clock(0), 1.0)
    np.testing.assert_allclose(after["layer"]["kernel"], 0.95, 1e-6)
    np.testing.assert_array_equal(after["layer"]["bias"], 1.0)
    np.testing.assert_array_equal(after["code"]["embedding"], 1.0)


def test_rmsprop_by_hand():
    v, w, wanted = 0.0, 1.0, []
    for g in GRADS:
        v = 0.9 * v + 0.1 * g * g
        w -= 0.01 * g / (math.sqrt(v) + 1e-3)
        wanted.append(w)
    np.testing.assert_allclose(run(RMSprop(0.01, 0.9, 1e-3), GRADS), wanted, 2e-6)


def test_rmsprop_with_momentum_by_hand():
    m, v, w, wanted = 0.0, 0.0, 1.0, []
    for g in GRADS:
        v = 0.9 * v + 0.1 * g * g
        m = 0.5 * m + g / (math.sqrt(v) + 1e-3)
        w -= 0.01 * m
        wanted.append(w)
    np.testing.assert_allclose(run(RMSprop(0.01, 0.9, 1e-3, momentum=0.5), GRADS), wanted, 2e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_by_hand(nesterov):
    m, w, wanted = 0.0, 1.0, []
    for g in GRADS:
        m = 0.9 * m + g
        w -= 0.1 * (0.9 * m + g if nesterov else m)
        wanted.append(w)
    np.testing.assert_allclose(run(SGD(0.1, 0.9, nesterov), GRADS), wanted, 2e-6)


def test_weights_are_clipped_after_the_update():
    found = run(SGD(1.0, project=(ClipWeights(0.01),)), [5.0, -5.0])
    np.testing.assert_allclose(found, [-0.01, 0.01])


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (WarmUp(2.0, 4), {0: 0.5, 1: 1.0, 3: 2.0, 50: 2.0}),
        (CosineDecay(2.0), {0: 2.0, 25: 1 + math.cos(math.pi / 4), 50: 1.0, 100: 0.0}),
        (CosineDecay(2.0, floor=1.0, warmup=10, steps=50), {0: 0.2, 10: 2.0, 30: 1.5, 50: 1.0, 99: 1.0}),
        (LinearDecay(1.0, start=50), {0: 1.0, 50: 1.0, 75: 0.5, 100: 0.0}),
        (LinearDecay(1.0, floor=0.5, warmup=2, steps=42), {0: 0.5, 2: 1.0, 22: 0.75, 42: 0.5}),
        (ExponentialDecay(3.0, 0.9), {0: 3.0, 1: 2.7, 3: 2.187}),
        (InverseSqrt(3.0, 25), {0: 3.0, 25: 3.0, 100: 1.5}),
        (InverseSqrt(3.0, 25, warmup=10), {0: 0.3, 9: 3.0, 100: 1.5}),
    ],
)
def test_schedules_in_closed_form(schedule, wanted):
    for step, expected in wanted.items():
        assert float(value(schedule, clock(step))) == pytest.approx(expected, abs=1e-6), step


def test_any_hyperparameter_may_be_scheduled():
    b2 = LinearDecay(0.99, floor=0.5, steps=4)
    m = v = 0.0
    w, wanted = 1.0, []
    for t, g in enumerate(GRADS, start=1):
        now = 0.99 + (0.5 - 0.99) * min(1.0, (t - 1) / 4)
        m, v = 0.9 * m + 0.1 * g, now * v + (1 - now) * g * g
        w -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - now**t)) + 1e-8)
        wanted.append(w)
    np.testing.assert_allclose(run(Adam(0.1, b2=b2), GRADS), wanted, 2e-6)


def test_lazy_correction_is_stylegan2s():
    found = lazy_correction({"generator": (1, 4), "discriminator": (1, 16), "critic": (5,), "both": (2, 2)})
    assert found == {"generator": 4 / 5, "discriminator": 16 / 17, "critic": 1.0, "both": 0.5}
    corrected = run(Adam(0.1, 0.5, 0.9), GRADS, lazy=4 / 5)
    np.testing.assert_allclose(corrected, run(Adam(0.08, 0.5**0.8, 0.9**0.8), GRADS), 1e-6)


@pytest.mark.parametrize(
    ("optimizer", "by_hand"),
    [
        (AdamW(0.1, 0.5, 0.9), AdamW(0.08, 0.5**0.8, 0.9**0.8)),
        (RMSprop(0.1, 0.9, momentum=0.5), RMSprop(0.08, 0.9**0.8, momentum=0.5**0.8)),
        (SGD(0.1, 0.5), SGD(0.08, 0.5**0.8)),
    ],
)
def test_every_optimizer_corrects_its_rate_and_its_decays(optimizer, by_hand):
    np.testing.assert_allclose(run(optimizer, GRADS, lazy=4 / 5), run(by_hand, GRADS), 1e-6)


def test_optimizer_state_does_not_depend_on_hyperparameters():
    """A run may be resumed with other rates: the state's structure is the same."""
    params = {"w": jnp.ones(3)}
    for optimizer in (Adam(), AdamW(), RMSprop(), SGD(momentum=0.9)):
        changed = dataclasses.replace(optimizer, lr=CosineDecay(0.5))
        one, other = (o.transform(clock(0)).init(params) for o in (optimizer, changed))
        assert jax.tree.structure(one) == jax.tree.structure(other)


@pytest.mark.parametrize("bad", [-1e-3, math.nan, math.inf])
def test_bad_rates_are_named(bad):
    with pytest.raises(ValueError, match=r"optim\.g\.lr"):
        check_fields(Adam(bad), "optim.g")
    with pytest.raises(ValueError, match=r"optim\.g\.b2\.floor"):
        check_fields(Adam(b2=CosineDecay(0.9, floor=bad)), "optim.g")


def test_a_stored_schedule_is_read_under_the_name_that_it_had():
    old = {"class": "imagegen_jax.core.optim:Cosine", "peak": 0.1, "warmup": 5}
    assert from_dict(old) == CosineDecay(0.1, warmup=5)
