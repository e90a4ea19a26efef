"""TAESD's files, as diffusers and as the authors have them: after import, what diffusers computes."""

from __future__ import annotations

import json

import jax
import numpy as np
import official
import pytest
from safetensors.numpy import save_file
from saved_pipelines import write_bin

from imagegen_jax import cli
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.run import load
from imagegen_jax.interop.kinds import import_checkpoint, kind_of


@pytest.fixture(scope="module")
def case(root):
    return official.load(str(root / "tests/reference/tiny_autoencoder.npz"), "tiny")


@pytest.fixture(scope="module")
def tensors(case):
    return {name: np.ascontiguousarray(array, np.float32) for name, array in case.weights.items()}


@pytest.fixture
def pair(tensors, tmp_path):
    """The authors' two files; their decoder has one layer more, the first."""
    halves = {"encoder": {}, "decoder": {}}
    for name, array in tensors.items():
        half, _, at, rest = name.split(".", 3)
        halves[half][f"{int(at) + (half == 'decoder')}.{rest}"] = array
    for half, arrays in halves.items():
        write_bin(tmp_path / f"taesd_{half}.pth", arrays)
    return tmp_path / "taesd_encoder.pth"


def test_reconstructions_are_those_of_diffusers(case, tensors, tmp_path):
    save_file(tensors, tmp_path / "tiny.safetensors")
    place, out = str(tmp_path / "tiny.safetensors"), str(tmp_path / "run")
    cli.main(["import", "tiny-autoencoder", place, "--set", "size=8", "--out", out])
    run = load(tmp_path / "run")
    model = run.experiment.model
    assert model.network.encoder.blocks == model.network.decoder.blocks == (1, 2, 1)
    assert model.network.encoder.width == 6 and model.latent_shape == (2, 2, 4)
    made = official.jit(lambda nets, x: model.network.apply(nets["autoencoder"], x))
    images = made(run.nets, official.last(case.inputs["x"]))
    wanted = official.last(case.output)
    np.testing.assert_allclose(images, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert kind_of(read_weight_file(tmp_path / "tiny.safetensors")) == "tiny-autoencoder"
    assert FromRun(str(tmp_path / "run")).read("autoencoder")["params"].keys() == {"encoder", "decoder"}


def test_the_authors_pair_is_the_same_network(pair, tensors, tmp_path):
    save_file(tensors, tmp_path / "tiny.safetensors")
    one = import_checkpoint("tiny-autoencoder", tmp_path / "tiny.safetensors", tmp_path / "one", given=["size=8"])
    run = import_checkpoint("taesd", pair, tmp_path / "run", given=["size=8"])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(run.nets), jax.device_get(one.nets))
    assert run.experiment.model == one.experiment.model
    assert json.loads((tmp_path / "run/origin.json").read_text())["decoder"]["file"] == "taesd_decoder.pth"


def test_half_of_a_pair_is_refused(pair, tmp_path):
    """A missing decoder, a decoder in the encoder's place, and the encoder as its own decoder."""
    decoder = pair.with_name("taesd_decoder.pth")
    with pytest.raises(ValueError, match="is not the encoder of TAESD"):
        import_checkpoint("taesd", decoder, tmp_path / "run")
    with pytest.raises(ValueError, match="is no decoder: give its file, --set decoder=FILE"):
        import_checkpoint("taesd", pair, tmp_path / "run", given=[f"decoder={pair}"])
    decoder.write_bytes(pair.read_bytes())
    with pytest.raises(ValueError, match="'0.weight' is no layer of TAESD's decoder: give taesd_decoder.pth"):
        import_checkpoint("taesd", pair, tmp_path / "run")
    decoder.unlink()
    with pytest.raises(ValueError, match="taesd_decoder.pth is no decoder"):
        import_checkpoint("taesd", pair, tmp_path / "run")
    assert not (tmp_path / "run").exists()
