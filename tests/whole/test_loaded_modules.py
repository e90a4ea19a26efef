"""Which modules a run loads: its own family's, and none of another."""

import subprocess
import sys

import pytest
from experiments.vae_mnist import experiment

PROGRAM = """
import sys
import imagegen_jax as ig
from experiments.vae_mnist import experiment, smoke

run = ig.fit(ig.override(experiment, {**smoke, "steps": 2}), sys.argv[1], quiet=True)
assert ig.load(sys.argv[1]).sample(2).shape == (2, 8, 8, 1)
print(*sorted(name for name in sys.modules if name.startswith("imagegen_jax.")))
"""


@pytest.mark.slow
def test_a_vae_is_trained_loaded_and_drawn_from_without_any_other_family(tmp_path, root):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    folders = {name.split(".")[1] for name in done.stdout.split() if name.count(".") > 1}
    family = type(experiment.model).__module__.split(".")[1]
    assert folders <= {
        "cli",
        "core",
        "data",
        "nn",
        "recipes",
        "text",
        family,
    }  # recipes are looked for by their names alone
