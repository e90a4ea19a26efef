"""Devices that are not there: what is said where their compiler is not installed, and how a GPU is described."""

import re

import pytest

from imagegen_jax.machines import described
from imagegen_jax.machines.machines import CHIPS, parse_machine

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(("text", "extra", "what"), [("v5e:2x2", "tpu", "TPUs"), ("h200:8", "cuda", "GPUs")])
def test_a_missing_compiler_is_named_with_what_to_install(monkeypatch, text, extra, what):
    monkeypatch.setattr(described, "_is_installed", lambda package: False)
    with pytest.raises(described.CompilerMissing) as error:
        described.described_devices(parse_machine(text))
    remedy = f'pip install "imagegen_jax[{extra}]" (no {what[:-1]} is needed)'
    assert f"the compiler for {what} is not installed: {remedy}" in str(error.value)


def test_extras_are_those_of_the_package(root):
    text = (root / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = ", text, re.M) for extra in described._EXTRAS.values())


def test_a_package_is_looked_for_without_importing_it():
    assert described._is_installed("jax") and described._is_installed("jax.experimental.topologies")
    assert not described._is_installed("no_such_package") and not described._is_installed("no_such_package.part")


@pytest.mark.parametrize("kind", [kind for kind, chip in CHIPS.items() if chip.platform == "gpu"])
def test_a_gpu_is_described_with_what_is_published(kind):
    chip, text = CHIPS[kind], described.gpu_text(parse_machine(f"{kind}:1"))
    assert text.count("{") == text.count("}")
    assert f"device_memory_size: {chip.memory_bytes} " in text and f'"NVIDIA {kind.upper()}"' in text
    cores, clock, lanes = (float(re.search(rf"{name}: ([\d.]+)", text)[1]) for name in
                           ("core_count", "clock_rate_ghz", "fpus_per_core"))  # fmt: skip
    published = {"a100": 19.5, "h100": 67, "h200": 67, "b200": 75}  # TFLOP/s of float32 without tensor cores
    assert 2e-3 * cores * clock * lanes == pytest.approx(published[kind], rel=0.01)
