"""`imagegen import diffusers` of pipelines of latents: the images that diffusers draws, and what is refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from saved_pipelines import add_byte_pairs, assert_same, draw, rewritten, written

from imagegen_jax import cli
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.pipelines.networks import clip_of, latent_unet_of
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.text_encoders.clip import CLIPText

SCALE = 7.5


@pytest.fixture(scope="module")
def stored(root):
    with np.load(root / "tests/reference/pipelines.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folders(root, stored, tmp_path_factory):
    """What diffusers saved, by case: texts as they were, weights drawn again, and a tokenizer's files."""
    place = tmp_path_factory.mktemp("saved")
    for case in ("sd1", "sd2", "ldm"):
        written(stored, case, place / case)
    add_byte_pairs(root, *(place / case / "tokenizer" for case in ("sd1", "sd2")))
    return place


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """The runs that were made of them."""
    place = tmp_path_factory.mktemp("runs")
    return {case: import_diffusers(folders / case, place / case) for case in ("sd1", "sd2", "ldm")}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sd2", "ldm"])
def test_images_are_those_of_diffusers(case, runs, stored):
    """Guided by a text, where there is one, away from the empty text."""
    prompts, conditions = stored.get(f"{case}/prompts"), {}
    if prompts is not None:
        conditions = runs[case].prompted(2, prompts.tolist(), (), guidance=SCALE)
    assert_same(draw(runs[case], stored[f"{case}/latents"], conditions, steps=10), stored[f"{case}/images"])


@pytest.mark.slow
def test_images_with_a_negative_prompt_are_those_of_diffusers(runs, stored):
    """And beside them those with one that has no word, which is as none."""
    conditions = runs["sd1"].prompted(4, 2 * stored["sd1/prompts"].tolist(), ["", "", "grey", "grey"], guidance=SCALE)
    images = draw(runs["sd1"], np.concatenate(2 * [stored["sd1/latents"]]), conditions, steps=10)
    assert_same(images, np.concatenate([stored["sd1/images"], stored["sd1/images_by_negative"]]))


@pytest.mark.slow
def test_a_run_keeps_its_tokenizer_and_where_it_came_from(runs, folders, stored):
    run = runs["sd1"]
    model, origin = run.experiment.model, json.loads((run.workdir / "origin.json").read_text())
    assert model.empty_text == EmptyText.of(run.tokenizer) and model.empty_text.length == 2
    assert runs["sd2"].tokenizer.padding == "!" and runs["sd2"].experiment.model.prediction == "v"
    for name in ("vocab.json", "merges.txt"):
        kept = (run.workdir / "tokenizer" / name).read_bytes()
        assert kept == (folders / "sd1" / "tokenizer" / name).read_bytes()
    assert origin["model_index"]["_class_name"] == "StableDiffusionPipeline" and len(origin["sha256"]) == 3
    with pytest.raises(ValueError, match="say what to draw"):
        run.experiment.data.open()


# --- configurations ---------------------------------------------------------------------------------------------------

UNET = {  # as published
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False, "cross_attention_dim": 768,
    "down_block_types": [*3 * ["CrossAttnDownBlock2D"], "DownBlock2D"], "downsample_padding": 1,
    "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-5, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D", *3 * ["CrossAttnUpBlock2D"]],
}  # fmt: skip
SD2 = UNET | {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True}


def test_published_configurations_are_the_networks_here():
    assert latent_unet_of(UNET, "")[:2] == (LatentUNet(), (64, 64, 4))
    assert latent_unet_of(SD2, "")[0] == LatentUNet(head_channels=64)
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    assert clip_of(text | {"model_type": "clip_text_model", "dropout": 0.0}, "") == CLIPText()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_channels": 9}, "in_channels=9, out_channels=4: .* no inpainting"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type='text_time': only None is supported"),
        ({"attention_head_dim": [5, 10, 20, 10]}, r"attention_head_dim=\[5, 10, 20, 10\]: only one number of heads"),
        ({"transformer_layers_per_block": [1, 1, 1, 2]}, "transformer_layers_per_block"),
        ({"controlnet": 1}, "controlnet=1: this setting is not known here"),
    ],
)
def test_networks_of_another_kind_are_refused(changes, words):
    with pytest.raises(ValueError, match=f"^unet/config.json: {words}"):
        latent_unet_of(UNET | changes, "unet/config.json")


# --- folders ----------------------------------------------------------------------------------------------------------


UNET_WEIGHTS, VAE_WEIGHTS = (f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae"))
PART = "unet/diffusion_pytorch_model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "tokenizer/vocab.json").unlink(), "holds no vocab.json: CLIP's tokenizer needs"),
        (lambda folder: (folder / "vae/config.json").unlink(), "has no vae/config.json: copy it there"),
        (
            rewritten("scheduler/scheduler_config.json", _class_name="LMSDiscreteScheduler"),
            "_class_name='LMSDiscreteScheduler': only DDPMScheduler and DDIM",
        ),
        (rewritten("scheduler/scheduler_config.json", clip_sample=True), "clip_sample=True .* write"),
        (rewritten("unet/config.json", cross_attention_dim=48), "cross_attention_dim=48, .*hidden_size=32"),
        (rewritten("vae/config.json", latent_channels=3), "its latents have 3 channels, but the U-Net's in_channels=4"),
        (rewritten("tokenizer/tokenizer_config.json", model_max_length=77), "model_max_length=77, .* rows of 16"),
        pytest.param(
            lambda folder: (folder / UNET_WEIGHTS).rename(folder / PART), "of the 2 parts .* 1 are missing",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda folder: (folder / VAE_WEIGHTS).replace(folder / UNET_WEIGHTS),
            "not the weights of this network: .* has no place in the network", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_read_are_refused(change, words, folders, tmp_path):
    """In one message, and nothing is written."""
    shutil.copytree(folders / "sd1", tmp_path / "saved", copy_function=os.link)
    change(tmp_path / "saved")
    with pytest.raises((ValueError, FileNotFoundError), match=words) as refused:
        import_diffusers(tmp_path / "saved", tmp_path / "run")
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_draws_by_prompts(folders, tmp_path, capsys):
    """And says which parts were left out."""
    shutil.copytree(folders / "sd1", tmp_path / "saved", copy_function=os.link)
    rewritten("model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])(
        tmp_path / "saved"
    )
    cli.main(["import", "diffusers", str(tmp_path / "saved"), "--out", str(tmp_path / "run")])
    assert "left out, since images are drawn without: safety_checker" in capsys.readouterr().err
    options = ["--prompt", "a red circle", "--guidance", "7.5", "--n", "2", "--out", str(tmp_path / "grid.png")]
    cli.main(["sample", str(tmp_path / "run"), "--model.levels.steps", "2", *options])
    with Image.open(tmp_path / "grid.png") as picture:
        assert "a red circle" in str(picture.info)
