"""Scores of features here and by the usual packages: the statistics of FID, FID, KID and PRDC.

    python3.11 -m venv .venv-metrics
    .venv-metrics/bin/pip install torch==2.13.0 numpy scipy scikit-learn tqdm pillow
    .venv-metrics/bin/pip install --no-deps pytorch-fid==0.3.0 torch-fidelity==0.4.0 prdc==0.2
    python benchmarks/metrics.py --reference-python .venv-metrics/bin/python

Both sides score the same random float32 features, each in a process of its own that only the one at work wakes up, on
all cores; each time is the fastest of all rounds. Statistics are the step that pytorch-fid and torch-fidelity share
(`numpy.cov`); the distance follows each of the two. torch-fidelity's KID is in float32, this project's in float64.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sides import Side, tell

SUBSETS, NEIGHBOURS = 20, 5
Score = Callable[[np.ndarray, np.ndarray], Any]


def here() -> tuple[dict[str, Score], dict[str, Any]]:
    """This project's scores."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import jax

    from imagegen_jax.metrics.features.moments import Moments
    from imagegen_jax.metrics.scores.frechet import frechet_distance
    from imagegen_jax.metrics.scores.kernel import kid
    from imagegen_jax.metrics.scores.manifold import manifold_scores

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return frechet_distance(Moments.of(x), Moments.of(y))

    scores: dict[str, Score] = {
        "statistics": lambda x, y: float(Moments.of(x).covariance[0, 0]),
        "fid": distance,
        "kid": lambda x, y: kid(x, y, subsets=SUBSETS, subset_size=min(1000, len(x))).mean,
        "prdc": lambda x, y: list(manifold_scores(x, y, neighbours=NEIGHBOURS)),
    }
    return scores, {"jax": jax.__version__, "device": jax.devices()[0].device_kind}


def packages() -> tuple[dict[str, Score], dict[str, Any]]:
    """The packages' scores."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "reference"))
    from importlib.metadata import version

    from make_metrics import replace_torchvision

    replace_torchvision()
    import torch
    from prdc import compute_prdc
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    def statistics(x: np.ndarray) -> dict[str, np.ndarray]:
        return fid_features_to_statistics(torch.from_numpy(x))

    def fid(x: np.ndarray, y: np.ndarray) -> float:
        of_x, of_y = statistics(x), statistics(y)
        return float(calculate_frechet_distance(of_x["mu"], of_x["sigma"], of_y["mu"], of_y["sigma"]))

    def kid(x: np.ndarray, y: np.ndarray) -> float:
        size = min(1000, len(x))
        asked = {"kid_subsets": SUBSETS, "kid_subset_size": size, "verbose": False}
        found = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **asked)
        return found["kernel_inception_distance_mean"]

    def torch_fidelity_fid(x: np.ndarray, y: np.ndarray) -> float:
        return fid_statistics_to_metric(statistics(x), statistics(y), verbose=False)["frechet_inception_distance"]

    def prdc(x: np.ndarray, y: np.ndarray) -> list[float]:
        found = compute_prdc(y, x, NEIGHBOURS)
        return [float(found[name]) for name in ("precision", "recall", "density", "coverage")]

    scores: dict[str, Score] = {
        "statistics": lambda x, y: float(statistics(x)["sigma"][0, 0]),
        "fid": fid,
        "fid_torch_fidelity": torch_fidelity_fid,
        "kid": kid,
        "prdc": prdc,
    }
    names = ("pytorch-fid", "torch-fidelity", "prdc", "torch", "numpy", "scipy")
    return scores, {name: version(name) for name in names}


def serve(side: str, samples: int, width: int) -> None:
    """Says what it is, then scores once for each line of the standard input and answers with values and seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prdc prints
    random = np.random.RandomState(0)
    x = np.abs(random.randn(samples, width)).astype(np.float32)
    y = np.abs(1.1 * random.randn(samples, width)).astype(np.float32)
    scores, about = here() if side == "here" else packages()
    tell({"scores": list(scores), "python": platform.python_version(), **about}, answers)
    for line in sys.stdin:
        start = time.perf_counter()
        value = scores[line.strip()](x, y)
        tell([value, time.perf_counter() - start], answers)


def compare(reference_python: str, samples: int, width: int, rounds: int) -> dict[str, Any]:
    """Values and seconds of each side; the first call of each score, which compiles here, is not among the rounds."""
    pythons = {"here": sys.executable, "packages": reference_python}
    size = ["--samples", str(samples), "--width", str(width)]
    sides = {side: Side([python, __file__, "--side", side, *size]) for side, python in pythons.items()}
    values: dict[str, dict[str, Any]] = {side: {} for side in sides}
    seconds: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            for score in side.about["scores"]:
                values[name][score], elapsed = side.ask(score)
                seconds[name].setdefault(score, []).append(elapsed)
    for side in sides.values():
        side.close()
    fastest = {side: {name: min(times[1:]) for name, times in found.items()} for side, found in seconds.items()}
    return {
        "samples_a_side": samples,
        "width": width,
        "kid_subsets": SUBSETS,
        "seconds": fastest,
        "first_seconds_here": {name: times[0] for name, times in seconds["here"].items()},
        "ratio_to_packages": {name: fastest["here"][name] / fastest["packages"][name] for name in fastest["here"]},
        "values": values,
        "rounds": rounds,
        "sides": {name: side.about for name, side in sides.items()},
    }


def main() -> None:
    """Compares, or serves as one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", help="an interpreter that has scipy and prdc")
    parser.add_argument("--samples", type=int, default=5000, help="on each side")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=("here", "packages"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.samples, options.width)
        return
    if not options.reference_python:
        parser.error("--reference-python is needed: an interpreter that has scipy and prdc")
    from machine import write_result  # imports jax, which the side of the packages does not have

    write_result("metrics", compare(options.reference_python, options.samples, options.width, options.rounds))


if __name__ == "__main__":
    main()
