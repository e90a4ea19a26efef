"""Epsilon, against the figure of another accounting of the same training, and what is said without the accountant."""

from __future__ import annotations

import pytest

from imagegen_jax.core.privacy import accountant
from imagegen_jax.core.privacy.accountant import epsilon, spent
from imagegen_jax.core.privacy.private import DifferentialPrivacy


def test_epsilon_of_1500_images_in_batches_of_128_at_noise_2():
    """6.0 by Poisson sampling without truncation; four deviations of room add 0.004."""
    pytest.importorskip("dp_accounting", reason="the extra 'private' is not installed")
    assert epsilon(DifferentialPrivacy(1.0, 2.0, 1e-4), 1500, 128, 1000) == pytest.approx(6.004, abs=0.01)


def test_without_noise_nothing_is_private():
    assert epsilon(DifferentialPrivacy(1.0, 0.0), 1500, 128, 1) == float("inf")


def test_what_is_needed_for_it_is_named(monkeypatch):
    monkeypatch.setattr(accountant, "is_there", lambda: False)
    found = spent(DifferentialPrivacy(), 1500, 128, 1000, 7)
    assert found.epsilon is None and "imagegen_jax[private]" in found.words


def test_a_seed_that_everyone_tries_first_is_named():
    first, own = (spent(DifferentialPrivacy(1.0, 0.0), 1500, 128, 1, seed).words for seed in (0, 7))
    assert first.startswith(own) and "its seed is 0" in first and "--seed" not in own
