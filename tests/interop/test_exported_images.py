"""Exports to diffusers: its pipeline draws our images from them. Called with a folder, this file writes that export."""

from __future__ import annotations

import hashlib
import math
import pathlib
import sys
import tempfile

import drawn_weights
import jax
import numpy as np
import pytest
from official import jit

from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.interop.diffusers_config import abstract_parameters
from imagegen_jax.interop.exports.export import export_run
from imagegen_jax.interop.importing import Published, write_run
from imagegen_jax.nn.backbones.unet import UNet

MODEL = DDPM(UNet(128, (1, 1), 1, (4,), 0.0), sampler=DDIM(5, clipped_noise=False), image_shape=(8, 8, 3))
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def drawn_run(folder):
    """A run whose weights follow from their paths."""

    def drawn(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        scale = 0.5 / math.sqrt(math.prod(leaf.shape[:-1]))
        return np.float32(drawn_weights.normal(name, leaf.shape) * scale + name.endswith("scale"))

    params = jax.tree_util.tree_map_with_path(drawn, abstract_parameters(MODEL.network, MODEL.image_shape))
    return write_run(folder, "drawn", Published(MODEL, {"network": {"params": params}}, {}))


@pytest.mark.slow
def test_diffusers_draws_our_images_from_an_export(root, tmp_path):
    """The export is the one that diffusers drew from, byte for byte, and its images are ours to 1e-5."""
    run = drawn_run(tmp_path / "run")
    folder = export_run(run, "diffusers", tmp_path / "out")
    with np.load(root / "tests/reference/exports.npz") as arrays:
        stored = dict(arrays)
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        assert (folder / name).read_text() == str(stored[name])
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == str(stored["sha256"])
    path = run.experiment.model.path

    @jit
    def draw(nets, x):
        start = x * math.sqrt(1 + path.sigmas[0] ** 2)
        return path.solver(run.experiment.model.denoiser(nets, {}), path.sigmas, start, jax.random.key(0))

    images = np.clip(np.asarray(draw(run.nets, stored["x"].transpose(0, 2, 3, 1))) / 2 + 0.5, 0, 1).transpose(
        0, 3, 1, 2
    )
    assert 0.3 < np.mean((images > 0) & (images < 1))
    np.testing.assert_allclose(images, stored["images"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(images, stored["images_double"], rtol=0, atol=1e-5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        export_run(drawn_run(pathlib.Path(place) / "run"), "diffusers", pathlib.Path(sys.argv[1]))
