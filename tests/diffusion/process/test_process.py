"""Processes and predictions: definitions, derivatives, inverses, and every conversion there and back."""

from __future__ import annotations

import itertools
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest

from imagegen_jax.diffusion.process.denoiser import clipped, from_prediction, preconditioned
from imagegen_jax.diffusion.process.prediction import Kind, broadcast_rows, coefficients, convert, row
from imagegen_jax.diffusion.process.process import EDM, Point, RectifiedFlow, VarianceExploding, at
from imagegen_jax.diffusion.process.variance_preserving import Cosine, Discrete, Gamma, SubVP, VariancePreserving
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule

KINDS = get_args(Kind)
PRESERVING = [VariancePreserving(), Cosine(), Cosine(0.0), Gamma(lambda t: -13.3 + 18.3 * t), Discrete()]
PROCESSES = [EDM(), VarianceExploding(), RectifiedFlow(), SubVP(), *PRESERVING]


def times(process):
    """Times inside of the range of `process`, away from whole times of a schedule, where its rates jump."""
    inside = np.array([1e-3, 0.02, 0.3, 0.7, 0.99])
    return inside * 999 if isinstance(process, Discrete) else 80 * inside if isinstance(process, EDM) else inside


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_a_process_agrees_with_itself(process):
    """Rates are derivatives, time and scale inverses of sigma / alpha, and JAX says what NumPy says."""
    t = times(process)
    point = Point(*map(np.asarray, at(process, t)))
    step = 1e-6 * t
    for of, rate in ((process.alpha, point.alpha_rate), (process.sigma, point.sigma_rate)):
        wanted = (np.asarray(of(t + step)) - np.asarray(of(t - step))) / (2 * step)
        np.testing.assert_allclose(rate, wanted, rtol=1e-5, atol=1e-6)
    level = point.sigma / point.alpha
    np.testing.assert_allclose(process.time(level), t, rtol=1e-10)
    np.testing.assert_allclose(process.scale(level), point.alpha, rtol=1e-12)
    for ours, traced in zip(point, jax.jit(lambda t: tuple(at(process, t)))(t), strict=True):
        np.testing.assert_allclose(ours, traced, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("process", PRESERVING, ids=lambda process: type(process).__name__)
def test_variance_is_preserved(process):
    t = times(process)
    np.testing.assert_allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1, rtol=1e-13)


def test_definitions_are_the_papers():
    """Closed forms at t = 1/2, and the ends."""
    preserving, flow = VariancePreserving(), RectifiedFlow()
    np.testing.assert_allclose(preserving.alpha(0.5), np.exp(-0.25 * 0.25 * 19.9 - 0.5 * 0.5 * 0.1), rtol=1e-14)
    np.testing.assert_allclose(SubVP().sigma(0.5), 1 - preserving.alpha(0.5) ** 2, rtol=1e-14)
    np.testing.assert_allclose(VarianceExploding().sigma(0.5), np.sqrt(0.01 * 50), rtol=1e-14)
    np.testing.assert_allclose(Cosine(0.0).alpha(0.5), np.sqrt(0.5), rtol=1e-14)
    f = np.cos((np.array([0.5, 0.0]) + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(Cosine().alpha(0.5) ** 2, f[0] / f[1], rtol=1e-13)
    np.testing.assert_allclose(Gamma(lambda t: 3 * t).alpha(1.0) ** 2, 1 / (1 + np.exp(3)), rtol=1e-14)
    for process in (flow, Cosine(), Cosine(0.0)):
        assert (process.alpha(0.0), process.sigma(0.0), process.alpha(1.0), process.sigma(1.0)) == (1, 0, 0, 1)
    for process in (preserving, SubVP()):
        assert (process.alpha(0.0), process.sigma(0.0), process.time(0.0), process.scale(0.0)) == (1, 0, 0, 1)
    assert preserving.sigma_rate(0.0) == np.inf and SubVP().sigma_rate(0.0) == 0.1


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(100)], ids=lambda s: type(s).__name__)
def test_a_schedule_is_seen_as_a_process(schedule):
    process, t = Discrete(schedule), np.arange(schedule.steps)
    np.testing.assert_allclose(process.alpha(t) ** 2, schedule.alpha_bar, rtol=1e-10)
    np.testing.assert_allclose(process.sigma(t) ** 2, 1 - schedule.alpha_bar, rtol=1e-10)
    np.testing.assert_allclose(process.time(np.exp(process.log_levels)), t, atol=1e-9)
    np.testing.assert_array_equal(process.time(np.array([1e-9, 1e9])), [0, schedule.steps - 1])


def test_cosine_schedule_is_the_continuous_one_until_beta_is_capped():
    schedule = CosineSchedule(1000)
    wanted = Cosine().alpha(np.arange(1, 1001) / 1000) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:-1], wanted[:-1], rtol=1e-8)
    assert schedule.betas[-1] == 0.999 and schedule.betas[-2] < 0.999
    np.testing.assert_allclose(schedule.alpha_bar[-1], 0.001 * wanted[-2], rtol=1e-8)


def parts(point, kind, x_0, epsilon):
    """Each prediction as its paper defines it."""
    alpha, sigma, alpha_rate, sigma_rate = point
    level = sigma / alpha
    c_skip, rest = 0.25 / (level**2 + 0.25), level**2 / (level**2 + 0.25)  # rest is 1 - c_skip, without rounding
    c_out = level * 0.5 / np.sqrt(level**2 + 0.25)
    return {
        "x0": x_0,
        "epsilon": epsilon,
        "v": alpha * epsilon - sigma * x_0,
        "score": -epsilon / sigma,
        "velocity": alpha_rate * x_0 + sigma_rate * epsilon,
        "F": (rest * x_0 - c_skip * level * epsilon) / c_out,
    }[kind]


def magnitudes(point, source, target):
    """Those of the terms that the two coefficients of a conversion are sums of: what their rounding is relative to."""
    p, q = row(source, point), row(target, point)
    divisor = np.abs((point.alpha * p.of_epsilon - point.sigma * p.of_x_0) * q.divisor)
    of_x_t = np.abs(q.of_x_0 * p.of_epsilon) + np.abs(q.of_epsilon * p.of_x_0)
    return of_x_t / divisor, (np.abs(q.of_epsilon * point.alpha) + np.abs(q.of_x_0 * point.sigma)) * p.divisor / divisor


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_every_prediction_becomes_every_other(process, dtype):
    """And back, to a few roundings of what is added up; those of gamma, numbers up to 13, grow by its exponential."""
    rng, ulp = np.random.default_rng(0), np.finfo(dtype).eps * (16 if isinstance(process, Gamma) else 5)
    t = np.asarray(times(process)[1:4], dtype)
    x_0, epsilon = rng.standard_normal((2, 3, 4))
    point = Point(*(np.asarray(value)[:, None] for value in at(process, np.float64(t))))
    x_t = point.alpha * x_0 + point.sigma * epsilon

    def converted(prediction, source, target):
        """By NumPy in float64, which is fast, and by JAX in float32."""
        if dtype == "float64":
            return convert(prediction, x_t, t, process, source, target)
        with jax.enable_x64(False):
            found = convert(jnp.asarray(prediction), jnp.asarray(x_t, dtype), jnp.asarray(t), process, source, target)
        assert found.dtype == dtype
        return np.asarray(found)

    for source, target in itertools.product(KINDS, KINDS):
        given, wanted = parts(point, source, x_0, epsilon), parts(point, target, x_0, epsilon)
        there, back = magnitudes(point, source, target), magnitudes(point, target, source)
        error = ulp * (there[0] * np.abs(x_t) + there[1] * np.abs(given))
        found = converted(np.asarray(given, dtype), source, target)
        assert np.all(np.abs(found - wanted) <= error), f"{source} to {target}"
        error = ulp * back[0] * np.abs(x_t) + back[1] * (ulp * np.abs(wanted) + error)
        assert np.all(np.abs(converted(found, target, source) - given) <= error), f"{source} to {target} and back"


def test_f_of_edm_with_unit_data_is_minus_v():
    point = at(VariancePreserving(), 0.3)
    np.testing.assert_allclose(coefficients("F", "v", point, sigma_data=1.0), [0, -1], atol=1e-15)


def test_ends_that_have_an_answer():
    """x_t is the image at one end and the noise at the other; what both determine, v and F say there."""
    image, noise = at(RectifiedFlow(), 0.0), at(RectifiedFlow(), 1.0)
    for kind in ("epsilon", "v", "velocity", "F", "score"):
        np.testing.assert_allclose(coefficients(kind, "x0", image), [1, 0], atol=0, err_msg=kind)
    for kind in ("x0", "v", "velocity", "F", "score"):
        of_x_t, of_prediction = coefficients(kind, "epsilon", noise)
        assert (of_x_t, of_prediction) == ((0, -1) if kind == "score" else (1, 0)), kind
    np.testing.assert_allclose(coefficients("v", "x0", noise), [0, -1])
    np.testing.assert_allclose(coefficients("v", "epsilon", image), [0, 1])
    np.testing.assert_allclose(coefficients("F", "x0", noise), [0, 0.5])
    np.testing.assert_allclose(coefficients("x0", "score", noise), [-1, 0])


@pytest.mark.parametrize(
    ("source", "target", "t"), [("x0", "epsilon", 0.0), ("epsilon", "x0", 1.0), ("epsilon", "v", 1.0),
                                ("x0", "F", 0.0), ("v", "score", 0.0), ("epsilon", "score", 0.0)]
)  # fmt: skip
def test_ends_without_an_answer_are_refused(source, target, t):
    with pytest.raises(ValueError, match=f"{target} does not follow from {source} where alpha is .* predict v or F"):
        coefficients(source, target, at(RectifiedFlow(), t))
    assert not np.isfinite(coefficients(source, target, at(RectifiedFlow(), jnp.asarray(t)))).all()


def test_infinite_velocities_are_refused():
    with pytest.raises(ValueError, match="velocity does not follow from v"):
        coefficients("v", "velocity", at(VariancePreserving(), 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_a_network_of_any_process_and_prediction_is_the_same_denoiser(process):
    """A stand-in network that predicts a kind in `process` exactly, seen as a denoiser, is the known one."""

    def predict(x_t, t, kind):
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        x_0 = mixture.denoise(x_t / alpha, (sigma / alpha)[:, 0])
        return convert(x_0, x_t, t, process, "x0", kind)

    sigma = jnp.array([0.05, 0.7, 3.0])
    x = jnp.asarray(mixture.draw(np.random.default_rng(1), 3)) + sigma[:, None]
    denoisers = [from_prediction(partial(predict, kind=kind), process, kind, whole_times=False) for kind in KINDS]
    for found in jax.jit(lambda x, sigma: [denoise(x, sigma) for denoise in denoisers])(x, sigma):
        np.testing.assert_allclose(found, mixture.denoise(x, sigma), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_whole_times_are_the_nearest_and_clipping_is_to_the_range_of_images():
    process, seen = Discrete(LinearSchedule(10, 0.01, 0.3)), []

    def predict(x_t, t):
        seen.append(t)
        return 0 * x_t

    levels = np.exp(process.log_levels)
    x = jnp.array([[0.5], [-3.0]])
    sigma = jnp.asarray([levels[3] * 1.05, levels[8]])
    np.testing.assert_allclose(from_prediction(predict, process)(x, sigma), x)
    np.testing.assert_allclose(clipped(from_prediction(predict, process))(x, sigma), [[0.5], [-1.0]])
    assert seen[0].dtype == jnp.int32
    np.testing.assert_array_equal(seen[0], [3, 8])
    from_prediction(predict, process, whole_times=False)(x, sigma)
    assert 3 < seen[-1][0] < 4


def test_a_discrete_velocity_between_whole_times_is_that_of_the_nearest():
    """The network there has learned the rates of the whole time, which begins another interval than lies before it."""
    process = Discrete(LinearSchedule(10, 0.01, 0.3))
    x_0, epsilon = jnp.array([[0.5], [-0.3]]), jnp.array([[1.0], [2.0]])
    sigma = jnp.asarray(np.exp(process.log_levels[[3, 8]] - 0.01))  # whole times 3 and 8 are the nearest, from above

    def predict(x_t, t):
        point = at(process, t)
        return broadcast_rows(point.alpha_rate, x_t) * x_0 + broadcast_rows(point.sigma_rate, x_t) * epsilon

    found = from_prediction(predict, process, "velocity")(x_0 + broadcast_rows(sigma, x_0) * epsilon, sigma)
    np.testing.assert_allclose(found, x_0, atol=0.01)


@pytest.mark.parametrize(("level", "time"), [(0.002, 0.0), (0.01, 0.0), (50.0, 1.0), (80.0, 1.0)])
def test_levels_that_an_exploding_process_never_has_are_at_its_ends(level, time):
    assert VarianceExploding().time(np.array(level)) == pytest.approx(time, abs=1e-12)


@pytest.mark.slow
def test_preconditioning_is_edms():
    """D = c_skip x + c_out F(c_in x, c_noise) (Karras et al. 2022, Eq. 7 and Table 1)."""
    x, sigma = jnp.array([[0.4, -1.0], [3.0, 2.0]]), jnp.array([0.3, 5.0])

    def network(x, noise):
        return jnp.sin(x) + noise[:, None]

    s = sigma[:, None]
    c_skip, c_out, c_in = 0.25 / (s**2 + 0.25), s * 0.5 / jnp.sqrt(s**2 + 0.25), 1 / jnp.sqrt(s**2 + 0.25)
    wanted = c_skip * x + c_out * network(c_in * x, jnp.log(sigma) / 4)
    np.testing.assert_allclose(from_prediction(preconditioned(network), EDM(), "F")(x, sigma), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceExploding(50, 0.01), "process.sigma_min=50, process.sigma_max=0.01"),
        (lambda: VariancePreserving(0.0), "process.beta_min=0.0"),
        (lambda: Cosine(-0.1), "process.offset=-0.1"),
        (lambda: CosineSchedule(0), "schedule.steps=0"),
        (lambda: CosineSchedule(offset=-1.0), "schedule.offset=-1.0"),
        (lambda: CosineSchedule(largest=1.0), "schedule.largest=1.0"),
        (lambda: coefficients("noise", "x0", at(EDM(), 1.0)), "prediction 'noise' is not one of x0, epsilon"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
