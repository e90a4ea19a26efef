"""Plans of a TPU's compiler, in its files; `test_compiled_for_a_tpu` has it make one."""

import types

from imagegen_jax.machines import fit, planned
from imagegen_jax.machines.machines import Chip, Machine
from imagegen_jax.machines.programs import Traced

REPORT = (
    "Memory Space: default (color=0)\nTotal bytes: 53409568 (50.93MiB)\n\nMemory Space: vmem (color=1)\nTotal bytes: 7"
)
PLAN = "HloModule m\n\nENTRY %main (x: f32[8]) -> f32[8] {\n  ROOT %x = f32[8]{0} parameter(0)\n}\n"
MACHINE = Machine(Chip("test", "tpu", 1e12, 2**30, 1e9, 1e8), (1,))


def test_the_large_memory_is_read_from_a_report():
    assert planned.planned_bytes(REPORT) == 53_409_568
    assert planned.planned_bytes("Memory Space: vmem (color=1)\nTotal bytes: 7") is None
    assert planned.planned_bytes(REPORT[:50]) is None  # of which the last digits are not written yet


def traced(compile_):
    lowered = types.SimpleNamespace(compile=compile_)
    return Traced("step", 1, 1.0, types.SimpleNamespace(lower=lambda: lowered), (), (), 1)


def test_a_plan_is_read_once_it_is_whole_while_the_compiler_goes_on(monkeypatch):
    monkeypatch.setattr(planned, "POLL", 0.001)
    goes_on = []

    def compile_(options):
        folder = planned.pathlib.Path(options["xla_dump_to"])
        place = folder / "m.after_optimizations_after_buffer_assignment.txt"
        place.write_text(PLAN[:-2])  # all but its end
        planned.time.sleep(0.05)
        goes_on.append(place.exists())
        place.write_text(PLAN)
        planned.time.sleep(0.05)
        goes_on.append(place.exists())
        (folder / "m.after_optimizations-memory-usage-report.txt").write_text(REPORT)
        while place.exists():
            planned.time.sleep(0.001)
        raise AssertionError("it has been read")

    found = planned.attempt(traced(compile_), MACHINE)
    assert goes_on == [True, True] and found.compiled.as_text() == PLAN
    assert found.memory == fit.Memory(0, 0, 53_409_568, 53_409_568, 2**30, fits=True)


def test_a_plan_of_more_than_the_memory_does_not_fit(monkeypatch):
    monkeypatch.setattr(planned, "_whole", lambda folder, found: (PLAN, 2**30 + 1))
    assert not planned.attempt(traced(lambda options: None), MACHINE).fits


def test_what_does_not_compile_is_as_without_a_plan(monkeypatch):
    monkeypatch.setattr(planned, "POLL", 0.001)

    def compile_(options):
        raise planned.fit.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 800.00M of 0.50G hbm")

    found = planned.attempt(traced(compile_), MACHINE)
    assert found.compiled is None and found.memory.peak == 800 * 2**20 and not found.fits
