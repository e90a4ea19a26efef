"""Schedules against closed forms: products, Bayes' rule on Gaussians, marginals."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.nn.distributions.noise_steps import LinearSchedule, posterior, signal_and_noise


def test_linear_schedule_is_the_papers():
    schedule = LinearSchedule()
    betas = schedule.betas
    assert (len(betas), betas[0], betas[-1]) == (1000, 1e-4, 0.02)
    np.testing.assert_allclose(np.diff(betas), (0.02 - 1e-4) / 999)
    # Section 4 and the code: hardly a trace of the image is left at the end, sqrt(alpha_bar_T) = 0.00635.
    np.testing.assert_allclose(schedule.alpha_bar[-1], 4.0358e-5, rtol=1e-4)


def test_alpha_bar_of_equal_steps_is_a_power():
    alpha_bar = LinearSchedule(steps=50, start=0.03, end=0.03).alpha_bar
    np.testing.assert_allclose(alpha_bar, 0.97 ** np.arange(1, 51), rtol=1e-13)


def test_posterior_is_bayes_rule():
    """Prior N(sqrt(a_s) x_0, 1 - a_s) of x_s, likelihood N(x_t; sqrt(alpha) x_s, beta): precisions add."""
    alpha_bar = LinearSchedule().alpha_bar
    a_t, a_s, x_0, x_t = alpha_bar[10::7], alpha_bar[3:-7:7], 0.3, -1.2
    alpha = a_t / a_s
    precision = 1 / (1 - a_s) + alpha / (1 - alpha)
    mean = (np.sqrt(a_s) * x_0 / (1 - a_s) + np.sqrt(alpha) * x_t / (1 - alpha)) / precision
    q = posterior(a_t, a_s)
    np.testing.assert_allclose(q.variance, 1 / precision, rtol=1e-9)
    np.testing.assert_allclose(q.of_x_0 * x_0 + q.of_x_t * x_t, mean, rtol=1e-9)


def test_posterior_over_the_forward_process_is_the_forward_process():
    """Drawing x_t from x_0 and then x_s from both gives x_s as drawn from x_0: its mean and its variance."""
    alpha_bar = LinearSchedule().alpha_bar
    a_t, a_s = alpha_bar[1:], alpha_bar[:-1]
    q = posterior(a_t, a_s)
    np.testing.assert_allclose(q.of_x_0 + q.of_x_t * np.sqrt(a_t), np.sqrt(a_s), rtol=1e-9)
    np.testing.assert_allclose(q.variance + q.of_x_t**2 * (1 - a_t), 1 - a_s, rtol=1e-9)


def test_posterior_of_the_last_step_is_the_image():
    q = posterior(np.array(0.9), np.array(1.0))
    np.testing.assert_allclose([q.of_x_0, q.of_x_t, q.variance], [1, 0, 0], atol=1e-15)


def test_signal_and_noise_broadcast_over_any_shape():
    schedule = LinearSchedule(steps=10)
    for ndim in (1, 2, 4):
        signal, noise = signal_and_noise(schedule, jnp.array([0, 9]), ndim)
        assert signal.shape == noise.shape == (2,) + (1,) * (ndim - 1)
        np.testing.assert_allclose(signal.ravel(), np.sqrt(schedule.alpha_bar[[0, 9]]), rtol=1e-6)
        np.testing.assert_allclose(signal**2 + noise**2, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, r"schedule.steps=0: .* at least 1"),
        ({"start": 0.0}, r"schedule.start=0.0.*0 < start <= end < 1"),
        ({"start": 0.1, "end": 0.02}, r"schedule.start=0.1, schedule.end=0.02"),
        ({"end": 1.0}, r"schedule.end=1.0"),
        ({"end": float("nan")}, r"schedule.end=nan"),
    ],
)
def test_impossible_schedules_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LinearSchedule(**fields)
