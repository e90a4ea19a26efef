"""EDM's three networks and its preconditioning against the authors' classes, at random weights and at the start."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.diffusion.process.denoiser import from_prediction, preconditioned
from imagegen_jax.diffusion.process.process import EDM
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.ncsnpp import SongUNet

CLASSES = 3
NCSNPP = {"embedding": "fourier", "encoder": "residual", "taps": (1.0, 3.0, 3.0, 1.0)}
BLOCKS = {
    "down_0_0": "enc.8x8_block0",
    "down_1": "enc.4x4_down",
    "down_1_0": "enc.4x4_block0",
    "middle_0": "dec.4x4_in0",
    "middle_1": "dec.4x4_in1",
    "up_1_0": "dec.4x4_block0",
    "up_1_1": "dec.4x4_block1",
    "up_1": "dec.8x8_up",
    "up_0_0": "dec.8x8_block0",
    "up_0_1": "dec.8x8_block1",
}


def network(name: str, wide: bool = False):
    """Ours."""
    levels = {"multipliers": (1, 2), "blocks": 1, "attention_at": (4,), "dtype": "float32" if wide else "float64"}
    if name == "adm":
        return ADM(32, **levels | {"multipliers": (1, 4)}, head_channels=64, learned_variance=False)
    return SongUNet(64 if wide else 16, **levels, **(NCSNPP if name == "ncsnpp" else {}))


def part(weight: np.ndarray, which: int) -> np.ndarray:
    """Queries, keys or values, of which each channel has one after the other."""
    return weight[which::3] if weight.ndim == 1 else official.linear(weight[which::3])


def block(ours: str, theirs: str) -> official.Names:
    """With a shortcut and attention."""
    found = official.norm(f"{ours}/norm_1", f"{theirs}.norm0") | official.layer(f"{ours}/conv_1", f"{theirs}.conv0")
    found |= official.norm(f"{ours}/norm_2", f"{theirs}.norm1") | official.layer(f"{ours}/conv_2", f"{theirs}.conv1")
    found |= official.norm(f"{ours}/attention/norm", f"{theirs}.norm2")
    linear = {"embed": "affine", "shortcut": "skip", "attention/out": "proj"}
    for name, other in linear.items():
        found |= official.layer(f"{ours}/{name}", f"{theirs}.{other}", official.linear)
    for which, name in enumerate(("query", "key", "value")):
        form = functools.partial(part, which=which)
        found[f"params/{ours}/attention/{name}/kernel"] = (f"{theirs}.qkv.weight", form)
        found[f"params/{ours}/attention/{name}/bias"] = (f"{theirs}.qkv.bias", form)
    return found


def names(name: str, theirs: official.Case) -> official.Names:
    """Of those weights that this network of theirs has."""
    found = official.layer("time_0", "map_layer0", official.sines_first if name == "adm" else official.linear)
    for ours, other in {"label": "map_label", "augment": "map_augment", "time_1": "map_layer1"}.items():
        found |= official.layer(ours, other, official.linear)
    found |= {"constants/fourier/f": ("map_noise.freqs", official.same)}
    found |= official.layer("conv_in", "enc.8x8_conv") | official.layer("residual_1", "enc.4x4_aux_residual")
    end = ("out_norm", "out_conv") if name == "adm" else ("dec.8x8_aux_norm", "dec.8x8_aux_conv")
    found |= official.norm("norm_out", end[0]) | official.layer("conv_out", end[1])
    for ours, other in BLOCKS.items():
        found |= block(ours, other)
    found = {ours: (f"model.{other}", form) for ours, (other, form) in found.items()}
    return {ours: (other, form) for ours, (other, form) in found.items() if other in theirs.weights}


@pytest.fixture(scope="module", params=["ddpmpp", "ncsnpp", "adm"])
def case(request, root):
    """(name, what the authors' class gave, names)"""
    theirs = official.load(root / "tests/reference/official_edm.npz", request.param)
    return request.param, theirs, names(request.param, theirs)


@pytest.mark.slow
def test_denoised_images_and_gradients_are_the_authors(case):
    """With labels, and of those that have them, labels of augmentation."""
    name, theirs, found = case
    ours, labels, sigma = network(name), theirs.inputs["class_labels"], theirs.inputs["sigma"].astype(np.float64)
    others = {key: theirs.inputs[key] for key in ("augment_labels",) if key in theirs.inputs}

    def apply(variables, x):
        predict = preconditioned(lambda x, t: ours.apply(variables, x, t, Conditioning(labels, **others)))
        return official.first(from_prediction(predict, EDM(), "F")(official.last(x), sigma)), None

    official.check(theirs, found, official.renamed(found, theirs.weights), apply, near=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ncsnpp"], indirect=True)
def test_weights_start_as_the_authors(case):
    """The others have none of their own, or are those of test_official_adm.py."""
    name, theirs, found = case
    told = Conditioning(jnp.zeros((1, CLASSES)), augment_labels=None if name == "adm" else jnp.zeros((1, 9)))
    inputs = (jnp.zeros((1, 8, 8, 3)), jnp.zeros(1), told)
    official.check_start(theirs, found, lambda key: network(name, wide=True).init(key, *inputs))
