"""Our networks with the weights that the authors' classes had, beside what those gave (reference/make_official.py)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np

# To compile takes nearly all of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

Transform = Callable[[np.ndarray], np.ndarray]  # from torch's layout to ours
Names = Mapping[str, tuple[str, Transform]]  # path of our weight, "params/a/b" -> its name there, and the way from it


class Gradient(NamedTuple):
    """Of half the squared sum of the output, to one weight."""

    along: float  # a random direction, drawn by the weight's name
    length: float


class Start(NamedTuple):
    """Of a weight at the start."""

    size: int
    mean: float
    deviation: float
    mean_size: float  # of the absolute values; over the deviation it tells distributions apart


class Case(NamedTuple):
    """A network of the authors, and what it gave."""

    weights: dict[str, np.ndarray]  # and statistics
    first: str  # name of the first input
    inputs: dict[str, np.ndarray]
    output: np.ndarray
    gradients: dict[str, Gradient]  # by weight, and "input NAME" of the first input
    after: dict[str, np.ndarray]  # statistics that the call changed
    start: dict[str, Start]  # of a wide network


@functools.cache
def load(path: str, name: str) -> Case:
    """Returns a case of one of the files."""
    with np.load(path) as arrays:
        found = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}
    weights = {n: drawn_weights.weight(n, *rest) for n, *rest in map(parsed, found["weights"])}
    first, shape, _ = parsed(str(found["first"]))
    inputs = {first: drawn_weights.normal(f"input {first}", shape)}
    inputs |= {key.removeprefix("input/"): a for key, a in found.items() if key.startswith("input/")}
    gradients = dict(zip(found["gradients"].tolist(), map(Gradient, found["along"], found["lengths"]), strict=True))
    after = {key.removeprefix("after/"): a for key, a in found.items() if key.startswith("after/")}
    lines = (parsed(f"{line}|1") for line in found["start/weights"])
    start = {n: Start(int(np.prod(s)), *row) for (n, s, _), row in zip(lines, found["start/statistics"], strict=True)}
    return Case(weights, first, inputs, found["output"], gradients, after, start)


def parsed(line: str) -> tuple[str, tuple[int, ...], float]:
    """Returns name, shape and scale of a weight."""
    name, shape, scale = line.split("|")
    return name, tuple(map(int, shape.split(","))) if shape else (), float(scale)


# --- names and layouts ------------------------------------------------------------------------------------------------


def same(weight: np.ndarray) -> np.ndarray:
    """As it is."""
    return weight


def kernel(weight: np.ndarray) -> np.ndarray:
    """[O I H W] -> [H W I O]"""
    return weight.transpose(2, 3, 1, 0)


def linear(weight: np.ndarray) -> np.ndarray:
    """[O I], or a convolution of single pixels -> [I O]"""
    return weight.reshape(len(weight), -1).T


def sines_first(weight: np.ndarray) -> np.ndarray:
    """[O I] -> [I O], of a layer that sees sines and cosines of a time, where theirs begin with the cosines."""
    return np.roll(linear(weight), weight.shape[1] // 2, axis=0)


def channels_last(weight: np.ndarray) -> np.ndarray:
    """[... C H W] -> [... H W C]"""
    return np.moveaxis(weight, -3, -1)


def last(image: jax.Array) -> jax.Array:
    """[B C H W] -> [B H W C]"""
    return image.transpose(0, 2, 3, 1)


def first(image: jax.Array) -> jax.Array:
    """[B H W C] -> [B C H W]"""
    return image.transpose(0, 3, 1, 2)


def layer(ours: str, theirs: str, form: Transform = kernel, bias: bool = True) -> dict[str, tuple[str, Transform]]:
    """Names of a layer of ours, under "params"."""
    names = {f"params/{ours}/kernel": (f"{theirs}.weight", form)}
    return names | ({f"params/{ours}/bias": (f"{theirs}.bias", same)} if bias else {})


def norm(ours: str, theirs: str) -> dict[str, tuple[str, Transform]]:
    """Names of a norm of ours."""
    return {f"params/{ours}/scale": (f"{theirs}.weight", same), f"params/{ours}/bias": (f"{theirs}.bias", same)}


def tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts."""
    root: dict[str, Any] = {}
    for path, value in flat.items():
        *modules, leaf = path.split("/")
        functools.reduce(lambda node, module: node.setdefault(module, {}), modules, root)[leaf] = value
    return root


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves by their paths."""
    return {"/".join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(nested)}


def renamed(names: Names, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns our variables; every one of their weights has a place in them."""
    assert {theirs for theirs, _ in names.values()} >= weights.keys()
    return tree({ours: form(weights[theirs]) for ours, (theirs, form) in names.items()})


# --- comparisons ------------------------------------------------------------------------------------------------------


def check(
    case: Case,
    names: Names,
    variables: dict[str, Any],
    apply: Callable[..., tuple[Any, Any]],
    near: float,
) -> Any:
    """Checks output and gradients; returns what else `apply`, of variables and the first input, puts out.

    The output may differ by `near` of its largest value, and a gradient by `near` of its length and
    the rounding of the largest one.
    """

    def objective(params, x):
        out, others = apply({**variables, "params": params}, x)
        return jnp.sum(out**2) / 2, (out, others)

    with jax.enable_x64(True):
        gradient = jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
        (of_params, of_first), (out, others) = gradient(variables["params"], case.inputs[case.first])
    np.testing.assert_allclose(out, case.output, rtol=0, atol=near * np.abs(case.output).max())
    name = f"input {case.first}"
    found = {name: np.vdot(of_first, drawn_weights.direction(name, of_first.shape))}
    for ours, gradient in flat({"params": of_params}).items():
        theirs, form = names[ours]
        shape = case.weights[theirs].shape
        along = form(drawn_weights.direction(theirs, shape)) - form(np.zeros(shape))  # without what a form adds
        found[theirs] = found.get(theirs, 0.0) + np.vdot(gradient, along)
    assert found.keys() == case.gradients.keys()
    # Parts of ours are in float32, which shows where a gradient is small beside those that it is computed from.
    rounding = 1e-9 * max(gradient.length for gradient in case.gradients.values())
    for name, value in found.items():
        wanted = case.gradients[name]
        np.testing.assert_allclose(value, wanted.along, rtol=0, atol=near * wanted.length + rounding, err_msg=name)
    return others


def check_start(case: Case, names: Names, init: Callable[..., Any], zeros: str | None = None) -> None:
    """Checks that weights start as theirs do: mean, deviation and mean size, to 5 standard errors of a normal's.

    Those whose name there ends with `zeros` start at 0 in ours, which is a known difference.
    """
    params = jit(init)(jax.random.key(0, impl="unsafe_rbg"))["params"]  # it takes less time to compile
    for ours, leaf in flat({"params": params}).items():
        theirs, form = names[ours]
        if zeros is not None and theirs.endswith(zeros):
            assert not np.any(leaf), ours
            continue
        wanted = case.start[theirs]
        found = np.asarray(leaf, np.float64) - form(np.zeros_like(case.weights[theirs])).flat[0]
        error = 5 * (1 / found.size + 1 / wanted.size) ** 0.5
        values = (found.mean(), found.std(), np.abs(found).mean())
        limits = (error * wanted.deviation, error * wanted.deviation / 2**0.5, 0.6 * error * wanted.deviation)
        for value, target, limit in zip(values, wanted[1:], limits, strict=True):
            np.testing.assert_allclose(value, target, rtol=1e-6, atol=limit, err_msg=f"{ours}: {values}, {wanted}")


# --- networks of other libraries --------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A tiny network of another library, as make_text_encoders.py and make_text_to_image.py in reference/ store it."""

    tensors: dict[str, np.ndarray]  # by their published names
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def published(path: Any, name: str) -> Published:
    """Returns a network of a file."""
    with np.load(path) as arrays:
        found = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}
    tensors = {n: np.float32(drawn_weights.weight(n, *rest)) for n, *rest in map(parsed, found["weights"].tolist())}
    kinds = [{k.split("/")[1]: v for k, v in found.items() if k.startswith(kind)} for kind in ("input/", "output/")]
    return Published(tensors, *kinds)


def close(found: Any, wanted: np.ndarray, near: float = 1e-5) -> None:
    """Checks that nothing differs by more than `near` of the largest value."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=near * np.abs(wanted).max())


def count(network: Any, *inputs: Any) -> int:
    """Returns the number of a network's parameters, of which none is made."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


# --- the mixture of logistics of PixelCNN++ ---------------------------------------------------------------------------


def official_to_ours(out: np.ndarray, channels: int) -> np.ndarray:
    """Outputs [... O] in the order of the authors' code: logits, then means, scales and coefficients by channel."""
    k = out.shape[-1] // {1: 3, 3: 10}[channels]
    logits, rest = out[..., :k], out[..., k:].reshape(*out.shape[:-1], channels, -1, k)
    of_kind = [rest[..., kind, :].reshape(*out.shape[:-1], -1) for kind in range(rest.shape[-2])]
    return np.concatenate([logits, *of_kind], axis=-1)


def _sigmoid(a: float) -> float:
    """Of a number of any size."""
    return 1 / (1 + math.exp(-a)) if a > 0 else math.exp(a) / (1 + math.exp(a))


def mixture_by_loop(output: np.ndarray, x: np.ndarray, k: int) -> float:
    """Of one pixel [C] of grey or colours, in float64: log sum_i pi_i prod_c (difference of two sigmoids)."""
    c = len(x)
    logits, means, scales = output[:k], output[k : k + c * k].reshape(c, k), output[k + c * k : k + 2 * c * k]
    scales, coefficients = scales.reshape(c, k), np.tanh(output[k + 2 * c * k :].reshape(-1, k))
    weights = np.exp(logits) / np.exp(logits).sum()
    total = 0.0
    for i in range(k):
        product, pair = weights[i], 0
        for channel in range(c):
            mean = means[channel, i]
            for other in range(channel):
                mean += coefficients[pair, i] * x[other]
                pair += 1
            scale = math.exp(max(scales[channel, i], -7.0))
            top = 1.0 if x[channel] > 0.999 else _sigmoid((x[channel] + 1 / 255 - mean) / scale)
            bottom = 0.0 if x[channel] < -0.999 else _sigmoid((x[channel] - 1 / 255 - mean) / scale)
            product *= top - bottom
        total += product
    return math.log(total)
