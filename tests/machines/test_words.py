"""The report on a machine as a person reads it."""

import dataclasses

import pytest

from imagegen_jax.machines.bound import bound_of
from imagegen_jax.machines.fit import GPU_MOST, Memory
from imagegen_jax.machines.machines import parse_machine
from imagegen_jax.machines.report import MachineReport, ProgramReport
from imagegen_jax.machines.traffic import Collective
from imagegen_jax.machines.words import text_of

GIB = 2**30
MACHINE = parse_machine("h100:8")
FULL = int(GPU_MOST * MACHINE.chip.memory_bytes)


def program(name, steps, flops, memory, sent=0.0):
    """A program of 256 images on eight GPUs, which moves 134 GB."""
    moved = (Collective("all-reduce", 12, int(sent * 4 / 7), sent),) if sent else ()
    bound = bound_of(MACHINE.chip, 8, flops, 134e9, sent)
    return ProgramReport(
        name, 256, steps, flops, memory, memory_bytes=134 * 10**9, collectives=moved, bound=bound,
    )  # fmt: skip


STEP = program(
    "denoise", 1_730_000, 8 * 989.4e12 / 20, Memory(10 * GIB, 11 * GIB, 50 * GIB, 62 * GIB, FULL, True), 2.25e9
)
SAMPLER = program("sampler", 0, 8 * 989.4e12 * 4, Memory(2 * GIB, 2 * GIB, GIB, 3 * GIB, FULL, True))
REPORT = MachineReport("dit", "h100:8", "gpu", 8, {"data": 8, "fsdp": 1}, 256, 1_730_000, (STEP, SAMPLER))


def changed(step=STEP, sampler=SAMPLER, **report):
    return text_of(dataclasses.replace(REPORT, programs=(step, sampler), **report))


def without_room(program):
    return dataclasses.replace(program, memory=dataclasses.replace(program.memory, peak=90 * GIB, fits=False))


def test_a_report_says_what_each_number_is_of():
    assert (
        text_of(REPORT)
        == """\
dit on h100:8, 8 devices (data 8 x fsdp 1)

training step: denoise, 256 images
  memory          62 GiB of the 75.2 GiB for programs on each device: fits
                  arguments 11 GiB (state 10 GiB), temporaries 50 GiB, results and the program itself 1 GiB
  work            396 TFLOP on all devices, 1.55 TFLOP an image
  memory traffic  134 GB read and written by each device
  collectives     12 all-reduce of 1.29 GB in all, 2.25 GB sent by each device
  at least        50 ms, bound by compute (compute 50 ms, memory 40 ms, links 5 ms)

sampler, 256 images
  memory          3 GiB of the 75.2 GiB for programs on each device: fits
                  arguments 2 GiB (networks 2 GiB), temporaries 1 GiB, results and the program itself 0 KiB
  work            31.7 PFLOP on all devices, 124 TFLOP an image
  memory traffic  134 GB read and written by each device
  at least        4 s, bound by compute (compute 4 s, memory 40 ms, links none)
                  so at most 64 images/s

jax takes 75% of a GPU's memory, too little here: set XLA_CLIENT_MEM_FRACTION=0.95
training, 1,730,000 steps of 256 images
  at the bound  5,120 images/s, 1.0 days: all at published peak rates (roofline)
  at 40% of it  2,048 images/s, 2.5 days: a guess, nothing was run"""
    )


def test_of_a_batch_that_does_not_fit_no_speed_is_said():
    text = changed(step=without_room(STEP), fitting_batch=208)
    assert "90 GiB of the 75.2 GiB for programs on each device: does not fit" in text
    assert "a batch of 256 does not fit; a batch of 208 would; try --microbatches or --mesh.fsdp 8" in text
    assert "at the bound" not in text and "MEM_FRACTION" not in text


@pytest.mark.parametrize(
    ("fsdp", "batch", "said"),
    [
        (2, 0, "nor does any smaller one; try --mesh.fsdp 8"),
        (8, 0, "nor does any smaller one; take more devices, or some with more memory"),
        (8, 208, "a batch of 208 would; try --microbatches"),
    ],
)
def test_nothing_is_advised_that_is_done_already_or_does_not_help(fsdp, batch, said):
    text = changed(step=without_room(STEP), fitting_batch=batch, mesh={"data": 8 // fsdp, "fsdp": fsdp})
    assert f"a batch of 256 does not fit; {said}\n" in f"{text}\n"


def test_training_that_fits_with_a_sampler_that_does_not_is_said_to_fit():
    failed = dataclasses.replace(SAMPLER, memory=None, error="INTERNAL: no such thing")
    for step, sampler, fits in (
        (STEP, SAMPLER, True), (STEP, without_room(SAMPLER), True), (STEP, failed, False),
        (without_room(STEP), SAMPLER, False),
    ):  # fmt: skip
        report = dataclasses.replace(REPORT, programs=(step, sampler))
        assert report.fits == report.as_json()["fits"] == fits


def test_a_sampler_that_does_not_fit_is_said_with_its_remedy():
    text = changed(sampler=without_room(SAMPLER))
    assert "the sampler does not fit: draw fewer images at a time (imagegen sample --chunk)" in text
    assert "at the bound" in text


@pytest.mark.parametrize(("steps", "length"), [(40, "2 s"), (4010, "3 min 20 s"), (400_000, "5 h 33 min")])
def test_short_runs_are_said_in_hours_minutes_or_seconds(steps, length):
    assert f"images/s, {length}: all at" in changed(step=dataclasses.replace(STEP, steps=steps), steps=steps)
