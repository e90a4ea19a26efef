"""Every command answers wrong calls with one message: no traceback, no waiting, no silence. The calls are generated."""

import collections
import dataclasses
import random

import fuzz
import pytest

from experiments import ddpm_digits, vae_mnist, vqvae_digits
from imagegen_jax.core.config.override import override

pytestmark = pytest.mark.versions

CALLS = 300


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with runs and odd files, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    ddpm = override(ddpm_digits.experiment, ddpm_digits.smoke)
    fuzz.make_run(tmp_path / "ddpm", ddpm)
    fuzz.make_run(tmp_path / "vae", override(vae_mnist.experiment, vae_mnist.smoke))
    fuzz.make_run(tmp_path / "vqvae", override(vqvae_digits.experiment, vqvae_digits.smoke))
    fuzz.make_odd_files(tmp_path)
    (tmp_path / "fuzzed.py").write_text("from experiments.ddpm_digits import experiment, smoke\n")
    return tmp_path


@pytest.mark.slow
def test_wrong_calls_of_every_command_are_refused_in_one_message(place, root, monkeypatch):
    monkeypatch.syspath_prepend(root)
    runs = fuzz.make_odd_runs(place, place / "ddpm", random.Random(0))
    experiment = dataclasses.replace(ddpm_digits.experiment)
    made = fuzz.calls(experiment, runs, 0, CALLS)
    counts, failed = collections.Counter(), []
    for call in made:
        outcome = fuzz.outcome_of(call)
        if outcome.kind == "hang":  # a first call compiles; what waits for something does so again
            outcome = fuzz.outcome_of(call)
        counts[call.command, outcome.kind] += 1
        if outcome.kind not in ("ok", "refused"):
            failed.append(f"{outcome.kind}: imagegen {' '.join(call.arguments)} [{call.word}]\n    {outcome.said}")
    by_command = {}
    for (command, kind), n in sorted(counts.items()):
        by_command.setdefault(command, []).append(f"{n} {kind}")
    print(f"\n{len(made)} calls: " + "; ".join(f"{command} {', '.join(n)}" for command, n in by_command.items()))
    assert {call.command for call in made} >= {
        "train",
        "sample",
        "edit",
        "evaluate",
        "encode",
        "report",
        "play",
        "info",
        "list",
        "import",
        "data",
    }
    assert not failed, "\n".join([f"{len(failed)} of {len(made)} calls", *failed])
