"""Scores of features here and by the usual packages: FID's statistics and distance, KID and PRDC.

    python3.11 -m venv .venv-metrics
    .venv-metrics/bin/pip install numpy scipy scikit-learn && .venv-metrics/bin/pip install --no-deps prdc==0.2
    python benchmarks/metrics.py --reference-python .venv-metrics/bin/python

Both sides score the same random float32 features, each in a process of its own that only the one at work wakes up, on
all cores. pytorch-fid and torch-fidelity are their formulas, without the packages, which bring PyTorch: statistics by
`numpy.cov`, the distance by `scipy.linalg.sqrtm` and by `numpy.linalg.eigvals`, KID in NumPy. prdc is the package. Each
time is the fastest of all rounds. Means and distances stay in float32 on that side, so that the values differ slightly.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SUBSETS, NEIGHBOURS = 20, 5
Score = Callable[[np.ndarray, np.ndarray], Any]


def here() -> tuple[dict[str, Score], dict[str, Any]]:
    """This project's scores."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import jax

    from imagegen_jax.metrics.frechet import frechet_distance
    from imagegen_jax.metrics.kernel import kid
    from imagegen_jax.metrics.manifold import manifold_scores
    from imagegen_jax.metrics.moments import Moments

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
    import prdc
    import scipy

    def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x.mean(0), np.cov(x, rowvar=False)

    def fid(x: np.ndarray, y: np.ndarray, trace_of_root: Callable[[np.ndarray], float]) -> float:
        (mean_x, cov_x), (mean_y, cov_y) = statistics(x), statistics(y)
        traces = np.trace(cov_x) + np.trace(cov_y) - 2 * trace_of_root(cov_x @ cov_y)
        return float(((mean_x - mean_y) ** 2).sum() + traces)

    def kid(x: np.ndarray, y: np.ndarray) -> float:
        random, size = np.random.RandomState(2020), min(1000, len(x))

        def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return (a @ b.T / a.shape[1] + 1) ** 3

        def one() -> float:
            a, b = (z[random.choice(len(z), size, replace=False)] for z in (x, y))
            within = sum(k.sum() - np.trace(k) for k in (kernel(a, a), kernel(b, b)))
            return within / (size * (size - 1)) - 2 * kernel(a, b).sum() / size**2

        return float(np.mean([one() for _ in range(SUBSETS)]))

    scores: dict[str, Score] = {
        "statistics": lambda x, y: float(statistics(x)[1][0, 0]),
        "fid": lambda x, y: fid(x, y, lambda product: np.trace(scipy.linalg.sqrtm(product).real)),
        "fid_by_eigvals": lambda x, y: fid(x, y, lambda product: np.sqrt(np.linalg.eigvals(product) + 0j).real.sum()),
        "kid": kid,
        "prdc": lambda x, y: [
            float(prdc.compute_prdc(y, x, NEIGHBOURS)[name]) for name in ("precision", "recall", "density", "coverage")
        ],
    }
    return scores, {"numpy": np.__version__, "scipy": scipy.__version__}


def serve(side: str, samples: int, width: int) -> None:
    """Says what it is, then scores once for each line of the standard input and answers with values and seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prdc prints
    random = np.random.RandomState(0)
    x = np.abs(random.randn(samples, width)).astype(np.float32)
    y = np.abs(1.1 * random.randn(samples, width)).astype(np.float32)
    scores, about = here() if side == "here" else packages()
    print(json.dumps({"scores": list(scores), "python": platform.python_version(), **about}), file=answers, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        value = scores[line.strip()](x, y)
        print(json.dumps([value, time.perf_counter() - start]), file=answers, flush=True)


def start(side: str, python: str, samples: int, width: int) -> tuple[subprocess.Popen, dict[str, Any]]:
    """A process of one side, and what it says of itself."""
    command = [python, __file__, "--side", side, "--samples", str(samples), "--width", str(width)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, answer(process)


def answer(process: subprocess.Popen) -> Any:
    """The next line of a side, which ends this process where that one has failed."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with code {process.wait()}; see above")
    return json.loads(line)


def compare(reference_python: str, samples: int, width: int, rounds: int) -> dict[str, Any]:
    """Values and seconds of each side; the first call of each score, which compiles here, is not among the rounds."""
    pythons = {"here": sys.executable, "packages": reference_python}
    sides = {side: start(side, python, samples, width) for side, python in pythons.items()}
    values: dict[str, dict[str, Any]] = {side: {} for side in sides}
    seconds: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    for _ in range(rounds + 1):
        for side, (process, about) in sides.items():
            for score in about["scores"]:
                print(score, file=process.stdin, flush=True)
                values[side][score], elapsed = answer(process)
                seconds[side].setdefault(score, []).append(elapsed)
    for process, _ in sides.values():
        process.communicate()
    fastest = {side: {name: min(all_[1:]) for name, all_ in found.items()} for side, found in seconds.items()}
    return {
        "samples_a_side": samples,
        "width": width,
        "kid_subsets": SUBSETS,
        "seconds": fastest,
        "first_seconds_here": {name: all_[0] for name, all_ in seconds["here"].items()},
        "ratio_to_packages": {name: fastest["here"][name] / fastest["packages"][name] for name in fastest["here"]},
        "values": values,
        "rounds": rounds,
        "sides": {side: about for side, (_, about) in sides.items()},
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
