"""Seeds side by side: one program for all, and each run as it would be alone."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from toys import Game, Growing, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.loop import train, train_side_by_side
from imagegen_jax.core.optim import Adam

GAME = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)},
    averages={"ema": HalfLife(64.0)}, batch_size=16, steps=6, log_every=2, checkpoint_every=4, sample_every=0,
    samples=4, mesh=MeshShape(data=1),
)  # fmt: skip
SEEDS = (0, 1, 5)


def of_seed(seed, experiment=GAME):
    return dataclasses.replace(experiment, seed=seed)


def numbers(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in SEEDS]
    before = compiling.compilations()
    found = train_side_by_side([of_seed(seed) for seed in SEEDS], folders, quiet=True)
    return folders, [state for _, state in found], compiling.compilations() - before


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [name for name in lines[0] if name not in ("time", "images_per_second")]
    return np.array([[line[name] for name in kept] for line in lines])


def test_each_seed_is_what_it_is_alone(together, tmp_path):
    folders, states, compiled = together
    assert compiled == 3  # critic alone, with generator, and with both others: no more than for a single run
    for seed, folder, state in zip(SEEDS, folders, states, strict=True):
        alone = train(of_seed(seed), tmp_path / str(seed), quiet=True)[1]
        for one, other in zip(numbers(state), numbers(alone), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics(folder), metrics(tmp_path / str(seed)), rtol=1e-4, atol=1e-6)
    assert max(np.abs(numbers(states[0].params)[0] - numbers(states[1].params)[0])) > 1e-2


def test_they_go_on_from_their_checkpoints_together_or_alone(together, tmp_path):
    folders, states, _ = together
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    for copy in copies:
        for last in (copy / "checkpoints").glob("*6*"):
            shutil.rmtree(last)
    alone = train(of_seed(SEEDS[0]), copies[0], quiet=True)[1]
    rest = train_side_by_side([of_seed(seed) for seed in SEEDS[1:]], copies[1:], quiet=True)
    for state, again in zip(states, [alone, *(state for _, state in rest)], strict=True):
        assert int(again.step) == 6
        for one, other in zip(numbers(state), numbers(again), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_differs_in_more_than_its_seed_is_refused(tmp_path):
    others = [of_seed(0), dataclasses.replace(of_seed(1), steps=7)]
    with pytest.raises(ValueError, match="side by side differ in steps: only seed and name may"):
        train_side_by_side(others, [tmp_path / "a", tmp_path / "b"], quiet=True)
    staged = ig.Experiment("toy", Growing(), ToyData(), {"network": Adam(1e-2)}, batch_size=16, steps=6,
                           samples=4, mesh=MeshShape(data=1))  # fmt: skip
    with pytest.raises(ValueError, match="Growing has stages"):
        train_side_by_side([of_seed(s, staged) for s in (0, 1)], [tmp_path / "a", tmp_path / "b"], quiet=True)
    assert not list(tmp_path.iterdir())


def test_over_several_devices_too(tmp_path):
    regression = ig.Experiment(
        "toy", Regression(), ToyData(), {"network": Adam(1e-2)}, batch_size=16, steps=2, samples=4,
        mesh=MeshShape(data=2),
    )  # fmt: skip
    folders = [tmp_path / "a", tmp_path / "b"]
    states = [s for _, s in train_side_by_side([of_seed(s, regression) for s in (0, 1)], folders, quiet=True)]
    alone = train(of_seed(1, regression), tmp_path / "c", quiet=True)[1]
    for one, other in zip(numbers(states[1].params), numbers(alone.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
