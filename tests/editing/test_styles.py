"""Editing of generators: paths that close, directions against an SVD, and the style that an image was made of."""

from __future__ import annotations

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from latent_models import KEY, MODELS, Painter, networks, styled

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.editing.directions import directions, latent_weights, moved, style_weights
from imagegen_jax.editing.interpolation import interpolate, loop
from imagegen_jax.editing.projection import learning_rate, noise_strength, project, style_statistics
from imagegen_jax.gan.residual import biggan_networks
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.metrics.features.distances import distance_of
from imagegen_jax.metrics.scores.path_length import lerp, slerp

NUMPY = np.random.default_rng(0)


@functools.cache
def methods(classes: int = 0):
    """(styles of latents, images of styles), compiled."""
    model, nets = styled(classes)
    return jax.jit(functools.partial(model.styles, nets)), jax.jit(functools.partial(model.synthesise, nets))


# --- interpolation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [lerp, slerp])
def test_a_loop_meets_its_points_closes_and_has_no_kink(between):
    points = NUMPY.normal(size=(4, 6)).astype(np.float32)
    path = np.asarray(loop(jnp.asarray(points), 40, between))
    np.testing.assert_allclose(path[::40], points, atol=1e-6)
    steps = np.linalg.norm(np.roll(path, -1, axis=0) - path, axis=1)
    turns = np.linalg.norm(np.roll(path, -1, axis=0) - 2 * path + np.roll(path, 1, axis=0), axis=1)
    assert steps[::40].max() < 0.1 * steps.max()  # slow where it leaves, and where it returns
    assert steps[39::40].max() < 0.1 * steps.max()
    assert turns.max() < 0.15 * steps.max()  # a kink would have a turn as large as a step


def test_an_arc_keeps_the_length():
    points = NUMPY.normal(size=(3, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(loop(jnp.asarray(points), 10, slerp), axis=1), 1, atol=1e-6)
    assert np.linalg.norm(loop(jnp.asarray(points), 10, lerp), axis=1).min() < 0.95


@pytest.mark.slow
def test_frames_of_several_loops_side_by_side():
    """Each video has its own latents and its label, in one compilation, whatever the chunk."""
    model, z = Painter(), jnp.asarray(NUMPY.uniform(-0.4, 0.4, (3, 2, 3)), jnp.float32)
    frames = list(interpolate(model, {}, z, 4, conditions={"label": np.array([0, 2])}, chunk=5))
    assert len(frames) == 12 and model.traced == 1 and frames[0].shape == (2, 2, 2, 1)
    value = (np.stack(frames)[::4, :, 0, 0, 0] / 127.5) - 1
    np.testing.assert_allclose(value, z[:, :, 0] + np.array([0.0, 0.2]), atol=0.005)


@pytest.mark.slow
def test_lines_between_styles():
    model, nets = styled()
    styles, images = methods()
    z = jax.random.normal(KEY, (2, 1, 4))
    frames = np.stack(list(interpolate(model, nets, z, 2, "w")))
    middle = images(jnp.mean(styles(z[:, 0]), axis=0, keepdims=True))
    np.testing.assert_allclose(frames[1, 0] / 127.5 - 1, middle[0], atol=0.005)
    np.testing.assert_array_equal(frames[1], frames[3])  # there and back


def test_loops_that_are_none_are_refused():
    for points, frames in ((1, 5), (3, 0)):
        with pytest.raises(ValueError, match="at least 2 points and 1 frame"):
            loop(jnp.zeros((points, 2)), frames, lerp)
    with pytest.raises(TypeError, match="a Painter has no styles"):
        interpolate(Painter(), {}, jnp.zeros((2, 1, 3)), 2, "w")


# --- directions ------------------------------------------------------------------------------------------------------


def test_directions_are_right_singular_vectors():
    a = NUMPY.normal(size=(30, 7)) * np.arange(1, 8)
    n, values = directions(a, 7)
    _, singular, vectors = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose(values, singular**2)
    np.testing.assert_allclose(np.abs(np.sum(n * vectors, axis=1)), 1)
    assert (np.take_along_axis(n, np.abs(n).argmax(1, keepdims=True), 1) > 0).all()
    np.testing.assert_allclose(directions(a, 3)[0], n[:3])
    for count in (0, 8):
        with pytest.raises(ValueError, match=f"{count} directions: latents of 7 numbers have 1 to 7"):
            directions(a, count)


class Linear(nn.Module):
    """Latents to pixels by a matrix, beside a label that moves them too."""

    @nn.compact
    def __call__(self, z, label):
        offset = nn.Dense(16, name="label")(jax.nn.one_hot(label, 3))
        return nn.Dense(16, name="image")(z) + offset


@dataclasses.dataclass(frozen=True)
class LinearModel:
    network: Linear = Linear()
    image_shape: tuple[int, int, int] = (4, 4, 1)
    latent_dim: int = 5

    def generate(self, nets, z, conditions):
        return self.network.apply(nets["network"], z, conditions["label"]).reshape(-1, 4, 4, 1)


@pytest.mark.slow
def test_the_first_direction_changes_the_image_the_most():
    """Of a generator that is one matrix: by the root of its eigenvalue, more than 200 random directions."""
    model = LinearModel()
    nets = {"network": model.network.init(KEY, jnp.zeros((1, 5)), jnp.zeros(1, jnp.int32))}
    conditions = {"label": jnp.array([1])}
    a = latent_weights(model, nets, conditions)
    np.testing.assert_allclose(a, nets["network"]["params"]["image"]["kernel"].T, atol=1e-6)
    n, values = directions(a, 5)

    def change(n):
        z = moved(jnp.zeros(5), n, jnp.array([0.0, 2.0])).reshape(-1, 5)
        still, moving = model.generate(nets, z, {"label": jnp.ones(len(z), int)}).reshape(len(n), 2, -1).swapaxes(0, 1)
        return np.linalg.norm(moving - still, axis=1)

    np.testing.assert_allclose(change(n), 2 * np.sqrt(values), rtol=1e-4)
    random = NUMPY.normal(size=(200, 5))
    assert change(random / np.linalg.norm(random, axis=1, keepdims=True)).max() < change(n)[0]


WEIGHTS = {
    "dcgan": lambda params: params["Dense_0"]["kernel"],
    "cgan": lambda params: params["latent"]["kernel"],
    "sngan": lambda params: params["project"]["kernel"],
    "r3gan": lambda params: params["Linear_0"]["kernel"][:5],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "r3gan")) for n in WEIGHTS])
def test_the_layer_that_meets_the_latent_is_found(name):
    """By the latent's way through it: the label may come first, and may be joined with it."""
    nets = networks(name)
    a = latent_weights(MODELS[name], nets, {"label": jnp.array([1])})
    np.testing.assert_allclose(a, WEIGHTS[name](nets["generator"]["params"]).T, atol=1e-5)


@pytest.mark.slow
def test_standing_statistics_and_spectral_norms_are_seen_through():
    """A is that of the base's part of the latent, divided by its spectral norm."""
    small = {"width": 4, "multipliers": (1, 1)}
    model = BigGAN(
        (8, 8, 2),
        biggan_networks.Generator(**small, shared_dim=4, attention=0, start="normal"),
        biggan_networks.Discriminator(**small, halvings=1, attention=0, start="normal"),
        latent_dim=6, num_classes=3, standing_batches=2,
    )  # fmt: skip
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": jnp.zeros((2, 8, 8, 2)), "label": jnp.zeros(2, jnp.int32)})
    a = np.asarray(latent_weights(model, nets, {"label": jnp.array([1])}))
    kernel = np.asarray(nets["generator"]["params"]["project"]["kernel"])
    assert (a[:, 3:] == 0).all()
    np.testing.assert_allclose(a[:, :3], kernel.T / np.linalg.norm(kernel, 2), rtol=1e-3, atol=1e-5)


def test_weights_of_styles_are_those_of_the_layers_chosen():
    model, nets = styled()
    synthesis = nets["generator"]["params"]["synthesis"]
    layers = {0: ["conv_0"], 1: ["image_0", "conv_1"], 2: ["conv_2"], 3: ["image_1"]}  # in the order of Figure 7b
    for chosen in ([1], [0, 3], range(4)):
        a = np.asarray(style_weights(model, nets, 6, chosen))
        wanted = [synthesis[name]["style"]["kernel"].T / math.sqrt(6) for layer in chosen for name in layers[layer]]
        np.testing.assert_allclose(a.T @ a, sum(w.T @ w for w in wanted), atol=1e-4)
        assert len(a) == sum(len(synthesis[name]["style"]["bias"]) for names in layers.values() for name in names)


def test_styles_move_in_the_layers_chosen():
    points = moved(jnp.zeros((4, 3)), np.eye(3)[:2], jnp.array([-1.0, 0.0, 2.0]), [1, 2])
    assert points.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(points[1, 2], [[0, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, 0]])
    assert (moved(jnp.zeros((4, 3)), np.eye(3)[:1], jnp.array([1.0]))[0, 0, :, 0] == 1).all()


# --- projection ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recovered():
    """(targets that the model made, what was found for them)"""
    (model, nets), (styles, images) = styled(), methods()
    target = images(styles(jax.random.normal(jax.random.key(5), (2, 4))))
    assert abs(target).max() < 1
    distance = distance_of("pixels", model.image_shape, None)
    return target, project(model, nets, target, distance, KEY, steps=300, quiet=True)


def test_an_image_of_the_model_is_recovered(recovered):
    target, found = recovered
    assert (found.distance < 1e-3 * found.start).all() and (found.start > 1e-4).all()
    np.testing.assert_allclose(found.distance, jnp.mean((found.image - target) ** 2, axis=(1, 2, 3)), rtol=1e-3)
    assert found.w.shape == (2, 4, 6) and (found.w == found.w[:, :1]).all()


@pytest.mark.slow
def test_each_image_is_searched_for_by_itself(recovered):
    target, found = recovered
    model, nets = styled()
    distance = Partial(lambda weight, a, b: weight * jnp.mean((a - b) ** 2, axis=(1, 2, 3)), jnp.ones(()))
    other = project(model, nets, target[::-1], distance, KEY, steps=300, quiet=True)
    np.testing.assert_allclose(other.start, found.start[::-1], rtol=1e-5)
    assert (other.distance < 1e-3 * other.start).all()


@pytest.mark.slow
def test_the_search_begins_at_the_mean_of_the_class():
    (model, nets), (styles, _) = styled(3), methods(3)
    z = jax.random.normal(jax.random.key(9), (4000, 4))
    for label in (0, 2):
        w = np.asarray(styles(z, jnp.full(4000, label))[:, 0])
        mean, sigma = style_statistics(model, nets, KEY, label)
        np.testing.assert_allclose(mean, w.mean(0), atol=0.1)
        np.testing.assert_allclose(sigma, math.sqrt(np.mean(np.sum((w - w.mean(0)) ** 2, axis=1))), rtol=0.05)
    assert abs(style_statistics(model, nets, KEY, 0)[0] - mean).max() > 0.1


def test_schedules_of_the_paper():
    """Of 1,000 steps: up over 50, down over the last 250; noise 0.05 at first and none after 750."""
    np.testing.assert_allclose([learning_rate(t) for t in (0, 0.025, 0.05, 0.75, 0.875)], [0, 0.5, 1, 1, 0.5])
    assert learning_rate(0.999) < 1e-4
    np.testing.assert_allclose([noise_strength(t) for t in (0, 0.375, 0.75, 1)], [0.05, 0.0125, 0, 0])


def test_bad_targets_and_settings_are_refused():
    model, nets = styled()
    distance = distance_of("pixels", model.image_shape, None)
    for shape in ((1, 8, 8, 1), (8, 8, 3), (0, 8, 8, 3)):
        with pytest.raises(ValueError, match=r"must be \[n, \*\(8, 8, 3\)\]"):
            project(model, nets, jnp.zeros(shape), distance, KEY)
    for wrong in ({"steps": 0}, {"rate": 0.0}, {"rate": math.nan}):
        with pytest.raises(ValueError, match="at least one step, and a rate above 0"):
            project(model, nets, jnp.zeros((1, 8, 8, 3)), distance, KEY, **wrong)


@pytest.mark.slow
def test_distances_by_name():
    """Each is 0 of equal images, positive of others, and has a gradient; grey is taken for colour."""
    a, b = jax.random.uniform(KEY, (2, 3, 8, 8, 1), minval=-1)
    for word in ("pixels", "random"):
        distance = distance_of(word, (8, 8, 1), None)
        assert distance(a, b).shape == (3,) and (distance(a, b) > 1e-6).all() and (distance(a, a) == 0).all()
        gradient = jax.grad(lambda a, distance=distance: distance(a, b).sum())(a)
        assert np.isfinite(gradient).all() and abs(gradient).max() > 0
    np.testing.assert_allclose(distance_of("pixels", (8, 8, 1), None)(a, b), ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-6)
    for word, words in (("lpips:alex", "must be lpips:alex"), ("near", "no extractor 'near'")):
        with pytest.raises(ValueError, match=words):
            distance_of(word, (8, 8, 1), None)
    with pytest.raises(ValueError, match="these have 4 channels"):
        distance_of("random", (8, 8, 4), None)


@pytest.mark.slow
def test_lpips_by_name(tmp_path):
    """That of `metrics.features.lpips`, at random weights in files."""
    from imagegen_jax.metrics.features import lpips

    weights = {n: NUMPY.uniform(0, 0.1, s).astype(np.float32) for n, s in lpips.shapes("alex").items()}
    np.savez(tmp_path / "tower.npz", **{n: x for n, x in weights.items() if n.startswith("features")})
    np.savez(tmp_path / "heads.npz", **{n: x for n, x in weights.items() if n.startswith("lin")})
    word = f"lpips:alex,{tmp_path / 'tower.npz'},{tmp_path / 'heads.npz'}"
    a, b = jax.random.uniform(KEY, (2, 1, 32, 32, 3), minval=-1)
    found = distance_of(word, (32, 32, 3), None)(a, b)
    np.testing.assert_allclose(found, lpips.distance("alex", weights, a, b), rtol=1e-5)
    with pytest.raises(ValueError, match="31 pixels or more"):
        distance_of(word, (16, 16, 3), None)
