"""Two processes of two devices each, on this machine: train, save, are killed and resume, as one of four devices."""

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
from judged import classifier

import imagegen_jax as ig

pytestmark = pytest.mark.slow


def launch(root, workdir, processes, devices, *options, recipe="tests/toy_experiment.py"):
    """Starts a run over several processes, as torchrun-like launchers do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        env = os.environ | {
            "IMAGEGEN_TRACEBACK": "1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of programs that run a few times
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
        }
        if processes > 1:
            env |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
            }
            options = [*options, "--distributed"] if "--distributed" not in options else options
        command = [
            sys.executable,
            "-m",
            "imagegen_jax.cli",
            "train",
            recipe,
            "--workdir",
            str(workdir),
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
    finish(launch(root, workdir, 2, 2))
    return workdir


def test_two_processes_equal_one(root, tmp_path, two):
    finish(launch(root, tmp_path, 1, 4))
    assert largest_difference(state_of(two), state_of(tmp_path)) < 2e-6


@pytest.mark.parametrize("mesh", [(), ("--mesh.fsdp", "2")], ids=["data", "fsdp"])
def test_killed_and_resumed_bit_for_bit(root, tmp_path, two, mesh):
    whole = two
    if mesh:
        whole = tmp_path / "whole"
        finish(launch(root, whole, 2, 2, *mesh))
    workdir = tmp_path / "killed"
    started = launch(root, workdir, 2, 2, *mesh)
    wait_for(workdir / "checkpoints" / "10")
    for process in started:
        process.send_signal(signal.SIGKILL)
    for process in started:
        process.wait()
    finish(launch(root, workdir, 2, 2, *mesh))
    for a, b in zip(jax.tree.leaves(state_of(whole)), jax.tree.leaves(state_of(workdir)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_frozen_networks_are_kept_once_by_all_processes(root, tmp_path):
    """Split over the processes, too; resumed by them, with the source gone, and by one process."""
    wide = ig.override(classifier, {"model.network.features": 512})
    ig.fit(wide, tmp_path / "classifier", quiet=True)
    options = ("--pretrained.judge", f"{tmp_path / 'classifier'}:network", "--mesh.fsdp", "2")
    options += ("--model.judge.features", "512")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(launch(root, whole, 2, 2, *options, recipe="tests/judged.py"))
    finish(launch(root, parts, 2, 2, *options, "--steps", "4", recipe="tests/judged.py"))
    (kept,) = (parts / "frozen").iterdir()
    assert [path.name for path in (whole / "frozen").iterdir()] == [kept.name]
    shutil.rmtree(tmp_path / "classifier")
    finish(launch(root, parts, 2, 2, *options, "--resume-with-changes", recipe="tests/judged.py"))
    for a, b in zip(jax.tree.leaves(state_of(whole)), jax.tree.leaves(state_of(parts)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert [path.name for path in (parts / "frozen").iterdir()] == [kept.name]


def test_a_preempted_run_saves_at_one_step_in_all_processes(root, tmp_path):
    started = launch(root, tmp_path, 2, 2, "--steps", "1000000", "--checkpoint-every", "1000000", "--sample-every", "0")
    wait_for(tmp_path / "metrics.jsonl")
    time.sleep(3)
    started[1].send_signal(signal.SIGTERM)  # one host is told; both leave
    said = finish(started, code=128 + signal.SIGTERM)
    steps = {text.split("stopped by SIGTERM at step ")[1].split(", saved")[0] for text in said}
    assert len(steps) == 1
    saved = [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")]
    assert saved == [steps.pop().replace(",", "")]
