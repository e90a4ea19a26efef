"""The published sizes of the diffusion family's convolutional networks, parameter by parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from imagegen_jax.diffusion.models.vdm_networks import LearnedGamma, VDMUNet
from imagegen_jax.nn.backbones.adm import ADM, ADMClassifier
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.edm2 import EDM2UNet, Uncertainty
from imagegen_jax.nn.backbones.ncsnpp import SongUNet

LSUN = (1, 1, 2, 2, 4, 4)
IDDPM = {"blocks": 3, "attention_at": (16, 8), "head_channels": None, "resample": "conv"}
NCSNPP = {"embedding": "fourier", "encoder": "residual", "taps": (1.0, 3.0, 3.0, 1.0)}


def slow(*sizes):
    """Not by itself, but all of them together: half a second each."""
    return pytest.param(*sizes, marks=pytest.mark.slow)


def count(network, size=32, channels=3, classes=0, **others):
    """Of all that is trained; no arrays are made."""
    given = {"labels": jax.ShapeDtypeStruct((1, classes), jnp.float32)} if classes else {}
    given |= {name: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for name, shape in others.items()}
    x, t = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, size, size, channels), (1,)))
    variables = jax.eval_shape(network.init, jax.random.key(0), x, t, Conditioning(**given))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("network", "size", "classes", "published"),
    [
        (ADM(128, (1, 2, 2, 2), **IDDPM), 32, 0, 52_546_438),
        slow(ADM(192, (1, 2, 3, 4), **IDDPM), 64, 1000, 273_049_350),
        slow(ADM(128, LSUN, 2, (16,), None, heads=1, scale_shift=False, resample="conv"), 256, 0, 113_676_678),
        (ADM(), 256, 1000, 553_838_086),
        slow(ADM(), 256, 0, 552_814_086),
        slow(ADM(192, (1, 2, 3, 4), blocks=3, learned_variance=False), 64, 1000, 295_899_267),
    ],
    ids=["iDDPM-32", "iDDPM-64", "iDDPM-LSUN", "ADM-256", "ADM-256-unconditional", "EDM-64"],
)
def test_improved_ddpm_and_adm(network, size, classes, published):
    assert count(network, size, classes=classes) == published


@pytest.mark.parametrize(
    ("network", "size", "low", "published"),
    [
        (ADM(192, head_channels=None), 256, 64, 311_795_910),
        slow(ADM(192, attention_at=(32, 16)), 512, 128, 308_835_270),
    ],
    ids=["64-256", "128-512"],
)
def test_upsamplers_of_adm(network, size, low, published):
    assert count(network, size, classes=1000, source=(low, low, 3)) == published


@pytest.mark.parametrize(
    ("classifier", "size", "published"),
    [
        slow(ADMClassifier(multipliers=(1, 2, 3, 4), blocks=4), 64, 65_438_568),
        (ADMClassifier(), 256, 54_096_360),
        (ADMClassifier(multipliers=(0.5, 1, 1, 2, 2, 4, 4)), 512, 54_448_360),
    ],
    ids=["64", "256", "512"],
)
def test_classifiers_of_adm(classifier, size, published):
    assert count(classifier, size) == published


@pytest.mark.parametrize(
    ("network", "size", "classes", "published"),
    [
        (SongUNet(), 32, 0, 55_733_891),
        slow(SongUNet(), 32, 10, 55_735_299),
        slow(SongUNet(**NCSNPP), 32, 10, 56_400_643),
        slow(SongUNet(multipliers=(1, 2, 2, 2)), 64, 0, 61_805_571),
        slow(SongUNet(multipliers=(1, 2, 2, 2), **NCSNPP), 64, 0, 62_761_091),
    ],
    ids=["DDPM++", "DDPM++-conditional", "NCSN++-conditional", "DDPM++-64", "NCSN++-64"],
)
def test_networks_of_edm(network, size, classes, published):
    """With augmentation labels, as EDM trains them."""
    assert count(network, size, classes=classes, augment_labels=(9,)) == published


def test_vdm():
    assert count(VDMUNet()) == 30_578_179
    assert sum(leaf.size for leaf in jax.tree.leaves(LearnedGamma().init(jax.random.key(0), jnp.zeros(1)))) == 2


@pytest.mark.parametrize(
    ("width", "channels", "classes", "published"),
    [
        slow(64, 4, 1000, 31_309_029),
        slow(192, 4, 1000, 280_212_837),
        slow(320, 4, 1000, 777_498_085),
        (448, 4, 1000, 1_523_164_773),
        slow(128, 3, 1000, 124_710_949),
        slow(192, 3, 1000, 280_209_381),
        slow(256, 3, 1000, 497_803_173),
        slow(320, 3, 1000, 777_492_325),
        slow(384, 3, 1000, 1_119_276_837),
        slow(128, 4, 0, 124_201_253),
        slow(192, 4, 0, 279_444_837),
    ],
)
def test_edm2(width, channels, classes, published):
    """With the weights of the uncertainty, which count in its checkpoints."""
    uncertainty = jax.eval_shape(Uncertainty().init, jax.random.key(0), jnp.zeros(1))["params"]
    found = count(EDM2UNet(width), 64, channels, classes) + sum(leaf.size for leaf in jax.tree.leaves(uncertainty))
    assert found == published
