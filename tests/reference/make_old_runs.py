"""Run folders and stored experiments of an earlier version, for `test_old_runs.py`: written once, by commit 4849bfe.

    git worktree add ../base 4849bfe
    PYTHONPATH=../base python tests/reference/make_old_runs.py

Writes old_runs.zip, old_experiments.json and old_names.json beside this file. Each run was stopped halfway: its folder
has a checkpoint of step 4 of 8, and `expected.npz` has the images that it drew at step 4 (`half`) and after its last
step (`end`).
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import pkgutil
import shutil
import tempfile
import zipfile
from typing import Any

import numpy as np
from imagegen_jax.core.serial import to_dict

import experiments
import imagegen_jax
from imagegen_jax import fit, load, override
from imagegen_jax.core.optim import SGD, CosineDecay
from imagegen_jax.data import Latents

FOLDER = pathlib.Path(__file__).parent
RECIPES = ("edm_digits", "vae_mnist", "dcgan_mnist", "dit_b4_imagenet256")
SMALLER: dict[str, dict[str, Any]] = {
    "edm_digits": {
        "model.network.width": 4, "model.network.multipliers": (1,), "model.network.attention_at": (),
        "optim.network": SGD(CosineDecay(1e-2, warmup=4)),
    },
    "dit_b4_imagenet256": {
        "data": Latents("latents.npz", scale=0.2), "model.num_classes": 2, "model.gain": 5.0, "model.network.width": 8,
        "optim.network": SGD(),
    },
}  # fmt: skip
SHORT = {"steps": 8, "checkpoint_every": 4, "sample_every": 0, "log_every": 1, "evaluation": None}
KEPT = ("experiment.json", "data.json", "metrics.jsonl", "parameters.json", "expected.npz")


def main() -> None:
    stored = {path.stem: _stored(path.stem) for path in sorted(pathlib.Path(experiments.__path__[0]).glob("[a-z]*.py"))}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(trees)}" for name, trees in stored.items())
    (FOLDER / "old_experiments.json").write_text(f"{{\n{lines}\n}}\n")
    (FOLDER / "old_names.json").write_text(json.dumps(_names(), indent=0) + "\n")
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        _make_latents()
        for name in RECIPES:
            _train(name)
        _pack(pathlib.Path(made))


def _stored(name: str) -> dict[str, Any]:
    recipe = importlib.import_module(f"experiments.{name}")
    return {"experiment": to_dict(recipe.experiment), "smoke": to_dict(override(recipe.experiment, recipe.smoke))}


def _names() -> dict[str, list[str]]:
    """Module -> the public classes that it defines, of every module that can be imported."""
    found = {}
    for info in pkgutil.walk_packages(imagegen_jax.__path__, "imagegen_jax."):
        module = importlib.import_module(info.name)
        classes = {name: one for name, one in vars(module).items() if isinstance(one, type) and name[0] != "_"}
        found[info.name] = sorted(name for name, one in classes.items() if one.__module__ == info.name)
    return found


def _make_latents() -> None:
    rng = np.random.default_rng(0)
    np.savez("latents.npz", latent=rng.standard_normal((16, 8, 8, 4)).astype(np.float16), label=np.arange(16) % 2)


def _train(name: str) -> None:
    """Trains in the folder `name` to the end, draws, and takes it back to half its way."""
    recipe = importlib.import_module(f"experiments.{name}")
    experiment = override(recipe.experiment, {**recipe.smoke, **SHORT, **SMALLER.get(name, {})})
    run = fit(experiment, name, quiet=True)
    labels = np.arange(4) % experiment.num_classes if experiment.num_classes else None
    end = run.sample(4, labels)
    shutil.rmtree(pathlib.Path(name, "checkpoints", "8"))
    half = load(name).sample(4, labels)
    np.savez_compressed(pathlib.Path(name, "expected.npz"), half=half, end=end)


def _pack(made: pathlib.Path) -> None:
    with zipfile.ZipFile(FOLDER / "old_runs.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(made.rglob("*")):
            at = path.relative_to(made)
            if path.is_file() and (len(at.parts) == 1 or at.parts[1] == "checkpoints" or at.parts[1] in KEPT):
                archive.write(path, at.as_posix())


if __name__ == "__main__":
    main()
