"""PixelCNNs: what sees what, likelihood by hand, drawing by caches, and a port's outputs."""

from __future__ import annotations

import dataclasses
import functools
import math

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import jit, mixture_by_loop, official_to_ours

from imagegen_jax.autoregressive.gated import GatedPixelCNN
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.autoregressive.residual import ResidualPixelCNN
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.model import Inputs, StartsFromData
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.nn.distributions.pixel import Categorical

KEY = jax.random.key(0)
GREY = PixelCNN((4, 6, 1), GatedPixelCNN(4, 3, 5, 8), num_classes=3)
COLOUR = PixelCNN((4, 8, 3), ResidualPixelCNN(1, 4, 3), LogisticMixture(2), num_classes=3)
BOTH = pytest.mark.parametrize("model", [GREY, COLOUR], ids=["gated", "residual"])


def batch_of(model, n=3):
    levels = jax.random.randint(jax.random.key(5), (n, *model.image_shape), 0, 256)
    return {"image": levels / 127.5 - 1, "label": jnp.arange(n) % 3}


@functools.cache
def nets_of(model):
    """Networks whose outputs depend on all they can, and are of moderate size."""
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        values = random.normal(size=leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5
        values = 1 + 0.3 * values if path[-1].key == "gain" else values
        return jnp.float32(0.3 * values if path[2].key == "head" or leaf.ndim == 1 else values)

    return jax.tree.map_with_path(drawn, jax.eval_shape(model.init, KEY, batch_of(model)))


# --- what sees what --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@BOTH
def test_the_jacobian_is_strictly_causal(model):
    """Of each pixel's outputs to each channel of each pixel: 0 from the pixel on, and not for those just before it."""
    h, w, c = model.image_shape
    batch, nets = batch_of(model, 1), nets_of(model)
    outputs = model.distribution.outputs(c)
    labels = jax.nn.one_hot(batch["label"], 3)

    def of_image(image):
        return model.network.apply(nets["network"], image[None], outputs, labels)[0]

    jacobian = np.abs(jit(jax.jacfwd(of_image))(batch["image"][0])).sum(2).reshape(h * w, h * w, c)
    seen = jacobian > 0
    assert not seen[~np.tri(h * w, k=-1, dtype=bool)].any()
    for pixel in range(h * w):
        if pixel % w:
            assert seen[pixel, pixel - 1].all(), f"{pixel} does not see its left neighbour"
        if pixel >= w:
            assert seen[pixel, pixel - w].all(), f"{pixel} does not see the one above"
        if pixel >= w and (pixel + 1) % w:
            assert seen[pixel, pixel - w + 1].all(), (
                f"{pixel} does not see the one above and to the right: a blind spot"
            )


# --- likelihood ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@BOTH
def test_bits_per_dim_by_a_loop(model):
    """Each pixel's probability from an image in which nothing but the pixels before it is left."""
    batch, nets = batch_of(model), nets_of(model)
    h, w, c = model.image_shape
    outputs, labels = model.distribution.outputs(c), jax.nn.one_hot(batch["label"], 3)
    run = jit(lambda image: model.network.apply(nets["network"], image, outputs, labels))
    images, total = np.asarray(batch["image"], np.float64), np.zeros(3)
    for row in range(h):
        for column in range(w):
            before = images.reshape(3, h * w, c).copy()
            before[:, row * w + column :] = 0.7
            output = np.asarray(run(jnp.float32(before.reshape(images.shape))), np.float64)[:, row, column]
            for b in range(3):
                total[b] += of_pixel(model, output[b], images[b, row, column])
    found = jit(model.bits)(nets, batch)
    np.testing.assert_allclose(found, -total / (h * w * c * math.log(2)), rtol=1e-5)


def of_pixel(model, output, x):
    """The logarithm of a pixel's probability, in float64."""
    if isinstance(model.distribution, Categorical):
        return output[round((x[0] + 1) * 127.5)] - np.log(np.exp(output).sum())
    return mixture_by_loop(output, x, model.distribution.components)


def test_the_loss_is_the_mean_of_the_bits():
    """Where there is no dropout."""
    batch, nets = batch_of(GREY), nets_of(GREY)
    (phase,) = GREY.phases(None)
    assert (phase.name, phase.trains) == ("likelihood", ("network",))
    loss, aux = jit(phase.loss)(nets, Inputs(batch, KEY, jax.random.split(KEY, 3), jnp.int32(0), {}))
    bits = jit(GREY.bits)(nets, batch)
    np.testing.assert_allclose([loss, aux.metrics["bits_per_dim"]], bits.mean(), rtol=1e-6)


# --- drawing ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@BOTH
def test_caches_give_what_whole_passes_give(model):
    """The same pixels of the same keys, with known pixels and without; images at levels of 8 bits."""
    labels, image = jnp.array([2, 0, 1, 1]), batch_of(model, 4)["image"]
    known = jax.random.bernoulli(KEY, 0.4, (4, *model.image_shape[:2], 1))

    def drawn(caches, key, known):
        one, given = dataclasses.replace(model, caches=caches), {"label": labels, "image": image, "known": known}
        return one.sample(nets_of(model), key, 4, given)

    by_caches, by_passes = (jit(functools.partial(drawn, caches)) for caches in (True, False))
    for key, given in ((KEY, known), (jax.random.key(1), jnp.zeros_like(known))):
        found, wanted = by_caches(key, given), by_passes(key, given)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.where(given, found, 0), np.where(given, image, 0))
        np.testing.assert_allclose((found + 1) * 127.5, np.round((found + 1) * 127.5), atol=1e-4)
    assert len(np.unique(found)) > 20 and not np.array_equal(found, by_caches(KEY, jnp.zeros_like(known)))


def test_a_completion_that_cannot_be_is_refused():
    image, known = np.zeros((2, 4, 6, 1), np.uint8), np.zeros((2, 4, 6, 1), bool)
    known[:, 0] = True
    given = {"label": np.arange(2), "image": image, "known": known}
    draw.check_conditions(GREY, 2, given)
    for wrong, message in (
        ({"known": np.ones_like(known)}, "'known' is True everywhere in row 0: mark by False"),
        ({"known": known[..., 0]}, r"'known' has rows of \(4, 6\): must be of \(4, 6, 1\)"),
        ({"known": image}, "'known' is of uint8: must be bool"),
        ({"image": image[:, :3]}, r"'image' has rows of \(3, 6, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            draw.check_conditions(GREY, 2, {**given, **wrong})
    with pytest.raises(ValueError, match="'known' alone given: to complete images, give both"):
        draw.check_conditions(GREY, 2, {"label": np.arange(2), "known": known})
    with pytest.raises(ValueError, match="1 rows of 'image' for 2 images"):
        draw.check_conditions(GREY, 2, {**given, "image": image[:1]})


def test_what_does_not_fit_is_refused():
    def init(model, shape, **more):
        return jax.eval_shape(model.init, KEY, {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32), **more})

    with pytest.raises(ValueError, match="8x8x1.*28x28x1"):
        init(PixelCNN(), (8, 8, 1))
    with pytest.raises(ValueError, match="num_classes=3, but the batch has no 'label'"):
        init(GREY, (4, 6, 1))
    with pytest.raises(ValueError, match="one channel, but images have 3: use LogisticMixture"):
        init(PixelCNN((4, 4, 3)), (4, 4, 3))
    with pytest.raises(ValueError, match="model.network.window=4: must be an odd number"):
        init(PixelCNN((4, 4, 1), GatedPixelCNN(window=4)), (4, 4, 1))
    with pytest.raises(ValueError, match="images of 6x8: with model.network.levels=3, .* multiples of 4"):
        init(PixelCNN((6, 8, 1), ResidualPixelCNN()), (6, 8, 1))


# --- the network of PixelCNN++ ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_outputs_start_normalised_by_the_data():
    """Without dropout, the head's have a mean of 0 and a deviation of 1 over the first batch."""
    model = dataclasses.replace(COLOUR, network=ResidualPixelCNN(1, 4, 1, dropout=0.0), num_classes=0)
    assert isinstance(model, StartsFromData) and model.starts_from_data and not GREY.starts_from_data
    batch = {"image": batch_of(model, 8)["image"]}
    nets = jit(batch_draws(model.init))(KEY, batch)
    out = jit(lambda image: model.network.apply(nets["network"], image, 20))(batch["image"])
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, rtol=1e-3)


def stream(ours: str, kind: str) -> dict[str, str]:
    """Names of a stream's layers, ours -> the port's, with one block a level."""
    deep = [ours, f"{ours}/deeper/stream", f"{ours}/deeper/stream/deeper/stream"]
    blocks = {f"{at}/block_0": f"up_layers.{level}.{kind}_stream.0" for level, at in enumerate(deep)}
    blocks |= {f"{deep[2]}/block_1": f"down_layers.0.{kind}_stream.0"}
    for at, index, down in ((deep[1], 3, 1), (deep[0], 6, 2)):
        blocks |= {f"{at}/block_{index + i}": f"down_layers.{down}.{kind}_stream.{i}" for i in (0, 1)}
    names = {}
    for at, theirs in blocks.items():
        names |= {f"{at}/conv_1/conv": f"{theirs}.conv_input.conv", f"{at}/conv_2/conv": f"{theirs}.conv_out.conv"}
        names[f"{at}/beside/conv"] = f"{theirs}.nin_skip.lin_a"
    for level in (0, 1):
        names[f"{deep[level]}/deeper/halve"] = f"downsize_{kind}_stream.{level}.conv"
        names[f"{deep[level]}/deeper/double"] = f"upsize_{kind}_stream.{1 - level}.deconv"
    return names


def ours_of(name: str, theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of one layer. The port normalises those of a transposed convolution by input, the authors by output."""
    v, g = theirs[f"{name}.weight_v"], theirs[f"{name}.weight_g"]
    kernel = g * v / np.sqrt((v**2).sum(tuple(range(1, v.ndim)), keepdims=True))
    kernel = kernel.reshape(*kernel.shape, *[1] * (4 - v.ndim))
    kernel = kernel.transpose(2, 3, 0, 1) if "deconv" in name else kernel.transpose(2, 3, 1, 0)
    length = np.sqrt((kernel**2).sum((0, 1, 2)))
    return {"direction": 3 * kernel, "gain": length, "bias": theirs[f"{name}.bias"]}


@pytest.mark.slow
def test_the_network_equals_a_port_of_the_authors_code(root):
    """Outputs, and the gradient of half their squared sum to the image (tests/reference/make_pixelcnn.py)."""
    with np.load(root / "tests/reference/pixelcnn.npz") as arrays:
        names, x, out, gradient = (arrays[f"network/{name}"] for name in ("names", "x", "out", "gradient"))
    theirs = {}
    for name, shape in (line.split(" ") for line in names):
        drawn = drawn_weights.normal(name, tuple(int(n) for n in shape.split(",")))
        theirs[name] = 1 + 0.3 * drawn if name.endswith("_g") else 0.3 * drawn if name.endswith("bias") else drawn
    layers = {"rows_above/conv": "u_init.conv", "row_above/conv": "ul_init.0.conv"}
    layers |= {"column_left/conv": "ul_init.1.conv", "head/out/conv": "nin_out.lin_a"}
    layers |= stream("vertical_stream", "u") | stream("horizontal_stream", "ul")
    params, used = {}, 0
    for path, name in layers.items():
        if f"{name}.bias" in theirs:  # the vertical stream has nothing beside it on the way down
            at = params
            for part in f"{path}/weights".split("/"):
                at = at.setdefault(part, {})
            at |= jax.tree.map(jnp.float32, ours_of(name, theirs))
            used += 3
    assert used == len(theirs)
    network = ResidualPixelCNN(1, 4, 3, dtype="float32")
    x, gradient = (jnp.float32(np.moveaxis(a, 1, -1)) for a in (x, gradient))
    run = jit(lambda x: jax.vjp(lambda x: network.apply({"params": params}, x, 20), x)[0])
    found = run(x)
    wanted = np.moveaxis(out, 1, -1)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    slope = jit(jax.grad(lambda x: jnp.sum(network.apply({"params": params}, x, 20) ** 2) / 2))(x)
    np.testing.assert_allclose(slope, gradient, atol=1e-5 * np.abs(gradient).max())
    assert official_to_ours(wanted, 3).shape == found.shape
