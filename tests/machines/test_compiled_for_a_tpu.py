"""Four tiny recipes through the real compiler of a TPU that is not here."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

RECIPES = {  # a GAN with lazy phases, a VAE, a U-Net, a transformer whose state is split
    "stylegan2_ffhq1024": {"batch_size": 8, "model.path_weight": 0.0},  # R1 is lazy enough
    "vae_mnist": {"batch_size": 8},
    "ddpm_cifar10": {"batch_size": 8, "model.network.attention_at": ()},  # the middle has attention
    "dit_b4_imagenet256": {"batch_size": 8, "mesh.fsdp": 4, "model.network.width": 64},
}

REFUSING = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")

PLANNED = "vae_mnist"

CODE = """
import dataclasses, json, os, sys
import jax, numpy
import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape, batch_sharding, state_sharding
from imagegen_jax.core.compile import jit
from imagegen_jax.core.platform.target import made_for
from imagegen_jax.machines.described import described_devices
from imagegen_jax.machines.examine import examine, planned_step
from imagegen_jax.machines.fit import attempt
from imagegen_jax.machines.machines import parse_machine
from imagegen_jax.machines.programs import Traced
from imagegen_jax.machines.traffic import traffic_of
from imagegen_jax.recipes.shipped import module_of, recipe

for name, changes in json.loads(sys.argv[1]).items():
    experiment = ig.override(ig.override(recipe(name), module_of(name).smoke), changes)
    print(json.dumps(examine(experiment, parse_machine("v5e:2x2"), chunk=4).as_json()), flush=True)

for name in json.loads(sys.argv[2]):  # on each, one array of 100 GiB
    machine = parse_machine(name)
    place = jax.sharding.SingleDeviceSharding(described_devices(machine)[0])
    x = jax.ShapeDtypeStruct((100 * 2**30,), numpy.int8, sharding=place)
    memory = attempt(Traced("", 1, 1.0, jax.jit(lambda x: x, donate_argnums=0).trace(x), x, x, 1), machine).memory
    found = memory.peak, memory.fits, memory.available, machine.chip.memory_bytes
    print(json.dumps({"name": name, "refused": found}))

machine = parse_machine("v5p:2x2x2")
with made_for("tpu", described_devices(machine)):
    mesh = MeshShape(data=1, fsdp=8).build()
    x = jax.ShapeDtypeStruct((512, 256, 4096), jax.numpy.bfloat16, sharding=batch_sharding(mesh))
    w = jax.ShapeDtypeStruct((4096, 10240), jax.numpy.bfloat16)
    w = w.update(sharding=state_sharding(mesh, w))
    text = jit(lambda x, w: x @ w, out_shardings=batch_sharding(mesh)).lower(x, w).compile().as_text()
moved = {one.kind: one.number for one in traffic_of(text).collectives}
print(json.dumps({"name": "product", "moved": moved}), flush=True)

experiment = ig.override(ig.override(recipe(sys.argv[3]), module_of(sys.argv[3]).smoke), {"batch_size": 8})
planned = dataclasses.asdict(planned_step(experiment, parse_machine("v5e:2x2"), 0))
print(json.dumps({"name": "planned", "program": planned}), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def reports(root):
    """What came of each; in a process of its own, since the TPU's library stays in the process that loads it."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install imagegen_jax[tpu] compiles for TPUs without one")
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(RECIPES), json.dumps(REFUSING), PLANNED],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {report["name"]: report for report in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_all_its_programs_compile_and_fit(reports, name):
    report = reports[name]
    assert report["devices"] == 4 and report["machine"] == "v5e:2x2"
    for program in report["programs"]:
        assert program["fits"] and not program["error"] and program["unknown_loops"] == 0, program
        memory = program["memory"]
        assert 0 < memory["state"] <= memory["arguments"] < memory["peak"] <= memory["available"]
        assert program["flops"] > 0 and program["memory_bytes"] > 0 and program["bound"]["seconds"] > 0
    training = [program for program in report["programs"] if program["steps"]]
    assert len(training) == (2 if name == "stylegan2_ffhq1024" else 1)
    reduced = [kinds(program) & {"all-reduce", "reduce-scatter"} for program in training]
    assert all(reduced), "gradients of four devices are added up"


@pytest.mark.slow
def test_a_split_state_is_gathered(reports):
    step = reports["dit_b4_imagenet256"]["programs"][0]
    assert kinds(step) & {"all-gather", "collective-permute"}
    whole = reports["ddpm_cifar10"]["programs"][0]
    assert not kinds(whole) & {"all-gather", "reduce-scatter"}


@pytest.mark.slow
def test_split_weights_of_a_large_product_are_gathered_whole(reports):
    """Piece by piece, which is a TPU compiler's own way, would read and write the large array for each of them."""
    assert reports["product"]["moved"] == {"all-gather": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSING)
def test_the_memory_of_a_chip_is_what_its_compiler_leaves_to_programs(reports, name):
    peak, fits, available, known = reports[name]["refused"]
    assert peak == 100 * 2**30 and not fits and available == known


@pytest.mark.slow
def test_a_plan_says_what_the_compiled_program_takes(reports):
    planned, compiled = reports["planned"]["program"], reports[PLANNED]["programs"][0]
    for name in ("name", "images", "steps", "flops", "memory_bytes", "collectives", "unknown_loops"):
        assert planned[name] == compiled[name]
    memory, whole = planned["memory"], compiled["memory"]
    assert memory["state"] == whole["state"] and memory["available"] == whole["available"] and memory["fits"]
    assert memory["arguments"] < memory["peak"] <= whole["peak"]  # which has the code, too


def kinds(program):
    return {one["kind"] for one in program["collectives"]}
