"""The state of a run: arrays only, saved, sharded, donated and compared as one tree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from imagegen_jax.core import ema
from imagegen_jax.core.arrays.lora import has_pairs, merged
from imagegen_jax.core.ema import Average
from imagegen_jax.core.model import Nets, frozen_networks
from imagegen_jax.core.optim import Clock, Optimizer


class State(struct.PyTreeNode):
    """Everything that a training step reads and writes. The last four are dicts by network name."""

    step: Int[Array, ""]  # training steps taken so far
    params: dict[str, Any]
    stats: dict[str, dict[str, Any]]  # every other collection: batch statistics, codebooks, pools
    opt: dict[str, Any]
    ema: dict[str, dict[str, Any]]  # ema[network][average name]


def split(nets: Nets) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Splits networks into (parameters, other collections)."""
    params = {name: variables["params"] for name, variables in nets.items() if "params" in variables}
    stats = {name: {c: v for c, v in variables.items() if c != "params"} for name, variables in nets.items()}
    return params, stats


def join(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Joins parameters and other collections to networks: the inverse of `split`."""
    return {name: ({"params": params[name]} if name in params else {}) | dict(stats[name]) for name in stats}


def create(nets: Nets, optimizers: Mapping[str, Optimizer], averages: Mapping[str, Average]) -> State:
    """Makes the state before the first step from fresh or pretrained networks."""
    params, stats = split(nets)
    start = Clock(jnp.int32(0), jnp.int32(1))
    return State(
        step=jnp.int32(0),
        params=params,
        stats=stats,
        opt={name: optimizer.transform(start).init(params[name]) for name, optimizer in optimizers.items()},
        ema={name: start_averages(nets, name, averages) for name in optimizers},
    )


def start_averages(nets: Nets, network: str, averages: Mapping[str, Average]) -> dict[str, Any]:
    """Starts each average that follows `network`, at the network's present weights."""
    covered = ema.averaged(nets[network])
    return {
        name: jax.tree.map(jnp.copy, covered)
        for name, average in averages.items()
        if not average.networks or network in average.networks
    }


def without(state: State, names: Collection[str]) -> State:
    """Returns the state without the weights of some networks."""
    params, stats = ({n: x for n, x in part.items() if n not in names} for part in (state.params, state.stats))
    return state.replace(params=params, stats=stats)


def including(state: State, nets: Nets) -> State:
    """Returns the state with the weights of more networks."""
    params, stats = split(nets)
    return state.replace(params=state.params | params, stats=state.stats | stats)


def networks(state: State, average: str | None = None) -> dict[str, dict[str, Any]]:
    """Returns the networks as the last step left them, or with what an `average` keeps in their place.

    They are as their models know them: low-rank pairs have become part of the weights.
    """
    return merged(unmerged(state, average))


def unmerged(state: State, average: str | None = None) -> dict[str, dict[str, Any]]:
    """Returns what `networks` does, but low-rank pairs and the weights beside them each by themselves."""
    nets = join(state.params, state.stats)
    if average is None:
        return nets
    return {
        name: ema.with_average(variables, state.ema.get(name, {}).get(average, {})) for name, variables in nets.items()
    }


def enter(model: Any, make: Callable[[Nets], State], stage: Hashable, state: State) -> State:
    """Returns the state at the start of a new stage, with the networks that the model makes for it.

    `make` makes a state of networks. Optimizers and averages start afresh where the model names them, and for networks
    that are new or have low-rank pairs, which start afresh as well; others go on, and so do frozen networks.
    """
    nets = networks(state)
    entry = model.enter(stage, nets)
    fresh = make({**entry.nets, **{name: nets[name] for name in frozen_networks(model)}})
    pairs = tuple(name for name, collections in fresh.stats.items() if has_pairs(collections))

    def kept(old: Mapping[str, Any], new: Mapping[str, Any], restarted: tuple[str, ...]) -> dict[str, Any]:
        return {name: old[name] for name in new if name in old and name not in (*restarted, *pairs)}

    return fresh.replace(
        step=state.step,
        opt=fresh.opt | kept(state.opt, fresh.opt, entry.fresh_optimizers),
        ema=fresh.ema | kept(state.ema, fresh.ema, entry.fresh_averages),
    )
