"""Runs as a library sees them: averages chosen and reconstructed, weights handed on, steps by hand."""

import dataclasses
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.checkpoint import CheckpointError
from imagegen_jax.core.ema import HalfLife, PowerFunction
from imagegen_jax.core.loop import stop_signal
from imagegen_jax.core.optim import SGD, Adam
from imagegen_jax.core.shard import MeshShape

TOY = ig.Experiment(
    name="toy", model=Regression(), data=ToyData(), optim={"network": Adam(3e-3)}, batch_size=16, steps=400,
    sample_every=0, checkpoint_every=400, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


def kernel(run):
    return np.asarray(run.nets["network"]["params"]["Dense_0"]["kernel"])


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
    from experiments import vae_mnist

    small = ig.override(vae_mnist.experiment, vae_mnist.smoke | {"mesh": MeshShape(data=1), "steps": 3})
    first = ig.fit(small, tmp_path / "first", quiet=True)
    state = ig.Program(small).init({"decoder": ig.load_network(tmp_path / "first", "decoder")})
    for a, b in zip(
        jax.tree.leaves(state.params["decoder"]), jax.tree.leaves(first.state.params["decoder"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="no network 'generator'.*decoder.*encoder"):
        ig.load_network(tmp_path / "first", "generator")


def test_a_second_interrupt_is_left_to_the_system():
    """The first Ctrl-C asks for a save; from then on the next one ends the process, whatever it is doing."""
    before = signal.getsignal(signal.SIGINT)
    with stop_signal(SimpleNamespace()) as asked:
        assert asked(1) == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert asked(2) == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before
