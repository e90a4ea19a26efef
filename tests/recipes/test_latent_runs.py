"""A run of a model of latents from data to samples: raw latents in, float32 latents out, never clipped; old folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.core.arrays.space import Latents as LatentSpace
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Latents, Posterior
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.metrics.sets import SampleSet, source_set
from imagegen_jax.nn.backbones.dit import DiT

RNG = np.random.RandomState(0)
SHIFT, SCALE = (20.0, 0.0, -7.0, 1.0), (0.1, 2.0, 1.0, 5.0)
MEAN = RNG.standard_normal((12, 8, 8, 4)).astype(np.float32) / np.array(SCALE, np.float32) + np.array(SHIFT, np.float32)
STD = np.full(MEAN.shape, 0.01, np.float32)
LABEL = np.arange(12) % 3


def experiment_on(path, space, scale=1.0):
    """Two steps of a small DiT; samples of two steps."""
    model = Diffusion(DiT(2, 1, 16, 2), image_shape=(8, 8, 4), num_classes=3, sigma_data=1.0, space=space)
    return ig.Experiment(
        name="latents",
        model=ig.override(model, {"levels.steps": 2}),
        data=Latents(str(path), scale),
        augment=(Posterior(),),
        optim={"network": Adam(1e-3)},
        averages={"ema": FixedDecay(0.9)},
        batch_size=8,
        steps=2,
        sample_every=1,
        samples=3,
        log_every=1,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on latents whose channels differ much."""
    folder = tmp_path_factory.mktemp("latents")
    np.savez(folder / "a.npz", mean=MEAN, std=STD, label=LABEL)
    return ig.fit(experiment_on(folder / "a.npz", LatentSpace(SCALE, SHIFT)), folder / "run", quiet=True)


@pytest.mark.slow
def test_samples_are_latents_unclipped(run, imagegen, tmp_path, monkeypatch):
    """By fit, by load and by the command the same; each channel where the data have it, far beyond [-1, 1]."""
    drawn = run.sample(6, [0, 1, 2, 0, 1, 2], seed=7)
    assert drawn.dtype == np.float32 and drawn.shape == (6, 8, 8, 4)
    assert np.abs(drawn).max() > 10
    np.testing.assert_allclose(drawn.mean((0, 1, 2)), SHIFT, atol=8)
    found = drawn.std((0, 1, 2)) * np.array(SCALE)
    assert found.max() / found.min() < 3  # what is denoised is alike in all channels, unlike the latents
    np.testing.assert_array_equal(ig.load(run.workdir).sample(6, [0, 1, 2, 0, 1, 2], seed=7), drawn)
    monkeypatch.chdir(tmp_path)
    for name in ("x.npz", "x.npy"):
        code, _, said = imagegen("sample", run.workdir, "--n", 6, "--seed", 7, "--out", name)
        assert code == 0, said
    with np.load("x.npz") as arrays:
        saved, labels = arrays["arr_0"], arrays["arr_1"]
    assert saved.dtype == np.float32 and labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(saved, np.load("x.npy"))
    np.testing.assert_array_equal(saved, run.sample(6, [0, 0, 1, 1, 2, 2], seed=7))


@pytest.mark.slow
def test_pictures_health_and_what_is_refused(run, imagegen, tmp_path):
    """Grids have three channels; latents are not called saturated; no metric and no file of images is of latents."""
    pictures = sorted((run.workdir / "samples").glob("*.png"))
    assert len(pictures) == 2 and {Image.open(path).mode for path in pictures} == {"RGB"}
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line}
    assert "samples/diversity" in names and not {"samples/saturated", "samples/saturated_data"} & names
    with pytest.raises(ValueError, match="draws latents, and metrics are of images"):
        SampleSet(run, 4)
    with pytest.raises(ValueError, match="wanted .n h w c. of uint8, .*; latents are decoded first"):
        source_set(run.experiment.data)
    with pytest.raises(ValueError, match="latents are decoded first"):  # before anything is trained
        ig.fit(ig.override(run.experiment, {"evaluation": Evaluate()}), tmp_path / "other", quiet=True)
    Image.new("RGBA", (8, 8)).save(tmp_path / "a.png")
    code, _, said = imagegen(
        "edit", "redraw", run.workdir, tmp_path / "a.png", "--labels", 0, "--out", tmp_path / "b.png"
    )
    assert code == 1 and "is of a model of latents, which no image file holds" in said
    with pytest.raises(ValueError, match="8x8x4 .*model.image_shape=4x4x4"):
        ig.Program(ig.override(run.experiment, {"model.image_shape": (4, 4, 4)}))


@pytest.mark.slow
def test_a_folder_of_the_version_before(run, tmp_path):
    """Its experiment.json has a gain, its data a scale: it loads, draws the same, and is gone on with."""
    np.savez(tmp_path / "a.npz", latent=MEAN, label=LABEL)
    experiment = experiment_on(tmp_path / "a.npz", LatentSpace(5.0), scale=0.02)
    new = ig.fit(experiment, tmp_path / "run", quiet=True)
    drawn = new.sample(3, [0, 1, 2])
    path = tmp_path / "run" / "experiment.json"
    stored = json.loads(path.read_text())
    assert stored["model"].pop("space")["scale"] == 5.0
    stored["model"]["gain"] = 5.0
    path.write_text(json.dumps(stored))
    old = ig.load(tmp_path / "run")
    assert old.experiment == experiment
    np.testing.assert_array_equal(old.sample(3, [0, 1, 2]), drawn)
    assert ig.fit(experiment, tmp_path / "run", quiet=True).step == 2
    assert "space" in json.loads(path.read_text())["model"]
