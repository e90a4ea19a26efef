"""Compares runs: curves with bands over seeds, what differs between them, and whether chance could have made it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.reporting.curves import Curve, Curves, is_loss, read_curves
from imagegen_jax.studies.comparison import Comparison, Summary, Test
from imagegen_jax.studies.groups import Group, groups_of
from imagegen_jax.studies.inference import Band, Difference, band, holm, paired, welch
from imagegen_jax.studies.scores import scores_of

EVALUATION = "evaluation/"
LAST = 0.1  # of a training's steps, over which a loss is averaged to one value a run
_CURVES = 6  # that are drawn where none are named


def compare(
    runs: Sequence[str | os.PathLike[str]], metrics: Sequence[str] = (), last: float = LAST, pairs: bool = False
) -> Comparison:
    """Compares run folders: those that differ in their seeds alone are seeds of one group.

    A run's value of a metric is its mean over the `last` share of its steps, and of an evaluation the newest score;
    scores that were not measured alike, such as of other numbers of samples, are compared each by itself.
    `metrics` are those to compare and draw, "loss" for the one that ends so; without, scores, or losses where there are
    none. Each two groups are compared by Welch's test, or with `pairs` seed by seed, and p-values corrected for the
    number of tests. Raises ValueError for what cannot be compared, and KeyError for a metric that no run has.
    """
    if not 0 < last <= 1:
        raise ValueError(f"last={last}: the share of steps to average over is above 0 and at most 1")
    groups = groups_of(runs)
    read = {path: read_curves(path) for group in groups for path in group.folders.values()}
    scores = scores_of(read)
    names = _names(metrics, read, scores)
    summaries, tests = [], []
    for name in names:
        values = {g.label: {s: _value(read[p], scores[p], name, last) for s, p in g.folders.items()} for g in groups}
        kept = {label: {s: v for s, v in of.items() if math.isfinite(v)} for label, of in values.items()}
        summaries += [Summary(name, label, tuple(of.values())) for label, of in kept.items() if of]
        for a, b in itertools.combinations([label for label, of in kept.items() if of], 2):
            tests.append(Test(name, a, b, _difference(kept[a], kept[b], pairs), math.nan))
    corrected = holm([test.difference.p for test in tests])
    tests = [dataclasses.replace(test, p=p) for test, p in zip(tests, corrected, strict=True)]
    drawn = [name for name in names if any(name in curves for curves in read.values())]
    if not metrics:
        drawn = list(dict.fromkeys([*drawn, *_losses(read)]))[:_CURVES]
    curves = {name: _bands(groups, read, name) for name in drawn}
    return Comparison(groups, tuple(summaries), tuple(tests), curves, _notes(groups, read, names, tests, last, pairs))


def _difference(a: Mapping[int, float], b: Mapping[int, float], pairs: bool) -> Difference:
    if not pairs:
        return welch(list(a.values()), list(b.values()))
    if set(a) != set(b):
        raise ValueError(f"seeds {sorted(a)} and {sorted(b)} cannot be paired: give both the same, or do not pair them")
    return paired([a[seed] for seed in sorted(a)], [b[seed] for seed in sorted(b)])


def _names(metrics: Sequence[str], read: Mapping[Any, Curves], scores: Mapping[Any, Mapping[str, float]]) -> list[str]:
    """Returns the whole names of the metrics to compare."""
    every = dict.fromkeys(name for curves in read.values() for name in curves)
    stored = [name for name in dict.fromkeys(n for of in scores.values() for n in of) if EVALUATION + name not in every]
    if metrics:
        known = Curves(
            dict.fromkeys([*every, *stored], Curve(np.zeros(0, np.int64), np.zeros(0))), "none of these runs"
        )
        ways = {name: [full for full in stored if full.startswith(f"{name} [")] for name in metrics}
        return list(dict.fromkeys(full for name in metrics for full in ways[name] or [known.full_name(name)]))
    evaluations = [name for name in every if name.startswith(EVALUATION)] + stored
    return evaluations or _losses(read)


def _losses(read: Mapping[Any, Curves]) -> list[str]:
    return list(dict.fromkeys(n for curves in read.values() for n in curves if is_loss(n)))


def _value(curves: Curves, scores: Mapping[str, float], name: str, last: float) -> float:
    """Returns a run's value of a metric; NaN where it has none."""
    if name not in set(curves):
        return scores.get(name, math.nan)
    steps, values = curves[name]
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if not len(values):
        return math.nan
    if name.startswith(EVALUATION):
        return float(values[-1])
    return float(values[steps > (1 - last) * steps[-1]].mean())


def _bands(groups: Sequence[Group], read: Mapping[Any, Curves], name: str) -> dict[str, tuple[np.ndarray, Band]]:
    """Returns each group's band at the steps that all its seeds have."""
    found = {}
    for group in groups:
        curves = [read[path][name] for path in group.folders.values() if name in set(read[path])]
        if not curves:
            continue
        steps = curves[0].steps
        for curve in curves[1:]:
            steps = np.intersect1d(steps, curve.steps)
        values = np.stack([curve.values[np.isin(curve.steps, steps)] for curve in curves])
        finite = np.isfinite(values).all(axis=0)
        if finite.any():
            found[group.label] = (steps[finite], band(values[:, finite]))
    return found


def _notes(
    groups: Sequence[Group],
    read: Mapping[Any, Curves],
    names: Sequence[str],
    tests: Sequence[Test],
    last: float,
    pairs: bool,
) -> tuple[str, ...]:
    """Says what a reader has to know to take the numbers for what they are."""
    notes = []
    steps = {max((int(curve.steps[-1]) for curve in curves.values() if len(curve.steps)), default=0)
             for curves in read.values()}  # fmt: skip
    if len(steps) > 1:
        notes.append(
            f"Not all runs are equally far: their last steps are {', '.join(f'{s:,}' for s in sorted(steps))}."
        )
    if several := [name for name in names if name.endswith("]")]:
        notes.append(f"Measured in several ways, each compared by itself: {'; '.join(several)}.")
    if any(name in set(curves) and not name.startswith(EVALUATION) for name in names for curves in read.values()):
        notes.append(f"A run's value of a loss is its mean over the last {100 * last:.0f} % of its steps.")
    fewest = min(len(group.seeds) for group in groups)
    tested = [test for test in tests if not math.isnan(test.p)]
    if fewest < 2:
        notes.append("One seed alone: nothing tells its result from chance. Train each with at least 3 seeds.")
    if tested:
        how = "each seed with itself (paired t-test)" if pairs else "Welch's t-test"
        notes.append(
            f"{len(tested)} {'test' if len(tested) == 1 else 'tests'}, {how}, p corrected for their number (Holm); "
            "intervals are for one difference alone."
        )
    for name in dict.fromkeys(test.metric for test in tested if test.p >= 0.05):
        missed = [test for test in tested if test.p >= 0.05 and test.metric == name]
        sizes = "; ".join(f"{test.difference.detectable(len(tested)):.3g} ({test.a} and {test.b})" for test in missed)
        notes.append(
            f"{name}: not told apart does not mean equal. With these seeds a difference has to be so large to be "
            f"found in 4 of 5 repetitions: {sizes}."
        )
    return tuple(notes)
