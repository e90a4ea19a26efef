"""U-Nets of latent diffusion against diffusers' at random weights, and at their published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import close, count, first, jit, last, published

from imagegen_jax.interop.name_map import renamed
from imagegen_jax.interop.names import unets
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning, null_conditions
from imagegen_jax.nn.backbones.latent_unet import LatentUNet

TINY = LatentUNet(16, (1, 2), 1, (1, 0), heads=2)
NETWORKS = {
    "sd1": TINY,
    "sd2": TINY.clone(depths=(1, 1), head_channels=8),
    "sdxl": TINY.clone(depths=(0, 2), head_channels=8, added=True),
    "ldm4": ADM(16, (1, 2), 1, (4,), 8, scale_shift=False, resample="conv", learned_variance=False),
}
FULL = {
    "sd1": (LatentUNet(), 64, 768),
    "sd2": (LatentUNet(head_channels=64), 64, 1024),
    "sdxl": (LatentUNet(multipliers=(1, 2, 4), depths=(0, 2, 10), head_channels=64, added=True), 128, 2048),
    "ldm8": (LatentUNet(256, (1, 2, 4), depths=(1, 1, 1), heads=1), 32, 512),
    "ldm4": (
        ADM(224, (1, 2, 3, 4), 2, (32, 16, 8), 32, scale_shift=False, resample="conv", learned_variance=False), 64, 0,
    ),
}  # fmt: skip
LDM8 = 394_984_196  # published_counts of latent diffusion's own class, which diffusers does not have at that size


@pytest.fixture(scope="module")
def path(root):
    return root / "tests/reference/text_to_image.npz"


def told(inputs):
    """The conditioning that a case has."""
    return Conditioning(**{name: value for name, value in inputs.items() if name not in ("x", "t")})


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_that_of_diffusers(name, path):
    network, case = NETWORKS[name], published(path, name)
    inputs = (last(case.inputs["x"]), case.inputs["t"], told(case.inputs))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    rules = unets.adm(2) if name == "ldm4" else unets.latent_unet(2)
    params = renamed(case.tensors, shapes, rules, str(path))
    close(first(jit(network.apply)({"params": params}, *inputs)), case.outputs["y"])


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "sdxl")) for n in FULL])
def test_published_sizes_have_as_many_parameters(name, path):
    network, side, features = FULL[name]
    conditioning = Conditioning(tokens=jnp.zeros((1, 2, features))) if features else Conditioning()
    if name == "sdxl":
        conditioning = conditioning._replace(pooled=jnp.zeros((1, 1280)), sizes=jnp.zeros((1, 6)))
    with np.load(path) as arrays:
        wanted = LDM8 if name == "ldm8" else arrays[f"count/{name}"]
    assert count(network, jnp.zeros((1, side, side, 3 if name == "ldm4" else 4)), jnp.zeros(1), conditioning) == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "a LatentUNet needs tokens, which its conditioning lacks"),
        ({"labels": jnp.zeros((2, 3))}, "is given labels, but sees tokens, token_mask, source alone"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(changes, message):
    conditioning = Conditioning(tokens=jnp.zeros((2, 4, 6)))._replace(**changes)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(TINY.init, jax.random.key(0), jnp.zeros((2, 8, 8, 4)), jnp.zeros(2), conditioning)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (1,)}, "depths=.1,. are 1, but multipliers=.1, 2. make 2 levels"),
        ({"heads": 3}, "attention over 16 channels, but heads=3, which does not divide them"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes, message):
    conditioning = Conditioning(tokens=jnp.zeros((2, 4, 6)))
    with pytest.raises(ValueError, match=message):
        network = TINY.clone(**changes)
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 8, 8, 4)), jnp.zeros(2), conditioning)


def test_the_token_of_a_class_is_a_row_of_a_table():
    network = TINY.clone(class_token=6)
    x, t, labels = jnp.ones((3, 8, 8, 4)), jnp.arange(3.0), jnp.eye(3)[:, :2]  # the last one is dropped
    params = network.init(jax.random.key(0), x, t, Conditioning(labels=labels))["params"]
    table = params["label"]["kernel"]
    assert table.shape == (3, 6)
    moved = jax.tree.map(lambda p: p + 0.1, params) | {"label": params["label"]}  # layers start at 0
    given = TINY.apply(
        {"params": {k: v for k, v in moved.items() if k != "label"}}, x, t, Conditioning(tokens=table[:, None])
    )
    made = network.apply({"params": moved}, x, t, Conditioning(labels=labels))
    np.testing.assert_allclose(made, given, rtol=1e-6)
    assert not np.allclose(made[0], made[1])
    shapes = jax.eval_shape(network.clone(dropped_token=False).init, jax.random.key(0), x, t, Conditioning(labels))
    assert shapes["params"]["label"]["kernel"].shape == (2, 6)
    with pytest.raises(ValueError, match="is given tokens, but sees labels, source alone"):
        network.init(jax.random.key(0), x, t, Conditioning(labels=labels, tokens=table[:, None]))


def test_a_pooled_text_is_nulled_with_its_tokens_and_sizes_are_not():
    conditioning = Conditioning(tokens=jnp.ones((2, 4, 6)), pooled=jnp.ones((2, 5)), sizes=jnp.ones((2, 6)))
    found = null_conditions(conditioning, ("tokens",))
    assert not found.tokens.any() and not found.pooled.any() and not found.token_mask.any()
    assert found.sizes.all()
