"""Machines by name: which there are, and what is said of a name that is none."""

import pytest

from imagegen_jax.machines.machines import CHIPS, example, parse_machine

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    ("text", "devices"), [("v5p:2x2x2", 8), ("v5p:4x4x4", 64), ("V6E:4x4", 16), ("h200:8", 8), ("a100:1", 1)]
)
def test_a_name_is_read_and_written(text, devices):
    machine = parse_machine(text)
    assert machine.devices == devices and str(machine) == text.lower()


def test_examples_are_of_eight_devices():
    assert {parse_machine(example(kind)).devices for kind in CHIPS} == {8}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v7:2x2", r"no kind 'v7' is known; name one of v4:2x2x2, v5e:2x4, v5p:2x2x2, v6e:2x4, a100:8"),
        ("h200", r"--machine h200: give its number of devices as h200:8 does"),
        ("v5p:2x2", r"as v5p:2x2x2 does"),
        ("v5e:2x2x2", r"as v5e:2x4 does"),
        ("v5e:0x4", r"as v5e:2x4 does"),
        ("h100:x", r"as h100:8 does"),
        ("h100:16", r"at most 8 GPUs, those of one host: h100:8"),
        ("", r"no kind ''"),
    ],
)
def test_what_is_no_machine_is_refused_with_one_that_is(text, said):
    with pytest.raises(ValueError, match=said):
        parse_machine(text)


def test_rates_are_in_the_proportion_that_is_published():
    """Operations for each byte of memory: what a program must do to be bound by compute, from both published rates."""
    ridge = {kind: round(chip.peak_flops / chip.memory_rate) for kind, chip in CHIPS.items()}
    assert ridge == {
        "v4": 229, "v5e": 241, "v5p": 166, "v6e": 560, "a100": 153, "h100": 295, "h200": 206, "b200": 281,
    }  # fmt: skip


def test_what_is_published_of_every_chip():
    """TFLOP/s, GB/s of links both ways, as their makers publish them; GiB of memory as compilers or CUDA report it."""
    assert {
        kind: (chip.peak_flops / 1e12, round(chip.memory_bytes / 2**30, 1), 2 * chip.link_rate / 1e9)
        for kind, chip in CHIPS.items()
    } == {
        "v4": (275, 30.8, 600), "v5e": (197, 15.8, 400), "v5p": (459, 95.7, 1200), "v6e": (918, 31.2, 800),
        "a100": (312, 79.3, 600), "h100": (989.4, 79.1, 900), "h200": (989.4, 139.8, 900), "b200": (2250, 178.4, 1800),
    }  # fmt: skip
