"""Checkpoints that the authors' classes wrote: after import the same outputs, in a run that samples."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.diffusion.process.denoiser import c_noise
from imagegen_jax.interop.kinds import import_checkpoint

LABELS = jnp.array([2, 0])


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/official_files.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def imported(reference, tmp_path_factory):
    """A function that imports one of the files, once, and returns the run and what the authors' classes gave."""

    @functools.cache
    def found(kind, name):
        place = tmp_path_factory.mktemp(name)
        values = {key.removeprefix(f"{name}/"): x for key, x in reference.items() if key.startswith(f"{name}/")}
        (place / "network.pkl").write_bytes(values.pop("file").tobytes())
        return import_checkpoint(kind, place / "network.pkl", place / "run"), values

    return found


def near(found, wanted, relative=1e-5):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=relative * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stylegan2_classes", "stylegan2_plain"])
def test_a_stylegan2_makes_the_same_images_and_logits(imported, name):
    run, wanted = imported("stylegan2-ada", name)
    model, nets = run.experiment.model, run.nets
    label = LABELS if model.num_classes else None

    @official.jit
    def images(nets, z):
        return model.synthesise(nets, model.styles(nets, z, label, 0.7))

    near(images(nets, wanted["z"]), official.last(wanted["images"]))
    labels = jax.nn.one_hot(LABELS, 3) if model.num_classes else None
    judge = official.jit(model.discriminator.apply)
    params = {"params": nets["discriminator"]["params"]}
    near(judge(params, official.last(wanted["judged"]), labels), wanted["logits"][:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edm", "edm_ddpmpp"),
        ("edm", "edm_ncsnpp"),
        ("edm", "edm_adm"),
        ("edm2", "edm2_pixels"),
        ("edm2", "edm2_latents"),
    ],
)
def test_a_denoiser_makes_the_same_estimates(imported, kind, name):
    run, wanted = imported(kind, name)
    model, nets = run.experiment.model, run.nets
    conditions = {"label": LABELS} if model.num_classes else {}

    @official.jit
    def denoised(nets, x, sigma):
        return model.denoiser(nets, conditions)(x, sigma)

    near(denoised(nets, official.last(wanted["x"]), wanted["sigma"]), official.last(wanted["denoised"]))
    if "logvar" in wanted:
        near(model.uncertainty.apply(nets["uncertainty"], c_noise(wanted["sigma"])), wanted["logvar"])
