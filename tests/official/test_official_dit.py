"""DiT against the authors' class, at random weights and at the start."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import official
import pytest

from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT

CLASSES = 3
DENSE = {
    "self_attention/qkv": "attn.qkv",
    "self_attention/out": "attn.proj",
    "mlp_0": "mlp.fc1",
    "mlp_1": "mlp.fc2",
    "modulation": "adaLN_modulation.1",
}


def names() -> official.Names:
    """Of two blocks."""
    layers = {"time_1": "t_embedder.mlp.2", "modulation": "final_layer.adaLN_modulation.1", "out": "final_layer.linear"}
    layers |= {f"block_{i}/{ours}": f"blocks.{i}.{theirs}" for i in range(2) for ours, theirs in DENSE.items()}
    found = {"params/label/kernel": ("y_embedder.embedding_table.weight", official.same)}
    found |= official.layer("time_0", "t_embedder.mlp.0", official.sines_first)
    found |= official.layer("patch", "x_embedder.proj", lambda w: official.kernel(w).reshape(-1, len(w)))
    for ours, theirs in layers.items():
        found |= official.layer(ours, theirs, official.linear)
    return found


@pytest.fixture(scope="module")
def theirs(root):
    """What the authors' class gave."""
    return official.load(root / "tests/reference/official_dit.npz", "dit")


@pytest.mark.slow
def test_output_and_gradients_are_the_authors(theirs):
    """Noise and variance; the last row's label is dropped."""
    ours = DiT(2, 2, 24, 3, out_channels=8, dtype="float64")
    variables = official.renamed(names(), theirs.weights)
    labels = jax.nn.one_hot(theirs.inputs["y"], CLASSES)
    assert not labels[-1].any()

    def apply(variables, x):
        return official.first(ours.apply(variables, official.last(x), theirs.inputs["t"], Conditioning(labels))), None

    official.check(theirs, names(), variables, apply, near=2e-6)


@pytest.mark.slow
def test_weights_start_as_the_authors(theirs):
    ours, told = DiT(2, 2, 96, 3, out_channels=8), Conditioning(jnp.zeros((1, CLASSES)))
    official.check_start(theirs, names(), lambda key: ours.init(key, jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), told))
