"""Moving averages against closed forms; post-hoc reconstruction against an average kept directly."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core import ema
from imagegen_jax.core.config import serial
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.ema import FixedDecay, HalfLife, PowerFunction, gamma_of_std, reconstruction_weights
from imagegen_jax.core.optim import SGD, Clock
from imagegen_jax.core.state import create, networks, start_averages
from imagegen_jax.core.step import StepSpec, _follow

pytestmark = pytest.mark.versions


def clock(step):
    return Clock(jnp.int32(step), jnp.int32(1000))


def follow(average, values, batch_size=1):
    kept, found = np.float64(values[0]) * 0, []
    decays = np.asarray(average.decay(clock(np.arange(len(values))), batch_size), np.float64)
    for keep, value in zip(decays, values, strict=True):
        kept = keep * kept + (1 - keep) * value
        found.append(kept)
    return np.array(found)


def test_fixed_decay_weights_geometrically():
    values = np.array([1.0, 5.0, -2.0])
    assert follow(FixedDecay(0.9), values)[-1] == pytest.approx(0.1 * (0.81 * 1 + 0.9 * 5 - 2), rel=1e-6)


def test_fixed_decay_starts_where_it_is_told():
    """Until then it is the weights themselves; the first value that it mixes in is the next one."""
    values = np.array([1.0, 5.0, -2.0, 3.0])
    found = follow(FixedDecay(0.9, start=2), values)
    np.testing.assert_allclose(found, [1, 5, 0.9 * 5 - 0.1 * 2, 0.9 * (0.9 * 5 - 0.1 * 2) + 0.1 * 3], rtol=1e-6)


def test_fixed_decay_stored_before_it_had_a_start_is_the_same_average():
    stored = serial.to_dict(FixedDecay(0.5, networks=("generator",)))
    del stored["start"]
    average = serial.from_dict(stored)
    assert average == FixedDecay(0.5, networks=("generator",)) and average.start == 0
    assert serial.with_defaults(stored, FixedDecay(start=7)) == serial.to_dict(average)


def test_half_life_halves_in_that_many_images():
    average = HalfLife(images=640, ramp=None)
    kept = 1.0
    for step in range(10):
        kept *= float(average.decay(clock(step), 64))
    assert kept == pytest.approx(0.5, rel=1e-5)


def test_ramp_bounds_the_half_life_by_the_images_seen():
    average = HalfLife(images=1e9, ramp=0.05)
    assert float(average.decay(clock(0), 64)) == 0.0
    assert float(average.decay(clock(100), 64)) == pytest.approx(0.5 ** (1 / (0.05 * 100)), rel=1e-5)


@pytest.mark.parametrize(("std", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_of_the_widths_that_edm2_uses(std, gamma):
    assert gamma_of_std(std) == pytest.approx(gamma, abs=0.01)


def test_power_function_decays_as_its_formula_says():
    for step in (0, 1, 9):
        wanted = (1 - 1 / (step + 1)) ** (gamma_of_std(0.1) + 1)
        assert float(PowerFunction(0.1).decay(clock(step), 64)) == pytest.approx(wanted, rel=1e-5)


def test_power_function_average_is_the_profile_it_names():
    """The weights of the recursion, as a distribution over time, have the width that the field says."""
    steps = 4000
    for std in (0.05, 0.1, 0.2):
        decays = np.asarray(PowerFunction(std).decay(clock(np.arange(steps)), 1), np.float64)
        weights = (1 - decays) * np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)
        time = np.arange(1, steps + 1) / steps
        mean = np.sum(weights * time)
        assert np.sum(weights) == pytest.approx(1.0, abs=1e-4)
        assert np.sqrt(np.sum(weights * (time - mean) ** 2)) == pytest.approx(std, rel=2e-3)


def test_reconstruction_equals_an_average_kept_directly():
    """Forty snapshots of two widths give any other width, also one that ends before the run does."""
    steps = 2000
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.standard_normal((steps, 3)), axis=0) * 0.1 + np.linspace(0, 5, steps)[:, None]
    stds, at = (0.05, 0.10), np.arange(50, steps + 1, 50)
    kept = {std: follow(PowerFunction(std), path) for std in stds}
    snapshots = [{"w": kept[std][t - 1]} for t in at for std in stds]
    for target, end in ((0.07, steps), (0.15, steps), (0.08, 1500)):
        weights = reconstruction_weights([t for t in at for _ in stds], [s for _ in at for s in stds], end, target)
        direct = follow(PowerFunction(target), path)[end - 1]
        found = ema.reconstruct(snapshots, weights)["w"]
        assert np.abs(found - direct).max() < 2e-3 * np.abs(path).max(), (target, end)
        assert weights.sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("std", [0.0, 0.3, -1.0])
def test_impossible_widths_are_refused(std):
    with pytest.raises(ValueError, match="0.2886"):
        PowerFunction(std)


def test_averages_cover_weights_and_batch_statistics_alone():
    nets = {"a": {"params": jnp.ones(2), "batch_stats": jnp.zeros(2), "pool": jnp.int32(0)}}
    kept = start_averages(nets, "a", {"ema": FixedDecay(), "other": FixedDecay(networks=("b",))})
    assert set(kept) == {"ema"} and set(kept["ema"]) == {"params", "batch_stats"}


def test_a_codebook_is_averaged_as_the_encoder_whose_outputs_it_follows():
    """A step of the average takes both by the same share; counts of images are those of now."""
    book = {"quantiser": {"embedding": jnp.zeros(2)}, "use": {"unchosen": jnp.int32(7)}}
    state = create({"a": {"params": {"w": jnp.zeros(2)}, "codebook": book}}, {"a": SGD(1.0)}, {"ema": FixedDecay(0.9)})
    moved = {"quantiser": {"embedding": jnp.ones(2)}, "use": {"unchosen": jnp.int32(3)}}
    state = state.replace(params={"a": {"w": jnp.ones(2)}}, stats={"a": {"codebook": moved}})
    spec = StepSpec(None, FrozenMap({}), FrozenMap({"ema": FixedDecay(0.9)}))
    state = _follow(spec, state, clock(0), 8)
    kept = networks(state, "ema")["a"]
    np.testing.assert_allclose(kept["params"]["w"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(kept["codebook"]["quantiser"]["embedding"], 0.1, rtol=1e-6)
    assert kept["codebook"]["use"]["unchosen"] == 3 and networks(state)["a"]["codebook"] == moved


def test_bad_decays_are_refused():
    with pytest.raises(ValueError, match="FixedDecay.rate=1.5"):
        FixedDecay(1.5)
    with pytest.raises(ValueError, match="FixedDecay.start=-1: must be at least 0"):
        FixedDecay(start=-1)
    with pytest.raises(ValueError, match="HalfLife.images=0"):
        HalfLife(0)
