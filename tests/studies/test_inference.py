"""Tests and bands against scipy's, corrections against a worked example, and what is said where nothing can be."""

import math

import numpy as np
import pytest
from scipy import stats

from imagegen_jax.studies.inference import band, holm, paired, welch

A, B = [1.0, 1.2, 0.9], [1.5, 1.4, 1.9, 1.6]


def test_welchs_test_is_that_of_scipy():
    found, wanted = welch(A, B), stats.ttest_ind(B, A, equal_var=False)
    interval = wanted.confidence_interval(0.95)
    np.testing.assert_allclose(
        [found.value, found.p, found.degrees, found.low, found.high],
        [np.mean(B) - np.mean(A), wanted.pvalue, wanted.df, interval.low, interval.high],
    )


def test_the_paired_test_is_that_of_scipy():
    found, wanted = paired(A, B[:3]), stats.ttest_rel(B[:3], A)
    interval = wanted.confidence_interval(0.95)
    np.testing.assert_allclose([found.p, found.degrees, found.low], [wanted.pvalue, wanted.df, interval.low])
    with pytest.raises(ValueError, match="3 and 4 seeds cannot be paired"):
        paired(A, B)


def test_a_band_is_students_interval_of_the_mean():
    values = np.random.default_rng(0).normal(size=(3, 5))
    found = band(values)
    low, high = stats.t.interval(0.95, 2, values.mean(0), stats.sem(values))
    np.testing.assert_allclose(found, [values.mean(0), low, high])
    assert np.isnan(band(values[:1]).low).all()


def test_p_values_are_corrected_as_holm_has_it():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    found = holm([0.6, math.nan, 0.9])
    assert found[0] == found[2] == 1.0 and math.isnan(found[1])


def test_the_detectable_difference_is_found_in_about_four_of_five_repetitions():
    """At three seeds each, whose spread is 1."""
    rng, n = np.random.default_rng(0), 3
    a, b = rng.normal(size=(2, 20_000, n))
    ends = np.array([-1.0, 0.0, 1.0])  # of variance 1
    shift = welch(ends, ends + 1).detectable()
    p = stats.ttest_ind(a, b + shift, axis=1, equal_var=False).pvalue
    assert 0.77 < (p < 0.05).mean() < 0.83
    same = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue
    assert (same < 0.05).mean() < 0.055
    assert welch(ends, ends).detectable(3) > 1.3 * shift  # it is harder to be found in one of three tests


def test_nothing_is_said_of_single_seeds_and_of_numbers_without_spread():
    alone = welch([1.0], [2.0])
    assert alone.value == 1.0 and math.isnan(alone.p) and math.isnan(alone.low)
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1.0 and welch([1.0, 1.0], [2.0, 2.0]).p == 0.0
    assert math.isnan(paired([1.0], [2.0]).p) and paired([1.0, 2.0], [2.0, 3.0]).p == 0.0
