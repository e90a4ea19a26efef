"""ADM, its classifier and improved DDPM's network against the authors' classes, at random weights and at the start."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.nn.backbones.adm import ADM, ADMClassifier
from imagegen_jax.nn.backbones.conditioning import Conditioning

LEVELS = {"width": 128, "multipliers": (1, 1.5), "blocks": 1, "attention_at": (4,)}
NETWORKS = {
    "unet": ADM(**LEVELS, head_channels=64),
    "improved": ADM(**LEVELS, head_channels=None, heads=2, scale_shift=False, resample="conv"),
    "classifier": ADMClassifier(5, **LEVELS, head_channels=64),
}
HEADS = {"unet": 3, "improved": 2, "classifier": 3}
CLASSES = 3
BLOCKS = {
    "down_0_0": "input_blocks.1.0",
    "down_1": "input_blocks.2.0",
    "down_1_0": "input_blocks.3.0",
    "middle_0": "middle_block.0",
    "middle_1": "middle_block.2",
    "up_1_0": "output_blocks.0.0",
    "up_1_1": "output_blocks.1.0",
    "up_1": "output_blocks.1.2",
    "up_0_0": "output_blocks.2.0",
    "up_0_1": "output_blocks.3.0",
}
ATTENTION = {
    "down_1_0": "input_blocks.3.1",
    "middle_0": "middle_block.1",
    "up_1_0": "output_blocks.0.1",
    "up_1_1": "output_blocks.1.1",
}


def part(weight: np.ndarray, which: int, heads: int) -> np.ndarray:
    """Queries, keys or values: theirs are those of one head after those of another, or for `heads` 1 all together."""
    split = weight.reshape(heads, 3, -1, *weight.shape[1:])[:, which]
    split = split.reshape(-1, *weight.shape[1:])
    return split if split.ndim == 1 else official.linear(split)


def attention(ours: str, qkv: str, heads: int) -> official.Names:
    """Their one layer as three of ours."""
    found = {}
    for which, name in enumerate(("query", "key", "value")):
        form = functools.partial(part, which=which, heads=heads)
        found |= {
            f"params/{ours}/{name}/{leaf}": (f"{qkv}.{x}", form) for leaf, x in (("kernel", "weight"), ("bias",) * 2)
        }
    return found


def block(ours: str, theirs: str) -> official.Names:
    """A block, or a convolution that changes the resolution."""
    return {
        **official.norm(f"{ours}/norm_1", f"{theirs}.in_layers.0"),
        **official.layer(f"{ours}/conv_1", f"{theirs}.in_layers.2"),
        **official.layer(f"{ours}/embed", f"{theirs}.emb_layers.1", official.linear),
        **official.norm(f"{ours}/norm_2", f"{theirs}.out_layers.0"),
        **official.layer(f"{ours}/conv_2", f"{theirs}.out_layers.3"),
        **official.layer(f"{ours}/shortcut", f"{theirs}.skip_connection", official.linear),
        **official.layer(ours, f"{theirs}.{'op' if ours.startswith('down') else 'conv'}"),
    }


def names(name: str, theirs: official.Case) -> official.Names:
    """Of those weights that this network of theirs has."""
    found = official.layer("conv_in", "input_blocks.0.0") | official.layer(
        "time_0", "time_embed.0", official.sines_first
    )
    found |= official.layer("time_1", "time_embed.2", official.linear)
    found |= official.norm("norm_out", "out.0") | official.layer("conv_out", "out.2")
    found |= {"params/label/kernel": ("label_emb.weight", official.same)}
    found |= {"params/pool/position": ("out.2.positional_embedding", np.transpose)}
    found |= attention("pool", "out.2.qkv_proj", 1) | official.layer("pool/out", "out.2.c_proj", official.linear)
    for ours, other in BLOCKS.items():
        found |= block(ours, other)
    for ours, other in ATTENTION.items():
        ours = f"{ours}/attention"
        found |= official.norm(f"{ours}/norm", f"{other}.norm") | attention(ours, f"{other}.qkv", HEADS[name])
        found |= official.layer(f"{ours}/out", f"{other}.proj_out", official.linear)
    return {ours: (other, form) for ours, (other, form) in found.items() if other in theirs.weights}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, root):
    """(name, what the authors' class gave, names)"""
    theirs = official.load(root / "tests/reference/official_adm.npz", request.param)
    return request.param, theirs, names(request.param, theirs)


@pytest.mark.slow
def test_output_and_gradients_are_the_authors(case):
    name, theirs, found = case
    ours, t = NETWORKS[name].clone(dtype="float64"), theirs.inputs["timesteps"]
    labels = (Conditioning(jax.nn.one_hot(theirs.inputs["y"], CLASSES)),) if name == "unet" else ()

    def apply(variables, x):
        out = ours.apply(variables, official.last(x), t, *labels)
        return out if out.ndim == 2 else official.first(out), None

    official.check(theirs, found, official.renamed(found, theirs.weights), apply, near=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["unet", "classifier"], indirect=True)
def test_weights_start_as_the_authors(case):
    """Improved DDPM's has none of its own but two convolutions."""
    name, theirs, found = case
    labels = (Conditioning(jnp.zeros((1, CLASSES))),) if name == "unet" else ()
    inputs = (jnp.zeros((1, 8, 8, 3)), jnp.zeros(1), *labels)
    official.check_start(theirs, found, lambda key: NETWORKS[name].init(key, *inputs))
