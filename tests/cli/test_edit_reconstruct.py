"""`imagegen edit reconstruct` with a tokenizer whose codes are known, and with a VAE."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toys import Levels, Regression, codes_of, pictures, tokenizer_run

from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.cli.edit import reconstructing
from imagegen_jax.cli.edit.reconstructing import ReconstructRequest
from imagegen_jax.core.drawing.grid import beside, grid, magnified
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.core.provenance.xmp import COMPOSITE
from imagegen_jax.editing.encoding import finite_psnr, reconstructed


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two images as files, and the run that every request names."""
    monkeypatch.setattr(run_options, "load", lambda *_, **__: tokenizer_run(tmp_path))
    for i, image in enumerate(pictures(2)):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
    return tuple(str(tmp_path / f"{i}.png") for i in range(2))


def test_images_stand_beside_what_their_codes_say(photos, tmp_path, capsys):
    place = reconstructing.reconstruct(ReconstructRequest("run", images=photos, out=tmp_path / "out.png"))
    images = pictures(2)
    made = (85 * codes_of(images)[..., None]).astype(np.uint8)
    picture = magnified(grid(beside(images, made), 1), 2)
    np.testing.assert_array_equal(np.asarray(Image.open(place)), picture[..., 0])
    ratios = 10 * np.log10(255**2 / ((images - made.astype(float)) ** 2).mean((1, 2, 3)))
    said = f"2 images in {place}; PSNR {ratios.mean():.2f} dB ({ratios.min():.2f} to {ratios.max():.2f})"
    assert said in capsys.readouterr().out
    assert read_said(place).source_type == COMPOSITE  # since images were given


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": 3}, "--seed 3: a reconstruction follows from the image alone"),
        ({"labels": "1"}, "--labels 1: a reconstruction follows from the image alone"),
        ({"images": ("gone.png",)}, "gone.png"),
        ({"out": "a.txt"}, "this command writes .png"),
    ],
)
def test_what_is_refused(photos, tmp_path, fields, said):
    given = {"images": photos, "out": tmp_path / "out.png", **fields}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        reconstructing.reconstruct(ReconstructRequest("run", **given))


def test_a_vae_reconstructs_by_the_means_of_its_posterior(shapes=(4, 4, 1)):
    """And a model without an encoder does not; images of another shape are refused."""
    model, images = VAE(image_shape=shapes, latent_dim=2), np.zeros((3, *shapes), np.uint8)
    nets = model.init(jax.random.key(0), {"image": jnp.zeros((2, *shapes))})
    wanted = model.reconstruct(nets, jnp.full((3, *shapes), -1.0))
    found = reconstructed(model, nets, images, chunk=2)
    np.testing.assert_allclose(found, (wanted + 1) * 127.5, atol=0.51)
    with pytest.raises(ValueError, match="a Regression does not reconstruct images"):
        reconstructed(Regression(), {}, images)
    with pytest.raises(ValueError, match="the images are of 4x4x1 .*, but this model encodes 2x3x1"):
        reconstructed(Levels(), {}, images)


def test_the_ratio_of_known_images():
    """A difference of 51 levels is a fifth of the range; equal images have a finite ratio."""
    black = np.zeros((1, 2, 2, 1), np.uint8)
    np.testing.assert_allclose(finite_psnr(black, black + np.uint8(51)), 20 * np.log10(5))
    assert 60 < finite_psnr(black, black)[0] < 100
