"""`imagegen import diffusers` of SDXL, DiT, PixArt, Stable Diffusion 3 and consistency models: what diffusers draws."""

from __future__ import annotations

import dataclasses
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import jit
from PIL import Image
from saved_pipelines import assert_same, draw, rewritten, with_tokenizers, written

import imagegen_jax as ig
from imagegen_jax import cli
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import parse_source
from imagegen_jax.diffusion.sampling import solver
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.pipelines.dit import class_names_of
from imagegen_jax.interop.pipelines.networks import SDXL_UNET, clip_of, latent_unet_of
from imagegen_jax.interop.pipelines.transformers import dit_of, mmdit_of, pixart_of, t5_of
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

NEGATIVE = "grey"
SCALE = 7.5


@pytest.fixture(scope="module")
def stored(root):
    with np.load(root / "tests/reference/more_pipelines.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder_of(root, stored, tmp_path_factory):
    """Makes the folder of a case, once."""
    place, made = tmp_path_factory.mktemp("saved"), {}

    def folder(case):
        if case not in made:
            made[case] = with_tokenizers(root, written(stored, case, place / case))
        return made[case]

    return folder


@pytest.fixture(scope="module")
def run_of(folder_of, tmp_path_factory):
    """Imports the folder of a case, once."""
    place, made = tmp_path_factory.mktemp("runs"), {}

    def run(case):
        if case not in made:
            made[case] = import_diffusers(folder_of(case), place / case)
        return made[case]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sdxl", "pixart", "sd3", "sd3_without_t5"])
def test_images_of_texts_are_those_of_diffusers(case, run_of, stored):
    """Guided away from no text (a negative one without a word), and from a negative text."""
    run = run_of(case)
    prompts = stored[f"{case}/prompts"].tolist()
    conditions = run.prompted(4, 2 * prompts, ["", "", NEGATIVE, NEGATIVE], guidance=SCALE)
    images = draw(run, np.concatenate(2 * [stored[f"{case}/latents"]]), conditions)
    assert_same(images, np.concatenate([stored[f"{case}/images"], stored[f"{case}/images_by_negative"]]))


@pytest.mark.slow
def test_images_of_classes_are_those_of_diffusers(run_of, stored):
    run = run_of("dit")
    conditions = {"label": jnp.asarray(stored["dit/labels"]), "guidance": jnp.float32(4.0)}
    assert_same(draw(run, stored["dit/latents"], conditions, steps=10), stored["dit/images"])
    assert run.experiment.model.num_classes == 1000


def test_classes_have_the_names_of_the_index():
    names = {"0": "tench, Tinca tinca", "1": "goldfish"}
    assert class_names_of({"id2label": names}, 2) == ("tench, Tinca tinca", "goldfish")
    assert class_names_of({"id2label": names}, 3) == class_names_of({}, 2) == ()


@pytest.mark.slow
def test_consistency_models_jump_as_in_diffusers(run_of, stored, monkeypatch):
    """In one step, as imported, and in three with the same noise."""
    run, model = run_of("consistency"), run_of("consistency").experiment.model
    z, labels = stored["consistency/latents"].transpose(0, 2, 3, 1), jnp.asarray(stored["consistency/labels"])
    levels = Listed(tuple(stored["consistency/levels"].astype(float).tolist()))
    assert model.levels == Listed((80.0,)) and levels.sigmas[0] == 80
    noise = jnp.asarray(stored["consistency/noise"].transpose(0, 1, 3, 4, 2))
    monkeypatch.setattr(
        solver, "noise", lambda key, i, x: noise[jnp.minimum(i, 1)]
    )  # after the last step there is none

    @jit
    def drawn(nets):
        denoise, key = model.denoiser(nets, {"label": labels}), jax.random.key(0)
        return [model.path.solver(denoise, path(), 80 * z, key) for path in (model.levels, levels)]

    for images, name in zip(drawn(run.nets), ("images", "images_of_three"), strict=True):
        wanted = stored[f"consistency/{name}"]
        np.testing.assert_allclose(images / 2 + 0.5, wanted, atol=2e-5)
        assert np.mean((wanted > 0) & (wanted < 1)) > 0.5


def test_without_zeros_an_empty_text_is_read(folder_of, tmp_path, monkeypatch):
    """As `force_zeros_for_empty_prompt` of SDXL says; both rows have their own padding."""
    found = {}
    monkeypatch.setattr(
        "imagegen_jax.interop.pipelines.stable_diffusion_xl.published",
        lambda folder, model, configs, parts, tokenizer: found.update(model=model, tokenizer=tokenizer),
    )
    from imagegen_jax.interop.pipelines import stable_diffusion_xl

    stable_diffusion_xl.read(folder_of("sdxl"), {})
    assert found["model"].empty_text is None
    stable_diffusion_xl.read(folder_of("sdxl"), {"force_zeros_for_empty_prompt": False})
    empty, rows = found["model"].empty_text, found["tokenizer"].open(()).encode(["", "a red circle"])
    assert empty == EmptyText.of(found["tokenizer"].open(())) and empty.length == 4
    assert empty.mask == tuple(rows.mask[0].tolist()) == tuple(2 * ([True] * 2 + [False] * 14))
    assert rows.tokens[1, 8] != rows.tokens[1, 24] and (rows.tokens[1, :5] == rows.tokens[1, 16:21]).all()


# --- configurations ---------------------------------------------------------------------------------------------------

SDXL = {  # as published
    "_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "sample_size": 128,
    "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "use_linear_projection": True,
    "upcast_attention": None, "addition_embed_type_num_heads": 64,
}  # fmt: skip
DIT = {"_class_name": "Transformer2DModel", "out_channels": 8, "norm_type": "ada_norm_zero"}
PIXART = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single", "caption_channels": 4096}
SD3 = {
    "_class_name": "SD3Transformer2DModel", "num_layers": 24, "num_attention_heads": 24, "sample_size": 128,
    "caption_projection_dim": 1536, "pos_embed_max_size": 192,
}  # fmt: skip
XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}


def test_published_configurations_are_the_networks_here():
    sdxl = LatentUNet(multipliers=(1, 2, 4), depths=(0, 2, 10), head_channels=64, added=True)
    assert latent_unet_of(SDXL, "", SDXL_UNET)[:2] == (sdxl, (128, 128, 4))
    assert dit_of(DIT, "")[:2] == (DiT(out_channels=8, endpoint=True, mlp_epsilon=1e-5), (32, 32, 4))
    assert pixart_of(PIXART | {"sample_size": 64}, "")[:2] == (PixArt(), (64, 64, 4))
    assert pixart_of(PIXART | {"sample_size": 32}, "")[0] == PixArt(extent=16)
    assert pixart_of(PIXART, "")[0] == PixArt(sizes=True)
    assert mmdit_of(SD3, "")[:2] == (MMDiT(), (128, 128, 16))
    medium = {"dual_attention_layers": list(range(13)), "qk_norm": "rms_norm", "pos_embed_max_size": 384}
    assert mmdit_of(SD3 | medium, "")[0] == MMDiT(query_key_norm=True, dual=13, largest=384)
    assert t5_of(XXL, "") == T5Encoder()


@pytest.mark.parametrize(
    ("read", "config", "words"),
    [
        (dit_of, DIT | {"out_channels": 6}, "in_channels=4, out_channels=6: only as many, or twice that"),
        (dit_of, DIT | {"norm_type": "layer_norm"}, "norm_type='layer_norm': only 'ada_norm_zero'"),
        (dit_of, DIT | {"sample_size": 33}, "sample_size=33, patch_size=2: the second must divide"),
        (pixart_of, PIXART | {"use_additional_conditions": False}, "use_additional_conditions=False, sample_size=128"),
        (pixart_of, PIXART | {"interpolation_scale": 1.5, "sample_size": 64}, "interpolation_scale=1.5: places would"),
        (pixart_of, PIXART | {"cross_attention_dim": 64}, "cross_attention_dim=64: only the width, .* 1152"),
        (mmdit_of, SD3 | {"dual_attention_layers": [1, 2]}, "dual_attention_layers=.*: only the first ones"),
        (mmdit_of, SD3 | {"caption_projection_dim": 64}, "caption_projection_dim=64, out_channels=16: only"),
        (t5_of, XXL | {"feed_forward_proj": "relu"}, "feed_forward_proj='relu': only 'gated-gelu'"),
        (t5_of, XXL | {"model_type": "umt5"}, "model_type='umt5': only t5"),
        (clip_of, {"model_type": "clip_vision_model"}, "model_type='clip_vision_model'"),
    ],
)
def test_networks_of_another_kind_are_refused(read, config, words):
    with pytest.raises(ValueError, match=f"^config.json: {words}"):
        read(config, "config.json")


# --- folders ----------------------------------------------------------------------------------------------------------


SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("case", "change", "words"),
    [
        ("sdxl", lambda folder: shutil.rmtree(folder / "text_encoder_2"), "has no text_encoder_2/config.json: copy it"),
        ("sdxl", lambda folder: (folder / "tokenizer_2/merges.txt").unlink(), "tokenizer_2 holds no merges.txt"),
        ("sdxl", rewritten("text_encoder_2/config.json", projection_dim=30), "dim=1564, .* encoders make that 1566"),
        ("sdxl", rewritten("unet/config.json", addition_embed_type="image"), "addition_embed_type='image': only"),
        ("pixart", lambda folder: (folder / "tokenizer/spiece.model").unlink(), "holds no spiece.model"),
        ("pixart", rewritten("transformer/config.json", caption_channels=8), "caption_channels=8, .*d_model=24"),
        ("dit", rewritten(SCHEDULER, clip_sample=True), "clip_sample=True .* write"),
        ("sd3", rewritten("transformer/config.json", pooled_projection_dim=9), "dim=9, .* encoders have 32 features"),
        ("sd3", rewritten("transformer/config.json", joint_attention_dim=30), "text_encoder_3 makes tokens of 24"),
        ("consistency", rewritten(SCHEDULER, s_noise=2.0), "s_noise=2.0: only 1.0"),
        ("consistency", rewritten(SCHEDULER, sigma_min=90.0), "sigma_min=90.0, sigma_max=80.0"),
        ("consistency", rewritten(SCHEDULER, _class_name="DDIMScheduler"), "only CMStochasticIterativeScheduler"),
        (
            "dit", rewritten("model_index.json", _class_name="AllegroPipeline"),
            "_class_name='AllegroPipeline', with 'transformer' .* ConsistencyModelPipeline or DiTPipeline or",
        ),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_read_are_refused(case, change, words, folder_of, tmp_path):
    """In one message, before weights are read, and nothing is written."""
    shutil.copytree(folder_of(case), tmp_path / "saved", copy_function=os.link)
    change(tmp_path / "saved")
    with pytest.raises((ValueError, FileNotFoundError), match=words) as refused:
        import_diffusers(tmp_path / "saved", tmp_path / "run")
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


def test_blocks_with_embeddings_of_their_own_are_refused(folder_of, tmp_path):
    """DiT has one for all blocks."""
    shutil.copytree(folder_of("dit"), tmp_path / "saved", copy_function=os.link)
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "saved/transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["transformer_blocks.1.norm1.emb.timestep_embedder.linear_2.bias"] += 1
    path.unlink()
    save_file(tensors, path)
    with pytest.raises(ValueError, match="linear_2.bias 32 is not the same as elsewhere, .* time_1/bias"):
        import_diffusers(tmp_path / "saved", tmp_path / "run")


@pytest.mark.slow
def test_the_command_draws_by_prompts_of_several_encoders(run_of, tmp_path):
    workdir = run_of("sd3_without_t5").workdir
    options = ["--prompt", "a red circle", "--guidance", "3", "--n", "2", "--out", str(tmp_path / "grid.png")]
    cli.main(["sample", str(workdir), *options])
    with Image.open(tmp_path / "grid.png") as picture:
        assert "a red circle" in str(picture.info)
    assert sorted(path.name for path in (workdir / "tokenizer").iterdir()) == ["0", "1"]


@pytest.mark.slow
def test_a_run_is_trained_on(run_of, tmp_path):
    """A step on images with texts moves the network alone."""
    run = run_of("pixart")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        Image.new("RGB", (8, 8), (30 * i, 0, 0)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text("a red circle")
    data = dataclasses.replace(parse_source(f"captioned:{photos}", size=8), tokenizer=run.experiment.data.tokenizer)
    tuned = ig.Experiment(
        "tuned", run.experiment.model, data, {"network": Adam()}, pretrained=dict.fromkeys(run.nets, str(run.workdir)),
        batch_size=8, steps=1, samples=1,
    )  # fmt: skip
    trained = ig.fit(tuned, tmp_path / "tuned", quiet=True)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), trained.nets, run.nets)
    assert any(jax.tree.leaves(moved["network"])) and not any(jax.tree.leaves((moved["text"], moved["autoencoder"])))
