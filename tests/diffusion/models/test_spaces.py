"""Edits and guides of models of latents: as of the same network on what the space makes of data; distillation, too."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Quarters

from imagegen_jax.core.arrays.space import Latents, Space, between
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.models.progressive import Progressive
from imagegen_jax.diffusion.sampling.levels import Karras, Listed
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.editing import restoration
from imagegen_jax.editing.denoiser import RePaint

KEY = jax.random.key(0)
SHAPE = (4, 4, 4)
X = 2 * jax.random.normal(jax.random.key(1), (3, *SHAPE))
PLAIN = Latents()
ALL = Latents(0.25, 3.0)
EACH = Latents((0.25, 2.0, 1.0, 4.0), (3.0, 0.0, -5.0, 1.0))
NETS = {"network": {}}


@dataclasses.dataclass(frozen=True)
class Bends:
    """A network without weights, of some effect."""

    by: float = 0.3

    def init(self, key, x, t, conditioning):
        return {}

    def apply(self, variables, x, t, conditioning):
        return self.by * jnp.sin(x + t.reshape(-1, 1, 1, 1))


@dataclasses.dataclass(frozen=True)
class Tells:
    """Logits of two classes."""

    num_classes: int = 2

    def apply(self, variables, x, t, keys):
        return jnp.stack([x.mean((1, 2, 3)), jnp.sin(x).sum((1, 2, 3))], axis=1)


def model_of(space: Space = PLAIN, by: float = 0.3) -> Diffusion:
    return Diffusion(Bends(by), levels=Karras(4, 0.1, 5.0), image_shape=SHAPE, space=space)


KNOWN = np.arange(16).reshape(4, 4, 1) % 3 > 0
EDITS = {
    "redrawn": (restoration.redrawn, {"strength": 0.5}, {}),
    "inpainted": (restoration.inpainted, {"solver": RePaint(2)}, {"known": KNOWN}),
    "filled": (restoration.filled, {"method": "pigdm"}, {"known": KNOWN, "noise": 0.1}),
    "enlarged": (restoration.enlarged, {"factor": 2, "method": "dps"}, {"noise": 0.3}),
    "deblurred": (restoration.deblurred, {"method": "pigdm"}, {"kernel": np.full((1, 3), 1 / 3), "noise": 0.2}),
    "resembling": (restoration.resembling, {"factor": 2}, {"low": 0.2}),
    "bridged": (restoration.bridged, {"strength": 1.0}, {"source": {}}),
    "coloured": (restoration.coloured, {"method": "dps"}, {"noise": 0.3}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_edits_of_latents_are_those_of_what_is_denoised(name):
    """What is given and what comes out are latents like the data; noise of what is given is measured as these are."""
    edit, settings, arrays = EDITS[name]
    x = X[:, ::2, ::2] if name == "enlarged" else X.mean(-1, keepdims=True) if name == "coloured" else X
    space = ALL if "noise" in arrays else EACH
    given = {"conditions": {}, "image": x, **arrays}
    expected = jax.jit(lambda: edit(model_of(), NETS, given, KEY, **settings))()
    moved = given | {"image": space.decode(x, NETS)}
    moved |= {"noise": arrays["noise"] / space.scale} if "noise" in arrays else {}
    found = jax.jit(lambda: edit(model_of(space), NETS, moved, KEY, **settings))()
    np.testing.assert_allclose(space.encode(found), expected, rtol=2e-3, atol=2e-3)
    assert float(jnp.abs(expected - (0 if name == "coloured" else X)).max()) > 1e-2


def test_the_noise_of_latents_leads_back_to_them():
    given = {"conditions": {}, "image": EACH.decode(X, NETS)}
    noise = restoration.inverted(model_of(EACH), NETS, given, KEY)
    expected = restoration.inverted(model_of(), NETS, {"conditions": {}, "image": X}, KEY)
    np.testing.assert_allclose(noise, expected, rtol=1e-4, atol=1e-4)
    rows = {"conditions": {}, "image": noise, "other": noise[::-1], "share": jnp.array([0.0, 0.5, 1.0])}
    found = restoration.morphed(model_of(EACH), NETS, rows, KEY)
    expected = restoration.morphed(model_of(), NETS, rows, KEY)
    np.testing.assert_allclose(EACH.encode(found), expected, rtol=1e-3, atol=1e-3)


def test_grey_of_channels_with_numbers_of_their_own_is_refused():
    given = {"conditions": {}, "image": X[..., :1], "noise": 0.1}
    with pytest.raises(ValueError, match="grey is of images whose channels are alike"):
        restoration.coloured(model_of(EACH), NETS, given, KEY, method="dps")


def test_a_guide_may_be_in_another_space():
    """By a factor and an offset: its estimates are asked for where they are made, and brought back."""
    factor, offset = between(ALL, Latents(1.0, 1.0))
    assert factor == 4 and float(np.squeeze(offset)) == 2
    assert between(EACH, EACH) == (1.0, 0.0)
    data = ALL.decode(X, NETS)
    np.testing.assert_allclose(factor * ALL.encode(data) + offset, Latents(1.0, 1.0).encode(data), rtol=1e-5)
    weak, sigma = model_of(Latents(1.0, 1.0), 0.1), jnp.array([0.2, 1.0, 3.0])
    guided = Guided(model_of(ALL), weak)
    both = guided.joined(NETS, NETS)
    good = model_of().denoiser(NETS, {})(X, sigma)
    bad = (weak.denoiser(NETS, {})(4 * X + 2, 4 * sigma) - 2) / 4
    found = guided.denoiser(both, {"guidance": 3.0})(X, sigma)
    np.testing.assert_allclose(found, bad + 3 * (good - bad), rtol=1e-4, atol=1e-4)
    drawn = guided.sample(both, KEY, 3, {"guidance": 1.0})
    np.testing.assert_allclose(drawn, model_of(ALL).sample(NETS, KEY, 3, {}), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="noise of the one is none of the other; use models of one space"):
        Guided(model_of(ALL), model_of(EACH))


def test_a_classifier_of_noisy_latents_is_in_a_space_too():
    """Its loss is that of what the space makes of data; in another space than the model's it guides all the same."""
    plain, label = NoisyClassifier(Tells(), image_shape=SHAPE), jnp.array([0, 1, 1])

    def loss(model, image):
        inputs = Inputs({"image": image, "label": label}, KEY, jax.random.split(KEY, 3), jnp.int32(0), {})
        return float(model.loss(NETS, inputs)[0])

    moved = dataclasses.replace(plain, space=EACH)
    assert loss(moved, EACH.decode(X, NETS)) == pytest.approx(loss(plain, X), rel=1e-5)
    assert loss(moved, X) != pytest.approx(loss(plain, X), rel=1e-2)
    sigma, conditions = jnp.array([0.2, 1.0, 3.0]), {"guidance": 2.0, "label": label}
    found = []
    for space, factor in ((Latents(), 1.0), (Latents(4.0), 0.25)):
        other = dataclasses.replace(plain, space=space)
        guided = Guided(model_of(Latents(4.0)), other)
        found.append(guided.denoiser(guided.joined(NETS, NETS), conditions)(X, sigma))
        log_prob, f = other.log_probability(NETS, label), 0.25 / factor
        gradient = jax.grad(lambda x, log_prob=log_prob, f=f: log_prob(f * x, f * sigma).sum())(X)
        expected = model_of().denoiser(NETS, {})(X, sigma) + 2 * sigma.reshape(-1, 1, 1, 1) ** 2 * gradient
        np.testing.assert_allclose(found[-1], expected, rtol=1e-3, atol=1e-3)
    assert float(jnp.abs(found[0] - found[1]).max()) > 1e-2


def test_models_of_latents_are_distilled():
    """A student's loss is that of what the space makes of data, and its samples are latents."""
    losses, draws = [], []
    for space in (Latents(), EACH):
        teacher = dataclasses.replace(model_of(space), solver=Euler(), levels=Listed((4.0, 2.0, 1.0, 0.5)))
        student = Progressive(teacher, halvings=1, halve_every=5)
        nets = student.init(KEY, {"image": jnp.zeros((2, *SHAPE))})
        inputs = Inputs({"image": space.decode(X, NETS)}, KEY, jax.random.split(KEY, 3), jnp.int32(0), {})
        losses.append(float(student.loss(1, nets, inputs)[0]))
        draws.append(space.encode(student.sample(nets, KEY, 3, {})))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    np.testing.assert_allclose(*draws, rtol=1e-3, atol=1e-3)
    assert float(jnp.abs(EACH.decode(draws[1], NETS)).max()) > 1


# --- with an autoencoder ---------------------------------------------------------------------------------------------

FIRST = Quarters()
IMAGES = jnp.clip(0.5 * jax.random.normal(jax.random.key(2), (3, 8, 8, 1)), -1, 1)
AND_FIRST = {"network": {}, "autoencoder": FIRST.init_autoencoder(KEY)}
HALF = np.arange(8).reshape(1, 8, 1) + np.zeros((8, 1, 1)) < 5  # two columns of cells are known, and half of a third
DECODED = {
    "redrawn": ({"strength": 0.5}, {}),
    "bridged": ({"strength": 1.0}, {"source": {}}),
}


@pytest.mark.parametrize("name", DECODED)
def test_edits_of_images_are_those_of_their_latents_decoded(name):
    settings, arrays = DECODED[name]
    edit, given = getattr(restoration, name), {"conditions": {}, **arrays}
    space = dataclasses.replace(EACH, autoencoder=FIRST)
    mean = FIRST.encode(AND_FIRST, IMAGES).mean
    expected = edit(model_of(EACH), NETS, given | {"image": mean}, KEY, **settings)
    found = edit(model_of(space), AND_FIRST, given | {"image": IMAGES}, KEY, **settings)
    np.testing.assert_allclose(found, FIRST.decode(AND_FIRST, expected), atol=1e-4)


def test_what_is_hidden_of_an_image_is_drawn_anew_by_its_latents():
    """Known pixels stay, nothing that is hidden shows; cells of the grid are known where all of their pixels are."""
    model = model_of(dataclasses.replace(EACH, autoencoder=FIRST))
    draw = lambda image: restoration.inpainted(  # noqa: E731
        model, AND_FIRST, {"conditions": {}, "image": image, "known": HALF}, KEY, solver=RePaint(1)
    )
    found, other = draw(IMAGES), draw(jnp.where(HALF, IMAGES, 1.0))
    np.testing.assert_array_equal(found, other)
    np.testing.assert_array_equal(jnp.where(HALF, found, 0), jnp.where(HALF, IMAGES, 0))
    cells = restoration._whole_cells(model, HALF)
    np.testing.assert_array_equal(cells[..., 0], np.arange(4)[None].repeat(4, 0) < 2)


@pytest.mark.parametrize("name", ["filled", "enlarged", "deblurred", "resembling", "coloured"])
def test_what_is_said_of_pixels_is_refused_of_latents(name):
    edit, settings, arrays = EDITS[name]
    model, given = model_of(dataclasses.replace(EACH, autoencoder=FIRST)), {"conditions": {}, "image": IMAGES, **arrays}
    given |= {"known": HALF} if "known" in arrays else {}
    with pytest.raises(ValueError, match="of an autoencoder's latents cannot follow .* inpaint .* work with this one"):
        edit(model, AND_FIRST, given, KEY, **settings)
