"""How likely a model over codes finds those of images that it was trained on, and of others: what it has memorised.

    python -m experiments.maskgit_digits --workdir runs/maskgit_digits
    python benchmarks/code_nll.py runs/maskgit_digits

For both splits of the run's own source: -log p of a code in nats, as the model's `nats` has it, the mean over images,
with its standard error. MaskGIT's is of masked codes; which are masked is drawn `--draws` times, alike at every call.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.data import to_float


def nats(run: Any, split: str, draws: int, batch: int) -> np.ndarray:
    """Of each image of a split the mean over draws: [n]."""
    model, source = run.experiment.model, dataclasses.replace(run.experiment.data, split=split).open()
    n = len(source)

    def measure(nets: Any, rows: dict[str, jax.Array], index: jax.Array) -> jax.Array:
        given = {**rows, "image": to_float(rows["image"])}

        def one(draw: jax.Array) -> jax.Array:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(draw), index)
            return model.nats(nets, given, keys)

        return jnp.mean(jax.lax.map(one, jnp.arange(draws)), axis=0)

    compiled, found = compiling.jit(measure), []
    for start in range(0, n, batch):
        index = np.minimum(np.arange(start, start + batch), n - 1)
        rows = {name: np.asarray(leaf)[index] for name, leaf in leaves(source).items()}
        found.append(np.asarray(compiled(run.nets, rows, index))[: n - start])
    return np.concatenate(found).astype(np.float64)


def leaves(source: Any) -> dict[str, np.ndarray]:
    """The images and labels of a whole source."""
    return {"image": source.images} | ({} if source.labels is None else {"label": source.labels})


def main() -> None:
    """Loads a run, measures both splits, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--draws", type=int, default=16, help="draws of masks for each image")
    parser.add_argument("--batch", type=int, default=500, help="images at a time")
    parser.add_argument("--splits", nargs="+", default=("train", "test"))
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    options = parser.parse_args()
    run = ig.load(options.run, step=options.step)
    result: dict[str, Any] = {"experiment": run.experiment.name, "steps": run.step}
    for split in options.splits:
        found = nats(run, split, options.draws, options.batch)
        result |= {
            f"{split}_images": len(found),
            f"{split}_nats_per_code": round(found.mean(), 4),
            f"{split}_standard_error": round(found.std(ddof=1) / len(found) ** 0.5, 4),
        }
    write_result(f"code_nll_{run.experiment.name}", result)


if __name__ == "__main__":
    main()
