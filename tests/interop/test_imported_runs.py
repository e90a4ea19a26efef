"""Runs of models that were trained elsewhere: what data they may be given, and what is said of them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from imagegen_jax.autoencoders.adversary import Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.arrays.space import Latents, sample_words
from imagegen_jax.data.formats.latents import Latents as LatentFile
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.exports.export import export_run
from imagegen_jax.interop.importing import Published, shapes_of, write_run
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.text.settings import CLIPTokenizer

STAGE = AutoencoderKL(
    (32, 32, 3), KLNetwork(ConvEncoder(8, (1, 1), 1, features=4), ConvDecoder(8, (1, 1), 1), 2), Likeness(), None
)
PLAIN = Diffusion(UNet(8, (1,), 1, ()), image_shape=(16, 16, 2), space=Latents(autoencoder=STAGE))
TEXT = dataclasses.replace(PLAIN, network=LatentUNet(8, (1,), 1, (1,), heads=1), text=CLIPText(600, 8, 8, 1, 1))


def published(model, tokenizer=None):
    """The model with weights of zeros."""
    nets = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes_of(model))
    return Published(model, nets, {"library": "theirs"}, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def tokenizer(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    with np.load(root / "tests/reference/text.npz") as words:
        for name in ("vocab.json", "merges.txt"):
            (folder / name).write_bytes(words[name].tobytes())
    return CLIPTokenizer(str(folder), 8)


@pytest.fixture(scope="module")
def of_texts(tokenizer, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    for name in ("one", "two"):
        Image.new("RGB", (40, 40)).save(images / f"{name}.png")
        (images / f"{name}.txt").write_text(f"a picture of {name}")
    return write_run(tmp_path_factory.mktemp("runs") / "a", "a", published(TEXT, tokenizer), f"captioned:{images}")


def test_data_may_be_images_with_texts_of_the_model_s_size(of_texts, tokenizer):
    data = of_texts.experiment.data
    assert data.tokenizer == tokenizer and data.open().image_shape == (32, 32, 3)


def test_data_may_be_latents(tmp_path):
    np.savez(tmp_path / "a.npz", latent=np.zeros((4, 16, 16, 2), np.float32))
    np.savez(tmp_path / "b.npz", latent=np.zeros((4, 8, 8, 2), np.float32))
    run = write_run(tmp_path / "run", "a", published(PLAIN), f"latents:{tmp_path}/a.npz")
    assert run.experiment.data == LatentFile(f"{tmp_path}/a.npz")
    with pytest.raises(ValueError, match=r"images of \(8, 8, 2\), but the model's are of \(32, 32, 3\) or \(16, 16, 2"):
        write_run(tmp_path / "other", "a", published(PLAIN), f"latents:{tmp_path}/b.npz")


def test_a_card_says_what_the_model_draws_and_where_it_came_from(of_texts, tmp_path):
    card = (export_run(of_texts, "safetensors", tmp_path / "out") / "README.md").read_text()
    assert "pipeline_tag: text-to-image" in card and "A Diffusion of 32x32x3 images" in card
    assert "imported by imagegen_jax, with the weights that Origin names" in card and "steps of training" not in card


def test_samples_without_an_autoencoder_are_latents():
    assert sample_words(PLAIN) == "32x32x3 images"
    assert sample_words(dataclasses.replace(PLAIN, space=Latents())) == "16x16x2 latents"


def test_a_sampler_by_texts_is_refused_in_true_words(of_texts, tmp_path):
    with pytest.raises(ValueError, match="each image of this Diffusion is made from text, text_mask, which no sampler"):
        export_run(of_texts, "stablehlo", tmp_path / "out")
