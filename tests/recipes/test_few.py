"""A run is taught a class of few images: what it begins as, what is trained, and what cannot be."""

import dataclasses
import functools
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.cli.train import run as train
from imagegen_jax.cli.train_options import TrainRequest
from imagegen_jax.core.checkpoints.weights import FromRun, with_more_classes
from imagegen_jax.core.config.override import override
from imagegen_jax.core.state import networks
from imagegen_jax.data import Classes, Digits
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.nn.affine import SmallWarps
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.edm2 import EDM2UNet
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.configs import load_config
from imagegen_jax.recipes.few import _weights, with_few
from imagegen_jax.recipes.shipped import module_of

NEW = Classes(Digits(), ("3",), per_class=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of digits without threes, after a step."""
    module = module_of("edm_digits")
    tiny = {**module.smoke, "steps": 1, "batch_size": 8, "sample_every": 0, "samples": 1, "model.num_classes": 9}
    experiment = dataclasses.replace(module.experiment, data=Classes(Digits(), ("3",), left_out=True))
    return ig.fit(override(experiment, tiny), tmp_path_factory.mktemp("few") / "run", quiet=True)


def test_it_begins_as_the_run_with_a_mean_class_more_and_pairs_beside_its_layers(run):
    found = with_few(run.experiment, run.workdir, NEW)
    assert found.model.num_classes == 10
    state = ig.Program(dataclasses.replace(found, batch_size=8)).init()
    before = jax.device_get(networks(state))["network"]["params"]
    own = jax.device_get(run.nets)["network"]["params"]
    kernel = before["label"].pop("kernel")
    np.testing.assert_array_equal(kernel[:9], own["label"]["kernel"])
    np.testing.assert_allclose(kernel[9], own["label"].pop("kernel").mean(0), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, before, own)
    assert {"label", "conv_2"} <= set(found.lora.kernels) and "conv_out" not in found.lora.kernels  # of rank 1
    assert set(state.params["network"]["label"]["kernel"]) == {"A", "B"} and set(state.opt) == {"network"}
    assert SmallWarps((9,)) == found.augment[-1]


NETWORKS = (
    UNet(8, (1,), 1), DiT(2, 1, 8, 1), EDM2UNet(8, (1,), 1, (), 8), SongUNet(8, (1,), 1, ()),
    LatentUNet(8, (1,), 1, (1,), heads=1, class_token=8), ADM(8, (1,), 1, (), head_channels=8),
    LatentUNet(8, (1,), 1, (1,), heads=1, class_token=8, dropped_token=False),
)  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_classes_that_it_knows_and_a_dropped_one_stay_what_they_were(network):
    """Whatever the network makes of its layer "label"; at weights that are drawn, since the output begins as zero."""
    found = _weights(SimpleNamespace(network=network), "network", pathlib.Path("runs/a"), 2)
    x, labels = jnp.ones((4, 8, 8, 1)), np.eye(4, 3, dtype=np.float32)  # the last is dropped

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def drawn(variables, labels):
        return network.apply(variables, x, jnp.full(4, 0.3), Conditioning(labels=labels))

    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(4), Conditioning(labels=labels))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.normal(0.1, 0.5, leaf.shape).astype(np.float32), shapes)
    before = np.asarray(drawn(variables, labels))
    more = with_more_classes(variables, found.more_classes, "runs/a", found.label_rows)
    now = np.asarray(drawn(more, np.eye(4, 5, dtype=np.float32) * [[1], [1], [1], [0]]))
    assert all(np.abs(before[i] - before[j]).max() > 1e-3 for i in range(4) for j in range(i))
    np.testing.assert_allclose(now, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def test_the_command_takes_a_folder_as_a_class_by_its_name(run, tmp_path):
    for number, image in enumerate(NEW.open().images):
        write_picture(tmp_path / "three" / f"{number}.png", np.repeat(image, 3, axis=2))
    words = ("--steps", "7")
    config = tmp_path / "config.yaml"
    train(TrainRequest(str(run.workdir), few=str(tmp_path / "three"), overrides=words, write_config=config))
    found = load_config(str(config), ())
    assert found.steps == 7 and found.lora.rank == 4 and found.name == "edm_digits_with_few"
    assert found.pretrained["network"] == FromRun(str(run.workdir), more_classes=1)
    data = found.data.open()
    assert data.class_names == (*tuple("012456789"), "three")
    np.testing.assert_allclose(data.images[-10:], NEW.open().images, atol=1)  # as grey as those of the run


def test_what_cannot_be_taught_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="knows its classes already: give the folders of new ones other names"):
        with_few(run.experiment, run.workdir, dataclasses.replace(NEW, names=("4",)))
    plain = override(run.experiment, {"model.num_classes": 0, "model.label_dropout": 0.0})
    with pytest.raises(ValueError, match="its model knows no classes, so that none can be added"):
        with_few(plain, run.workdir, NEW)
    with pytest.raises(ValueError, match="--few new: which run is to learn them"):
        train(TrainRequest("edm_digits", few="new"))
    with pytest.raises(ValueError, match="--data digits: with --few the run .* leave it out"):
        train(TrainRequest(str(run.workdir), few="digits", data="digits"))
    with pytest.raises(ValueError, match="runs/a: its network has no layer 'label'"):
        with_more_classes({"params": {"conv": {"kernel": np.zeros((3, 3))}}}, 1, "runs/a")
