"""How many answers one needs, and whether intervals hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from imagegen_jax.pages.judge.counts import agreement, answers_for_width, answers_to_tell, clustered, wilson


def test_the_counts_that_are_said_at_the_start() -> None:
    assert answers_for_width(0.10) == 97
    assert answers_for_width(0.05) == 385
    assert answers_to_tell(0.45) == 783


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (48, 97), (700, 1000)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = wilson(k, n)
    assert found == pytest.approx((k / n, expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.4, 0.15])
def test_intervals_of_a_thousand_judges_hold_the_true_share(share: float) -> None:
    random = np.random.default_rng(int(share * 100))
    answers = random.random((1000, 97)) < share
    intervals = [clustered(list(one), ["judge"] * 97, list(range(97))) for one in answers]
    held = np.mean([found.low <= share <= found.high for found in intervals])
    assert 0.93 <= held <= 0.97


@pytest.mark.parametrize(("people", "pairs"), [(40, 20), (20, 60)])
def test_intervals_hold_the_share_where_people_and_pairs_differ(people: int, pairs: int) -> None:
    random, held, naive = np.random.default_rng(people), [], []
    for _ in range(300):
        lean = random.normal(0, 0.8, people)  # of each person, towards one side
        chance = 1 / (1 + np.exp(-lean))
        answers = random.random((people, pairs)) < chance[:, None]
        voters, of_pairs = np.repeat(np.arange(people), pairs), np.tile(np.arange(pairs), people)
        found = clustered(list(answers.ravel()), list(voters), list(of_pairs))
        held.append(found.low <= 0.5 <= found.high)
        plain = wilson(int(answers.sum()), answers.size)
        naive.append(plain.low <= 0.5 <= plain.high)
    assert np.mean(held) >= 0.9
    assert np.mean(naive) < 0.8  # answers as if all were independent


def test_the_design_effect_is_that_of_a_hand_count() -> None:
    """Of two people, 10 and 5 true of 10 each: 2 (2.5^2 + 2.5^2) / 20^2 over 0.75 0.25 / 20 is 20/3, which leaves 3."""
    found = clustered([True] * 15 + [False] * 5, [0] * 10 + [1] * 10)
    assert found == pytest.approx(wilson(0.75 * 3, 3))


def test_agreement_is_fleiss_kappa() -> None:
    random = np.random.default_rng(0)
    first = random.random(400) < 0.5
    second = np.where(random.random(400) < 0.7, first, random.random(400) < 0.5)
    found = agreement({i: [bool(x), bool(y)] for i, (x, y) in enumerate(zip(first, second, strict=True))})
    assert found is not None
    assert found[0] == pytest.approx(np.mean(first == second))
    assert found[1] == pytest.approx(cohen_kappa_score(first, second), abs=0.01)  # for two people nearly the same
    assert found[2] == 400


def test_agreement_of_one_vote_each_is_none_and_of_equal_votes_has_no_kappa() -> None:
    assert agreement({0: [True], 1: [False]}) is None
    found = agreement({0: [True, True], 1: [True, True]})
    assert found is not None and found[0] == 1 and math.isnan(found[1])


def test_no_answers_are_an_error() -> None:
    with pytest.raises(ValueError, match="no answers"):
        clustered([])
