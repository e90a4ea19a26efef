"""Runs as a library sees them: averages chosen and reconstructed, weights handed on, steps by hand."""

import dataclasses
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from experiments import ddpm_digits
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.stored import CheckpointError
from imagegen_jax.core.drawing.draw import label_conditions, sample, sample_chunks
from imagegen_jax.core.ema import HalfLife, PowerFunction
from imagegen_jax.core.optim import SGD, Adam
from imagegen_jax.core.reporting.pending import PendingMetrics
from imagegen_jax.core.state import networks
from imagegen_jax.core.training import live_run
from imagegen_jax.diffusion.sampling.discrete_time import DDIM

pytestmark = pytest.mark.versions

TOY = ig.Experiment(
    name="toy", model=Regression(), data=ToyData(), optim={"network": Adam(3e-3)}, batch_size=16, steps=400,
    sample_every=0, checkpoint_every=400, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


def kernel(run):
    return np.asarray(run.nets["network"]["params"]["Dense_0"]["kernel"])


@pytest.mark.slow
def test_a_reconstructed_average_equals_one_kept_directly(tmp_path):
    widths = {"narrow": PowerFunction(0.05), "wide": PowerFunction(0.10)}
    run = ig.fit(dataclasses.replace(TOY, averages=widths), tmp_path / "two", quiet=True)
    direct = ig.fit(dataclasses.replace(TOY, averages={"it": PowerFunction(0.07)}), tmp_path / "one", quiet=True)
    assert len(list((tmp_path / "two" / "snapshots").iterdir())) == 40
    found, wanted = kernel(run.reconstruct(0.07)), kernel(direct)
    between = np.abs(kernel(run) - kernel(run.with_average("wide"))).max()
    assert np.abs(found - wanted).max() < 0.01 * between
    earlier = run.reconstruct(0.07, step=300)
    assert np.abs(kernel(earlier) - wanted).max() > 0.1 * between


@pytest.mark.slow
def test_only_networks_with_all_such_averages_are_reconstructed(tmp_path):
    averages = {"ema": HalfLife(16.0, ramp=None), "narrow": PowerFunction(0.05, networks=("generator",))}
    optim = {"generator": SGD(0.1), "critic": SGD(0.1)}
    run = ig.fit(dataclasses.replace(TOY, model=Game(), optim=optim, averages=averages, steps=4), tmp_path, quiet=True)
    found = run.reconstruct(0.05)
    assert_same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    assert_same(found.state.ema["critic"], run.state.ema["critic"])
    assert_same(found.state.ema["generator"]["ema"], run.state.ema["generator"]["narrow"])


@pytest.mark.slow
def test_a_sampler_that_cannot_be_is_refused_before_training(tmp_path):
    experiment = ig.override(ddpm_digits.experiment, {"steps": 2, "model.sampler": DDIM(2_000)})
    with pytest.raises(ValueError, match="steps=2000 is not between 1 and the 1000 steps of the schedule"):
        ig.fit(experiment, tmp_path, quiet=True)
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_reconstruction_without_snapshots_is_refused(tmp_path):
    run = ig.fit(dataclasses.replace(TOY, steps=2), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match="PowerFunction"):
        run.reconstruct(0.07)


def test_any_average_may_be_drawn_from(tmp_path):
    averages = {"slow": HalfLife(10_000.0, ramp=None), "fast": HalfLife(16.0, ramp=None)}
    run = ig.fit(dataclasses.replace(TOY, steps=5, averages=averages), tmp_path, quiet=True)
    slow, fast, last = (kernel(run.with_average(name)) for name in ("slow", "fast", "none"))
    np.testing.assert_array_equal(kernel(run), slow)
    np.testing.assert_array_equal(last, np.asarray(run.state.params["network"]["Dense_0"]["kernel"]))
    assert np.abs(fast - last).max() < np.abs(slow - last).max()
    with pytest.raises(ValueError, match="'quick'.*slow, fast"):
        run.with_average("quick")


@pytest.mark.slow
def test_pretrained_weights_start_a_network_and_frozen_ones_stay(tmp_path):
    game = dataclasses.replace(TOY, model=Game(), optim={"generator": SGD(0.1), "critic": SGD(0.1)}, steps=3)
    other = ig.Program(dataclasses.replace(game, seed=5)).init()
    given = {"params": jax.device_get(other.params["frozen"])}
    ig.save_network(tmp_path / "frozen.npz", given)
    run = ig.fit(
        dataclasses.replace(game, pretrained={"frozen": str(tmp_path / "frozen.npz")}), tmp_path / "run", quiet=True
    )
    for a, b in zip(jax.tree.leaves(run.nets["frozen"]["params"]), jax.tree.leaves(given), strict=True):
        np.testing.assert_array_equal(a, b)
    ig.save_network(tmp_path / "wrong.npz", {"params": {"Dense_0": {"kernel": np.zeros((3, 3)), "bias": np.zeros(3)}}})
    with pytest.raises(ValueError, match="pretrained\\['frozen'\\]"):
        ig.fit(
            dataclasses.replace(game, pretrained={"frozen": str(tmp_path / "wrong.npz")}), tmp_path / "no", quiet=True
        )


def test_pretrained_weights_come_from_a_run_too(tmp_path):
    optim = {"generator": SGD(0.1), "critic": SGD(0.1)}
    small = dataclasses.replace(TOY, model=Game(), optim=optim, steps=4)
    first = ig.fit(small, tmp_path / "first", quiet=True)
    fresh = ig.Program(small).init()
    state = ig.Program(small).init({"generator": ig.load_network(tmp_path / "first", "generator")})
    for network, source in (("generator", first.state), ("critic", fresh)):
        for a, b in zip(jax.tree.leaves(state.params[network]), jax.tree.leaves(source.params[network]), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(kernel_of(first.state), kernel_of(fresh))
    with pytest.raises(ValueError, match="no network 'decoder'.*critic.*generator"):
        ig.load_network(tmp_path / "first", "decoder")


def kernel_of(state):
    return np.asarray(state.params["generator"]["Dense_0"]["kernel"])


def numbers(folder):
    """The names of what a folder holds, as numbers, in order."""
    return sorted(int(path.stem) for path in folder.iterdir() if path.stem.isdigit())


def test_grids_checkpoints_and_snapshots_are_there_when_they_are_due(tmp_path):
    value = dataclasses.replace(
        TOY, optim={"network": SGD(0.0)}, averages={"ema": PowerFunction()}, steps=7, sample_every=3,
        checkpoint_every=2, keep_checkpoints=2, snapshots=3,
    )  # fmt: skip
    ig.fit(value, tmp_path / "a", quiet=True)
    assert numbers(tmp_path / "a" / "samples") == [3, 6, 7]
    assert numbers(tmp_path / "a" / "checkpoints") == [6, 7]
    assert numbers(tmp_path / "a" / "snapshots") == [3, 6, 7]
    grids = {Image.open(path).tobytes() for path in (tmp_path / "a" / "samples").iterdir()}
    assert len(grids) == 1  # the weights did not move, and the key is the same
    ig.fit(dataclasses.replace(value, sample_every=0), tmp_path / "b", quiet=True)
    assert numbers(tmp_path / "b" / "samples") == [7]


def test_metrics_are_means_over_the_steps_since_the_last_line(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(live_run.time, "perf_counter", lambda: now[0])
    pending = PendingMetrics()
    pending.restart(4)
    for step, loss in ((5, 1.0), (6, 3.0), (7, 10.0)):
        pending.add(step, {"a/loss": jnp.float32(loss)} | ({"b/loss": jnp.float32(7.0)} if step == 6 else {}))
    now[0] = 14.0
    assert pending.take(6, 16) == {"images_per_second": 8.0, "a/loss": 2.0, "b/loss": 7.0}
    pending.restart(6)
    now[0] = 15.0
    assert pending.take(7, 16) == {"images_per_second": 16.0, "a/loss": 10.0}
    assert pending.take(7, 16) == {}


@pytest.mark.slow
def test_time_spent_on_a_grid_is_no_training_time(tmp_path, monkeypatch):
    monkeypatch.setattr(live_run, "write_png", lambda path, picture, prompts: time.sleep(2))
    ig.fit(dataclasses.replace(TOY, steps=4, log_every=1, sample_every=2), tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[2]["images_per_second"] > 16 / 2


@dataclasses.dataclass(frozen=True)
class Painter(Regression):
    """Draws its label into the first pixel, its bias into the second and noise into the others."""

    num_classes: int = 3

    def sample(self, nets, key, n, conditions):
        images = jax.random.uniform(key, (n, 4), minval=-1.0)
        images = images.at[:, 0].set(conditions["label"] / 2 - 0.5)
        return images.at[:, 1].set(nets["network"]["params"]["Dense_0"]["bias"][0]).reshape(n, 2, 2, 1)


def test_chunks_have_the_rows_they_should_and_numbers_of_their_own():
    value = dataclasses.replace(
        TOY, model=Painter(), optim={"network": SGD(1.0)}, averages={"ema": HalfLife(1e4, None)}
    )
    program = ig.Program(value)
    state, _ = program.step(program.init())
    labels = label_conditions(np.arange(10) % 3)
    images = program.sample(state, 10, conditions=labels, chunk=4)
    coded = images[:, 0, 0, 0].astype(int)
    assert [coded.tolist().index(code) for code in coded] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    noise = images[:, 1].reshape(10, 2)
    assert len(np.unique(noise, axis=0)) == 10
    other = program.sample(state, 10, seed=1, conditions=labels, chunk=4)[:, 1].reshape(10, 2)
    assert (other != noise).any(axis=1).all()
    averaged, last = networks(state, "ema"), networks(state)
    np.testing.assert_array_equal(images, sample(value.model, averaged, 10, 0, labels, 4))
    assert (images != sample(value.model, last, 10, 0, labels, 4)).any()
    later = np.concatenate(list(sample_chunks(value.model, averaged, 10, 0, labels, 4, start=4)))
    np.testing.assert_array_equal(later, images[4:])
    with pytest.raises(ValueError, match="start=2"):
        next(sample_chunks(value.model, averaged, 10, 0, labels, 4, start=2))
