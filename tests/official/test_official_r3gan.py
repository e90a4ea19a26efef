"""R3GAN's networks against the authors' classes, at random weights and at the start."""

from __future__ import annotations

import jax.numpy as jnp
import official
import pytest

from imagegen_jax.gan.r3gan import Discriminator, Generator, Stages

CLASSES = 3


def block(ours: str, theirs: str) -> official.Names:
    return {
        **official.layer(f"{ours}/Linear_0", f"{theirs}.LinearLayer1.Layer", official.linear, bias=False),
        **official.layer(ours, f"{theirs}.LinearLayer2.Layer", bias=False),
        **official.layer(f"{ours}/Linear_1", f"{theirs}.LinearLayer3.Layer", official.linear, bias=False),
        f"params/{ours}/bias_1": (f"{theirs}.NonLinearity1.Bias", official.same),
        f"params/{ours}/bias_2": (f"{theirs}.NonLinearity2.Bias", official.same),
    }


def names(part: str) -> official.Names:
    """Two stages, the one of 4x4 with two blocks."""

    def dense(ours: str, theirs: str) -> official.Names:
        return official.layer(ours, theirs, official.linear, bias=False)

    found = dense("label", "EmbeddingLayer")
    if part == "generator":
        basis, blocks = "MainLayers.0.Layers.0", ("0.Layers.1", "0.Layers.2", "1.Layers.1")
        found["params/basis"] = (f"{basis}.Basis", official.channels_last)
        layers = (f"{basis}.LinearLayer", "MainLayers.1.Layers.0.LinearLayer.Layer", "AggregationLayer.Layer")
    else:
        basis, blocks = "MainLayers.1.Layers.2", ("0.Layers.0", "1.Layers.0", "1.Layers.1")
        found["params/basis"] = (f"{basis}.Basis.weight", lambda w: official.channels_last(w[:, 0]))
        layers = ("ExtractionLayer.Layer", "MainLayers.0.Layers.1.LinearLayer.Layer", f"{basis}.LinearLayer")
    for i, theirs in enumerate(layers):
        found |= dense(f"Linear_{i}", theirs)
    for i, theirs in enumerate(blocks):
        found |= block(f"Block_{i}", f"MainLayers.{theirs}")
    return found


def network(part: str, wide: bool = False):
    """Ours."""
    make, stages = {"generator": Generator, "discriminator": Discriminator}[part], ((3, 2), (2, 1))
    return make(Stages((96, 48), *stages), 64) if wide else make(Stages((12, 8), *stages), 4, dtype="float64")


@pytest.fixture(scope="module", params=["generator", "discriminator"])
def case(request, root):
    """(which network, what the authors' gave)"""
    return request.param, official.load(root / "tests/reference/official_r3gan.npz", request.param)


@pytest.mark.slow
def test_output_and_gradients_are_the_authors(case):
    part, theirs = case
    ours, label = network(part), jnp.argmax(theirs.inputs["y"], axis=1)
    variables = official.renamed(names(part), theirs.weights)

    def apply(variables, x):
        if part == "generator":
            return official.first(ours.apply(variables, x, label, CLASSES, 3)), None
        return ours.apply(variables, official.last(x), label, CLASSES), None

    official.check(theirs, names(part), variables, apply, near=2e-6)


@pytest.mark.slow
def test_weights_start_as_the_authors(case):
    part, theirs = case
    inputs = (jnp.zeros((1, 32)),) if part == "generator" else (jnp.zeros((1, 8, 8, 3)),)
    inputs += (jnp.zeros(1, int), CLASSES, *((3,) if part == "generator" else ()))
    ours = network(part, wide=True)
    official.check_start(theirs, names(part), lambda key: ours.init(key, *inputs))
