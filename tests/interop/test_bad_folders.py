"""`imagegen import diffusers` of odd folders: one message that names file, key and value, and nothing left behind."""

from __future__ import annotations

import json
import math
import os
import shutil
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from imagegen_jax import cli
from imagegen_jax.interop.diffusers_config import SCHEDULER, UNET, abstract_parameters, network_of
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.name_map import as_published
from imagegen_jax.interop.names.unets import ddpm

CONFIGS = {
    "unet/config.json": {
        "_class_name": "UNet2DModel", "act_fn": "silu", "attention_head_dim": None, "block_out_channels": [128, 128],
        "center_input_sample": False, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "downsample_padding": 0,
        "dropout": 0.0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 1,
        "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 32, "out_channels": 3, "sample_size": 8,
        "time_embedding_type": "positional", "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
        "clip_sample": True, "num_train_timesteps": 1000, "variance_type": "fixed_large",
    },
}  # fmt: skip
SETTINGS = {"unet/config.json": UNET, "scheduler/scheduler_config.json": SCHEDULER}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
BAD = ["wrong", [], [None], {}, {"a": 1}, -1, 10**40, math.nan, -math.inf, 2.5, [2.5, -1], [[8]], "\x00", ["x"] * 1000]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that can be imported."""
    folder = tmp_path_factory.mktemp("whole")
    for name, config in CONFIGS.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(json.dumps(config))
    network, shape = network_of(CONFIGS["unet/config.json"], "")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), abstract_parameters(network, shape))
    tensors = as_published(zeros, ddpm(2))
    save_file(tensors, folder / WEIGHTS)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy, to be spoilt."""
    shutil.copytree(whole, tmp_path / "saved", copy_function=os.link)
    return tmp_path / "saved"


@pytest.fixture
def refused(folder, tmp_path):
    """Imports, and checks that it is refused at once, in one message with all these words, without a trace."""

    def refused(*words):
        start = time.monotonic()
        with pytest.raises((ValueError, OSError)) as caught:
            import_diffusers(folder, tmp_path / "run")
        said = str(caught.value)
        assert all(word in said for word in words) and len(said) < 1500 and "\n" not in said, said
        assert not (tmp_path / "run").exists() and time.monotonic() - start < 20

    return refused


def rewrite(folder, name, config):
    (folder / name).unlink()  # the other copies stay as they are
    (folder / name).write_text(config if isinstance(config, str) else json.dumps(config))


@pytest.mark.slow
def test_the_folder_can_be_imported(folder, tmp_path):
    cli.main(["import", "diffusers", str(folder), "--out", str(tmp_path / "run")])
    assert (tmp_path / "run" / "experiment.json").is_file()


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in CONFIGS for key in ("_class_name", *SETTINGS[name])])
def test_every_setting_with_a_bad_value_is_named(folder, refused, name, key):
    for value in BAD:
        if key == "sample_max_value" and value in (2.5, 10**40):  # of thresholding, which is refused itself
            continue
        rewrite(folder, name, CONFIGS[name] | {key: value})
        refused(name, f"{key}=")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("sample_size", value) for value in (10_000_000, 0, True, [8], [8, 8, 8], 7, None)),
        *(("block_out_channels", value) for value in ([0, 0], [128, 100], [True, True], [128], [10**6, 10**6], 128)),
        *(("dropout", value) for value in (2, 1.0, True, None)),
        *(("layers_per_block", value) for value in (0, True, 10**9)),
        *(("norm_num_groups", value) for value in (0, 31, True, None)),
        *(("in_channels", value) for value in (0, 4, 10**9)),
        ("down_block_types", ["DownBlock2D", "CrossAttnDownBlock2D"]),
        ("mid_block_scale_factor", True),
        ("flip_sin_to_cos", 0),
        ("another_setting", 1),
    ],
)
def test_settings_of_the_network_that_cannot_be_are_named(folder, refused, key, value):
    rewrite(folder, "unet/config.json", CONFIGS["unet/config.json"] | {key: value})
    refused("unet/config.json", key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_train_timesteps", value) for value in (10.5, 0, 10**9, True, None)),
        *(("beta_start", value) for value in (0.5, 0, 1, True)),
        *(("beta_end", value) for value in (1, 2, 1e-9, None)),
        *(("clip_sample", value) for value in (1, 0, None)),
        ("another_setting", 1),
    ],
)
def test_settings_of_the_scheduler_that_cannot_be_are_named(folder, refused, key, value):
    name = "scheduler/scheduler_config.json"
    rewrite(folder, name, CONFIGS[name] | {key: value})
    refused(name, f"{key}=")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("text", ["", "[]", "null", "3", '{"a": ', "\x00", "[" * 100_000, '"text"', "\N{SNOWMAN}"])
def test_a_configuration_that_is_none_is_named(folder, refused, name, text):
    rewrite(folder, name, text)
    refused(name)


@pytest.mark.parametrize("name", [*CONFIGS, "model_index.json"])
def test_a_pointer_in_place_of_a_configuration_is_named(folder, refused, name):
    (folder / "model_index.json").write_text("{}")
    rewrite(folder, name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(name, "it is a pointer of Git LFS", "git lfs pull")


def test_a_pipeline_without_its_index_is_named(folder, refused):
    """The U-Net beside a text encoder is none that could be read alone."""
    (folder / "text_encoder").mkdir()
    refused("has no model_index.json", "(text_encoder)", "copy it there")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["missing", "pipe", "folder", "not text"])
def test_a_file_that_is_none_is_named(folder, refused, name, kind):
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    elif kind == "not text":
        (folder / name).write_bytes(b"\xff\xfe\xfa")
    refused(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: np.full_like(array, np.nan), ["NaN", "3,456 values"]),
        (
            lambda array: np.where(np.arange(array.size).reshape(array.shape) == 5, np.float32(np.inf), array),
            ["1 values"],
        ),
        (lambda array: np.full(array.shape, 1e300), ["infinite"]),
        (lambda array: array.astype(np.int32), ["int32"]),
        (lambda array: array[:1], ["1x3x3x3 does not fit"]),
        (lambda array: array.reshape(-1), ["3456 does not fit"]),
        (lambda array: array[..., :0], ["does not fit"]),
        (lambda array: None, ["conv_in/kernel 3x3x3x128 is not there"]),
    ],
)
def test_weights_that_cannot_be_are_named(folder, refused, change, words):
    tensors = dict(load_file(folder / WEIGHTS))
    tensors["conv_in.weight"] = change(tensors["conv_in.weight"])
    (folder / WEIGHTS).unlink()
    save_file({name: array for name, array in tensors.items() if array is not None}, folder / WEIGHTS)
    refused(WEIGHTS, "conv_in", *words)


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder", "empty", "text", "cut", "head", "long head", "offsets"])
def test_a_file_of_weights_that_is_none_is_named(folder, refused, kind):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    length = int.from_bytes(whole[:8], "little")
    if kind == "pipe":
        os.mkfifo(folder / WEIGHTS)
    elif kind == "folder":
        (folder / WEIGHTS).mkdir()
    elif kind != "missing":
        lying = whole[8 : 8 + length].replace(b'"shape":[128,3,3,3]', b'"shape":[999,3,3,3]')
        content = {
            "empty": b"", "text": b"hello", "cut": whole[:-100], "head": whole[: length // 2],
            "long head": (2**60).to_bytes(8, "little") + whole[8:], "offsets": whole[:8] + lying + whole[8 + length :],
        }  # fmt: skip
        (folder / WEIGHTS).write_bytes(content[kind])
    refused("diffusion_pytorch_model.safetensors")


def test_nothing_is_left_where_writing_fails(folder, tmp_path, monkeypatch, refused):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imagegen_jax.interop.importing.folders.store_rows", full)
    refused("No space left")


def test_an_output_that_is_a_file_is_refused(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as exit:
        cli.main(["import", "diffusers", str(folder), "--out", str(tmp_path / "file")])
    said = capsys.readouterr().err
    assert exit.value.code == 1 and said.startswith("error: --out") and "there is a file of this name" in said
    assert (tmp_path / "file").read_text() == "mine"
