"""`imagegen info --machine`: what is wrong is said before anything is opened, and JSON is all that it prints."""

import json

import jax
import pytest
from toy_experiment import experiment

from imagegen_jax import fit, override
from imagegen_jax.machines import described, examine, machines
from imagegen_jax.machines import fit as fitting


@pytest.fixture
def here(monkeypatch):
    """Devices that are here in the place of a machine's: "here:4"."""
    monkeypatch.setitem(machines.CHIPS, "here", machines.Chip("here", "cpu", 1e12, 2**30, 1e9, 1e8))
    monkeypatch.setattr(described, "check_compiler", lambda machine: None)
    monkeypatch.setattr(examine, "described_devices", lambda machine: tuple(jax.devices()[: machine.devices]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--machine", "h20:8"), "--machine h20:8: no kind 'h20' is known; name one of v4:2x2x2"),
        (("--machine", "h200:8x"), "give its number of devices as h200:8 does"),
        (("--machine", "h200:8", "--arrays"), "--arrays: with --machine no arrays are shown"),
        (("--machine", "v5e:2x2"), "--machine v5e:2x2: the compiler for TPUs is not installed"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said_first(imagegen, monkeypatch, options, said):
    monkeypatch.setattr(described, "_is_installed", lambda package: False)
    code, out, error = imagegen("info", "no_such_experiment", *options)
    assert code == 1 and said in error and not out


def test_a_batch_that_devices_do_not_divide_is_refused_with_the_nearest(imagegen, root, here):
    code, out, said = imagegen("info", root / "tests" / "toy_experiment.py", "--machine", "here:6")
    assert code == 1 and "batch_size=16 is not divisible by 6 devices; the nearest that are: 12, 18" in said and not out


@pytest.mark.slow
def test_json_is_all_that_is_printed_and_a_run_can_be_asked_about_with_changes(imagegen, root, here, tmp_path):
    fit(override(experiment, {"steps": 1, "mesh.data": 1}), tmp_path / "run", quiet=True)
    options = ("--module", "toys", "--machine", "here:2", "--json", "--batch-size", 8, "--mesh.data", 2)
    code, out, said = imagegen("info", tmp_path / "run", *options)
    assert code == 0, said
    report = json.loads(out)
    assert (report["machine"], report["batch_size"], report["devices"]) == ("here:2", 8, 2)
    assert "compiling critic for here:2 ..." in said
    code, out, said = imagegen("info", tmp_path / "run", *options, "--log-every", 7)
    assert code == 1 and "--log-every 7: changes no program" in said


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("room", "code"), [(2**30, 0), (2**10, 1)])
def test_where_training_does_not_fit_the_report_comes_with_an_exit_code(
    imagegen, root, small_machine, as_json, room, code
):
    small_machine(room)
    found, out, said = imagegen(
        "info", root / "tests" / "toy_experiment.py", "--machine", "here:2", *["--json"] * as_json
    )
    assert found == code and "error" not in said, said
    assert json.loads(out)["fits"] == (code == 0) if as_json else ("does not fit" in out) == (code == 1)


@pytest.fixture
def small_machine(here, monkeypatch):
    """Gives the machine memory, of which any program takes 2 KiB; nothing is compiled."""

    def compiled(traced, machine):
        return fitting.Attempt(
            memory=fitting.Memory(1, 1, 1, 2**11, machine.chip.memory_bytes, machine.chip.memory_bytes > 2**11)
        )

    def with_room(room):
        chip = machines.Chip("here", "cpu", 1e12, room, 1e9, 1e8)
        monkeypatch.setitem(machines.CHIPS, "here", chip)
        monkeypatch.setattr(fitting, "attempt", compiled)

    return with_room
