"""Scores of features here and by the usual packages: the statistics of FID, FID, KID and PRDC.

    python3.11 -m venv .venv-metrics
    .venv-metrics/bin/pip install torch==2.13.0 numpy scipy scikit-learn tqdm pillow
    .venv-metrics/bin/pip install --no-deps pytorch-fid==0.3.0 torch-fidelity==0.4.0 prdc==0.2
    python benchmarks/metrics.py --reference-python .venv-metrics/bin/python

Both sides score the same random float32 features, each in a process of its own that only the one at work wakes up, on
all cores; each time is the fastest of all rounds, of the clock and of the processors, which is the one to look at where
others are at work. Each is printed and stored as it is done; the same command goes on after an interruption.
Statistics are the step that pytorch-fid and torch-fidelity share (`numpy.cov`); the distance follows each of the two.
torch-fidelity's KID is in float32; this project's has inner products in float32 and sums in float64.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from kept import Kept, settings_of
from sides import Side, tell

SUBSETS, NEIGHBOURS = 100, 5  # subsets of 1,000 rows, as both sides have by default; `kid_20` has 20 of them
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of BLAS, on either side
SCORES = ("statistics", "fid", "kid", "prdc")
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
        "kid_20": lambda x, y: kid(x, y, subsets=20, subset_size=min(1000, len(x))).mean,
        "prdc": lambda x, y: list(manifold_scores(x, y, neighbours=NEIGHBOURS)),
    }
    return scores, {"jax": jax.__version__, "device": jax.devices()[0].device_kind}


def packages() -> tuple[dict[str, Score], dict[str, Any]]:
    """The packages' scores."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "reference"))
    from importlib.metadata import packages_distributions, version

    from make_metrics import replace_torchvision

    replace_torchvision()
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    def statistics(x: np.ndarray) -> dict[str, np.ndarray]:
        return fid_features_to_statistics(torch.from_numpy(x))

    def fid(x: np.ndarray, y: np.ndarray) -> float:
        from pytorch_fid.fid_score import calculate_frechet_distance

        of_x, of_y = statistics(x), statistics(y)
        return float(calculate_frechet_distance(of_x["mu"], of_x["sigma"], of_y["mu"], of_y["sigma"]))

    def kid(x: np.ndarray, y: np.ndarray, subsets: int = SUBSETS) -> float:
        size = min(1000, len(x))
        asked = {"kid_subsets": subsets, "kid_subset_size": size, "verbose": False}
        found = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **asked)
        return found["kernel_inception_distance_mean"]

    def torch_fidelity_fid(x: np.ndarray, y: np.ndarray) -> float:
        return fid_statistics_to_metric(statistics(x), statistics(y), verbose=False)["frechet_inception_distance"]

    def prdc(x: np.ndarray, y: np.ndarray) -> list[float]:
        from prdc import compute_prdc

        found = compute_prdc(y, x, NEIGHBOURS)
        return [float(found[name]) for name in ("precision", "recall", "density", "coverage")]

    scores: dict[str, Score] = {
        "statistics": lambda x, y: float(statistics(x)["sigma"][0, 0]),
        "fid": fid,
        "fid_torch_fidelity": torch_fidelity_fid,
        "kid": kid,
        "kid_20": functools.partial(kid, subsets=20),
        "prdc": prdc,
    }
    names = ("pytorch-fid", "torch-fidelity", "prdc", "torch", "numpy", "scipy")
    installed = {name for of in packages_distributions().values() for name in of}  # some scores need but a few of them
    return scores, {name: version(name) for name in names if name in installed}


def serve(side: str, samples: int, width: int) -> None:
    """Says what it is, then scores once for each line of the standard input and answers with values and seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prdc prints
    random = np.random.RandomState(0)
    x = np.abs(random.randn(samples, width)).astype(np.float32)
    y = np.abs(1.1 * random.randn(samples, width)).astype(np.float32)
    scores, about = here() if side == "here" else packages()
    tell({"scores": list(scores), "python": platform.python_version(), **about}, answers)
    for line in sys.stdin:
        start, processors = time.perf_counter(), time.process_time()
        value = scores[line.strip()](x, y)
        tell([value, time.perf_counter() - start, time.process_time() - processors], answers)


def compare(options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Values and seconds of each side; the first call of each score, which compiles here, is not among the rounds."""
    pythons = {"here": sys.executable, "packages": options.reference_python}
    size = ["--samples", str(options.samples), "--width", str(options.width)]
    threads = {name: str(options.threads) for name in THREADS} if options.threads else {}
    sides = {side: Side([python, __file__, "--side", side, *size], threads) for side, python in pythons.items()}
    values: dict[str, dict[str, Any]] = {side: {} for side in sides}
    clock: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    processors: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    for number in range(options.rounds + 1):
        for name, side in sides.items():
            for score in (score for score in side.about["scores"] if score.split("_")[0] in options.scores):
                found = kept.part(f"{score} {name} round {number}", functools.partial(side.ask, score))
                values[name][score], *seconds = found
                for times, one in zip((clock, processors), seconds, strict=True):
                    times[name].setdefault(score, []).append(one)
    for side in sides.values():
        side.close()
    return {
        "samples_a_side": options.samples,
        "width": options.width,
        "kid_subsets": SUBSETS,
        **compared(clock),
        "first_seconds_here": {name: times[0] for name, times in clock["here"].items()},
        "of_processors": compared(processors),
        "values": values,
        "rounds": options.rounds,
        "threads": options.threads,
        "sides": {name: side.about for name, side in sides.items()},
    }


def compared(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """The fastest of all rounds but the first, and this project's ratios to the packages'."""
    fastest = {side: {name: min(times[1:]) for name, times in found.items()} for side, found in seconds.items()}
    here, there = fastest["here"], fastest["packages"]
    return {"seconds": fastest, "ratio_to_packages": {name: here[name] / there[name] for name in here}}


def main() -> None:
    """Compares, or serves as one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", help="an interpreter that has scipy and prdc")
    parser.add_argument("--samples", type=int, default=5000, help="on each side")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of products of matrices (default: one for each core)")
    parser.add_argument("--scores", nargs="+", choices=SCORES, default=SCORES)
    parser.add_argument("--side", choices=("here", "packages"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.samples, options.width)
        return
    if not options.reference_python:
        parser.error("--reference-python is needed: an interpreter that has scipy and prdc")
    from machine import write_result  # imports jax, which the side of the packages does not have

    name = "_".join(["metrics", *(() if tuple(options.scores) == SCORES else options.scores)])
    kept = Kept(name, settings_of(options))
    write_result(name, compare(options, kept))
    kept.done()


if __name__ == "__main__":
    main()
