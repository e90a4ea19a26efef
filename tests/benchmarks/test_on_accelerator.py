"""scripts/on_accelerator: parts keep their time and do not take one another down, numbers are right, and it runs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "benchmarks")]

from on_accelerator import attention, command, networks, prediction, speed, training_steps  # noqa: E402
from on_accelerator.command import NAME, PARTS, Record, compared, main, options_of, run  # noqa: E402
from on_accelerator.parts import Part, Settings, limit_of  # noqa: E402

from imagegen_jax import override  # noqa: E402
from imagegen_jax.core.drawing.draw import drawing, rows_at  # noqa: E402
from imagegen_jax.core.experiment import abstract_nets, model_row_shapes  # noqa: E402
from imagegen_jax.machines.machines import CHIPS  # noqa: E402


def part(name, most=60.0, least=1.0, arguments=()):
    return Part(name, f"parts_for_tests:{name}", least, most, arguments)


def outcome(tmp_path, *parts, minutes=5.0, dry_run=True):
    """What the file holds after these parts."""
    settings = Settings(dry_run, str(tmp_path), None, None)
    run(parts, settings, Record(tmp_path / NAME, {}), minutes)
    return json.loads((tmp_path / NAME).read_text())["parts"]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_part_is_ended_at_its_limit_with_all_that_it_started_and_the_next_begins(tmp_path):
    found = outcome(tmp_path, part("well"), part("sleeps", most=2.0), part("well", arguments=("again",)))
    sleeping = found["sleeps"]
    assert sleeping["status"] == "ended at its limit" and 2.0 <= sleeping["seconds"] < 10.0
    assert sleeping["last_lines"] == ["so far so good"]
    time.sleep(0.2)
    assert not any(map(is_running, sleeping["found"]["processes"]))
    assert found["well"]["status"] == "ok" and found["well"]["found"]["arguments"] == ["again"]


@pytest.mark.slow
def test_a_part_that_dies_is_noted_with_its_last_lines_and_the_next_begins(tmp_path):
    found = outcome(tmp_path, part("raises"), part("says_why"), part("is_killed"), part("well"))
    assert [found[name]["status"] for name in found] == ["failed", "failed", "failed", "ok"]
    assert found["raises"]["last_lines"][-1] == "RuntimeError: the network is upside down"
    assert found["raises"]["found"] == {"before": 1}
    assert found["says_why"]["last_lines"] == ["attention differs by 0.5"]
    assert found["is_killed"]["last_lines"][-1] == "ended by SIGSEGV"


@pytest.mark.slow
def test_what_a_part_finds_is_in_the_file_while_it_goes_on_beside_what_was_there(tmp_path):
    (tmp_path / NAME).write_text(json.dumps({"parts": {"loop": {"status": "ok", "found": {"a": 1}}}}))
    found = outcome(tmp_path, part("reads_the_file"))
    seen = json.loads(found["reads_the_file"]["found"]["saw"])["parts"]
    assert seen["reads_the_file"] == {"status": "running", "limit_seconds": 60.0, "found": {"first": 1}}
    assert seen["loop"] == found["loop"] == {"status": "ok", "found": {"a": 1}}
    assert os.listdir(tmp_path) == [NAME]


@pytest.mark.slow
def test_without_time_nothing_begins(tmp_path):
    found = outcome(tmp_path, part("well"), minutes=0.0)
    assert found["well"]["status"] == "skipped" and found["well"]["last_lines"] == ["no time was left"]


@pytest.mark.slow
def test_without_an_accelerator_it_ends_with_one_message(tmp_path):
    first = Part("device", "parts_for_tests:no_accelerator", 1, 60)
    with pytest.raises(SystemExit, match=r"^error: jax 0.0 \(jax.py\) sees no accelerator.*--dry-run$"):
        outcome(tmp_path, first, part("well"), dry_run=False)
    assert list(json.loads((tmp_path / NAME).read_text())["parts"]) == ["device"]


def test_parts_share_what_is_left():
    early, late = Part("early", "", 10, 60), Part("late", "", 20, 600)
    assert limit_of(early, [late], left=300) == 60  # its own limit
    assert limit_of(early, [late], left=50) == 30  # what the later one leaves
    assert limit_of(early, [late], left=25) == 10  # its least, at the later one's expense
    assert limit_of(early, [late], left=5) == 5
    assert limit_of(late, [], left=300) == 300
    assert sum(part.least for part in PARTS) <= 8 * 60  # none starves for want of time by default


def test_parts_are_named_alone_or_by_kind(tmp_path, capsys):
    def chosen(*names):
        return [part.name for part in options_of([str(tmp_path), "--parts", *names]).parts]

    assert chosen("attention") == ["device", "attention"]
    assert chosen("train-edm", "loop") == ["device", "loop", "train-edm"]
    assert chosen("step") == ["device", *(f"step-{name}" for name in networks.NETWORKS)]
    with pytest.raises(SystemExit):
        chosen("steps")
    assert "there is no such part; they are device, attention, step-ddpm_cifar10" in capsys.readouterr().err


def test_mfu_of_a_matrix_product():
    n = 512
    flops = prediction.operations(jnp.dot, *[jax.ShapeDtypeStruct((n, n), jnp.bfloat16)] * 2)
    assert flops == 2 * n**3
    peak = prediction.chip("NVIDIA H200").peak_flops
    assert peak == 989.4e12
    seconds = 2 * n**3 / peak  # at the peak of one device, a fourth of it over four
    assert speed.mfu(flops, seconds, peak) == pytest.approx(1.0)
    assert speed.mfu(flops, seconds, peak, devices=4) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("NVIDIA A100-SXM4-80GB", "a100"),
        ("TPU v4", "v4"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"),
        ("cpu", None), ("NVIDIA H100 PCIe", None), ("NVIDIA H200 NVL", None), ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
    ],
)  # fmt: skip
def test_devices_are_known_by_what_jax_calls_them(kind, name):
    assert prediction.chip(kind) == CHIPS.get(name)


@pytest.mark.slow
def test_the_bound_of_a_large_matrix_product_is_its_operations():
    n = 4096
    compiled = jax.jit(jnp.dot).lower(*[jax.ShapeDtypeStruct((n, n), jnp.float32)] * 2).compile()
    found = prediction.bound(compiled, 2.0 * n**3, CHIPS["h200"], devices=1)
    assert found["seconds"] == pytest.approx(2 * n**3 / 989.4e12) and found["by"] == "compute"
    assert found["memory_bytes"] == 3 * 4 * n**2 and found["sent_bytes"] == 0


def test_the_time_of_a_step_is_the_median_over_blocks(monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def take(steps):
        calls.append(steps)
        clock[0] += (
            0.25 * steps * {1: 40, 4: 3}.get(len(calls), 1)
        )  # the first has the allocation, a block is disturbed

    found = speed.timed(take, budget=10.0)
    assert calls == [1, 1] + 5 * [8] and found["steps"] == 40
    assert found["seconds"] == found["fastest_seconds"] == 0.25 and found["slowest_seconds"] == 0.75


def test_the_mean_of_lazy_phases_counts_each_as_often_as_it_comes_due():
    experiment = networks.experiment_of("stylegan2_256", dry_run=False)
    often, path = ("generator", "discriminator"), ("generator", "path", "discriminator")
    every = (*path, "r1")  # of 16 steps 12, 3 and 1
    found = {often: {"seconds": 0.1}, path: {"seconds": 0.2}, every: {"seconds": 0.4}}
    mean = training_steps.mean_of(experiment, found, {often: 16.0, path: 32.0, every: 64.0})
    assert mean["seconds"] == pytest.approx((12 * 0.1 + 3 * 0.2 + 0.4) / 16)
    assert mean["flops_per_second"] * mean["seconds"] == pytest.approx((12 * 16 + 3 * 32 + 64) / 16)
    assert mean["images_per_second"] == pytest.approx(experiment.batch_size / mean["seconds"])


def test_times_as_fast_as_torch(tmp_path):
    record = Record(tmp_path / NAME, {})
    record.found["parts"] = {
        "step-ddpm_cifar10": {"found": {"devices": 8, "images_per_second": 2400.0}},
        "step-edm_cifar10": {"found": {"devices": 8}},
        "step-dit_xl2_imagenet256": {"found": {"devices": 8, "images_per_second": 100.0}},
        "step-stylegan2_256": {"found": {
            "devices": 8, "generator + discriminator": {"images_per_second": 160.0}, "images_per_second": 120.0,
        }},
        "torch": {"found": {
            "torch": "2.13.0", "ddpm_cifar10": {"images_per_second": 200.0}, "edm_cifar10": {"images_per_second": 1.0},
            "dit_xl2_imagenet256": {"failed": "RuntimeError"}, "stylegan2_256": {"images_per_second": 10.0},
        }},
    }  # fmt: skip
    assert compared(record) == {"ddpm_cifar10": 1.5, "stylegan2_256": 2.0}  # of one device, without lazy phases


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, parameters",
    [  # as published; of the GAN, those of NVlabs/stylegan2-ada-pytorch's paper256
        ("ddpm_cifar10", {"network": 35_746_307}),
        ("dit_xl2_imagenet256", {"network": 674_834_720}),
        ("edm_cifar10", {"network": 55_735_299}),
        ("stylegan2_256", {"generator": 24_767_458, "discriminator": 24_001_089}),
    ],
)
def test_networks_have_their_full_size_and_draw(name, parameters):
    of, experiment = networks.NETWORKS[name], networks.experiment_of(name, dry_run=False)
    nets = abstract_nets(experiment.model, model_row_shapes(experiment))
    assert training_steps.parameters({key: net["params"] for key, net in nets.items()}) == parameters
    model = override(experiment, of.sampling).model
    given = {**of.conditions} | ({"label": np.zeros(of.chunk, np.int32)} if experiment.num_classes else {})
    draw, chunk = drawing(model, nets, of.chunk, given, of.chunk)
    images, _ = draw.eval_shape(nets, np.uint32(0), np.uint32(0), rows_at(given, 0, chunk))
    assert images.shape == (of.chunk, *model.image_shape)


def test_a_wrong_attention_is_seen(monkeypatch):
    right = attention.of_shape((2, 16, 2, 8), budget=0.0)["errors"]
    assert list(right) == list(attention.NAMES) and 0 < max(right.values()) < attention.LIMIT

    def unscaled(q, k, v, implementation):
        return attend(q * 2**0.5 if implementation == "auto" else q, k, v, "xla")

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", unscaled)
    attention.with_gradients.cache_clear()
    wrong = attention.of_shape((2, 16, 2, 8), budget=0.0)["errors"]
    attention.with_gradients.cache_clear()
    assert min(wrong.values()) > 10 * attention.LIMIT


@pytest.mark.slow
def test_dry_run(tmp_path):
    """Of each kind of part the cheapest; the others differ by the recipe alone."""
    chosen = ["attention", "step-dit_xl2_imagenet256", "torch", "loop", "sampling", "train-dcgan"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "on_accelerator", tmp_path, "--dry-run", "--parts", *chosen],
        env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / NAME).read_text())["parts"]
    assert {name: found[name].get("last_lines") for name in found} == dict.fromkeys(["device", *chosen])
    assert all(of["status"] == "ok" for of in found.values()), done.stdout
    assert found["step-dit_xl2_imagenet256"]["found"]["images_per_second"] > 0
    assert found["sampling"]["found"]["dit_xl2_imagenet256"]["images_per_second"] > 0
    assert found["loop"]["found"]["dcgan_mnist"]["bare_step_ms"] > 0
    assert found["train-dcgan"]["found"]["steps"] == 20
    assert (tmp_path / "dcgan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: OUT"),
        (("FILE",), "is a file, not a folder: name another"),
        (("OUT", "--torch", "no_such_python"), "--torch no_such_python: there is no such program"),
        (
            ("OUT", "--data", "nowhere"),
            "--data nowhere: has no cifar10; prepare it (imagegen data prepare tfds:cifar10 --data-dir nowhere)",
        ),
    ],
)
def test_what_is_missing_is_said_before_the_minutes_count(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("FILE").write_text("")
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err and os.listdir() == ["FILE"]


def test_numbers_of_a_dry_run_are_not_mixed_with_those_of_an_accelerator(tmp_path):
    Record(tmp_path / NAME, {"dry_run": True}).write()
    Record(tmp_path / NAME, {"dry_run": True})
    with pytest.raises(SystemExit, match="has numbers of a dry run: name another folder, or delete it"):
        Record(tmp_path / NAME, {"dry_run": False})


@pytest.mark.parametrize("given", [{}, {"XLA_CLIENT_MEM_FRACTION": "0.5"}, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}])
def test_a_failed_part_is_the_exit_code_and_memory_is_asked_for_once(tmp_path, monkeypatch, capsys, given):
    """jax refuses to start with both names of the variable."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("CLIENT_MEM_FRACTION")}
    monkeypatch.setattr(command.os, "environ", kept | given)
    monkeypatch.setattr(
        command, "run_part", lambda part, *_: command.Outcome("failed" if part.name == "loop" else "ok")
    )
    with pytest.raises(SystemExit, match="^error: loop failed"):
        main([str(tmp_path), "--parts", "loop", "attention"])
    found = {name: value for name, value in command.os.environ.items() if name.endswith("CLIENT_MEM_FRACTION")}
    assert found == (given or {"XLA_CLIENT_MEM_FRACTION": "0.92"})
    assert json.loads((tmp_path / NAME).read_text())["parts"]["attention"]["status"] == "ok"
    assert f"the results: {tmp_path / NAME}" in capsys.readouterr().out
