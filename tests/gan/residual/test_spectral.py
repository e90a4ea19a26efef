"""Spectral normalisation: torch's layers through training steps, NumPy's singular values, finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan.residual.spectral import SpectralConv, SpectralDense, SpectralEmbed
from imagegen_jax.nn.conditional_norm import ClassBatchNorm, VectorBatchNorm

pytestmark = pytest.mark.versions

KEY = jax.random.key(0)
EPSILON = 1e-6  # of the reference
LAYERS = {
    "conv": SpectralConv(5, epsilon=EPSILON),
    "dense": SpectralDense(4, epsilon=EPSILON),
    "embed": SpectralEmbed(6, 4, epsilon=EPSILON),
}


@pytest.fixture(scope="module")
def torch(root):
    """The arrays of tests/reference/make_spectral.py."""
    with np.load(root / "tests/reference/torch_spectral.npz") as arrays:
        return dict(arrays)


def to_matrix_order(v, kernel_shape):
    """Torch's v, by input channel first, in the order of this package's kernels, whose input channels are last."""
    if len(kernel_shape) != 4:
        return v
    _, channels, height, width = kernel_shape
    return v.reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)


def to_kernel(name, weight):
    """Torch's weight in this package's layout."""
    return {"conv": lambda w: w.transpose(2, 3, 1, 0), "dense": lambda w: w.T, "embed": lambda w: w}[name](weight)


def channels_last(x):
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def variables_at(torch, name, step):
    """Torch's weight and vectors before step `step` + 1."""
    weight = torch[f"{name}/weight_{step}"]
    params = {"embedding" if name == "embed" else "kernel": to_kernel(name, weight)}
    if f"{name}/bias" in torch:
        params["bias"] = torch[f"{name}/bias"]
    vectors = {"u": torch[f"{name}/u_{step}"], "v": to_matrix_order(torch[f"{name}/v_{step}"], weight.shape)}
    return {"params": params, "spectral": vectors}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_training_step_equals_torch(torch, name, step):
    """Outputs, vectors and gradients, from torch's own state before the step."""
    layer, before = LAYERS[name], variables_at(torch, name, step - 1)
    x, target = channels_last(torch[f"{name}/x"]), channels_last(torch[f"{name}/target"])

    @jax.jit
    def forward(params):
        out, stats = layer.apply({**before, "params": params}, x, mutable=["spectral"])
        return jnp.sum(out * target), (out, stats)

    gradient, (out, stats) = jax.grad(forward, has_aux=True)(before["params"])
    np.testing.assert_allclose(out, channels_last(torch[f"{name}/out_{step}"]), atol=2e-6)
    after = variables_at(torch, name, step)["spectral"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats["spectral"], after)
    kernel = "embedding" if name == "embed" else "kernel"
    np.testing.assert_allclose(gradient[kernel], to_kernel(name, torch[f"{name}/gradient_{step}"]), atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("step", [1, 3])
def test_without_iterating_equals_torchs_evaluation(torch, name, step):
    """By the vectors of the step before and the weights after it, as averaged weights are used."""
    out = LAYERS[name].apply(variables_at(torch, name, step), channels_last(torch[f"{name}/x"]))
    np.testing.assert_allclose(out, channels_last(torch[f"{name}/evaluated_{step}"]), rtol=2e-6, atol=2e-6)


def inputs(name):
    return {"conv": jnp.ones((1, 4, 4, 3)), "dense": jnp.ones((2, 7)), "embed": jnp.arange(3)}[name]


def iterated(layer, variables, x, times):
    step = jax.jit(lambda v: {**v, **layer.apply(v, x, mutable=["spectral"])[1]})
    for _ in range(times):
        variables = step(variables)
    return variables


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_kernel_has_largest_singular_value_one(name):
    layer, x = LAYERS[name], inputs(name)
    variables = iterated(layer, layer.init(KEY, x), x, 300)
    kernel = np.asarray(variables["params"].get("kernel", variables["params"].get("embedding")))
    sigma = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
    if name == "conv":
        probe = jnp.eye(3)[:, None, None, :]  # a 1x1 image of each channel meets the middle of the kernel alone
        measured = layer.apply(variables, probe)[:, 0, 0] - variables["params"]["bias"]
        np.testing.assert_allclose(measured, kernel[1, 1] / sigma[0], rtol=1e-5)
    elif name == "dense":
        measured = layer.apply(variables, jnp.eye(7)) - variables["params"]["bias"]
        assert abs(np.linalg.norm(measured, 2) - 1) < 1e-5
    else:
        assert abs(np.linalg.norm(layer.apply(variables, jnp.arange(6)), 2) - 1) < 1e-5


@pytest.mark.slow
def test_first_vectors_are_near_the_singular_ones():
    """From a random kernel, 15 iterations leave sigma a few per cent short at most."""
    layer = SpectralDense(64)
    for seed in range(5):
        variables = layer.init(jax.random.key(seed), jnp.ones((1, 32)))
        normed = layer.apply(variables, jnp.eye(32))
        assert 0.999 < np.linalg.norm(normed, 2) < 1.05


@pytest.mark.slow
def test_scale_of_the_kernel_does_not_matter():
    layer, x = LAYERS["dense"], jax.random.normal(KEY, (3, 7))
    variables = layer.init(KEY, x)
    scaled = {**variables, "params": {**variables["params"], "kernel": 100 * variables["params"]["kernel"]}}
    np.testing.assert_allclose(layer.apply(variables, x), layer.apply(scaled, x), rtol=1e-5)


@pytest.mark.slow
def test_gradient_equals_finite_differences_with_the_vectors_held():
    """Through sigma = u^T W v, but not through the iteration that makes u and v."""
    layer, x = LAYERS["dense"], jax.random.normal(KEY, (3, 7))
    target = jax.random.normal(jax.random.key(1), (3, 4))
    variables = layer.init(KEY, x)
    after = layer.apply(variables, x, mutable=["spectral"])[1]

    def loss(kernel, mutable):
        params = {**variables["params"], "kernel": kernel}
        held = variables if mutable else after
        out = layer.apply({**held, "params": params}, x, mutable=mutable)
        return jnp.sum((out[0] if mutable else out) * target)

    kernel = variables["params"]["kernel"]
    gradient = np.asarray(jax.grad(loss)(kernel, ["spectral"]))
    for row, column in [(0, 0), (3, 2), (6, 3)]:
        change = jnp.zeros_like(kernel).at[row, column].set(1e-2)
        slope = (loss(kernel + change, False) - loss(kernel - change, False)) / 2e-2
        assert abs(gradient[row, column] - slope) < 2e-3 * np.abs(gradient).max()


def test_only_calls_that_may_change_the_vectors_iterate():
    layer, x = LAYERS["dense"], jax.random.normal(KEY, (3, 7))
    variables = layer.init(KEY, x)
    out, stats = layer.apply(variables, x, mutable=["spectral"])
    assert (stats["spectral"]["v"] != variables["spectral"]["v"]).any()
    np.testing.assert_allclose(layer.apply({**variables, **stats}, x), out, rtol=1e-6)
    _, unchanged = layer.apply(variables, x, mutable=["batch_stats"])
    assert unchanged == {}


@pytest.mark.slow
def test_mixed_precision_keeps_the_norm_exact():
    layer = SpectralDense(4, dtype="bfloat16")
    variables = layer.init(KEY, jnp.eye(7))
    out = layer.apply(variables, jnp.eye(7))
    assert out.dtype == jnp.bfloat16 and variables["spectral"]["u"].dtype == jnp.float32
    exact = SpectralDense(4, dtype="float32").apply(variables, jnp.eye(7))
    np.testing.assert_allclose(np.asarray(out, np.float32), exact, rtol=2**-8)


# --- conditional batch norm ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_class_batch_norm_scales_each_row_by_its_class():
    norm, x, labels = ClassBatchNorm(3), jax.random.normal(KEY, (6, 4, 4, 2)), jnp.array([0, 1, 2, 2, 1, 0])
    variables = norm.init(KEY, x, labels, train=False)
    plain, stats = norm.apply(variables, x, labels, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(plain.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(plain.var((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(stats["batch_stats"]["norm"]["mean"], 0.1 * x.mean((0, 1, 2)), atol=1e-6)
    scale, bias = jnp.arange(1.0, 7).reshape(3, 2), jnp.arange(6.0).reshape(3, 2)
    changed = {**variables, "params": {"scale": scale, "bias": bias}}
    found, _ = norm.apply(changed, x, labels, train=True, mutable=["batch_stats"])
    expected = plain * scale[labels][:, None, None] + bias[labels][:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_vector_batch_norm_is_linear_in_its_vector():
    norm = VectorBatchNorm(lambda features, name: SpectralDense(features, use_bias=False, name=name))
    x, y = jax.random.normal(KEY, (5, 4, 4, 3)), jax.random.normal(jax.random.key(1), (5, 4))
    variables = norm.init(KEY, x, y, train=False)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"scale": {"kernel": (4, 3)}, "bias": {"kernel": (4, 3)}}

    def apply(y):
        return norm.apply(variables, x, y, train=True, mutable=["batch_stats"])[0]

    plain = apply(0 * y)
    np.testing.assert_allclose(plain.var((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(apply(2 * y) - plain, 2 * (apply(y) - plain), rtol=1e-4, atol=1e-5)
