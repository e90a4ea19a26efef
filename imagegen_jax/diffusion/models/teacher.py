"""A teacher: a network that is held fixed while another, which starts from its weights, learns from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from imagegen_jax.core.model import Nets, Variables


def with_teacher(network: Variables) -> Nets:
    """The network, and a teacher of the same weights in arrays of its own, which no step of training overwrites.

    A model does so in `init` and again in `enter`: then `Experiment.pretrained` names the network alone.
    """
    return {"network": network, "teacher": jax.tree.map(jnp.copy, dict(network))}
