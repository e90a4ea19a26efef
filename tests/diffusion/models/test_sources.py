"""Diffusion by an image that is given: the source reaches the network in training, sampling and guidance."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import imagegen_jax as ig
from imagegen_jax import cli
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.model import Inputs, condition_rows
from imagegen_jax.core.optim import SGD
from imagegen_jax.data import Digits, Lowered
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import EDMAugment
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.progressive import Progressive
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.edm2 import EDM2UNet
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.nn.resample import with_source

jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # to compile takes all the time
KEY = jax.random.key(0)
SMALL = {"width": 8, "multipliers": (1,), "blocks": 1, "attention_at": (), "dtype": "float32"}
NETWORKS = [
    UNet(**SMALL),
    DiT(2, 1, 16, 2, dtype="float32"),
    pytest.param(ADM(**SMALL, head_channels=None, heads=1), marks=pytest.mark.slow),
    pytest.param(SongUNet(**SMALL), marks=pytest.mark.slow),
    pytest.param(EDM2UNet(**SMALL, head_channels=8), marks=pytest.mark.slow),
]


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_source_is_enlarged_and_seen_beside_the_image():
    x, source = jnp.zeros((1, 4, 4, 1)), jnp.array([[0.0, 1.0], [0.0, 1.0]])[None, ..., None]
    found = with_source(x, source)
    assert found.shape == (1, 4, 4, 2) and (found[..., :1] == x).all()
    np.testing.assert_allclose(found[0, :, :, 1], np.tile([0, 0.25, 0.75, 1], (4, 1)), atol=1e-6)
    assert with_source(x, None) is x


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_a_network_sees_its_source(network):
    """Of any channels, which are the inputs of the first layer alone; a row sees its own."""
    x, t = jax.random.normal(KEY, (2, 4, 4, 1)), jnp.array([0.3, 0.7])
    source = jax.random.normal(jax.random.key(1), (2, 2, 2, 3))
    init = functools.partial(network.init, KEY)
    shapes, without = (jax.eval_shape(init, x, t, Conditioning(source=given))["params"] for given in (source, None))
    differ = [
        "/".join(key.key for key in path)
        for (path, one), other in zip(jax.tree.leaves_with_path(shapes), jax.tree.leaves(without), strict=True)
        if one.shape != other.shape
    ]
    assert differ in (["conv_in/kernel"], ["patch/kernel"])
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape, np.float32), shapes)
    constants = {"f": np.ones(8, np.float32), "phi": np.zeros(8, np.float32)}
    variables = {"params": params, "constants": {"fourier": constants}}
    apply = jit(lambda source: network.apply(variables, x, t, Conditioning(source=source)))
    change = np.abs(apply(np.array([-1, 1]).reshape(-1, 1, 1, 1) * source) - apply(source)).max(axis=(1, 2, 3))
    assert change[0] > 1e-3 and change[1] < 1e-6


# --- models ----------------------------------------------------------------------------------------------------------


class Copies(nn.Module):
    """Takes the source for the image."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        nothing = self.param("nothing", nn.initializers.zeros, ())
        return with_source(jnp.zeros_like(x), conditioning.source)[..., 1:] + nothing * x


class CopiesNoise(nn.Module):
    """Puts out the noise that there is beside the source, and the least variance."""

    schedule: LinearSchedule
    learned_variance: bool = True

    @nn.compact
    def __call__(self, x, t, conditioning):
        nothing = self.param("nothing", nn.initializers.zeros, ())
        alpha_bar = jnp.asarray(self.schedule.alpha_bar, jnp.float32)
        alpha_bar = alpha_bar[jnp.round(t * self.schedule.steps / 1000).astype(int)][:, None, None, None]
        epsilon = (x - jnp.sqrt(alpha_bar) * conditioning.source) / jnp.sqrt(1 - alpha_bar)
        return jnp.concatenate([epsilon, nothing - jnp.ones_like(x)], axis=-1)


COPIES = Diffusion(Copies(), "x0", levels=Karras(4), image_shape=(8, 8, 1), source_shape=(8, 8, 1))
SCHEDULE = LinearSchedule(20, 1e-3, 0.3)
NOISY = ImprovedDDPM(CopiesNoise(SCHEDULE), SCHEDULE, (8, 8, 1), source_shape=(8, 8, 1))


@pytest.mark.slow
@pytest.mark.parametrize("model", [COPIES, NOISY], ids=["Diffusion", "ImprovedDDPM"])
def test_whoever_copies_the_source_has_no_loss_and_draws_it(model):
    """Where each image is its own source: in the loss, by `sample`, and by the denoiser along the path."""
    image = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)
    batch, source = {"image": image, "source": image}, image[::-1]

    @jit
    def run(keys):
        nets = model.init(KEY, batch)
        drawn = model.path.draw(model.denoiser(nets, {"source": source}), source.shape, KEY)
        loss, aux = model.loss(nets, Inputs(batch, KEY, keys, jnp.int32(0), {}))
        return loss - 0.001 * aux.metrics.get("vlb", 0), model.sample(nets, KEY, 3, {"source": source}), drawn

    loss, *drawn = run(jax.random.split(KEY, 3))
    assert float(loss) < 1e-5
    for found in drawn:
        np.testing.assert_allclose(found, source, atol=1e-3)


def test_guidance_leaves_the_source_to_both():
    model = dataclasses.replace(COPIES, num_classes=2, label_dropout=0.1)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)).astype(np.float32)
    given = {"image": image, "source": image, "label": np.array([0, 1])}
    drawn = jit(lambda scale: model.sample(model.init(KEY, given), KEY, 2, given | {"guidance": scale}))(3.0)
    np.testing.assert_allclose(drawn, image, atol=1e-4)


def test_models_of_models_are_made_from_the_same():
    assert condition_rows(Guided(COPIES, COPIES)) == condition_rows(COPIES) != {}
    assert condition_rows(Progressive()) == {}
    progressive = Progressive(dataclasses.replace(Progressive().diffusion, source_shape=(4, 4, 3)))
    assert condition_rows(progressive)["source"].shape == (4, 4, 3)


@pytest.mark.parametrize("shape", [(8, 9, 1), (0, 8, 1), (8, 8, 0)])
def test_sources_larger_than_images_are_refused(shape):
    for model in (COPIES, NOISY):
        with pytest.raises(ValueError, match="model.source_shape=.* at most those of the images"):
            dataclasses.replace(model, source_shape=shape).init(KEY, {"image": jnp.zeros((1, 8, 8, 1))})


def test_what_is_missing_or_does_not_go_together_is_refused():
    image = jnp.zeros((2, 8, 8, 1))
    nets = {"network": {"params": {"nothing": jnp.zeros(())}}}
    for model in (COPIES, NOISY):
        for call in (
            lambda model, keys: model.init(KEY, {"image": image}),
            lambda model, keys: model.loss(nets, Inputs({"image": image}, KEY, keys, jnp.int32(0), {})),
            lambda model, keys: model.sample(nets, KEY, 2, {}),
            lambda model, keys: model.denoiser(nets, {}),
        ):
            with pytest.raises(ValueError, match=f"a {type(model).__name__} makes images from 'source', which is not"):
                jax.eval_shape(functools.partial(call, model), jax.random.split(KEY, 2))
        with pytest.raises(ValueError, match="'source' has rows of 4x4x1"):
            model.init(KEY, {"image": image, "source": image[:, :4, :4]})
    with pytest.raises(ValueError, match="the source would stay as it was while its image is moved"):
        Diffusion(SongUNet(), augment=EDMAugment(), source_shape=(8, 8, 3))


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of a model that enlarges 4x4 digits, pixel by pixel, and learns nothing."""
    model = dataclasses.replace(COPIES, source_shape=(4, 4, 1))
    experiment = ig.Experiment(
        "enlarges", model, Lowered(Digits()), {"network": SGD(0.0)}, batch_size=8, steps=1, samples=4, log_every=1
    )
    return ig.fit(experiment, tmp_path_factory.mktemp("run") / "run", quiet=True)


def test_runs_draw_from_what_is_given_or_from_the_data(run):
    """The grid of training has source, sample and image side by side; the source's pixels are squares of pixels."""
    sources = run.experiment.data.open().batch(3, 5)["source"]
    drawn = run.sample(5, source=sources)
    size = (5, 8, 8, 1)
    np.testing.assert_allclose(drawn, jax.image.resize(jnp.float32(sources), size, "bilinear"), atol=1)
    first = run.experiment.data.open().batch(0, 4)
    expected = jax.image.resize(jnp.float32(first["source"]), (4, 8, 8, 1), "bilinear")
    np.testing.assert_allclose(run.sample(4), expected, atol=1)
    cell = np.asarray(Image.open(run.workdir / "samples" / "00000001.png"))[2:10, 2:26]
    np.testing.assert_array_equal(cell[::2, :8:2], first["source"][0, :, :, 0])
    np.testing.assert_array_equal(cell[:, 16:], first["image"][0, :, :, 0])


def test_the_command_line_enlarges_a_file(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run_options, "load", lambda name, modules, step=None: run)
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    Image.fromarray(pixels).save(tmp_path / "small.png")
    out = tmp_path / "large.npz"
    cli.main(["sample", "run", "--source", str(tmp_path / "small.png"), "--out", str(out)])
    found = np.load(out)["arr_0"]
    expected = jax.image.resize(jnp.float32(pixels), (8, 8), "bilinear")
    assert found.shape == (1, 8, 8, 1)
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1)
    cli.main(["sample", "run", "--source", str(tmp_path / "small.png"), "--out", str(tmp_path / "large.png")])
    assert "1 images in" in capsys.readouterr().out
