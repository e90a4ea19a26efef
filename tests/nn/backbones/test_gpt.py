"""Transformers over codes: published sizes, what a place sees, and that going on from a cache is the whole pass."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn

from imagegen_jax.core.platform.target import made_for
from imagegen_jax.nn.backbones.code_network import Codes
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.gpt import GPT, llamagen
from imagegen_jax.nn.backbones.transformer import LLAMA, Style, Transformer
from imagegen_jax.nn.embed import rotary
from imagegen_jax.nn.multihead import Cursor, rotated

CODES = Codes(11, (3, 4))
NETWORKS = {
    "taming": GPT(2, 32, 2, start="code"),
    "LlamaGen": dataclasses.replace(llamagen("B"), depth=2, width=32, heads=2, hidden=40),
}


def weights(network, *inputs):
    """Drawn, with none at zero."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return drawn(shapes)
