"""`imagegen import diffusers`: the same output and images as there, each tensor in its place, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from drawn_weights import drawn_file
from PIL import Image
from safetensors.numpy import load_file, save_file
from saved_pipelines import write_bin

import imagegen_jax as ig
from imagegen_jax import cli
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.reporting.summary import count
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.denoiser import clipped, from_prediction
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral
from imagegen_jax.interop.diffusers_config import abstract_parameters, model_of, network_of
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.diffusers_unets import unet_of
from imagegen_jax.interop.exports.export import export_run
from imagegen_jax.interop.importing import Published, write_run
from imagegen_jax.interop.name_map import as_published, renamed
from imagegen_jax.interop.names import unets
from imagegen_jax.interop.pipelines.parts import NETWORK as BEGINS
from imagegen_jax.interop.pipelines.parts import weights_in
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"

# As published, by a version of diffusers that left out what it did not know yet.
CIFAR10 = json.loads("""{
  "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": null,
  "block_out_channels": [128, 256, 256, 256], "center_input_sample": false,
  "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"], "downsample_padding": 0,
  "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2, "mid_block_scale_factor": 1,
  "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
  "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]
}""")
CELEBAHQ = CIFAR10 | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*4 * ["DownBlock2D"], "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *4 * ["UpBlock2D"]],
    "sample_size": 256,
}
SCHEDULER = json.loads("""{
  "_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear",
  "beta_start": 0.0001, "clip_sample": true, "num_train_timesteps": 1000, "trained_betas": null,
  "variance_type": "fixed_large"
}""")
RULES = unets.ddpm(2)
NETWORK, SHAPE = UNet(128, (1, 1), 1, (4,), 0.0), (8, 8, 3)


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/diffusers_folder.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """What `save_pretrained` wrote: its text as it was, its weights drawn again in the order that their head gives."""
    made = tmp_path_factory.mktemp("saved") / "tiny"
    for name in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(str(reference[name]))
    drawn_file(made / WEIGHTS, reference[WEIGHTS].tobytes())
    return made


@pytest.fixture(scope="module")
def run_folder(folder, tmp_path_factory):
    """The run that the command makes of it."""
    place = tmp_path_factory.mktemp("runs")
    np.savez(place / "images.npz", np.zeros((4, 16, 8, 3), np.uint8))
    options = ["--out", str(place / "tiny"), "--data", str(place / "images.npz")]
    cli.main(["import", "diffusers", str(folder), *options])
    return place / "tiny"


@pytest.fixture(scope="module")
def run(run_folder):
    return ig.load(run_folder)


@pytest.fixture(scope="module")
def tensors(folder):
    return read_weight_file(folder / WEIGHTS).arrays


@functools.cache
def shapes():
    return abstract_parameters(NETWORK, SHAPE)


# --- as there --------------------------------------------------------------------------------------------------------


def test_the_folder_is_the_one_that_diffusers_saved(folder, reference):
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == reference["sha256"]


@pytest.mark.slow
def test_output_is_that_of_diffusers(run, reference):
    model = run.experiment.model
    assert model == DDPM(NETWORK, LinearSchedule(end=0.002), Ancestral(variance="large"), SHAPE)
    x, t = jnp.moveaxis(reference["x"], 1, -1), jnp.asarray(reference["t"])
    y = jax.jit(model.network.apply)(jax.device_get(run.nets["network"]), x, t)
    expected = np.moveaxis(reference["y"], 1, -1)
    assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(("images", "clipped_noise"), [("images", True), ("images_by_default", False)])
def test_images_of_ddim_are_those_of_the_pipeline(run, reference, images, clipped_noise):
    """With `use_clipped_model_output`, and as the folder of a DDIMScheduler is imported, without."""
    scheduler = json.loads(str(reference["scheduler/scheduler_config.json"])) | {"_class_name": "DDIMScheduler"}
    model = model_of(run.experiment.model.network, SHAPE, scheduler, "scheduler_config.json")
    assert model.sampler.clipped_noise is False
    sampler = dataclasses.replace(model.sampler, steps=5, clipped_noise=clipped_noise)
    model = dataclasses.replace(model, sampler=sampler)
    nets, path = jax.device_get(run.nets), model.path

    @jax.jit
    def draw(noise):
        start = noise * math.sqrt(1 + path.sigmas[0] ** 2)
        return path.solver(model.denoiser(nets, {}), path.sigmas, start, jax.random.key(0))

    found = jnp.clip(draw(jnp.moveaxis(reference["x"], 1, -1)) / 2 + 0.5, 0, 1)
    expected = reference[images]
    assert 0.3 < np.mean((expected > 0) & (expected < 1))  # or nothing would be seen of the network
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_estimates_are_those_of_each_scheduler(reference, schedule, prediction):
    """Of the image, at time 300, by a network that puts out sin(3 x)."""
    scheduler = SCHEDULER | {"beta_schedule": schedule, "prediction_type": prediction}
    model = model_of(NETWORK, SHAPE, scheduler, "scheduler_config.json")
    plain = isinstance(model, DDPM)
    assert plain == (prediction == "epsilon" and schedule != "squaredcos_cap_v2")
    process = Discrete(model.schedule) if plain else model.process
    kind, clip = ("epsilon", True) if plain else (model.prediction, model.clip)

    def predict(x_t, t):
        assert t.dtype == jnp.int32
        return jnp.sin(3 * x_t) + jnp.where(t == 300, 0.0, jnp.nan)

    x_t = jnp.asarray(reference["estimate/x"])
    alpha, sigma = process.alpha(300.0), process.sigma(300.0)
    denoise = from_prediction(predict, process, kind)
    denoise = clipped(denoise) if clip else denoise
    x_0 = denoise(x_t / alpha, jnp.full(x_t.shape, sigma / alpha))
    np.testing.assert_allclose(x_0, reference[f"estimate/{schedule}/{prediction}"], atol=2e-6)


@pytest.mark.parametrize(
    ("changes", "sampler"),
    [
        ({}, Ancestral(variance="large")),
        ({"variance_type": "fixed_small"}, Ancestral(variance="small")),
        ({"_class_name": "DDIMScheduler"}, DDIM(50, spacing="leading", clipped_noise=False)),
        (
            {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"},
            DDIM(50, spacing="trailing", clipped_noise=False),
        ),
        ({"_class_name": "DDIMScheduler", "num_train_timesteps": 20}, DDIM(20, clipped_noise=False)),
    ],
)
def test_the_scheduler_says_how_it_samples(changes, sampler):
    """As `DDPM`, and with estimates that are not clipped as `Diffusion`: the same solver, at the same levels."""
    model = model_of(NETWORK, SHAPE, SCHEDULER | changes, "scheduler_config.json")
    assert isinstance(model, DDPM) and model.sampler == sampler
    free = model_of(NETWORK, SHAPE, SCHEDULER | changes | {"clip_sample": False}, "scheduler_config.json")
    assert isinstance(free, Diffusion) and not free.clip and free.prediction == "epsilon"
    assert free.path.solver == model.path.solver and isinstance(free.solver, (DDPMAncestral, EulerAncestral))
    np.testing.assert_array_equal(free.path.sigmas, model.path.sigmas)


# --- weights ---------------------------------------------------------------------------------------------------------


def published(reference, model):
    """The tensors of a published model, without memory; those of attention by the names of its time."""
    found = {}
    for line in reference[model]:
        name, shape = line.split()
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(new, old)
        found[name] = np.broadcast_to(np.float32(0), [int(n) for n in shape.split(",")])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "total"),
    [("ddpm-cifar10-32", CIFAR10, 35_746_307), ("ddpm-celebahq-256", CELEBAHQ, 113_673_219)],
)
def test_published_models_fill_the_network(reference, name, config, total):
    network, shape = network_of(config, "config.json")
    if name == "ddpm-cifar10-32":
        assert network == UNet(dropout=0.0)
        assert model_of(network, shape, SCHEDULER, "scheduler_config.json") == DDPM(network)
    like = abstract_parameters(network, shape)
    tensors = published(reference, name)
    filled = renamed(tensors, like, unets.ddpm(len(network.multipliers)), WEIGHTS)
    assert jax.tree.map(jnp.shape, filled) == jax.tree.map(jnp.shape, like)
    assert count(filled) == sum(tensor.size for tensor in tensors.values()) == total
    assert any("proj_attn" in name for name in tensors)


def test_old_names_of_attention_are_read(tensors):
    olden = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = dict(tensors)
    for new, name in olden.items():
        old |= {key.replace(new, name): old.pop(key) for key in list(old) if new in key}
    assert set(old) != set(tensors)
    jax.tree.map(
        np.testing.assert_array_equal, renamed(old, shapes(), RULES, "old"), renamed(tensors, shapes(), RULES, "new")
    )


def test_a_table_of_classes_is_the_layer_of_labels(tensors):
    """diffusers adds a row of the table to the embedding of the time, as a layer of one-hot labels does."""
    table = np.random.RandomState(0).standard_normal((10, 512)).astype(np.float32)
    like = abstract_parameters(NETWORK, SHAPE, 10)
    found = renamed(tensors | {"class_embedding.weight": table}, like, RULES, "here")
    np.testing.assert_array_equal(found["label"]["kernel"], table)
    assert model_of(NETWORK, SHAPE, {"_class_name": "DDPMScheduler"}, "a", 10).num_classes == 10


def test_parts_of_a_network_are_read_together_or_refused(tensors, tmp_path):
    names = sorted(tensors)
    for i, part in enumerate((names[:20], names[20:]), start=1):
        path = tmp_path / f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        save_file({name: np.ascontiguousarray(tensors[name]) for name in part}, path)
    found = read_weight_file(weights_in(tmp_path, BEGINS)).arrays
    assert found.keys() == tensors.keys()
    path.unlink()
    with pytest.raises(ValueError, match="of the 2 parts of its network 1 are missing, .*00002-of-00002"):
        read_weight_file(weights_in(tmp_path, BEGINS))


@pytest.mark.slow
def test_parts_of_torch_of_a_network_by_classes_make_a_run(tmp_path, capsys):
    """A U-Net with a table of classes and scaled norms, in two .bin with an index, imported and drawn from."""
    network = ADM(128, (1,), 1, (), 64, 1, resample="conv", learned_variance=False)
    numbers = np.random.default_rng(0)
    like = abstract_parameters(network, (4, 4, 3), 10)
    params = jax.tree.map(lambda leaf: 0.1 * numbers.standard_normal(leaf.shape, np.float32), like)
    tensors = as_published(params, unets.adm(1))
    config = CONSISTENCY | {
        "block_out_channels": [128], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
        "layers_per_block": 1, "num_class_embeds": 10, "sample_size": 4, "upsample_type": "conv",
        "downsample_type": "conv",
    }  # fmt: skip
    folder = tmp_path / "saved"
    (folder / "unet").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    (folder / "unet/config.json").write_text(json.dumps(config))
    scheduler = {"_class_name": "DDIMScheduler", "clip_sample": False}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    index = {}
    for i, part in enumerate((sorted(tensors)[:20], sorted(tensors)[20:]), start=1):
        file = f"diffusion_pytorch_model-0000{i}-of-00002.bin"
        write_bin(folder / "unet" / file, {name: tensors[name] for name in part})
        index |= dict.fromkeys(part, file)
    (folder / "unet/diffusion_pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    code, _, error = imagegen(capsys, "import", "diffusers", folder, "--out", tmp_path / "run")
    assert code == 0, error
    run = ig.load(tmp_path / "run")
    assert run.experiment.model.network == network and run.experiment.model.num_classes == 10
    jax.tree.map(np.testing.assert_array_equal, run.nets["network"]["params"], params)
    origin = json.loads((tmp_path / "run/origin.json").read_text())
    assert sorted(origin["sha256"]) == sorted(f"unet/{file}" for file in set(index.values()))
    out, steps = tmp_path / "a.npz", ("--model.levels.steps", 2)
    code, _, error = imagegen(capsys, "sample", tmp_path / "run", "--n", 2, "--labels", "3,7", "--out", out, *steps)
    assert code == 0 and out.exists(), error


def test_half_precision_is_read_as_float32(tmp_path):
    values = np.array([[1.5, -2.25], [0.0, 3.0]])
    given = {name: values.astype(dtype) for name, dtype in (("a", ml_dtypes.bfloat16), ("b", np.float16))}
    save_file(given, tmp_path / "half.safetensors")
    for found in read_weight_file(tmp_path / "half.safetensors").arrays.values():
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.pop("mid_block.attentions.0.to_q.weight"),
            ["middle_0/attention/query/kernel 128x128 is not there"],
        ),
        (
            lambda t: t.update({"class_embedding.weight": np.zeros((10, 512), np.float32)}),
            ["class_embedding.weight 10x512 has no place"],
        ),
        (
            lambda t: t.update({"mid_block.attentions.0.key.bias": t["mid_block.attentions.0.to_k.bias"]}),
            ["mid_block.attentions.0.key.bias 128 is a second middle_0/attention/key/bias"],
        ),
        (
            lambda t: t.update({"conv_in.weight": t["conv_in.weight"][:, :1]}),
            ["conv_in.weight 128x1x3x3 does not fit conv_in/kernel 3x3x3x128"],
        ),
        (
            lambda t: t.update(
                {
                    "up_blocks.0.resnets.0.conv_shortcut.weight": t["up_blocks.0.resnets.0.conv_shortcut.weight"][
                        ..., 0, 0
                    ]
                }
            ),
            ["up_blocks.0.resnets.0.conv_shortcut.weight 128x256 does not fit up_1_0/shortcut/kernel 256x128"],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, change, words):
    changed = dict(tensors)
    change(changed)
    with pytest.raises(ValueError, match="^here.safetensors: these are not the weights of this network: ") as refused:
        renamed(changed, shapes(), RULES, "here.safetensors")
    assert all(word in str(refused.value) for word in words)


def test_an_export_is_the_folder_again(run, tensors, tmp_path):
    """The same tensors under present names, and configurations that are read as the same model."""
    folder = export_run(run, "diffusers", tmp_path / "out")
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    wanted = {
        re.sub(r"(query|key|value|proj_attn)(?=\.\w+$)", lambda word: old[word[0]], n): x for n, x in tensors.items()
    }
    found = read_weight_file(folder / WEIGHTS).arrays
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    again = import_diffusers(folder, tmp_path / "again")
    assert again.experiment.model == run.experiment.model


def test_an_export_keeps_the_classes(tmp_path):
    model = DDPM(UNet(128, (1,), 1, (), 0.0), image_shape=(4, 4, 3), num_classes=5)
    numbers = np.random.default_rng(0)
    like = abstract_parameters(model.network, model.image_shape, 5)
    params = jax.tree.map(lambda leaf: numbers.standard_normal(leaf.shape, np.float32), like)
    run = write_run(tmp_path / "run", "a", Published(model, {"network": {"params": params}}, {}))
    folder = export_run(run, "diffusers", tmp_path / "out")
    assert json.loads((folder / "unet/config.json").read_text())["num_class_embeds"] == 5
    np.testing.assert_array_equal(
        read_weight_file(folder / WEIGHTS).arrays["class_embedding.weight"], params["label"]["kernel"]
    )
    assert "unet(x, t, labels)" in (folder / "README.md").read_text()
    again = import_diffusers(folder, tmp_path / "again")
    assert again.experiment.model == model
    jax.tree.map(np.testing.assert_array_equal, again.nets["network"]["params"], params)


# --- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "UNet2DConditionModel"}, ["_class_name='UNet2DConditionModel'", "only UNet2DModel"]),
        ({"attention_head_dim": 8}, ["attention_head_dim=8: only None"]),
        ({"attention_head_dim": ...}, ["attention_head_dim=8 (left out there, so its default)"]),
        ({"norm_eps": 1e-5}, ["norm_eps=1e-05: only 1e-06"]),
        ({"flip_sin_to_cos": True}, ["flip_sin_to_cos=True: only False"]),
        ({"freq_shift": 0}, ["freq_shift=0: only 1"]),
        ({"downsample_padding": 1}, ["downsample_padding=1: only 0"]),
        ({"num_class_embeds": "ten"}, ["num_class_embeds='ten': must be"]),
        ({"class_embed_type": "timestep"}, ["class_embed_type='timestep': only None"]),
        ({"time_embedding_type": "fourier"}, ["time_embedding_type='fourier': only 'positional'"]),
        ({"resnet_time_scale_shift": "scale_shift"}, ["resnet_time_scale_shift='scale_shift': only 'default'"]),
        ({"down_block_types": ["SkipDownBlock2D"]}, ["only DownBlock2D and AttnDownBlock2D", "'SkipDownBlock2D'"]),
        ({"up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"]}, ["attend at other levels"]),
        ({"up_block_types": ["UpBlock2D"]}, ["1 up_block_types, but 4 block_out_channels"]),
        ({"block_out_channels": [128, 192, 256, 256]}, ["[128, 192, 256, 256]: only multiples of the first, 128"]),
        ({"norm_num_groups": 16}, ["norm_num_groups=16", "128 channels have 32 groups"]),
        ({"block_out_channels": [64, 128, 128, 128]}, ["norm_num_groups=32", "64 channels have 16 groups"]),
        ({"out_channels": 6}, ["in_channels=3, out_channels=6"]),
        ({"sample_size": None}, ["sample_size is not there: add"]),
        ({"decoder_only": True}, ["decoder_only=True: this setting is not known here"]),
    ],
)  # fmt: skip
def test_networks_of_another_kind_are_refused(changes, words):
    config = {name: value for name, value in (CIFAR10 | changes).items() if value is not ...}
    with pytest.raises(ValueError, match=r"^unet/config\.json: ") as refused:
        network_of(config, "unet/config.json")
    assert all(word in str(refused.value) for word in words)


TUTORIAL = {  # of diffusers: most of its settings are the defaults, which DDPM's own network does not have
    "_class_name": "UNet2DModel", "block_out_channels": [128, 128, 256], "layers_per_block": 2, "sample_size": 64,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
}  # fmt: skip
CONSISTENCY = {  # as published for ImageNet
    "_class_name": "UNet2DModel", "attention_head_dim": 64, "attn_norm_num_groups": 32, "num_class_embeds": 1000,
    "block_out_channels": [192, 384, 576, 768], "downsample_type": "resnet", "layers_per_block": 3, "sample_size": 64,
    "down_block_types": ["ResnetDownsampleBlock2D", *3 * ["AttnDownBlock2D"]], "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift", "up_block_types": [*3 * ["AttnUpBlock2D"], "ResnetUpsampleBlock2D"],
}  # fmt: skip


def test_other_networks_of_pixels_are_adm():
    """Those with diffusers' defaults, and with blocks that change the resolution."""
    plain = ADM(128, (1, 1, 2), 2, (16,), 8, 1, scale_shift=False, resample="conv", learned_variance=False)
    assert unet_of(TUTORIAL, "") == (plain, (64, 64, 3))
    imagenet = ADM(192, (1, 2, 3, 4), 3, (32, 16, 8), 64, 1, learned_variance=False)
    assert unet_of(CONSISTENCY, "") == (imagenet, (64, 64, 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attn_norm_num_groups": None}, "attn_norm_num_groups=None, norm_num_groups=32"),
        ({"upsample_type": "conv"}, "downsample_type='resnet', upsample_type='conv', .* everywhere by"),
        (
            {"down_block_types": ["DownBlock2D", *3 * ["AttnDownBlock2D"]]},
            ".*down_block_types=.'DownBlock2D', .* everywhere by a block",
        ),
        ({"freq_shift": 1}, "freq_shift=1: only 0"),
        ({"out_channels": 6}, "in_channels=3, out_channels=6"),
    ],
)
def test_networks_that_are_neither_are_refused(changes, words):
    with pytest.raises(ValueError, match=f"^unet/config.json: {words}"):
        unet_of(CONSISTENCY | changes, "unet/config.json")


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="an image of 28x32 cannot be halved 3 times"):
        network_of(CIFAR10 | {"sample_size": [28, 32]}, "config.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "LMSDiscreteScheduler"}, ["_class_name='LMSDiscreteScheduler': only DDPMScheduler and DDIM"]),
        ({"beta_schedule": "sigmoid"}, ["beta_schedule='sigmoid': only 'linear' or 'scaled_linear'"]),
        ({"trained_betas": [0.1, 0.2]}, ["trained_betas=[0.1, 0.2]: only None"]),
        ({"variance_type": "learned_range"}, ["variance_type='learned_range'"]),
        ({"clip_sample_range": 2.0}, ["clip_sample_range=2.0: only 1.0"]),
        ({"thresholding": True}, ["thresholding=True: only False"]),
        ({"rescale_betas_zero_snr": True}, ["rescale_betas_zero_snr=True"]),
        ({"timestep_spacing": "linspace"}, ["timestep_spacing='linspace': only 'leading' or 'trailing'"]),
        ({"_class_name": "DDIMScheduler", "steps_offset": 20}, ["steps_offset=20", "the last time would be 1000"]),
        ({"steps_offset": -1}, ["steps_offset=-1"]),
    ],
)
def test_schedulers_of_another_kind_are_refused(changes, words):
    with pytest.raises(ValueError, match=r"^scheduler_config\.json: ") as refused:
        model_of(NETWORK, SHAPE, SCHEDULER | changes, "scheduler_config.json")
    assert all(word in str(refused.value) for word in words)


def test_a_power_of_the_schedule_must_be_above_0():
    with pytest.raises(ValueError, match="schedule.power=0: must be above 0"):
        LinearSchedule(power=0)


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(folder, tmp_path):
    """The folder in the published layout, everything side by side; its weights are a link."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        (copy / name.split("/")[-1]).write_text((folder / name).read_text())
    (copy / "diffusion_pytorch_model.safetensors").symlink_to(folder / WEIGHTS)
    return copy


@pytest.mark.slow
def test_everything_may_lie_side_by_side(copied, run, tmp_path):
    found = import_diffusers(copied, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, found.nets, run.nets)
    assert found.experiment.name == "copy" and found.experiment.model == run.experiment.model


def test_a_variant_alone_is_read(copied):
    (copied / "diffusion_pytorch_model.safetensors").rename(copied / "diffusion_pytorch_model.fp16.safetensors")
    assert weights_in(copied, BEGINS).name == "diffusion_pytorch_model.fp16.safetensors"
    (copied / "diffusion_pytorch_model.non_ema.safetensors").symlink_to(weights_in(copied, BEGINS))
    with pytest.raises(ValueError, match="fp16.safetensors, .*non_ema.safetensors: rename the one to be read"):
        weights_in(copied, BEGINS)


def without_weights(copied):
    (copied / "diffusion_pytorch_model.safetensors").unlink()


def only_a_pickle(copied):
    without_weights(copied)
    (copied / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")


def damaged(copied):
    without_weights(copied)
    (copied / "diffusion_pytorch_model.safetensors").write_bytes(b"12345678 no head")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_weights, ["has no diffusion_pytorch_model.safetensors: copy it"]),
        (only_a_pickle, ["diffusion_pytorch_model.bin: truncated, or not a file of weights"]),
        (damaged, ["diffusion_pytorch_model.safetensors: truncated, or not a file of weights"]),
        (lambda copied: (copied / "config.json").unlink(), ["neither unet/config.json nor config.json: copy it"]),
        (lambda copied: (copied / "scheduler_config.json").unlink(), ["scheduler/scheduler_config.json nor scheduler"]),
        (lambda copied: (copied / "config.json").write_text("{"), ["config.json is no JSON", "fetch it again"]),
        (lambda copied: (copied / "config.json").write_text("[]"), ["config.json holds a list"]),
        (
            lambda copied: (copied / "model_index.json").write_text('{"unet": [], "scheduler": [], "vqvae": []}'),
            ["model_index.json: _class_name=None, with 'vqvae' beside", "DiTPipeline or LDMPipeline or"],
        ),
    ],
)
def test_folders_that_cannot_be_read_are_refused(copied, tmp_path, change, words):
    change(copied)
    with pytest.raises(ValueError) as refused:
        import_diffusers(copied, tmp_path / "run")
    assert all(word in str(refused.value) for word in [str(copied), *words])
    assert not (tmp_path / "run").exists()


def test_places_that_cannot_be_used_are_refused(copied, folder, run_folder, tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder: give"):
        import_diffusers(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(ValueError, match=f"--out {run_folder} is not empty: give another"):
        import_diffusers(folder, run_folder)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"sample_size": [8, 16]}))
    np.savez(tmp_path / "tall.npz", np.zeros((4, 16, 8, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"tall.npz: images of \(16, 8, 3\), but the model's are of \(8, 16, 3\): name"
    ):
        import_diffusers(copied, tmp_path / "run", str(tmp_path / "tall.npz"))
    assert not (tmp_path / "run").exists()


# --- the run ---------------------------------------------------------------------------------------------------------


def imagegen(capsys, *arguments):
    """Runs `imagegen ...`; returns (code, standard output, standard error)."""
    try:
        cli.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    return code, *capsys.readouterr()


def test_a_run_says_where_it_came_from(run_folder, folder, reference):
    origin = json.loads((run_folder / "origin.json").read_text())
    assert (
        origin["library"] == "diffusers"
        and origin["folder"] == str(folder)
        and origin["sha256"] == {WEIGHTS: reference["sha256"]}
    )
    assert origin["unet"]["_diffusers_version"] == origin["model_index"]["_diffusers_version"] == "0.42.1"
    assert origin["scheduler"]["beta_end"] == 0.002
    assert json.loads((run_folder / "parameters.json").read_text())["network"]["count"] == 4_509_571


@pytest.mark.slow
def test_a_run_is_sampled(run_folder, capsys, tmp_path):
    out = tmp_path / "samples.npz"
    options = ("--n", 4, "--out", out, "--model.sampler", "DDIM", "--model.sampler.steps", 5)
    code, said, error = imagegen(capsys, "sample", run_folder, *options)
    assert code == 0 and "4 images" in said, error
    with np.load(out) as arrays:
        images = arrays["arr_0"]
    assert images.shape == (4, 8, 8, 3) and images.dtype == np.uint8
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4 and images.std() > 20


@pytest.mark.slow
def test_a_run_is_edited_and_evaluated(copied, capsys, tmp_path):
    """With few steps, as its scheduler says."""
    config = json.loads((copied / "scheduler_config.json").read_text())
    few = config | {"_class_name": "DDIMScheduler", "num_train_timesteps": 3, "beta_start": 0.1, "beta_end": 0.5}
    (copied / "scheduler_config.json").write_text(json.dumps(few))
    run = import_diffusers(copied, tmp_path / "run")
    assert run.experiment.model.sampler == DDIM(3, clipped_noise=False)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "photo.png")
    out = tmp_path / "new.png"
    code, said, error = imagegen(capsys, "edit", "redraw", run.workdir, tmp_path / "photo.png", "--out", out)
    assert code == 0 and "1 images" in said and out.exists(), error
    np.savez(tmp_path / "images.npz", rng.integers(0, 256, (16, 8, 8, 3), np.uint8))
    options = ("--samples", 16, "--extractor", "pixels", "--metrics", "kid", "--quiet")
    code, said, error = imagegen(capsys, "evaluate", run.workdir, tmp_path / "images.npz", *options)
    assert code == 0 and "kid" in said.lower(), error
    code, _, error = imagegen(capsys, "evaluate", run.workdir, *options)
    assert code == 1 and "imported, and nothing is known of the data" in error and "imagegen evaluate RUN DATA" in error


@pytest.mark.slow
def test_training_may_go_on_from_a_run(run_folder, run):
    """As `pretrained` of an experiment with the same network: its fresh weights have these names and shapes."""
    model = DDPM(NETWORK.clone(dropout=0.1), image_shape=SHAPE)
    fresh = jax.eval_shape(model.init, jax.random.key(0), {"image": jnp.zeros((1, *SHAPE))})
    found = ig.load_network(run_folder, "network")
    assert jax.tree.map(jnp.shape, fresh["network"]) == jax.tree.map(jnp.shape, found)
    jax.tree.map(np.testing.assert_array_equal, found, run.nets["network"])


def test_data_are_part_of_a_run(run):
    """At the model's size, whatever theirs is."""
    assert run.experiment.data.open().image_shape == SHAPE


def test_help_says_how_to_train_on(capsys):
    code, said, _ = imagegen(capsys, "import", "--help")
    assert code == 0 and "imagegen import diffusers ddpm-cifar10-32 --out" in said and 'pretrained={"network"' in said


def test_weights_are_those_of_the_file(run, folder):
    kernel = run.nets["network"]["params"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(kernel, load_file(folder / WEIGHTS)["conv_in.weight"].transpose(2, 3, 1, 0))
