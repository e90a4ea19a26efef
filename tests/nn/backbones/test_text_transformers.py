"""PixArt and MMDiT against diffusers' at random weights, and at their published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import close, count, first, jit, last, published

from imagegen_jax.interop.name_map import renamed
from imagegen_jax.interop.names.transformers import mmdit, pixart
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt

ALPHA = PixArt(depth=2, width=24, heads=2, extent=4)
THREE = MMDiT(depth=2, width=16, heads=2, largest=12, extent=4)
NETWORKS = {
    "pixart": (ALPHA, pixart(2)),
    "pixart_sizes": (ALPHA.clone(sizes=True, extent=2), pixart(2)),
    "sd3": (THREE, mmdit(2)),
    "sd35": (THREE.clone(query_key_norm=True, dual=1), mmdit(2)),
}
FULL = {
    "pixart": PixArt(),
    "pixart_sizes": PixArt(sizes=True),
    "sd3": MMDiT(),
    "sd35_medium": MMDiT(query_key_norm=True, dual=13, largest=384),
    "sd35_large": MMDiT(depth=38, width=2432, heads=38, query_key_norm=True),
}


@pytest.fixture(scope="module")
def path(root):
    return root / "tests/reference/text_to_image.npz"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_that_of_diffusers(name, path):
    (network, rules), case = NETWORKS[name], published(path, name)
    told = {name: value for name, value in case.inputs.items() if name not in ("x", "t")}
    told |= {"token_mask": told["token_mask"] > 0} if "token_mask" in told else {}
    inputs = (last(case.inputs["x"]), case.inputs["t"], Conditioning(**told))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    params = renamed(case.tensors, shapes, rules, str(path))
    with jax.enable_x64(True):  # random queries and keys are long, and rounding shows
        y = jit(network.clone(dtype="float64").apply)({"params": params}, *inputs)
    close(first(y), case.outputs["y"])


@pytest.mark.slow
def test_a_token_that_is_masked_is_not_seen():
    """Image tokens see text tokens only where the mask is True; MMDiT's own case has no mask."""
    x, t = jnp.ones((2, 8, 8, 4)), jnp.array([3.0, 700.0])
    mask = jnp.array([[True, True, False], [True, False, False]])
    tokens = jax.random.normal(jax.random.key(1), (2, 3, 6))
    told = Conditioning(tokens=tokens, token_mask=mask, pooled=jnp.ones((2, 5)))
    shapes = jax.eval_shape(THREE.init, jax.random.key(0), x, t, told)
    numbers = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.float32(numbers.standard_normal(leaf.shape) / 4), shapes)
    apply = jit(THREE.apply)
    y = apply(variables, x, t, told)
    hidden = jnp.where(mask[..., None], tokens, 5.0)
    np.testing.assert_allclose(apply(variables, x, t, told._replace(tokens=hidden)), y, atol=1e-6 * jnp.abs(y).max())
    assert jnp.abs(apply(variables, x, t, told._replace(tokens=tokens + 1)) - y).max() > 1e-3 * jnp.abs(y).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_published_sizes_have_as_many_parameters(name, path):
    network = FULL[name]
    told = Conditioning(tokens=jnp.zeros((1, 2, 4096)))
    if isinstance(network, MMDiT):
        told = told._replace(pooled=jnp.zeros((1, 2048)))
    elif network.sizes:
        told = told._replace(sizes=jnp.ones((1, 2)))
    with np.load(path) as arrays:
        wanted = arrays[f"count/{name}"]
    channels = 16 if isinstance(network, MMDiT) else 4
    assert count(network, jnp.zeros((1, 32, 32, channels)), jnp.zeros(1), told) == wanted


def test_a_grid_larger_than_the_places_is_refused():
    told = Conditioning(tokens=jnp.zeros((1, 2, 6)), pooled=jnp.zeros((1, 5)))
    with pytest.raises(ValueError, match="an image of 4x13 patches, but largest=12"):
        jax.eval_shape(THREE.init, jax.random.key(0), jnp.zeros((1, 8, 26, 4)), jnp.zeros(1), told)
