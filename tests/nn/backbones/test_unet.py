"""The U-Net against published counts, `diffusers` at random weights, and the properties of its parts."""

from __future__ import annotations

import functools
import json
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.embed import frequencies, positions, sinusoidal
from imagegen_jax.nn.norm import group_norm

# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

TINY = UNet(width=8, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.5)
apply = jit(TINY.apply)


def count(network, *inputs):
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def random_like(tree, seed=0):
    """Weights that matter: those at the start hide most of the network behind layers near zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), tree)


@pytest.fixture(scope="module")
def tiny():
    """Random weights of TINY, and inputs: three images, times, labels of two classes and keys."""
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    inputs = (x, jnp.array([0, 500, 999]), Conditioning(jax.nn.one_hot(jnp.array([0, 1, 1]), 2)))
    variables = jax.eval_shape(TINY.init, jax.random.key(0), *inputs)
    return random_like(variables), inputs, jax.random.split(jax.random.key(2), 3)


@pytest.fixture(scope="module")
def initial(tiny):
    _, inputs, _ = tiny
    return jit(batch_draws(TINY.init))(jax.random.key(0), *inputs)


def test_parameter_count_is_the_papers():
    x, t = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1)
    assert count(UNet(), x, t) == 35_746_307
    assert count(UNet(), x, t, Conditioning(jnp.zeros((1, 10)))) == 35_746_307 + 10 * 512


def test_parameter_count_is_the_recorded_one(shared):
    counts = json.loads((shared / "reference/param_counts.json").read_text())
    published = counts["DDPM CIFAR10 (ermongroup/ddim cifar10.yml)"]["total"]
    assert count(UNet(), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1)) == published


def test_initial_output_is_zero(tiny):
    """Whatever the weights before the last layer are, which alone is drawn here as at the start."""
    variables, inputs, _ = tiny
    last = jit(lambda key: TINY.init(key, *inputs)["params"]["conv_out"])(jax.random.key(0))
    y = apply({"params": variables["params"] | {"conv_out": last}}, *inputs)
    assert 0 < jnp.abs(y).max() < 1e-4


@pytest.mark.slow
def test_initial_weights_are_the_references(initial):
    """Uniform on +-sqrt(3 / mean fan), 1e-5 of that in the last layer of each residual sum; biases 0, scales 1."""
    for path, leaf in jax.tree.leaves_with_path(initial["params"]):
        *modules, kind = (key.key for key in path)
        if kind == "kernel" and modules != ["label"]:
            bound = np.sqrt(6 / ((leaf.shape[-2] + leaf.shape[-1]) * np.prod(leaf.shape[:-2])))
            bound *= 1e-5 if modules[-1] in ("conv_2", "conv_out", "out") else 1
            assert 0.85 * bound < jnp.abs(leaf).max() <= bound * 1.0001, path
        elif kind != "kernel":
            assert jnp.all(leaf == (kind == "scale")), path


@pytest.mark.slow
def test_output_and_gradient_are_those_of_diffusers(root):
    """UNet2DModel with the weights that tests/reference/make_diffusers.py drew from the parameters' names."""
    with np.load(root / "tests/reference/diffusers_unet.npz") as arrays:
        reference = dict(arrays)
    params = {}
    for line in reference["names"]:
        name, shape = line.split()
        shape = tuple(map(int, shape.split(",")))
        fan_in = np.prod(shape[1:])
        weight = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) / np.sqrt(fan_in)
        *modules, kind = our(name).split("/")
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node["scale" if "norm" in modules[-1] and kind == "kernel" else kind] = to_linen(weight, modules[-1])
    network = UNet(128, (1, 2), blocks=1, attention_at=(4,))
    x, gradient = (jnp.moveaxis(reference[k], 1, -1) for k in ("x", "gradient"))
    t = jnp.asarray(reference["t"])
    expected = jax.eval_shape(network.init, jax.random.key(0), x, t)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)

    def squared(x):
        y = network.apply({"params": params}, x, t)
        return jnp.sum(y**2), y

    ours, y = jit(jax.grad(squared, has_aux=True))(x)
    for found, wanted in ((y, np.moveaxis(reference["y"], 1, -1)), (ours, gradient)):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def to_linen(weight, module):
    """[out, in, h, w] and [out, in] to linen's order; 1x1 convolutions are dense layers here."""
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
        return jnp.asarray(weight[0, 0] if module == "shortcut" else weight, jnp.float32)
    return jnp.asarray(weight.T, jnp.float32)


def our(name):
    """The path in our U-Net of two levels of a parameter of UNet2DModel."""
    name = name.replace("up_blocks.0", "up_blocks.one").replace("up_blocks.1", "up_blocks.0")
    name = name.replace("up_blocks.one", "up_blocks.1")  # theirs count up blocks from the bottom
    for pattern, replacement in [
        (r"^down_blocks\.0\.downsamplers\.0\.conv", "down_1"),
        (r"^up_blocks\.1\.upsamplers\.0\.conv", "up_1"),
        (r"^time_embedding\.linear_(\d)", lambda match: f"time_{int(match[1]) - 1}"),
        (r"^(down|up)_blocks\.(\d)\.resnets\.(\d)", r"\1_\2_\3"),
        (r"^(down|up)_blocks\.(\d)\.attentions\.(\d)", r"\1_\2_\3/attention"),
        (r"^mid_block\.resnets\.(\d)", r"middle_\1"),
        (r"^mid_block\.attentions\.0", "middle_0/attention"),
        (r"(conv|norm)(\d)", r"\1_\2"),
        ("conv_norm_out", "norm_out"),
        ("time_emb_proj", "embed"),
        ("conv_shortcut", "shortcut"),
        ("group_norm", "norm"),
        (r"to_out\.0", "out"),
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("weight$", "kernel"),
    ]:
        name = re.sub(pattern, replacement, name)
    return name.replace(".", "/")


def space_to_depth(x):
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def test_patches_are_channels_of_a_smaller_image():
    network = UNet(width=8, multipliers=(1,), blocks=1, attention_at=(), dropout=0.0)
    x, t = jax.random.normal(jax.random.key(0), (1, 8, 4, 2)), jnp.array([500])
    small = space_to_depth(x)
    weights = random_like(jax.eval_shape(network.init, jax.random.key(0), small, t))
    patched = jit(network.clone(patch=2).apply)(weights, x, t)
    assert patched.shape == x.shape
    np.testing.assert_allclose(space_to_depth(patched), jit(network.apply)(weights, small, t), atol=1e-6)


def test_positions_are_added_to_the_first_level():
    network = UNet(width=8, multipliers=(1,), blocks=1, attention_at=(), dropout=0.0)
    x, t = jax.random.normal(jax.random.key(0), (1, 4, 4, 8)), jnp.array([500])
    weights = random_like(jax.eval_shape(network.init, jax.random.key(0), x, t))
    weights["params"]["conv_in"]["kernel"] = np.zeros((3, 3, 8, 8), np.float32)
    weights["params"]["conv_in"]["kernel"][1, 1] = np.eye(8)
    told = jit(network.clone(positions=True).apply)(weights, x, t)
    places = positions(4, 4, 8).reshape(4, 4, 8)
    np.testing.assert_allclose(told, jit(network.apply)(weights, x + places, t), rtol=1e-4, atol=1e-4)
    assert jnp.abs(told - jit(network.apply)(weights, x, t)).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [False, True])
def test_a_row_does_not_depend_on_the_others(tiny, dropout):
    variables, (x, t, told), keys = tiny
    inputs = (x, t, told._replace(keys=keys if dropout else None))
    together = jit(TINY.apply)(variables, *inputs)
    for i in range(3):
        alone = jit(TINY.apply)(variables, *jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], inputs))
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_output_depends_on_time_label_and_dropout(tiny):
    variables, (x, t, told), keys = tiny
    y = apply(variables, x, t, told)
    for other in (
        apply(variables, x, t + 1, told),
        apply(variables, x, t, told._replace(labels=1 - told.labels)),
        apply(variables, x, t, told._replace(keys=keys)),
    ):
        assert jnp.all(jnp.abs(other - y).max(axis=(1, 2, 3)) > 1e-3)


@pytest.mark.slow
def test_bfloat16_is_near_float32(tiny):
    variables, inputs, _ = tiny
    exact = jit(TINY.apply)(variables, *inputs)
    rough = jit(TINY.clone(dtype="bfloat16").apply)(variables, *inputs)
    assert rough.dtype == jnp.float32
    assert 1e-5 < jnp.abs(rough - exact).max() / jnp.abs(exact).max() < 0.05


def test_patches_that_do_not_fit_are_refused():
    for shape, levels, message in (
        ((9, 8), 1, "an image of 9x8 does not divide into patches of patch=2"),
        ((12, 8), 3, "a grid of patches .patch=2. of 6x4 cannot be halved 2 times.* divisible by 8, or .* 2 levels"),
    ):
        network = UNet(8, (1,) * levels, patch=2)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape, 1)), jnp.zeros(1))


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [
        ((28, 28), 4, "28x28 cannot be halved 3 times, as the 4 levels .* divisible by 8, or .* at most 3 levels"),
        ((8, 6), 3, "8x6 cannot be halved 2 times, as the 3 levels .* divisible by 4, or .* at most 2 levels"),
        ((7, 8), 2, "7x8 cannot be halved 1 times, as the 2 levels .* divisible by 2, or .* at most 1 levels"),
    ],
)
def test_sizes_that_cannot_be_halved_are_refused(shape, levels, message):
    network = UNet(8, (1,) * levels)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape, 1)), jnp.zeros(1))


def test_groups_of_the_norm_fit_the_width():
    groups = {channels: group_norm(channels, jnp.float32, "norm").num_groups for channels in (2, 8, 48, 128, 144, 384)}
    assert groups == {2: 1, 8: 2, 48: 12, 128: 32, 144: 24, 384: 32}


def test_frequencies_of_times_are_those_of_torch_to_the_last_digit():
    """As diffusers 0.42.1 makes the first for a network of width 128; a digit is 6e-5 of an angle at time 999."""
    wanted = [
        1.0, 0.863988459, 0.746476054, 0.644946694, 0.557226479, 0.481437206, 0.415956229, 0.359381378, 0.310501367,
        0.268269569, 0.231781796, 0.20025681, 0.173019573, 0.149486914, 0.12915498, 0.111588411, 0.0964110941,
    ]  # fmt: skip
    np.testing.assert_array_equal(frequencies(64, 10_000.0, endpoint=True)[:17], np.float32(wanted))


def test_sinusoidal_embedding_is_the_references():
    """The sines and cosines of t * 10000^(-i / (width / 2 - 1))."""
    angle = 700 * 10_000.0 ** (-np.arange(4) / 3)
    expected = np.concatenate([np.sin(angle), np.cos(angle)])
    np.testing.assert_allclose(sinusoidal(jnp.array([700]), 8)[0], expected, atol=1e-4)
    with pytest.raises(ValueError, match="width 7 is not possible"):
        sinusoidal(jnp.zeros(1), 7)
