"""DiT against published counts, a definition in torch with the same weights, and the properties of its parts."""

from __future__ import annotations

import functools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.platform.target import made_for
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT, DiTBlock, dit
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.embed import positions
from imagegen_jax.nn.multihead import CrossAttention, fused
from imagegen_jax.nn.resample import image, patches

# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

TINY = DiT(patch=2, depth=3, width=16, heads=2, out_channels=2, cross_attention=True, skips=True, dropout=0.5)
NETWORKS = [
    TINY,
    UNet(8, (1, 2), 1, (4,), cross_attention=True),
    ADM(8, (1, 2), 1, (4,), head_channels=4, cross_attention=True),
]
apply = jit(TINY.apply)  # one program for all tests


def shapes(network, *inputs):
    return jax.eval_shape(lambda key: network.init(key, *inputs)["params"], jax.random.key(0))


def count(network, *inputs):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(network, *inputs)))


def random_like(tree):
    """Weights that matter: those at the start hide the whole network behind layers of zeros."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return rng.standard_normal(leaf.shape, np.float32) / np.sqrt(np.prod(leaf.shape[:-1]))

    return {"params": jax.tree.map(draw, tree)}


@pytest.fixture(scope="module")
def inputs():
    """Images and times; labels of which one is dropped, tokens of which some are masked, a second time, and keys."""
    x_key, token_key, *keys = jax.random.split(jax.random.key(0), 5)
    mask = [[True, False, True, True], [True, True, True, True], [False, False, False, False]]
    labels = jax.nn.one_hot(jnp.array([0, 1, -1]), 2)
    tokens, span = jax.random.normal(token_key, (3, 4, 5)), jnp.array([0.0, 1.0, 20.0])
    told = Conditioning(labels, tokens, jnp.array(mask), span=span, keys=jnp.stack(keys))
    return jax.random.normal(x_key, (3, 4, 6, 1)), jnp.array([0.0, 5.0, 50.0]), told


@pytest.fixture(scope="module")
def variables(inputs):
    """Random weights of TINY."""
    return random_like(shapes(TINY, *inputs))


@pytest.fixture(scope="module")
def initial(inputs):
    """Weights of TINY at the start; by a generator that takes less time to compile."""
    return jit(lambda key: TINY.init(key, *inputs))(jax.random.key(0, impl="unsafe_rbg"))


def slow(*size):
    """Not by itself, but all of them together."""
    return pytest.param(*size, marks=pytest.mark.slow)


def definition(network, classes=1000, channels=4):
    """What models.py of the authors adds up to: embeddings of patches, times and labels, blocks, and the last layer."""
    w, patch = network.width, network.patch**2
    embeddings = (channels * patch + 1) * w + (256 + 1) * w + (w + 1) * w + (classes + 1) * w
    block = (w + 1) * 3 * w + (w + 1) * w + (w + 1) * 4 * w + (4 * w + 1) * w + (w + 1) * 6 * w
    return embeddings + network.depth * block + (w + 1) * 2 * w + (w + 1) * patch * network.out_channels


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("S/2", 32_865_056),
        slow("S/4", 32_920_448),
        ("S/8", 33_142_016),
        slow("B/2", 130_315_808),
        ("B/4", 130_426_496),
        slow("B/8", 130_869_248),
        ("L/2", 457_840_672),
        slow("L/4", 457_988_224),
        slow("L/8", 458_578_432),
        ("XL/2", 674_834_720),
        slow("XL/4", 675_000_704),
        slow("XL/8", 675_664_640),
    ],
)
def test_parameter_count_is_the_papers(size, parameters):
    """For ImageNet's latents at 256x256, with a learned variance; the fixed position embedding is none."""
    network = dit(size, out_channels=8)
    assert definition(network) == parameters
    assert count(network, jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), Conditioning(jnp.zeros((1, 1000)))) == parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("B/4", 131_165_248),
        ("B/2", 131_091_472),
        ("M/2", 308_019_216),
        ("L/2", 459_137_040),
        ("XL/2", 676_440_592),
    ],
)
def test_parameter_count_with_two_times_is_meanflows(size, parameters):
    t = jnp.zeros(1)
    assert count(dit(size), jnp.zeros((1, 32, 32, 4)), t, Conditioning(jnp.zeros((1, 1000)), span=t)) == parameters


def test_the_defaults_are_xl_2_and_go_to_a_file_and_back():
    assert dit("XL/2") == DiT()
    network = dit("S/8", skips=True, attention="xla", out_channels=6)
    assert from_dict(to_dict(network)) == network


@pytest.mark.slow
def test_at_the_start_the_output_is_zero_and_blocks_are_identities(initial, inputs):
    _, _, told = inputs
    np.testing.assert_array_equal(apply(initial, *inputs), jnp.zeros((3, 4, 6, 2)))
    block = jit(DiTBlock(heads=2).apply)
    x, c = jax.random.normal(jax.random.key(1), (2, 3, 6, 16))
    for i in range(3):
        weights = {"params": initial["params"][f"block_{i}"]}
        moved = block(weights, x, c[:, 0], None, told.tokens, told.token_mask)
        np.testing.assert_array_equal(moved, x)


@pytest.mark.slow
def test_initial_weights_are_the_references(initial):
    """Zeros in what modulates, gates and ends; N(0, 0.02) in embeddings; elsewhere uniform on +-sqrt(6 / fans)."""
    for path, leaf in jax.tree.leaves_with_path(initial["params"]):
        names = [key.key for key in path]
        if (
            names[-1] == "bias"
            or names[-2] == "modulation"
            or names[0] == "out"
            or names[1:3] == ["cross_attention", "out"]
        ):
            assert not leaf.any(), path
        elif names[0] in ("label", "time_0", "time_1", "span_0", "span_1"):
            assert 0.7 < jnp.std(leaf) / 0.02 < 1.3, path
        else:
            bound = np.sqrt(6 / sum(leaf.shape))
            assert 0.9 * bound < jnp.abs(leaf).max() <= bound, path


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "extras"])
def test_output_and_gradient_are_those_of_torch(root, case):
    """A network with the weights that tests/reference/make_dit.py drew from the parameters' names."""
    with np.load(root / "tests/reference/torch_dit.npz") as arrays:
        reference = {k.removeprefix(f"{case}/"): v for k, v in arrays.items() if k.startswith(f"{case}/")}
    params = {}
    for line in reference["names"]:
        name, shape = line.split()
        shape = tuple(map(int, shape.split(",")))
        fan_in = np.prod(shape[1:]) if len(shape) > 1 and "embedding" not in name else 1
        weight = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) / np.sqrt(fan_in)
        *modules, kind = our(name).split("/")
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[kind] = to_linen(weight, modules[-1])
    network = DiT(2, depth=2, width=24, heads=3, out_channels=6)
    told = Conditioning(jax.nn.one_hot(reference["y"], 5))  # of which 5 is none: the dropped one
    if case == "extras":
        network = network.clone(depth=3, skips=True, cross_attention=True)
        told = told._replace(span=reference["h"], tokens=reference["tokens"], token_mask=reference["mask"])
    x, y, gradient = (np.moveaxis(reference[k], 1, -1) for k in ("x", "out", "gradient"))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes(network, x, reference["t"], told))

    def squared(x):
        out = network.apply({"params": params}, x, reference["t"], told)
        return jnp.sum(out**2), out

    ours, out = jit(jax.grad(squared, has_aux=True))(x)
    np.testing.assert_allclose(out, y, atol=1e-5 * np.abs(y).max())
    np.testing.assert_allclose(ours, gradient, atol=1e-5 * np.abs(gradient).max())


def to_linen(weight, module):
    """Torch's [out, in, h, w] and [out, in] as a dense layer has them; the table of labels is [in, out] there too."""
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    elif weight.ndim == 2 and module != "label":
        weight = weight.T
    if module in ("time_0", "span_0") and weight.ndim == 2:
        weight = np.roll(weight, 128, axis=0)  # their cosines come first
    return jnp.asarray(weight, jnp.float32)


def our(name):
    """The path in our network of a parameter of the official one."""
    for pattern, replacement in [
        (r"^x_embedder\.proj", "patch"),
        (r"^t_embedder\.mlp\.0", "time_0"),
        (r"^t_embedder\.mlp\.2", "time_1"),
        (r"^h_embedder\.mlp\.0", "span_0"),
        (r"^h_embedder\.mlp\.2", "span_1"),
        (r"^y_embedder\.embedding_table", "label"),
        (r"^blocks\.(\d)\.skip_linear", r"skip_\1"),
        (r"^blocks\.(\d)", r"block_\1"),
        (r"^final_layer\.linear", "out"),
        (r"^final_layer\.", ""),
        (r"adaLN_modulation\.1", "modulation"),
        (r"cross_attn\.q_linear", "cross_attention/query"),
        (r"cross_attn\.kv_linear", "cross_attention/key_value"),
        (r"cross_attn\.proj", "cross_attention/out"),
        (r"attn\.qkv", "self_attention/qkv"),
        (r"attn\.proj", "self_attention/out"),
        (r"mlp\.fc1", "mlp_0"),
        (r"mlp\.fc2", "mlp_1"),
        ("weight$", "kernel"),
    ]:
        name = re.sub(pattern, replacement, name)
    return name.replace(".", "/")


def test_positions_are_sines_and_cosines_of_columns_then_rows():
    table = np.asarray(positions(2, 3, 8)).reshape(2, 3, 8)
    for row in range(2):
        for column in range(3):
            parts = [f(np.array([place, place / 100])) for place in (column, row) for f in (np.sin, np.cos)]
            np.testing.assert_allclose(table[row, column], np.concatenate(parts), atol=1e-6)
    with pytest.raises(ValueError, match="cannot be embedded in 6 features: use a multiple of 4"):
        positions(2, 3, 6)


def test_patches_are_squares_row_by_row_and_make_the_image_again():
    x = jnp.arange(48.0).reshape(1, 4, 6, 2)
    cut = patches(x, 2)
    np.testing.assert_array_equal(cut[0, 1].reshape(2, 2, 2), x[0, :2, 2:4])
    np.testing.assert_array_equal(cut[0, 3].reshape(2, 2, 2), x[0, 2:, :2])
    np.testing.assert_array_equal(image(cut, 2, 3, 2), x)


@pytest.mark.slow
def test_remat_changes_neither_output_nor_gradient(variables, inputs):
    def squared(variables, network):
        out = network.apply(variables, *inputs)
        return jnp.sum(out**2), out

    plain, again = (
        jit(jax.value_and_grad(functools.partial(squared, network=n), has_aux=True))(variables)
        for n in (TINY, TINY.clone(remat=True))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max()), plain, again)
    program = jax.make_jaxpr(jax.grad(lambda v: squared(v, TINY.clone(remat=True))[0]))(variables)
    assert "remat" in str(program)


@pytest.mark.slow
def test_forward_mode_agrees_with_reverse_mode(variables, inputs):
    """<w, J v> = <J^T w, v>, for the image and both times."""
    x, t, told = inputs

    def velocity(x, t, span):
        return TINY.apply(variables, x, t, told._replace(span=span, keys=None))

    primals = (x, t, told.span)
    v = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size) + 1.0).reshape(leaf.shape), primals)
    w = jnp.sin(jnp.arange(144.0)).reshape(3, 4, 6, 2)
    forward, backward = jit(lambda p: (jax.jvp(velocity, p, v)[1], jax.vjp(velocity, *p)[1](w)))(primals)
    products = [jnp.sum(a * b) for a, b in zip(backward, v, strict=True)]
    assert all(abs(product) > 1e-2 for product in products)
    np.testing.assert_allclose(jnp.sum(w * forward), sum(products), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_masked_tokens_change_nothing(network, inputs):
    x, t, (labels, tokens, mask, *_) = inputs
    params = random_like(shapes(network, x, t, Conditioning(labels, tokens)))
    apply = jit(lambda tokens, mask: network.apply(params, x, t, Conditioning(labels, tokens, mask)))
    y = apply(tokens, mask)
    np.testing.assert_array_equal(apply(jnp.where(mask[..., None], tokens, 1e3), mask), y)
    for seen in (apply(tokens + 1, mask), apply(tokens, ~mask)):
        assert jnp.all(jnp.abs(seen - y).max(axis=(1, 2, 3)) > 1e-3, where=mask.any(axis=1))
    np.testing.assert_array_equal(apply(tokens, jnp.ones_like(mask))[1], y[1])


@pytest.mark.slow
def test_a_row_does_not_depend_on_the_others(variables, inputs):
    together = apply(variables, *inputs)
    for i in range(3):
        row = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], inputs)
        np.testing.assert_allclose(apply(variables, *row)[0], together[i], atol=1e-5)


@pytest.mark.slow
def test_output_depends_on_all_that_is_given(variables, inputs):
    x, t, told = inputs
    y = apply(variables, x, t, told)
    for other in (
        apply(variables, jnp.roll(x, 2, axis=2), t, told),
        apply(variables, x, t + 1, told),
        apply(variables, x, t, told._replace(labels=jnp.roll(told.labels, 1, axis=0))),
        apply(variables, x, t, told._replace(keys=jnp.roll(told.keys, 1))),
        apply(variables, x, t, told._replace(span=told.span + 1)),
    ):
        assert jnp.all(jnp.abs(other - y).max(axis=(1, 2, 3)) > 1e-3)


@pytest.mark.slow
def test_bfloat16_is_near_float32(variables, inputs):
    exact = apply(variables, *inputs)
    rough = jit(TINY.clone(dtype="bfloat16").apply)(variables, *inputs)
    assert rough.dtype == jnp.float32
    assert 1e-5 < jnp.abs(rough - exact).max() / jnp.abs(exact).max() < 0.05


@pytest.mark.slow
def test_cross_attention_of_the_unet_adds_weights_and_starts_as_the_identity():
    x, t, tokens = jax.random.normal(jax.random.key(0), (1, 8, 8, 1)), jnp.zeros(1), jnp.ones((1, 2, 3))
    plain = UNet(8, (1, 2), 1, (4,), dropout=0.0)
    crossed = plain.clone(cross_attention=True)
    params = shapes(crossed, x, t, Conditioning(tokens=tokens))
    kept = {
        block: {name: leaf for name, leaf in layers.items() if name != "cross_attention"}
        for block, layers in params.items()
    }
    assert jax.tree.map(jnp.shape, kept) == jax.tree.map(jnp.shape, shapes(plain, x, t))
    added = {block for block, layers in params.items() if "cross_attention" in layers}
    assert added == {"down_1_0", "middle_0", "up_1_0", "up_1_1"}
    layer = CrossAttention()
    weights = jit(lambda key: layer.init(key, x, tokens, None))(jax.random.key(0, impl="unsafe_rbg"))
    np.testing.assert_allclose(jit(layer.apply)(weights, x, tokens, None), x, atol=1e-4)


def test_fused_attention_is_for_half_precision_on_gpus():
    narrow, wide, odd = (jnp.zeros((1, 2, 2, d), jnp.bfloat16) for d in (72, 256, 12))
    assert not fused(narrow)
    with made_for("gpu"):
        assert [fused(q) for q in (narrow, wide, odd, narrow.astype(jnp.float32))] == [True, False, False, False]


@pytest.mark.parametrize(
    ("network", "told", "message"),
    [
        (DiT(4, width=16, heads=2), {}, "6x8 does not divide into patches of patch=4: use a patch of 1, 2, or pad"),
        (DiT(2, width=16, heads=5), {}, "heads=5 does not divide a width of 16: use 4 or 8"),
        (DiT(2, width=16, heads=2, cross_attention=True), {}, "no tokens are given"),
        (DiT(2, width=16, heads=2), {"tokens": jnp.zeros((1, 2, 3))}, "cross_attention=False"),
        (UNet(8, (1, 2), cross_attention=True), {}, "no tokens are given"),
        (UNet(8, (1, 2)), {"tokens": jnp.zeros((1, 2, 3))}, "cross_attention=False"),
        (DiT(2, width=16, heads=0), {}, "heads=0 does not divide a width of 16: use 1"),
    ],
)
def test_what_does_not_fit_is_refused(network, told, message):
    with pytest.raises(ValueError, match=message):
        shapes(network, jnp.zeros((1, 6, 8, 1)), jnp.zeros(1), Conditioning(**told))


@pytest.mark.parametrize("name", ["XXL/2", "XL", "XL/0", "XL/x"])
def test_sizes_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match=f"no DiT of size '{name}': use one of S, B, M, L, XL"):
        dit(name)
