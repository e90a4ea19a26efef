"""Models in the space of an autoencoder's latents: images or latents in, images out, the same for every model."""

from __future__ import annotations

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Quarters

import imagegen_jax as ig
from imagegen_jax.core.arrays import autoencoding
from imagegen_jax.core.arrays.measured import with_measures
from imagegen_jax.core.arrays.space import Latents, sample_shape
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.model import Inputs, frozen_networks
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.program import Program
from imagegen_jax.core.run_folder import RunFolderError
from imagegen_jax.core.source import Measured
from imagegen_jax.core.state import create, enter, networks
from imagegen_jax.data import Latents as LatentFiles
from imagegen_jax.data import Posterior, from_arrays
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.diffusion.models.progressive import Progressive
from imagegen_jax.diffusion.models.scm import SCM
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.diffusion.sampling.levels import Karras, Listed, ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 4)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
X = jnp.asarray(IMAGES[:4] / 127.5 - 1, jnp.float32)
FIRST = Quarters(deviation=0.25)
SPACE = Latents(0.5, (0.1, 0.2, -0.3, 0.0))
WITH = dataclasses.replace(SPACE, autoencoder=FIRST)
WEIGHTS = FIRST.init_autoencoder(KEY)
SHAPE = FIRST.latent_shape


class Scaled(nn.Module):
    """A network of one number a channel."""

    features: int = 4

    @nn.compact
    def __call__(self, x, t, conditioning):
        scale = self.param("scale", nn.initializers.constant(0.3), (4,))
        found = jnp.sin(scale * x) + 0.1 * t.reshape(-1, 1, 1, 1)
        return jnp.concatenate([found] * (self.features // 4), axis=-1)


EDM = Diffusion(Scaled(), levels=Karras(4, 0.1, 5.0), image_shape=SHAPE, space=SPACE)
FLOW = dataclasses.replace(
    EDM, prediction="velocity", process=RectifiedFlow(), times=Uniform(), levels=ShiftedFlow(3), solver=Euler()
)
MODELS = {
    "edm": EDM,
    "flow": FLOW,
    "ddpm": DDPM(Scaled(), LinearSchedule(20), DDIM(3), SHAPE, space=SPACE),
    "improved": ImprovedDDPM(Scaled(8), LinearSchedule(20), SHAPE, sampling_steps=3, space=SPACE),
    "meanflow": MeanFlow(Scaled(), image_shape=SHAPE, num_classes=0, label_dropout=0.0, space=SPACE),
    "consistency": Consistency(Scaled(), Listed((80.0, 1.0)), SHAPE, space=SPACE),
    "scm": SCM(Scaled(), image_shape=SHAPE, space=SPACE),
    "progressive": Progressive(
        dataclasses.replace(EDM, solver=Euler(), levels=Listed((4.0, 2.0, 1.0, 0.5))), halvings=1, halve_every=5
    ),
}


def decoded(model):
    """The model in the same space, with the autoencoder."""
    if isinstance(model, Progressive):
        return dataclasses.replace(model, diffusion=decoded(model.diffusion))
    return dataclasses.replace(model, space=WITH)


@pytest.mark.parametrize("name", MODELS)
def test_any_model_of_latents_draws_images_with_their_autoencoder(name):
    """Its loss of images is that of draws of their latents, its samples what is decoded of latents that it draws."""
    plain, model = MODELS[name], decoded(MODELS[name])
    assert sample_shape(plain) == SHAPE and sample_shape(model) == (8, 8, 1)
    assert frozen_networks(model) == ("autoencoder",) and frozen_networks(plain) == ()
    batch = {"image": X}
    nets = autoencoding.init(model, KEY, model.init(KEY, autoencoding.example(model, batch)))
    seen = autoencoding.drawn_latents(model, nets, batch, KEYS)
    noise = seen["image"] - FIRST.encode(nets, X).mean
    assert noise.std() == pytest.approx(0.25, rel=0.15) and set(seen) == {"image"}

    def loss(one):
        phase = one.phases(1)[0]
        return float(phase.loss(nets, Inputs(seen, KEY, KEYS, jnp.int32(0), nets))[0])

    assert loss(model) == pytest.approx(loss(plain), rel=1e-6)
    found, latents = (one.sample(nets, KEY, 2, {}) for one in (model, plain))
    assert found.shape == (2, 8, 8, 1) and latents.shape == (2, *SHAPE)
    np.testing.assert_allclose(found, FIRST.decode(nets, latents), atol=1e-5)
    if hasattr(model, "enter"):  # a model that makes its networks anew keeps the frozen one
        state = enter(model, lambda nets: create(nets, {}, {}), 1, create(nets, {}, {}))
        assert networks(state)["autoencoder"] == nets["autoencoder"]


def test_images_are_encoded_in_parts_as_they_are_together():
    """Each row with its own key, in its own place; no program encodes more than a part."""
    model, counts = decoded(EDM), []

    class Counting(type(FIRST)):
        def encode(self, nets, image):
            counts.append(len(image))
            return super().encode(nets, image)

    model = dataclasses.replace(model, space=dataclasses.replace(WITH, autoencoder=Counting()))
    nets = autoencoding.init(model, KEY, {})
    whole = autoencoding.drawn_latents(model, nets, {"image": X}, KEYS)
    parts = autoencoding.drawn_latents(model, nets, {"image": X}, KEYS, parts=4)
    np.testing.assert_allclose(parts["image"], whole["image"], atol=1e-6)
    assert counts[0] == len(X) and set(counts[1:]) == {len(X) // 4}


def test_moments_are_drawn_from_without_an_autoencoder():
    """As `Posterior` does, which leaves nothing to draw; and latents alone stay as they are."""
    batch = {"image": jnp.zeros((4, *SHAPE)), "std": jnp.full((4, *SHAPE), 0.5)}
    drawn = autoencoding.drawn_latents(EDM, {}, batch, KEYS)
    assert set(drawn) == {"image"}
    np.testing.assert_array_equal(drawn["image"], Posterior()(batch, KEYS)["image"])
    assert drawn["image"].std() == pytest.approx(0.5, rel=0.15)
    assert autoencoding.drawn_latents(EDM, {}, drawn, KEYS) is drawn


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Weights of the autoencoder, and latents by them."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    ig.save_network(tmp_path / "weights.npz", WEIGHTS)
    put(tmp_path / "latents.npz")
    return tmp_path


def put(path, **changes):
    mean, std = FIRST.encode({"autoencoder": WEIGHTS}, jnp.asarray(IMAGES / 127.5 - 1, jnp.float32))
    notes = {"autoencoder": np.str_(digest_of(WEIGHTS)), "scale": np.float64(0.5), "shift": np.float64([0, 0, 0, 1])}
    np.savez(path, **({"mean": np.asarray(mean), "std": np.asarray(std)} | notes | changes))


def experiment_on(files, data, space=WITH):
    model = dataclasses.replace(EDM, space=space)
    return ig.Experiment(
        "toy", model, data, {"network": SGD(0.1)}, pretrained={"autoencoder": str(files / "weights.npz")}, batch_size=8,
        steps=3, log_every=1, samples=4, sample_every=0,
    )  # fmt: skip


def latents_of(files, **changes):
    put(files / "other.npz", **changes)
    return LatentFiles(str(files / "other.npz"))


@pytest.mark.slow
def test_training_on_latents_is_training_on_images_and_measures_stay_with_the_run(files):
    """To rounding; the numbers that a space takes from the data are those of experiment.json, and go on."""
    measured = Latents("measured", "measured", FIRST)
    on_latents = experiment_on(files, LatentFiles(str(files / "latents.npz")), measured)
    one = ig.fit(on_latents, files / "a", quiet=True)
    space = Latents(0.5, (0.0, 0.0, 0.0, 1.0), FIRST)
    assert one.experiment.model.space == space
    other = ig.fit(experiment_on(files, from_arrays(IMAGES), space), files / "b", quiet=True)
    scales = [run.state.params["network"]["scale"] for run in (one, other)]
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-5)
    assert np.abs(scales[0] - 0.3).max() > 1e-3
    assert one.state.params["autoencoder"] == WEIGHTS["params"] and (files / "a" / "frozen").is_dir()
    stored = json.loads((files / "a" / "experiment.json").read_text())["model"]["space"]
    assert stored["scale"] == 0.5 and stored["shift"] == [0, 0, 0, 1]
    drawn = one.sample(3)
    assert drawn.dtype == np.uint8 and drawn.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(ig.load(files / "a", modules=["toys", "test_autoencoding"]).sample(3), drawn)
    assert ig.fit(dataclasses.replace(on_latents, steps=4), files / "a", True, quiet=True).step == 4
    put(files / "latents.npz", scale=np.float64(0.25))
    with pytest.raises(RunFolderError, match="model.space.scale"):
        ig.fit(dataclasses.replace(on_latents, steps=4), files / "a", True, quiet=True)


def test_latents_of_another_autoencoder_are_refused(files):
    """With both fingerprints; those that do not say what made them are accepted."""
    with pytest.raises(ValueError, match=rf"latents of the autoencoder abc.*weights.npz holds {digest_of(WEIGHTS)}"):
        Program(experiment_on(files, latents_of(files, autoencoder=np.str_("abc")))).pretrained()
    silent = latents_of(files)
    with np.load(files / "other.npz") as arrays:
        moments = {name: arrays[name] for name in ("mean", "std")}
    np.savez(files / "other.npz", **moments)
    assert set(Program(experiment_on(files, silent)).pretrained()) == {"autoencoder"}


@pytest.mark.parametrize(
    ("images", "space", "said"),
    [
        (IMAGES, Latents("measured", 0.0, FIRST), "space is measured, but the data do not say .* encode"),
        (IMAGES[:, :4], WITH, "data are of 4x8x1 .* Quarters, has images of 8x8x1 and latents of 4x4x4"),
        (
            IMAGES.repeat(2, 1).repeat(2, 2),
            Latents(autoencoder=Quarters((16, 16, 1))),
            "4x4x4, but the latents of .* 8x8x4",
        ),
    ],
)
def test_data_and_autoencoders_that_do_not_go_together(files, images, space, said):
    with pytest.raises(ValueError, match=said):
        Program(experiment_on(files, from_arrays(images), space))


def test_only_what_is_to_be_measured_is_replaced():
    """However deep it lies; numbers that are given stay, and so does a model of which nothing is asked."""
    model = MODELS["progressive"]
    inner = dataclasses.replace(model.diffusion, space=Latents("measured", 3.0))
    asked = dataclasses.replace(model, diffusion=inner)
    found = with_measures(asked, Measured(2.0, (1.0,) * 4))
    assert found.space == Latents(2.0, 3.0) and with_measures(found, Measured(5.0, 5.0)) is found
    with pytest.raises(ValueError, match="says 'measured' of latents that nobody has measured: give it numbers"):
        Latents("measured").encode(jnp.zeros((1, *SHAPE)))
