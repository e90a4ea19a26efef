"""Kills a short real run at random moments, resumes it each time, and compares the end with an uninterrupted run.

    python benchmarks/kill_and_resume.py --kills 20

Trains a small DCGAN on the scikit-learn digits, with batch norm, two optimizers and averages, in processes of its own.
SIGKILL comes at moments drawn evenly over the time that the rest of the run takes, so also during saves and restores.
Every array of the finished states must be equal, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPTIONS = ["--smoke", "--steps", "60", "--checkpoint-every", "4", "--sample-every", "20", "--log-every", "5"]


def command(experiment: str, workdir: pathlib.Path) -> list[str]:
    """The command of the run, the same at the start and for each resumption."""
    return [sys.executable, "-m", f"experiments.{experiment}", "--workdir", str(workdir), *OPTIONS]


def uninterrupted(experiment: str, workdir: pathlib.Path) -> float:
    """Runs to the end; returns the seconds that it took."""
    start = time.perf_counter()
    subprocess.run(command(experiment, workdir), cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def interrupted(experiment: str, workdir: pathlib.Path, kills: int, seconds: float, seed: int) -> list[dict]:
    """Runs with kills at random moments, then to the end; returns where each kill found the run."""
    rng, found = random.Random(seed), []
    while len(found) < kills:
        process = subprocess.Popen(command(experiment, workdir), cwd=ROOT, stderr=subprocess.DEVNULL)
        wait = rng.uniform(0, seconds)
        try:
            process.wait(wait)
            shutil.rmtree(workdir)  # it was done before the kill: the next one meets a fresh run
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            entries = [path.name for path in (workdir / "checkpoints").glob("*")]
            complete = sorted(int(name) for name in entries if name.isdigit())
            left = {"newest_checkpoint": complete[-1:], "half_written": len(entries) - len(complete)}
            found.append({"after_s": round(wait, 2), **left})
    subprocess.run(command(experiment, workdir), cwd=ROOT, check=True, capture_output=True)
    return found


def differing_arrays(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """The paths of the arrays that differ in any bit between the final states of two runs."""
    from imagegen_jax import load

    a, b = (jax.tree.leaves_with_path(jax.device_get(load(run).state)) for run in (one, other))
    return [
        jax.tree_util.keystr(path)
        for (path, x), (_, y) in zip(a, b, strict=True)
        if np.asarray(x).tobytes() != np.asarray(y).tobytes()
    ]


def main() -> None:
    """Runs the comparison; leaves with code 1 where an array differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="dcgan_mnist")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the result as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill_and_resume_") as folder:
        whole, killed = pathlib.Path(folder) / "whole", pathlib.Path(folder) / "killed"
        uninterrupted(options.experiment, whole)  # also fills the compilation cache
        seconds = uninterrupted(options.experiment, pathlib.Path(folder) / "timed")
        kills = interrupted(options.experiment, killed, options.kills, seconds, options.seed)
        differing = differing_arrays(whole, killed)
    result = {"kills": kills, "seconds_uninterrupted": round(seconds, 2), "differing_arrays": differing}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
