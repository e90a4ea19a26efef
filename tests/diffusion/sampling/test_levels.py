"""Noise levels against k-diffusion, published values and closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from imagegen_jax.core.config.choices import options_of
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.diffusion.sampling.levels import (
    AnyLevels,
    EqualTimes,
    FromFile,
    Karras,
    Listed,
    PolyExponential,
    ShiftedFlow,
    Spaced,
    timesteps,
)
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule

# Stable Diffusion 1.5's ten steps, as its authors publish them (Sabour et al. 2024).
ALIGNED = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("karras", Karras(10, 0.02, 50.0)),
        ("exponential", PolyExponential(10, 0.02, 50.0)),
        ("polyexponential", PolyExponential(10, 0.02, 50.0, rho=1.5)),
        ("vp", EqualTimes(10)),
    ],
)
def test_levels_are_those_of_k_diffusion(root, name, levels):
    with np.load(root / "tests/reference/solver_trajectories.npz") as reference:
        np.testing.assert_allclose(levels(), reference[f"levels/{name}"], rtol=1e-12)


def test_a_shifted_flow_is_that_of_diffusers(root):
    """FlowMatchEulerDiscreteScheduler(shift=3.0), whose times are float32 and were told to begin at 0.96."""
    with np.load(root / "tests/reference/solver_trajectories.npz") as reference:
        levels = ShiftedFlow(8, shift=3.0, margin=0.04)()
        np.testing.assert_allclose(levels / (1 + levels), reference["levels/shifted_flow"], rtol=1e-7)


ALL = [Karras(), PolyExponential(), EqualTimes(), Spaced(), Spaced(CosineSchedule(), None), ShiftedFlow(shift=3.0)]


@pytest.mark.parametrize("levels", ALL, ids=str)
def test_levels_fall_to_0_and_survive_json(levels):
    found = levels()
    assert found.dtype == np.float64 and np.all(np.diff(found) < 0) and found[-1] == 0 and np.isfinite(found).all()
    assert len(found) == (levels.steps or 1000) + 1
    assert from_dict(json.loads(json.dumps(to_dict(levels)))) == levels


def test_every_kind_is_tested():
    assert {type(levels) for levels in ALL} | {FromFile, Listed} == set(options_of(AnyLevels).load_all())


@pytest.mark.parametrize("spacing", ["linear", "leading", "trailing", "quadratic"])
def test_spaced_levels_are_the_schedules(spacing):
    schedule = LinearSchedule(100)
    levels = Spaced(schedule, 5, spacing)()
    alpha_bar = 1 / (1 + levels[:-1] ** 2)
    times = {"linear": [0, 25, 50, 74, 99], "leading": [0, 20, 40, 60, 80], "trailing": [19, 39, 59, 79, 99]}
    times["quadratic"] = [0, 5, 20, 45, 80]
    np.testing.assert_array_equal(timesteps(100, 5, spacing), times[spacing])
    np.testing.assert_allclose(alpha_bar[::-1], schedule.alpha_bar[times[spacing]], rtol=1e-12)


@pytest.mark.parametrize(("offset", "times"), [(1, [0, 1, 21, 41, 61, 81]), (0, [0, 20, 40, 60, 80])])
def test_times_may_be_moved_and_the_last_level_be_that_of_the_first_time(offset, times):
    schedule = LinearSchedule(100)
    levels = Spaced(schedule, 5, "leading", offset, to_zero=False)()
    np.testing.assert_allclose(1 / (1 + levels[::-1] ** 2), schedule.alpha_bar[times], rtol=1e-12)
    with pytest.raises(ValueError, match="offset=20: the last time would be 100, but those of the schedule go to 99"):
        Spaced(schedule, 5, "leading", 20)


def test_a_shifted_flow_is_stable_diffusion_3s():
    """t' = 3 t / (1 + 2 t) (Esser et al. 2024, Eq. 23), from almost 1 to 0."""
    levels = ShiftedFlow(4, shift=3.0, margin=1e-6)()
    t = np.array([1 - 1e-6, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(levels / (1 + levels), 3 * t / (1 + 2 * t), rtol=1e-12)
    np.testing.assert_allclose(ShiftedFlow(4)() / (1 + ShiftedFlow(4)()), [1 - 1e-5, 0.75, 0.5, 0.25, 0], rtol=1e-12)


def test_listed_levels_are_read_and_interpolated(tmp_path):
    path = tmp_path / "levels.json"
    path.write_text(json.dumps([*ALIGNED, 0.0]))
    np.testing.assert_array_equal(FromFile(str(path))(), [*ALIGNED, 0.0])
    np.testing.assert_allclose(FromFile(str(path), 11)(), [*ALIGNED, 0.0], rtol=1e-12)
    twice = FromFile(str(path), 21)()
    np.testing.assert_allclose(twice[:-1:2], ALIGNED, rtol=1e-12)
    np.testing.assert_allclose(twice[1:-2:2], np.sqrt(np.multiply(ALIGNED[1:], ALIGNED[:-1])), rtol=1e-12)


@pytest.mark.parametrize("text", ["[]", "[1, 2]", "[2, 1, -1]", '{"a": 1}', '["a"]', "[2, 0, 0]", "[2, NaN]"])
def test_files_that_list_no_levels_are_refused(tmp_path, text):
    path = tmp_path / "levels.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: (must hold a list of numbers|noise levels must decrease)"):
        FromFile(str(path))()


def test_listed_levels_are_themselves():
    np.testing.assert_array_equal(Listed((80.0, 0.8))(), [80.0, 0.8, 0.0])
    assert from_dict(json.loads(json.dumps(to_dict(Listed((80.0, 0.8)))))) == Listed((80.0, 0.8))


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        FromFile(str(tmp_path / "missing.json"))()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Karras(0), "levels.steps=0"),
        (lambda: Karras(sigma_min=80.0, sigma_max=0.002), r"levels.sigma_min=80.0, .*\(are they reversed\?\)"),
        (lambda: Karras(sigma_min=0.0), "levels.sigma_min=0.0"),
        (lambda: Karras(rho=0.0), "levels.rho=0.0"),
        (lambda: PolyExponential(sigma_max=float("inf")), "levels.sigma_max=inf"),
        (lambda: PolyExponential(rho=-1.0), "levels.rho=-1.0"),
        (lambda: EqualTimes(end=0.0), "levels.end=0.0"),
        (lambda: Spaced(steps=1001), "steps=1001 is not between 1 and the 1000 steps"),
        (lambda: Spaced(steps=0), "steps=0"),
        (lambda: ShiftedFlow(shift=0.0), "levels.shift=0.0"),
        (lambda: ShiftedFlow(10, margin=0.2), "levels.margin=0.2"),
        (lambda: FromFile("x", 0), "levels.steps=0"),
        (lambda: Listed(()), r"levels.sigmas=\(\): "),
        (lambda: Listed((1.0, 2.0)), r"levels.sigmas=\(1.0, 2.0\): must be finite, decrease"),
        (lambda: Listed((1.0, 0.0)), r"levels.sigmas=\(1.0, 0.0\): "),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
