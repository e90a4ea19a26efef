"""Averages of any width from the snapshots that a run has kept (EDM2, Karras et al. 2023, arXiv 2312.02696)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from imagegen_jax.core.checkpoints.checkpoint import abstract
from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.ema import PowerFunction, gamma_of_std, reconstruct, reconstruction_weights


def reconstructed(
    workdir: pathlib.Path,
    averages: Mapping[str, PowerFunction],
    ema: Mapping[str, Any],
    replaced: str,
    std: float,
    step: int | None,
) -> dict[str, Any]:
    """Returns the averages of each network, `ema`, with the one called `replaced` made anew, of the width `std`.

    `averages` are those of which there are snapshots. The new one ends at `step`, None: at the last snapshot. Raises
    ValueError for a width that no average has, and CheckpointError where there are no snapshots.
    """
    gamma_of_std(std)
    snapshots = Stored(workdir / "snapshots")
    steps = [at for at in snapshots.steps() if step is None or at <= step]
    if not averages or not steps:
        raise CheckpointError(
            f"{workdir} has no snapshots to reconstruct from: an experiment whose averages hold a PowerFunction keeps "
            "them"
        )
    like = {net: {a: tree for a, tree in of.items() if a in averages} for net, of in ema.items()}
    like = abstract(like, jax.tree.map(lambda x: x.sharding, like))
    trees = [jax.device_get(snapshots.good(at, like)) for at in steps]
    weights = reconstruction_weights(
        [at for at in steps for _ in averages], [a.std for _ in steps for a in averages.values()], steps[-1], std
    )
    return {
        network: of | {replaced: reconstruct([tree[network][a] for tree in trees for a in averages], weights)}
        if averages.keys() <= of.keys()
        else of
        for network, of in ema.items()
    }
