"""Weights of a run as one .safetensors with what it takes to open them again, and the way back."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.experiment import abstract_nets
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run import Path, Run
from imagegen_jax.data.wrappers.captioned import Captioned
from imagegen_jax.interop.importing import Published, UnknownTexts, check_target, sha256, write_run

WEIGHTS = "weights.safetensors"
BESIDE = ("experiment.json", "data.json")  # of the run's folder
ORIGIN = "origin.json"  # likewise, of a run that was imported itself


def export_weights(run: Run, folder: pathlib.Path) -> None:
    """Writes the networks as sampling sees them, "network/params/conv_in/kernel", to the folder, and what they are."""
    from safetensors.numpy import save_file

    save_file(named(run.nets), folder / WEIGHTS)
    for name in BESIDE:
        shutil.copyfile(run.workdir / name, folder / name)
    if run.experiment.private is not None:  # noise follows from the seed
        stored = folders.load_experiment_dict(folder)
        write_json(folder / BESIDE[0], {name: value for name, value in stored.items() if name != "seed"})
    if (run.workdir / ORIGIN).is_file():
        shutil.copyfile(run.workdir / ORIGIN, folder / ORIGIN)
    if (run.workdir / folders.TOKENIZER).is_dir():
        shutil.copytree(run.workdir / folders.TOKENIZER, folder / folders.TOKENIZER)


def named(nets: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of networks by their paths."""
    leaves = jax.tree.leaves_with_path(nets)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(jax.device_get(leaf))
        for path, leaf in leaves
    }


def import_weights(folder: Path, out: Path, data: str | None = None) -> Run:
    """Makes the run folder `out` of a folder of `export_weights`, each array to the last bit.

    A model that reads text has its tokenizer again. Raises ValueError where a file is missing, or the weights are not
    those of the experiment beside them, and RunFolderError where the tokenizer cannot be read.
    """
    source, target = pathlib.Path(folder), check_target(out)
    for name in (WEIGHTS, *BESIDE):
        if not (source / name).is_file():
            raise ValueError(f"{source} has no {name}: give a folder that `imagegen export RUN --to safetensors` wrote")
    experiment, rows = folders.load_experiment(source), folders.load_rows(source)
    arrays, wanted = read_weight_file(source / WEIGHTS).arrays, named_shapes(abstract_nets(experiment.model, rows))
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    wrong = [name for name in sorted(wanted | found) if wanted.get(name) != found.get(name)]
    if wrong:
        shown = "; ".join(
            f"{name}: {found.get(name, 'none')} there, {wanted.get(name, 'none')} wanted" for name in wrong[:3]
        )
        raise ValueError(
            f"{source / WEIGHTS} are not the weights of the experiment beside them ({len(wrong)} differ): {shown}; "
            "export the run again"
        )
    nets = unflatten_dict({tuple(name.split("/")): array for name, array in arrays.items()})
    origin: dict[str, Any] = {"kind": "safetensors", "folder": str(source), "sha256": sha256(source / WEIGHTS)}
    if (source / ORIGIN).is_file():
        origin["before"] = json.loads((source / ORIGIN).read_text())
    published = Published(experiment.model, nets, origin, folders.load_class_names(source))
    if reads_text(experiment.model) is not None and isinstance(experiment.data, Captioned | UnknownTexts):
        kept = folders.load_tokenizer(source, experiment.data)
        published = dataclasses.replace(published, tokenizer=experiment.data.tokenizer, kept=kept)
    return write_run(target, experiment.name, published, data)


def named_shapes(tree: Any) -> dict[str, tuple[Any, Any]]:
    """Returns shape and type of each array by its path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(at, simple=True, separator="/"): (x.shape, np.dtype(x.dtype)) for at, x in leaves}
