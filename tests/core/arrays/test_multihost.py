"""Two processes of two devices each, on this machine: train, save, are killed and resume, as one of four devices."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import toy_experiment
from judged import classifier

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape

pytestmark = pytest.mark.slow

STEPS, FIRST = 20, 5  # of a run, and of its first checkpoint
SHORT = ("--steps", str(STEPS), "--checkpoint-every", str(FIRST))


def launch(root, workdir, *options, recipe="tests/toy_experiment.py"):
    """Starts a run over two processes of two devices, as torchrun-like launchers do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        env = os.environ | {
            "IMAGEGEN_TRACEBACK": "1",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_PLATFORMS": "cpu",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": "2",
        }
        command = [
            sys.executable,
            "-m",
            "imagegen_jax.cli",
            "train",
            recipe,
            "--workdir",
            str(workdir),
            "--distributed",
        ]
        started.append(
            subprocess.Popen(
                [*command, *options], cwd=root, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    return started


def finish(started, code=0):
    """Waits for all processes; returns what they said."""
    said = [process.communicate(timeout=240)[1] for process in started]
    for process, text in zip(started, said, strict=True):
        assert process.returncode == code, text
    return said


def kill(started):
    """Kills all processes at once, as a machine that fails does."""
    for process in started:
        process.send_signal(signal.SIGKILL)
    for process in started:
        process.communicate()


def wait_for(path, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def state_of(workdir):
    return jax.device_get(ig.load(workdir, modules=["toys", "judged"]).state)


def largest_difference(a, b):
    gaps = jax.tree.map(lambda x, y: np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(), a, b)
    return max(jax.tree.leaves(gaps))


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """The folder of an uninterrupted run of two processes."""
    workdir = tmp_path_factory.mktemp("two")
    finish(launch(root, workdir, *SHORT))
    return workdir


def test_two_processes_equal_one(two):
    program = ig.Program(dataclasses.replace(toy_experiment.experiment, steps=STEPS, mesh=MeshShape(data=4)))
    state = program.init()
    for step in range(STEPS):
        state, _ = program.advance(state, step, program.batch(step))
    assert largest_difference(state_of(two), jax.device_get(state)) < 2e-6


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(state_of(one)), jax.tree.leaves(state_of(other)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_killed_and_resumed_bit_for_bit_with_frozen_networks_kept_once(root, tmp_path):
    """With weights split over the processes, which are killed, and go on with the source of the frozen ones gone."""
    wide = ig.override(classifier, {"model.network.features": 512})
    ig.fit(wide, tmp_path / "classifier", quiet=True)
    options = ("--pretrained.judge", f"{tmp_path / 'classifier'}:network", "--mesh.fsdp", "2")
    options += ("--model.judge.features", "512", "--sample-every", "0", *SHORT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(launch(root, whole, *options, recipe="tests/judged.py"))
    started = launch(root, killed, *options, recipe="tests/judged.py")
    wait_for(killed / "checkpoints" / str(FIRST))
    kill(started)
    (kept,) = (killed / "frozen").iterdir()
    assert [path.name for path in (whole / "frozen").iterdir()] == [kept.name]
    shutil.rmtree(tmp_path / "classifier")
    finish(launch(root, killed, *options, recipe="tests/judged.py"))
    assert_same(whole, killed)
    assert [path.name for path in (killed / "frozen").iterdir()] == [kept.name]


def test_a_preempted_run_saves_at_one_step_in_all_processes(root, tmp_path):
    started = launch(root, tmp_path, "--steps", "1000000", "--checkpoint-every", "1000000", "--sample-every", "0")
    wait_for(tmp_path / "metrics.jsonl")
    time.sleep(0.5)
    started[1].send_signal(signal.SIGTERM)  # one host is told; both leave
    said = finish(started, code=128 + signal.SIGTERM)
    steps = {text.split("stopped by SIGTERM at step ")[1].split(", saved")[0] for text in said}
    assert len(steps) == 1
    saved = [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")]
    assert saved == [steps.pop().replace(",", "")]
