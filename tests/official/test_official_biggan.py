"""BigGAN's and BigGAN-deep's networks against the authors' classes, at random weights and at the start."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.gan.residual.biggan_deep import DeepDiscriminator, DeepGenerator
from imagegen_jax.gan.residual.biggan_networks import Discriminator, Generator

CLASSES, SHARED = 3, 5
SIDES = {"generator": 32, "generator_train": 32, "generator_tables": 32}  # others are for 64x64
FLAT, UP, DOWN = (4, 4, 4, 4), (16, 16, 8, 4, 2), (1, 2, 4, 8, 16)


def network(name: str, wide: bool = False):
    """Ours."""
    rest = {"dtype": "float32" if wide else "float64", "attention": 16}
    width = (8 if name in SIDES else 4) * (4 if wide else 1)
    if name == "deep_discriminator":
        return DeepDiscriminator(width, DOWN, 4, **rest)
    if name == "deep_generator":
        return DeepGenerator(width, UP, shared_dim=SHARED, **rest)
    if name.startswith("discriminator"):
        return Discriminator(width, DOWN, 4, **rest)
    if name == "generator_tables":
        return Generator(width, FLAT, shared_dim=0, hierarchical=False, **rest | {"attention": 0})
    return Generator(width, FLAT, shared_dim=SHARED, **rest)


# --- names ------------------------------------------------------------------------------------------------------------


def pixels_first(weight: np.ndarray) -> np.ndarray:
    """The outputs of the projection, [C 4 4 ...] -> [4 4 C ...]."""
    return np.moveaxis(weight.reshape(-1, 4, 4, *weight.shape[1:]), 0, 2).reshape(weight.shape)


def latent_first(weight: np.ndarray) -> np.ndarray:
    """BigGAN-deep of the authors joins class and latent, ours latent and class."""
    return np.roll(official.linear(weight), -SHARED, axis=0)


def block(ours: str, theirs: str, norms: int, form: official.Transform | None) -> official.Names:
    """Convolutions, and norms by a linear map of `form`, or for None by tables."""
    found = official.layer(f"{ours}/shortcut", f"{theirs}.conv_sc")
    for i in range(1, 5):
        found |= official.layer(f"{ours}/conv_{i}", f"{theirs}.conv{i}")
    for i in range(1, norms + 1):
        norm, other = f"{ours}/norm_{i}", f"{theirs}.bn{i}"
        if form is None:
            found[f"params/{norm}/scale"] = (f"{other}.gain.weight", lambda weight: 1 + weight)
            found[f"params/{norm}/bias"] = (f"{other}.bias.weight", official.same)
        else:
            found |= official.layer(f"{norm}/scale", f"{other}.gain", form, bias=False)
            found |= official.layer(f"{norm}/bias", f"{other}.bias", form, bias=False)
        found |= statistics(f"{norm}/norm", other)
    return found


def statistics(ours: str, theirs: str) -> official.Names:
    """Of a batch norm."""
    return {f"batch_stats/{ours}/{s}": (f"{theirs}.bn.stored_{s}", official.same) for s in ("mean", "var")}


def blocks(name: str) -> dict[str, str]:
    """Of both, by name."""
    if name == "deep_generator":
        return {f"block_{i}_{j}": f"blocks.{2 * i + j}.0" for i in range(4) for j in range(2)}
    if name == "deep_discriminator":
        return {f"block_{i}_{j}": f"blocks.{i}.{j}" for i in range(4) for j in range(2)}
    return {f"block_{i}": f"blocks.{i}.0" for i in range(5)}


def names(name: str, theirs: official.Case) -> official.Names:
    """Of those weights that this network of theirs has."""
    form = None if name == "generator_tables" else latent_first if name == "deep_generator" else official.linear
    found = {}
    for ours, other in blocks(name).items():
        found |= block(ours, other, 4 if "generator" in name else 0, form)
    where = next((key[: -len("gamma")] for key in theirs.weights if key.endswith("gamma")), "none")
    found |= {"params/attention/gamma": (f"{where}gamma", official.same)}
    for ours, other in {"query": "theta", "key": "phi", "value": "g", "out": "o"}.items():
        found |= official.layer(f"attention/{ours}", f"{where}{other}", bias=False)
    if "generator" in name:
        first = latent_first if form is latent_first else official.linear
        found |= {"params/project/kernel": ("linear.weight", lambda weight: first(pixels_first(weight)))}
        found |= {"params/project/bias": ("linear.bias", pixels_first)}
        found |= {"params/shared/embedding": ("shared.weight", official.same)}
        for ours, other in {"scale": "gain", "bias": "bias"}.items():
            found[f"params/norm_out/{ours}"] = (f"output_layer.0.{other}", official.same)
        found |= statistics("norm_out", "output_layer.0") | official.layer("conv_out", "output_layer.2")
    else:
        found |= official.layer("head/project", "linear", official.linear) | official.layer("conv_in", "input_conv")
        found |= {"params/head/embed/embedding": ("embed.weight", official.same)}
    return {ours: (other, form) for ours, (other, form) in found.items() if other in theirs.weights}


# --- spectral norms ---------------------------------------------------------------------------------------------------


def unit(vector: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vector / np.linalg.norm(vector)


def singular(matrix: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    """Our two vectors: the authors keep one, and make half an iteration from it before each use."""
    v = unit(u @ matrix)
    return {"u": unit(matrix @ v), "v": v}


def variables(found: official.Names, theirs: official.Case, converged: bool) -> dict:
    """Ours; with `converged` the vectors are the singular ones."""
    plain = {key: value for key, value in theirs.weights.items() if not key.endswith("u0")}
    ours, spectral = official.renamed(found, plain), {}
    for path, leaf in official.flat({"params": ours["params"]}).items():
        name, _ = found[path]
        u = theirs.weights.get(f"{name.removesuffix('.weight')}.u0")
        if u is not None and name.endswith(".weight"):
            matrix = leaf if path.endswith("embedding") else leaf.reshape(-1, leaf.shape[-1]).T
            u = pixels_first(u[0]) if path == "params/project/kernel" else u[0]
            u = np.linalg.svd(matrix)[0][:, 0] if converged else u
            spectral |= {
                f"{path.rpartition('/')[0].removeprefix('params/')}/{k}": w for k, w in singular(matrix, u).items()
            }
    return ours | {"spectral": official.tree(spectral)}


# --- comparisons ------------------------------------------------------------------------------------------------------

EVALUATED = ["generator", "generator_tables", "discriminator", "deep_generator", "deep_discriminator"]


@pytest.fixture(scope="module")
def path(root):
    """What the authors' classes gave."""
    return root / "tests/reference/official_biggan.npz"


def call(name: str, theirs: official.Case, train: bool) -> Callable:
    """Our network with their labels, as a function of variables and the first input."""
    ours, labels = network(name), theirs.inputs["y"]
    shape = (SIDES.get(name, 64),) * 2 + (3,)
    mutable = [*(["batch_stats"] if "generator" in name else []), "spectral"] if train else []

    def apply(variables, x):
        if "generator" in name:
            out, after = ours.apply(variables, x, labels, shape, CLASSES, train, mutable=mutable)
            return official.first(out), after
        return ours.apply(variables, official.last(x), labels, CLASSES, mutable=mutable)

    return apply


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATED)
def test_output_and_gradients_are_the_authors(path, name):
    """By running statistics and by vectors that are no singular ones."""
    theirs = official.load(path, name)
    found = names(name, theirs)
    official.check(theirs, found, variables(found, theirs, False), call(name, theirs, False), near=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator_train", "discriminator_train"])
def test_outputs_gradients_and_statistics_are_the_authors_in_training(path, name):
    """From the singular vectors on: ours end an iteration half a one later, which makes no difference there."""
    theirs = official.load(path, name)
    found = names(name, theirs)
    after = official.check(theirs, found, variables(found, theirs, True), call(name, theirs, True), near=5e-6)
    moved = official.flat({"batch_stats": after["batch_stats"]}) if "generator" in name else {}
    for ours, leaf in moved.items():
        wanted = theirs.after[found[ours][0]]
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max(), err_msg=ours)
    assert len(moved) == len(theirs.after)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_weights_start_as_the_authors(path, name):
    """But for biases, which the authors leave to torch. Other networks have the same initialiser throughout."""
    theirs, side = official.load(path, name), SIDES.get(name, 64)
    found, labels = names(name, theirs), jnp.zeros(1, int)
    inputs = (jnp.zeros((1, side, side, 3)), labels, CLASSES)
    if "generator" in name:
        inputs = (jnp.zeros((1, 8)), labels, (side, side, 3), CLASSES, False)
    official.check_start(theirs, found, lambda key: network(name, wide=True).init(key, *inputs), zeros=".bias")
