"""Parts that multiply: the models of one objective with networks other than their own, and what does not fit."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal

from imagegen_jax import Experiment, override
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.diffusion.models.scm import SCM
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.process.variance_preserving import Gamma, GammaLine
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.denoising import forward_differentiable
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.edm2 import EDM2UNet
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
SMALL = {"width": 8, "multipliers": (1,), "blocks": 1, "attention_at": ()}
NETWORKS = {
    "unet": UNet(**SMALL),
    "adm": ADM(**SMALL, head_channels=None, heads=1, learned_variance=False),
    "song": SongUNet(**SMALL, embedding="fourier"),
    "edm2": EDM2UNet(**SMALL, head_channels=8),
    "dit": DiT(2, 1, 16, 2),
}
MODELS = {"ddpm": DDPM, "consistency": Consistency, "scm": SCM, "meanflow": MeanFlow}
COMPILED = [("meanflow", "unet"), ("scm", "dit"), ("scm", "adm"), ("meanflow", "song"), ("scm", "edm2")]


def gradient(model, network):
    """(the gradient of a model's loss as a function of weights and keys, weights, keys)"""
    model = MODELS[model](NETWORKS[network], image_shape=SHAPE, num_classes=2)
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (4, *SHAPE)).astype(np.float32)
    batch = {"image": image, "label": np.arange(4, dtype=np.int32) % 2}
    shapes = jax.eval_shape(model.init, KEY, batch)
    nets = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes)

    def loss(params, keys):
        given = {name: {**nets[name], "params": params[name]} for name in nets}
        return model.loss(given, Inputs(batch, KEY, keys, jnp.int32(9), {}))[0]

    return jax.grad(loss), {name: nets[name]["params"] for name in nets}, jax.random.split(KEY, 4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_of_a_model_depends_on_every_weight_of_any_network(model, network):
    """Forward mode goes through where a model needs it. A gradient that is not there is a constant of the program."""
    function, params, keys = gradient(model, network)
    program = jax.make_jaxpr(function)(params, keys).jaxpr
    varies = set(program.invars)
    for equation in program.eqns:
        if any(not isinstance(value, Literal) and value in varies for value in equation.invars):
            varies.update(equation.outvars)
    for (path, leaf), found in zip(jax.tree.leaves_with_path(params), program.outvars, strict=True):
        assert found.aval.shape == leaf.shape
        assert not isinstance(found, Literal) and found in varies, jax.tree_util.keystr(path)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "network"), COMPILED)
def test_a_model_trains_any_network(model, network):
    """A gradient of its loss, finite, reaches every weight: of each network by forward mode, the longest way."""
    function, *given = gradient(model, network)
    for path, leaf in jax.tree.leaves_with_path(jax.jit(function)(*given)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        assert np.abs(leaf).max() > 0 or name.endswith("['key']['bias']"), name  # of which softmax sees nothing


@pytest.mark.parametrize("network", NETWORKS)
def test_a_second_time_has_weights_of_its_own(network):
    x, t = jnp.zeros((1, *SHAPE)), jnp.zeros(1)
    init = functools.partial(NETWORKS[network].init, KEY)
    found, without = (jax.eval_shape(init, x, t, Conditioning(span=given))["params"] for given in (t, None))
    new = found.keys() - without.keys()
    assert new and all(name.startswith("span") for name in new)


@pytest.mark.parametrize("model", [SCM, MeanFlow])
def test_losses_by_forward_mode_have_no_fused_attention(model):
    """It would refuse, and here, without a GPU, it cannot even be asked for."""
    model = model(NETWORKS["dit"].clone(attention="cudnn"), image_shape=SHAPE, num_classes=2)
    batch = {"image": jnp.zeros((4, *SHAPE)), "label": jnp.zeros(4, jnp.int32)}
    plain = dataclasses.replace(model, network=NETWORKS["dit"])
    nets = jax.eval_shape(plain.init, KEY, batch)

    def loss(nets, keys):
        return model.loss(nets, Inputs(batch, KEY, keys, jnp.int32(0), {}))[0]

    assert jax.eval_shape(loss, nets, jax.random.split(KEY, 4)).shape == ()


def test_any_network_can_have_an_attention_that_forward_mode_goes_through():
    assert {forward_differentiable(network).attention for network in NETWORKS.values()} == {"xla"}


@pytest.mark.parametrize("model", [*MODELS.values(), Diffusion])
def test_predictions_with_a_variance_are_refused(model):
    batch = {"image": jnp.zeros((1, *SHAPE)), "label": jnp.zeros(1, jnp.int32)}
    variance = NETWORKS["adm"].clone(learned_variance=True)
    with pytest.raises(
        ValueError, match=r"learned_variance=True makes 2 channels, .* a variance is ImprovedDDPM's alone"
    ):
        model(variance, image_shape=SHAPE).init(KEY, batch)
    with pytest.raises(ValueError, match="out_channels=2 makes 2 channels, but images have 1 channels"):
        model(NETWORKS["dit"].clone(out_channels=2), image_shape=SHAPE).init(KEY, batch)


@pytest.mark.parametrize("model", [*MODELS.values(), Diffusion])
def test_networks_are_chosen_and_changed_on_the_command_line(model):
    experiment = Experiment("x", model(image_shape=SHAPE), Digits(), {"network": Adam(1e-3)})
    found = parse_overrides(experiment, ["--model.network", "songunet", "--model.network.width", "16"], "x")
    assert found.model.network == SongUNet(width=16)
    found = override(found, {"model.network": NETWORKS["adm"], "model.network.blocks": 2})
    assert found.model.network.blocks == 2
    assert from_dict(to_dict(found)) == found
    with pytest.raises(TypeError, match=r"model\.network=.* is of the wrong type"):
        override(found, {"model.network": Adam(1e-3)})


def test_a_line_in_gamma_is_a_process_that_is_stored():
    """gamma runs from -4 to 2, and so does minus the logarithm of the signal-to-noise ratio."""
    model = Diffusion(process=Gamma(), times=Uniform(), image_shape=SHAPE)
    experiment = Experiment("x", model, Digits(), {"network": Adam(1e-3)})
    experiment = parse_overrides(
        experiment, ["--model.process.gamma.low", "-4", "--model.process.gamma.high", "2"], "x"
    )
    process = experiment.model.process
    assert process == Gamma(GammaLine(-4.0, 2.0)) and from_dict(to_dict(experiment)) == experiment
    t = jnp.linspace(0, 1, 5)
    np.testing.assert_allclose(2 * jnp.log(process.sigma(t) / process.alpha(t)), -4 + 6 * t, atol=1e-5)
    chosen = parse_overrides(dataclasses.replace(experiment, model=Diffusion()), ["--model.process", "gamma"], "x")
    assert chosen.model.process == Gamma()
    with pytest.raises(ValueError, match="gamma.low=2.0, gamma.high=1.0: must obey low < high"):
        GammaLine(2.0, 1.0)
