"""The convolutional networks of ADM, EDM, VDM and EDM2 against torch at random weights, and their properties."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.optim import NormaliseWeights
from imagegen_jax.diffusion.models.vdm_networks import LearnedGamma, VDMUNet
from imagegen_jax.nn.backbones.adm import ADM, ADMClassifier
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.edm2 import EDM2UNet, Uncertainty, mp_cat, mp_silu, mp_sum
from imagegen_jax.nn.backbones.ncsnpp import SongUNet

# To compile takes nearly all of the time here, and of that random numbers: each network is compiled once, without.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
START = jax.random.key(0)

LEVELS = {"width": 16, "multipliers": (1, 2), "blocks": 1, "attention_at": (4,)}  # of 8x8 and of 4x4 pixels
HEADS = {"head_channels": None, "heads": 2}
NCSNPP = {"embedding": "fourier", "encoder": "residual", "taps": (1.0, 3.0, 3.0, 1.0)}
NETWORKS = {
    "adm": ADM(**LEVELS, **HEADS, dropout=0.5),
    "iddpm": ADM(**LEVELS, **HEADS, scale_shift=False, resample="conv", dropout=0.5),
    "classifier": ADMClassifier(5, **LEVELS, **HEADS, dropout=0.5),
    "ddpmpp": SongUNet(**LEVELS, dropout=0.5),
    "ncsnpp": SongUNet(**LEVELS, **NCSNPP, dropout=0.5),
    "vdm": VDMUNet(16, 2, dropout=0.5),
    "edm2": EDM2UNet(**LEVELS, head_channels=16, dropout=0.5),
}


class Case(NamedTuple):
    """A network, and what torch made of the same with the weights `variables` (make_diffusion_networks.py).

    Both compute in float64, and put out float32.
    """

    name: str
    network: nn.Module
    variables: dict[str, Any]
    inputs: dict[str, jax.Array]  # two rows of "x", "t", and what else the network takes
    y: jax.Array
    gradient: jax.Array  # of sum(y^2), to x
    run: Callable[..., Any]  # variables, inputs, a direction for x -> the output and its change in that direction

    def output(self, variables=None, **changes):
        """By the weights of torch and its inputs, where not told otherwise."""
        y, _ = self.run(variables or self.variables, self.inputs | changes, self.gradient)
        return y


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * (n in ("iddpm", "ddpmpp"))) for n in NETWORKS]
)
def case(request, root):
    """Compiles on its first call."""
    name, network = request.param, NETWORKS[request.param]
    with np.load(root / "tests/reference/diffusion_networks.npz") as arrays:
        found = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}
    variables = drawn(found.pop("names"))
    found = {key: np.float64(np.moveaxis(v, 1, -1) if v.ndim == 4 else v) for key, v in found.items()}
    y, gradient = found.pop("y"), found.pop("gradient")
    if name == "vdm":
        found["gamma"] = found.pop("t")
    exact = network.clone(dtype="float64")

    @jit
    def program(variables, inputs, direction):
        return jax.jvp(lambda x: exact.apply(variables, **called(inputs | {"x": x})), (inputs["x"],), (direction,))

    def run(*arguments):
        with jax.enable_x64(True):
            return jax.tree.map(np.float32, program(*arguments))

    return Case(name, network, variables, found, y, gradient, run)


def drawn(names):
    """The weights that torch had, in linen's collections and layouts."""
    variables = {}
    for line in names:
        name, shape = line.split(" ")
        shape = tuple(map(int, shape.split(","))) if shape else ()
        weight = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        weight = weight / math.sqrt(np.prod(shape[1:]))
        *modules, leaf = name.split("/")
        node = variables.setdefault("constants" if modules[:1] == ["fourier"] else "params", {})
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    return variables


def called(inputs):
    """The arguments of a network: what it is told beside the image and the time is one of them."""
    told = {name: value for name, value in inputs.items() if name in Conditioning._fields and value is not None}
    rest = {name: value for name, value in inputs.items() if name not in Conditioning._fields}
    return rest | ({"conditioning": Conditioning(**told)} if told else {})


def shapes(case, **changes):
    """Of the variables that a network starts with."""
    found = jax.eval_shape(functools.partial(case.network.init, START), **called(case.inputs | changes))
    return jax.tree.map(jnp.shape, found)


# --- of all ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_output_and_slope_are_those_of_torch(case):
    """The slope by forward mode, along torch's gradient."""
    assert jax.tree.map(jnp.shape, case.variables) == shapes(case)
    y, along = case.run(case.variables, case.inputs, case.gradient)
    near = 2e-6  # the reference is stored in float32
    np.testing.assert_allclose(y, case.y, rtol=0, atol=near * np.abs(case.y).max())
    np.testing.assert_allclose(2 * np.vdot(case.y, along), np.vdot(case.gradient, case.gradient), rtol=near)


def test_a_row_does_not_depend_on_the_others(case):
    others = {key: np.concatenate([value[:1], 0.5 * value[:1]]) for key, value in case.inputs.items()}
    np.testing.assert_allclose(case.output(**others)[0], case.y[0], rtol=0, atol=2e-6 * jnp.abs(case.y).max())
    assert jnp.abs(case.output(**others)[1] - case.y[1]).max() > 1e-3 * jnp.abs(case.y).max()


def test_output_depends_on_every_input(case):
    y = case.output()
    for key, value in case.inputs.items():
        change = jnp.abs(case.output(**{key: value[::-1]}) - y).reshape(2, -1).max(axis=1)
        assert jnp.all(change > 1e-3 * jnp.abs(y).max()), key


def test_sums_and_predictions_start_without_their_last_layers(case):
    """Weights of zero in ADM and VDM and gains of zero in EDM2; EDM has 1e-5 of what others have."""

    @jit  # what is not put out is not drawn
    def last():
        params = case.network.init(START, **called(case.inputs))["params"]
        leaves = {"/".join(key.key for key in path): p for path, p in jax.tree.leaves_with_path(params)}
        wanted = ("gain",) if case.name == "edm2" else ("conv_2/kernel", "attention/out/kernel", "conv_out/kernel")
        return {name: p for name, p in leaves.items() if name.endswith(wanted)}

    found = last()
    assert len(found) >= 5
    for name, leaf in found.items():
        assert jnp.abs(leaf).max() <= (1e-5 if case.name in ("ddpmpp", "ncsnpp") else 0), name


def test_without_labels_there_are_no_weights_for_them(case):
    if case.name == "classifier":
        pytest.skip("it is not told the labels")
    found, without = case.variables["params"], shapes(case, labels=None)["params"]
    if case.name == "vdm":  # five labels stand in the place of one condition that is 0
        assert found["time_0"]["kernel"].shape[0] == without["time_0"]["kernel"][0] + 4
    else:
        assert found.keys() - without.keys() == {"label"}


def test_dropout_and_dtype_are_as_told(case):
    """Without keys there is none, as torch had none. By the way: in bfloat16, with a result in float32."""
    keys, rough = jax.random.split(jax.random.key(0), 2), case.network.clone(dtype="bfloat16")
    given = case.inputs | {"keys": keys} if case.name == "classifier" else called(case.inputs | {"keys": keys})
    traced, y = jax.make_jaxpr(functools.partial(rough.apply, **given), return_shape=True)(case.variables)
    assert "random_bits" in str(traced)
    products = [line for line in str(traced).splitlines() if "conv_general_dilated[" in line]
    assert products and all(":bf16" in line for line in products)
    assert y.dtype == jnp.float32


@pytest.mark.parametrize("network", [NETWORKS["adm"], NETWORKS["edm2"]], ids=["adm", "edm2"])
def test_sizes_and_heads_that_do_not_fit_are_refused(network):
    def init(network, shape):
        return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape), jnp.zeros(1))

    with pytest.raises(ValueError, match="7x8 cannot be halved 1 times"):
        init(network, (1, 7, 8, 3))
    with pytest.raises(ValueError, match="attention over 32 channels, but head_channels=24"):
        init(network.clone(head_channels=24), (1, 8, 8, 3))


# --- of some ---------------------------------------------------------------------------------------------------------


def test_source_of_adm_may_be_smaller_but_not_larger():
    """One of the same size is seen as it is; a larger one is refused, since how to shrink it is for others to say."""
    x, t = jnp.zeros((3, 8, 8, 3)), jnp.zeros(3)

    def init(source):
        return jax.eval_shape(functools.partial(NETWORKS["adm"].init, START), x, t, Conditioning(source=source))

    assert init(x[..., :1])["params"]["conv_in"]["kernel"].shape == (3, 3, 4, 16)
    with pytest.raises(ValueError, match="a source of 8x9 is larger than the image of 8x8"):
        init(jnp.zeros((3, 8, 9, 1)))


def test_heads_that_do_not_divide_are_refused_by_their_number():
    with pytest.raises(ValueError, match="attention over 32 channels, but heads=3, which does not divide them"):
        jax.eval_shape(NETWORKS["adm"].clone(heads=3).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1))


def test_augmentation_labels_of_zeros_are_the_same_as_none():
    """So that sampling needs none: their layer has no bias."""
    x, t, zeros = jnp.zeros((2, 4, 4, 1)), jnp.zeros(2), jnp.zeros((2, 9))
    init = functools.partial(SongUNet(8, (1,), blocks=0).init, START)
    found, without = (
        jax.eval_shape(init, x, t, Conditioning(augment_labels=given))["params"] for given in (zeros, None)
    )
    assert found.keys() - without.keys() == {"augment"}
    assert jax.tree.map(jnp.shape, found["augment"]) == {"kernel": (9, 8)}


def test_gamma_of_vdm_is_a_line_that_rises():
    network, t = LearnedGamma(), jnp.linspace(0.0, 1.0, 5)
    variables = network.init(jax.random.key(0), t)
    np.testing.assert_allclose(network.apply(variables, t), -13.3 + 18.3 * t, rtol=1e-6)
    falling = {"params": {"b": jnp.array(1.0), "w": jnp.array(-2.0)}}
    np.testing.assert_allclose(network.apply(falling, t), 1 + 2 * t)


@pytest.mark.slow
def test_parts_of_edm2_preserve_magnitude():
    """On independent N(0, 1) inputs the root mean square stays 1; a sum and a concatenation keep their shares."""
    a, b = np.random.default_rng(0).standard_normal((2, 4096, 16), np.float32)

    def magnitude(x):
        return float(jnp.sqrt(jnp.mean(x**2)))

    assert magnitude(mp_silu(a)) == pytest.approx(1, abs=0.02)
    assert magnitude(mp_sum(a, b, 0.3)) == pytest.approx(1, abs=0.01)
    both = mp_cat(a, b[:, :4], 0.3)
    assert magnitude(both) == pytest.approx(1, abs=0.01)
    # The shares in the sum of squares are as (1 - t)^2 to t^2, however many channels each has.
    assert jnp.sum(both[:, 16:] ** 2) / jnp.sum(both[:, :16] ** 2) == pytest.approx((0.3 / 0.7) ** 2, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["edm2"], indirect=True)
def test_edm2_preserves_magnitude_from_end_to_end(case):
    """Unit magnitude in, about as much out, whatever the size of the weights, which forced normalisation sets.

    About: the means that attention takes are smaller than what they are of.
    """
    params = jax.tree.map(lambda leaf: 9 * leaf if np.ndim(leaf) else jnp.float32(0), case.variables["params"])
    params |= {"gain": jnp.float32(1)}  # of the output; those of the embedding are 0, as at the start

    def output(params):
        return case.output(case.variables | {"params": params})

    y = output(params)
    assert 0.65 < jnp.sqrt(jnp.mean(y**2)) < 1.1
    normalised = NormaliseWeights()(params)
    np.testing.assert_allclose(output(normalised), y, atol=5e-3)
    np.testing.assert_allclose(output(jax.tree.map(lambda leaf: 7 * leaf if leaf.ndim else leaf, params)), y, atol=5e-3)
    for path, leaf in jax.tree.leaves_with_path(normalised):
        if leaf.ndim > 1:  # each output's weights
            square = jnp.mean(leaf**2, axis=tuple(range(leaf.ndim - 1)))
            np.testing.assert_allclose(square, 1, rtol=1e-3, err_msg=str(path))
    assert normalised["gain"] == 1


@pytest.mark.slow
def test_a_pixel_of_zeros_has_a_gradient_in_edm2():
    """The root of its mean square has none."""
    gradient = jax.grad(lambda x: jnp.sum(NormaliseWeights()({"w": x})["w"]))(jnp.zeros((3, 2)))
    assert jnp.all(jnp.isfinite(gradient))


def test_uncertainty_of_edm2_is_one_number_a_row():
    """u = sum w sqrt(2) cos(2 pi (f t + phi)) / |w|"""
    rng, t = np.random.default_rng(0), np.array([-1.0, 0.0, 0.5], np.float32)
    f, phi, w = rng.standard_normal((3, 128)).astype(np.float32)
    variables = {"params": {"dense": {"kernel": w[:, None]}}, "constants": {"fourier": {"f": f, "phi": phi}}}
    features = np.sqrt(2) * np.cos(2 * np.pi * (np.outer(t, f) + phi))
    np.testing.assert_allclose(Uncertainty().apply(variables, t), features @ w / np.linalg.norm(w), atol=2e-3)
