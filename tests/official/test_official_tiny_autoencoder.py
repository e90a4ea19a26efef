"""TAESD's network against diffusers' AutoencoderTiny, at random weights."""

from __future__ import annotations

import official
import pytest
from official import Names

from imagegen_jax.autoencoders.first_stages.tiny import TinyNetwork
from imagegen_jax.nn.backbones.tiny_autoencoder import TinyDecoder, TinyEncoder

pytestmark = pytest.mark.slow

BLOCKS = (1, 2, 1)
SIZES = {"width": 6, "blocks": BLOCKS, "dtype": "float64"}


def block(ours: str, theirs: str) -> Names:
    found: Names = {}
    for i in range(3):
        found |= official.layer(f"{ours}/conv_{i}", f"{theirs}.conv.{2 * i}")
    return found


def names() -> Names:
    """Theirs are layers by number; in the decoder relu and upsampling count as well."""
    found, at = {}, 0
    for level, blocks in enumerate(BLOCKS):
        found |= official.layer(f"encoder/down_{level}", f"encoder.layers.{at}", bias=level == 0)
        for i in range(blocks):
            found |= block(f"encoder/down_{level}_{i}", f"encoder.layers.{at + 1 + i}")
        at += 1 + blocks
    found |= official.layer("encoder/conv_out", f"encoder.layers.{at}")
    found |= official.layer("decoder/conv_in", "decoder.layers.0")
    at = 2
    for level, blocks in reversed(tuple(enumerate(BLOCKS))):
        for i in range(blocks):
            found |= block(f"decoder/up_{level}_{i}", f"decoder.layers.{at + i}")
        at += blocks
        if level:
            found |= official.layer(f"decoder/up_{level}", f"decoder.layers.{at + 1}", bias=False)
            at += 2
    return found | official.layer("decoder/conv_out", f"decoder.layers.{at}")


def test_the_network_is_diffusers_autoencoder_tiny(root):
    """Images, encoded and decoded, with the gradients of all weights."""
    case = official.load(str(root / "tests/reference/tiny_autoencoder.npz"), "tiny")
    network = TinyNetwork(TinyEncoder(**SIZES), TinyDecoder(**SIZES))

    def apply(variables, x):
        return official.first(network.apply(variables, official.last(x))), None

    official.check(case, names(), official.renamed(names(), case.weights), apply, 1e-5)
