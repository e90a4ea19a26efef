"""A whole examination, for devices that are here: simulated ones in the place of a machine's."""

import dataclasses
import json

import jax
import pytest
from mechanisms import small
from toy_experiment import experiment as toy

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.program import Program
from imagegen_jax.machines import examine as examining
from imagegen_jax.machines import fit
from imagegen_jax.machines.bound import USUAL, bound_of
from imagegen_jax.machines.fit import Attempt, Memory
from imagegen_jax.machines.machines import CHIPS, Chip, Machine
from imagegen_jax.machines.programs import Traced, row_shapes, sampler, training_steps
from imagegen_jax.machines.words import text_of
from imagegen_jax.recipes.shipped import recipe

CHIP = Chip("test", "cpu", 1e12, 2**30, 1e9, 1e8)


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(examining, "described_devices", lambda machine: tuple(jax.devices()[: machine.devices]))
    return Machine(CHIP, (8,))


def smaller(machine, memory):
    """The machine with so much memory; that of a GPU, whose compiler leaves it to us what fits."""
    return dataclasses.replace(machine, chip=dataclasses.replace(machine.chip, memory_bytes=memory))


@pytest.mark.slow
def test_a_gan_with_a_lazy_phase(machine):
    shown = []
    report = examining.examine(toy, machine, chunk=8, show=shown.append)
    names = ["critic", "critic + generator", "critic + penalty + generator", "sampler"]
    assert [program.name for program in report.programs] == names
    assert shown == [f"compiling {name} for test:8" for name in names]
    assert [program.steps for program in report.programs] == [20, 10, 10, 0]
    assert all(program.fits and not program.error and not program.unknown_loops for program in report.programs)
    for step in report.training:
        sent = sum(one.sent for one in step.collectives)
        assert sent > 0 and step.bound.links == pytest.approx(sent / CHIP.link_rate)
    light, more, heavy = report.training
    assert light.flops < more.flops < heavy.flops and light.memory.state == heavy.memory.state < heavy.memory.arguments
    reduced = {one.kind: one for one in heavy.collectives}["all-reduce"]
    assert reduced.sent == pytest.approx(2 * 7 / 8 * reduced.bytes)
    assert report.seconds == pytest.approx(20 * light.bound.seconds + 10 * (more.bound.seconds + heavy.bound.seconds))
    assert report.fitting_batch is None
    as_json(report)
    text = text_of(report)
    assert "toy on test:8, 8 devices (data 8 x fsdp 1)" in text and "does not fit" not in text
    assert "training step: critic + penalty + generator, 16 images" in text


def as_json(report):
    """The report as it is read back; it has the names that scripts rely on."""
    found = json.loads(json.dumps(report.as_json()))
    assert {"name", "machine", "devices", "mesh", "batch_size", "steps", "programs", "bound"} <= set(found)
    for program in found["programs"]:
        assert {"name", "images", "flops", "memory", "collectives", "bound", "fits", "memory_bytes"} <= set(program)
        assert {"state", "arguments", "temporaries", "peak", "available", "fits"} == set(program["memory"])
        assert {"compute", "memory", "links", "seconds", "by"} == set(program["bound"])
        assert all({"kind", "number", "bytes", "sent"} == set(one) for one in program["collectives"])
    bound, usual = found["bound"], found["at_usual_share"]
    assert usual["share"] == USUAL and usual["days"] == pytest.approx(bound["days"] / USUAL)
    assert usual["images_per_second"] == pytest.approx(bound["images_per_second"] * USUAL)
    return found


@pytest.mark.slow
def test_the_state_is_split_by_fsdp(machine):
    experiment = ig.override(small("dit_b4_imagenet256"), {"batch_size": 8, "model.network.width": 64})
    whole, split = (
        examining.examine(ig.override(experiment, {"mesh.fsdp": n}), machine, chunk=8).programs[0] for n in (1, 8)
    )
    assert split.memory.state < whole.memory.state / 4 and split.flops == whole.flops
    kinds = [{one.kind for one in step.collectives} for step in (whole, split)]
    assert "all-gather" not in kinds[0] and "all-gather" in kinds[1]


def test_a_batch_that_would_fit_is_found_by_trying(machine, monkeypatch):
    program, tried = jax.jit(lambda x: x).trace(1.0), []

    def steps(experiment, mesh):
        yield Traced("step", experiment.batch_size, experiment.steps, program, (), (), mesh.size)

    def attempt(traced, machine):
        tried.append(traced.images)
        available, peak = machine.chip.memory_bytes, 1000 + traced.images**2  # a rule of three would miss it
        return Attempt(memory=Memory(600, 900, peak - 900, peak, available, peak <= available))

    monkeypatch.setattr(examining, "training_steps", steps)
    monkeypatch.setattr(fit, "attempt", attempt)

    def found(batch, room, **settings):
        tried.clear()
        experiment = ig.override(toy, {"batch_size": batch})
        return examining.examine(experiment, smaller(machine, 1000 + room**2), chunk=None, **settings)

    shown = []
    report = found(64, 41, show=shown.append)
    assert report.fitting_batch == 40 and set(tried) <= set(range(8, 65, 8)) and {40, 48} <= set(tried)
    assert shown[-1].startswith("trying a batch of ")
    assert "a batch of 64 does not fit; a batch of 40 would" in text_of(report)
    assert found(64, 0).fitting_batch == 0 and "nor does any smaller one" in text_of(found(64, 0))
    assert found(64, 41, search=False).fitting_batch is None and tried == [64]
    assert found(8 * 640, 4000).fitting_batch == 8 * 480 and len(tried) < 8  # to a sixteenth of the batch
    assert found(8 * 640, 50).fitting_batch == 8 * 6 and len(tried) < 16  # below one, to one of those


def test_what_does_not_compile_is_said(machine, monkeypatch):
    def fails(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such thing\nand much more")

    compiling.compiler_options()  # which are found by compiling, once
    monkeypatch.setattr(jax.stages.Traced, "lower", fails)
    report = examining.examine(toy, machine)
    assert {program.error for program in report.programs} == {"INTERNAL: no such thing"}
    assert report.seconds is None and "bound" not in report.as_json()
    assert "does not compile: INTERNAL: no such thing" in text_of(report)


def test_the_programs_are_those_of_a_run():
    """Shapes alone give what a run here compiles: from the same state, batch and constants."""
    experiment = ig.override(small("edm_digits"), {"batch_size": 8})
    program = Program(experiment)
    (step, *_) = training_steps(experiment, program.mesh)
    given = (program.abstract_state(1), program.batch(0), program.constants)
    for made, wanted in zip(jax.tree.leaves(step.arguments), jax.tree.leaves(given), strict=True):
        assert (made.shape, made.dtype, made.sharding) == (wanted.shape, wanted.dtype, wanted.sharding)


def test_each_stage_has_its_steps_and_they_are_all_of_the_run():
    experiment = small("progan_mnist")
    steps = list(training_steps(experiment, experiment.mesh.build()))
    assert sum(step.steps for step in steps) == pytest.approx(experiment.steps)
    assert len({step.name for step in steps}) == len(steps) > 2
    assert all(" at stage " in step.name for step in steps)


def test_latents_are_rows_of_float32():
    assert row_shapes(recipe("dit_b4_imagenet256"))["image"].dtype == "float32"
    assert row_shapes(recipe("ddpm_cifar10"))["image"].dtype == "uint8"


def test_a_classifier_draws_nothing():
    assert sampler(small("noisy_classifier_digits")) is None


def test_a_bound_is_the_longest_of_three():
    v5e = CHIPS["v5e"]
    bound = bound_of(v5e, 4, flops=4 * 197e12, memory_bytes=819e9 / 2, sent=200e9 / 4)
    assert (bound.compute, bound.memory, bound.links, bound.seconds, bound.by) == (1, 0.5, 0.25, 1, "compute")
    assert bound_of(v5e, 4, 0, 1, 1e12).by == "links" and bound_of(v5e, 4, 0, 1e12, 1).by == "memory"
