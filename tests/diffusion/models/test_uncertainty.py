"""EDM2's uncertainty in `Diffusion`, with its optimum in closed form."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.edm2 import Uncertainty

KEY = jax.random.key(0)
SHAPE = (2, 2, 4)
NETS = {"network": {}}


def inputs(image):
    return Inputs({"image": image}, KEY, jax.random.split(KEY, len(image)), jnp.int32(0), {})


@dataclasses.dataclass(frozen=True)
class Constant:
    """Predicts 0, whatever there is to be predicted."""

    def apply(self, variables, x, t, conditioning):
        return jnp.zeros_like(x)


@dataclasses.dataclass(frozen=True)
class Table:
    """u as a number, and at which t it was asked for."""

    def apply(self, variables, t):
        return variables["u"] + variables["slope"] * t


@pytest.mark.slow
def test_the_loss_with_an_uncertainty():
    """mean(error / exp(u) + u), with u of log(sigma) / 4: least where exp(u) is the error to be expected."""
    plain = Diffusion(Constant(), image_shape=SHAPE)
    model = dataclasses.replace(plain, uncertainty=Table())
    image = 0.5 * jax.random.normal(KEY, (2000, *SHAPE))

    def loss(u, slope=0.0):
        nets = {"network": {}, "uncertainty": {"u": jnp.float32(u), "slope": jnp.float32(slope)}}
        return model.loss(nets, inputs(image))

    error, _ = plain.loss(NETS, inputs(image))
    value, aux = loss(0.7)
    assert float(value) == pytest.approx(float(error) / np.exp(0.7) + 0.7, rel=1e-5)
    assert float(aux.metrics["error"]) == pytest.approx(float(error), rel=1e-6)
    slope = jax.grad(lambda u: loss(u)[0])
    assert float(slope(jnp.log(error))) == pytest.approx(0, abs=1e-5)
    # Of data with the deviation sigma_data, F has the variance 1 at every level: a slope of u costs what it adds.
    times = jnp.log(model.times(jax.vmap(lambda key: jax.random.split(key, 5), out_axes=1)(inputs(image).keys)[0])) / 4
    shifted = jax.grad(lambda s: loss(jnp.log(error), s)[0])(0.0)
    assert float(shifted) == pytest.approx(float(jnp.mean(times)), abs=0.35)


class Pixelwise(nn.Module):
    """A number for each pixel."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        return nn.Dense(1, name="dense")(x)


@pytest.mark.slow
def test_it_is_trained_with_the_network():
    """One phase for both; sampling does not need it."""
    model = Diffusion(Pixelwise(), image_shape=(4, 4, 1), levels=Karras(2), uncertainty=Uncertainty())
    batch = {"image": jax.random.uniform(KEY, (4, 4, 4, 1), minval=-1.0)}
    nets = model.init(KEY, batch)
    (phase,) = model.phases(None)
    assert phase.trains == ("network", "uncertainty") == tuple(nets)
    slopes = jax.grad(lambda params: model.loss(joined(nets, params), inputs(batch["image"]))[0])(
        {name: variables["params"] for name, variables in nets.items()}
    )
    assert all(np.abs(np.asarray(leaf)).max() > 0 for leaf in jax.tree.leaves(slopes))
    only = {"network": nets["network"]}
    assert model.sample(only, KEY, 2, {}).shape == (2, 4, 4, 1)
    assert Diffusion().phases(None)[0].trains == ("network",)


def joined(nets, params):
    return {name: {**variables, "params": params[name]} for name, variables in nets.items()}
