"""The one attention of all networks: equal to jax.nn's wherever it runs, and chosen by the field of a network."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.platform.target import made_for
from imagegen_jax.diffusion.models.vdm_networks import VDMUNet
from imagegen_jax.nn.backbones.adm import ADM, ADMClassifier
from imagegen_jax.nn.backbones.denoising import forward_differentiable
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.edm2 import EDM2UNet
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.multihead import attend

pytestmark = pytest.mark.versions

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NETWORKS = [
    UNet(8, (1,), 1, (4,)),
    ADM(8, (1,), 1, (4,), head_channels=8),
    ADMClassifier(3, 8, (1,), 1, (4,), head_channels=8),
    SongUNet(8, (1,), 1, (4,)),
    EDM2UNet(8, (1,), 1, (4,), head_channels=8),
    VDMUNet(8, 1),
    DiT(2, 1, 16, 2),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 0.02)])
def test_attention_is_that_of_jax(dtype, tolerance):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, n, 3, 8)), dtype) for n in (5, 7, 7))
    found, expected = jit(lambda *x: (attend(*x), jax.nn.dot_product_attention(*x)))(q, k, v)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(*(np.asarray(y, np.float32) for y in (found, expected)), atol=tolerance)


def test_causal_masked_and_biased_attention_are_that_of_jax():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 6, 3, 8)), jnp.float32) for _ in range(3))
    rows, pairs = (jnp.asarray(rng.random(shape) > 0.4) for shape in ((2, 1, 1, 6), (1, 1, 6, 6)))
    for mask in (None, rows, pairs, rows & pairs):
        for causal in (False, True):
            for bias in (None, jnp.asarray(rng.standard_normal((1, 3, 6, 6)), jnp.float32)):
                expected = jax.nn.dot_product_attention(q, k, v, bias, mask, is_causal=causal)
                np.testing.assert_allclose(attend(q, k, v, "auto", mask, causal, bias), expected, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_on_a_gpu_a_network_has_the_attention_that_it_asks_for(network, monkeypatch):
    chosen = []

    def attention(q, k, v, bias=None, mask=None, is_causal=False, implementation=None):
        chosen.append((implementation, q.shape[1]))
        return q

    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    x, t = jnp.zeros((2, 4, 4, 1)), jnp.zeros(2)
    for one, wanted in ((network, "cudnn"), (forward_differentiable(network), "xla")):
        chosen.clear()
        with made_for("gpu"):
            jax.eval_shape(one.init, jax.random.key(0), x, t)
        whole = [name for name, queries in chosen if queries > 1]
        assert whole and set(whole) == {wanted}
    assert jax.tree.map(jnp.shape, jax.eval_shape(network.init, jax.random.key(0), x, t)) == jax.tree.map(
        jnp.shape, jax.eval_shape(one.init, jax.random.key(0), x, t)
    )
