"""A teacher: a network that is held fixed while another, which starts from its weights, learns from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from imagegen_jax.core.model import Nets, Variables


def with_teacher(network: Variables) -> Nets:
    """Returns the network and a teacher with the same weights.

    The teacher's arrays are copies, which no step of training overwrites. A model calls this in `init` and again in
    `enter`, so that `Experiment.pretrained` has to name the network alone.
    """
    return {"network": network, "teacher": jax.tree.map(jnp.copy, dict(network))}
