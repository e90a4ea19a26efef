"""Solvers on the mixture whose denoiser is known: beside k-diffusion and `diffusers`, and what all have in common."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.config.choices import options_of
from imagegen_jax.diffusion.process.process import EDM, RectifiedFlow
from imagegen_jax.diffusion.sampling import heun, solver
from imagegen_jax.diffusion.sampling.ancestral import ConsistencyMultistep, DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver, UniPC
from imagegen_jax.diffusion.sampling.heun import Heun, Restart
from imagegen_jax.diffusion.sampling.levels import ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import DEIS, LMS, PNDM, Euler
from imagegen_jax.diffusion.sampling.ode import RK45, Tolerance, integrate
from imagegen_jax.diffusion.sampling.solver import AnySolver

KEY = jax.random.key(0)
# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/solver_trajectories.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def in_float64():
    with jax.enable_x64(True):
        yield


def way(solve, denoise, sigmas, x):
    """Every x that the denoiser was asked about, and the last."""
    seen, denoise = [], jax.jit(denoise)

    def recorded(x, sigma):
        seen.append(np.asarray(x))
        with jax.disable_jit(False):
            return denoise(x, sigma)

    with jax.disable_jit():
        last = solve(recorded, sigmas, x, KEY)
    return np.stack([*seen, np.asarray(last)])


# k-diffusion's 2M and 2M SDE, and the 2M of `diffusers`, are "midpoint"; the second step of k-diffusion's 3M is
# "exact", that of `diffusers` midpoint, and both give the third difference half of its weight. `diffusers` was told to
# keep its order to the end (`lower_order_final` off), as is done here. Its DEIS and UniPC then end above 0: a step to 0
# is NaN there, but for UniPC's "bh2" that lowers its order, for orders 1 and 2 no sooner than is done here. Of its
# schedulers in discrete time, DDPM's and DDIM's are these solvers at the levels of their times. FlowMatch* are ours
# along `RectifiedFlow`, where Euler's steps are the same.
REFERENCES = {
    "k/euler": Euler(),
    "k/euler_ancestral": EulerAncestral(),
    "k/euler_ancestral_half": EulerAncestral(0.5, noise_scale=1.1),
    "k/heun": Heun(),
    "k/heun_churn": Heun(3.0, 0.05, 5.0, 1.01),
    "k/lms": LMS(),
    "k/dpmpp_2m": DPMSolver(2),
    "k/dpmpp_2m_sde": DPMSolver(2, eta=1.0),
    "k/dpmpp_2m_sde_heun": DPMSolver(2, eta=0.5, second="exact"),
    "k/dpmpp_3m_sde": DPMSolver(3, eta=1.0, second="exact", halve_third=True, noise_scale=1.1),
    "k/dpmpp_3m": DPMSolver(3, second="exact", halve_third=True),
    "d/dpm_2": DPMSolver(2),
    "d/dpm_2_heun": DPMSolver(2, second="exact"),
    "d/dpm_3": DPMSolver(3, halve_third=True),
    "d/dpm_2_sde": DPMSolver(2, eta=1.0),
    "d/deis_2": DEIS(2),
    "d/deis_3": DEIS(3),
    "d/unipc_1_bh1": UniPC(1, "bh1"),
    "d/unipc_1_bh2": UniPC(1),
    "d/unipc_2_bh1": UniPC(2, "bh1"),
    "d/unipc_2_bh2": UniPC(2),
    "d/unipc_3_bh1": UniPC(3, "bh1"),
    "d/unipc_3_bh2": UniPC(3),
    "d/unipc_1_to_0": UniPC(1),
    "d/unipc_2_to_0": UniPC(2),
    "d/pndm": PNDM(),
    "d/ddim": EulerAncestral(0.0),
    "d/ddim_eta": EulerAncestral(0.7),
    "d/ddpm_small": DDPMAncestral("small"),
    "d/ddpm_large": DDPMAncestral(),
    "d/consistency": ConsistencyMultistep(),
    "f/euler": Euler(),
    "f/euler_shifted": Euler(),
    "f/heun": Heun(path=RectifiedFlow()),
}
IN_FLOAT32 = ("f/", "d/dpm")  # these make float32 of what they are given
SHIFTED = ShiftedFlow(8, shift=3.0, margin=0.04)()


def levels_of(name, reference):
    if name == "f/euler_shifted":
        return SHIFTED
    if name.startswith("f/"):
        return reference["flow_sigmas"]
    ends_above_0 = name.startswith(("d/deis", "d/unipc")) and not name.endswith("to_0")
    return reference["sigmas"][: -1 if ends_above_0 else None]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_way_is_that_of_k_diffusion_or_diffusers(reference, monkeypatch, in_float64, name, dtype):
    def replayed(key, i, x):
        return jnp.asarray(reference["noise"], x.dtype)[i]

    monkeypatch.setattr(solver, "noise", replayed)
    monkeypatch.setattr(heun, "noise", replayed)
    found = way(REFERENCES[name], mixture.denoise, levels_of(name, reference), jnp.asarray(reference["start"], dtype))
    assert found.dtype == dtype and found.shape == reference[name].shape
    tolerance = 1e-10 if dtype == "float64" and not name.startswith(IN_FLOAT32) else 1e-5
    size = np.abs(reference[name]).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found / size, reference[name] / size, rtol=0, atol=tolerance)


def test_every_reference_is_compared(reference):
    assert {name for name in reference if name[:2] in ("k/", "d/", "f/")} == set(REFERENCES)


STOCHASTIC = [
    EulerAncestral(),
    EulerAncestral(0.5),
    DDPMAncestral(),
    DDPMAncestral("small"),
    DPMSolver(1, eta=1.0),
    DPMSolver(2, eta=1.0),
    DPMSolver(3, eta=1.0),
    DPMSolver(3, eta=0.5),
    Heun(churn=40.0),
    Restart(),
]
DETERMINISTIC = [
    Euler(), Heun(), Heun(path=RectifiedFlow()), LMS(), DEIS(), PNDM(), DPMSolver(2), DPMSolver(3), UniPC(), RK45(1e-4)
]  # fmt: skip


def karras(n):
    return np.append(heun.karras(n, 0.01, 20.0), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("solve", [*STOCHASTIC, *DETERMINISTIC], ids=str)
def test_samples_are_the_mixtures(solve):
    """Weights, means and deviations of the parts, and the mean log density (minus the entropy) of 4,000 samples."""
    n, steps = (
        4_000,
        250 if isinstance(solve, (Euler, EulerAncestral, DDPMAncestral)) or solve == DPMSolver(1, 1.0) else 60,
    )
    x = 20 * jax.random.normal(jax.random.key(2), (n, 2))
    x = np.asarray(jit(lambda x: solve(mixture.denoise, karras(steps), x, KEY))(x), np.float64)
    nearest = np.argmin(np.sum((x[:, None] - mixture.MEANS) ** 2, axis=-1), axis=1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=3) / n, mixture.WEIGHTS, atol=0.03)
    for part, mean in enumerate(mixture.MEANS):
        np.testing.assert_allclose(x[nearest == part].mean(0), mean, atol=0.12 * mixture.STD)
        np.testing.assert_allclose(x[nearest == part].std(0), mixture.STD, rtol=0.1)
    own = mixture.draw(np.random.default_rng(2), n)
    assert float(jnp.mean(mixture.log_density(x) - mixture.log_density(own))) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("solve", [*STOCHASTIC, *DETERMINISTIC, ConsistencyMultistep()], ids=str)
def test_a_single_image_is_found_exactly(solve):
    """All noise is gone at the end: what comes out is the last estimate, whatever the shape."""
    image = jnp.linspace(-1, 1, 12).reshape(1, 2, 3, 2)
    x = jit(lambda x: solve(lambda x, sigma: image + 0 * x, karras(8), x, KEY))(20 * jnp.ones((4, 2, 3, 2)))
    np.testing.assert_allclose(x, jnp.broadcast_to(image, x.shape), atol=1e-5)


@pytest.mark.parametrize("solve", STOCHASTIC, ids=str)
def test_other_keys_are_other_samples_of_the_same_program(solve):
    sample, traces = counted(lambda x, key: solve(mixture.denoise, karras(8), x, key))
    x = 20 * jax.random.normal(KEY, (4, 2))
    first = sample(x, jax.random.key(3))
    np.testing.assert_array_equal(first, sample(x, jax.random.key(3)))
    assert jnp.all(jnp.abs(first - sample(x, jax.random.key(4))).max(axis=1) > 1e-3)
    assert len(traces) == 1


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_few_steps_are_enough_for_most(steps):
    for solve in (Euler(), Heun(), EulerAncestral(), DPMSolver(min(steps, 3)), UniPC(min(steps, 3)), RK45()):
        x = jit(lambda x, solve=solve: solve(mixture.denoise, karras(steps), x, KEY))(jnp.ones((2, 2)))
        assert jnp.isfinite(x).all(), solve
        if steps == 1:  # from the highest level to 0, where all take the estimate
            np.testing.assert_allclose(
                x, mixture.denoise(jnp.ones((2, 2)), jnp.full(2, float(karras(1)[0]))), atol=1e-6
            )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DDPMAncestral("Small"), "solver.variance='Small': must be one of 'large', 'small'"),
        (lambda: DPMSolver(second="Midpoint"), "solver.second='Midpoint': must be one of"),
        (lambda: UniPC(variant="BH2"), "solver.variant='BH2': must be one of"),
        (lambda: RK45(relative=0), "relative and absolute must be above 0"),
    ],
)
def test_fields_that_no_solver_has_are_refused_when_it_is_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.slow
def test_levels_far_above_the_data_do_no_harm():
    """A rectified flow begins at t = 1 - 1e-5, so sigma = 99,999: in float32 its image is still found."""
    sigmas = (t := np.append(1 - 1e-5, np.linspace(0.9, 0, 10))) / (1 - t)
    x = jax.random.normal(KEY, (256, 2))
    for solve in (Euler(), Heun(path=RectifiedFlow()), DPMSolver(2), UniPC(2), RK45(path=RectifiedFlow())):
        sample = jit(lambda x, solve=solve: solve(mixture.denoise, sigmas, x * float(sigmas[0]), KEY))
        found = sample(x)
        with jax.enable_x64(True):
            exact = sample(jnp.asarray(x, jnp.float64))
        np.testing.assert_allclose(found, exact, atol=2e-3 if isinstance(solve, RK45) else 2e-4, err_msg=str(solve))


def test_ddim_is_euler_ancestral_and_its_ends_are_euler_and_ddpm():
    sigmas = karras(12)
    for ours, wanted in ((EulerAncestral(0.0), Euler()), (EulerAncestral(1.0), DDPMAncestral("small"))):
        for a, b in zip(ours.table(sigmas), wanted.table(sigmas), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_restarts_go_up_and_down_again():
    sigmas = np.array([1.0, 0.5, 0.1, 0.0])
    rows = Restart((heun.RestartInterval(0.12, 0.4, repeats=2, steps=2),)).rows(sigmas)
    middle = heun.karras(3, 0.1, 0.4)[1]
    up = math.sqrt(0.4**2 - 0.1**2)
    again = [[up, 0.4, middle], [0, middle, 0.1]]
    np.testing.assert_allclose(rows, [[0, 1, 0.5], [0, 0.5, 0.1], *again, *again, [0, 0.1, 0]])


@pytest.mark.slow
def test_dormand_prince_is_of_its_order_and_keeps_its_tolerance(in_float64):
    """y' = -y with a rate of each row's own: errors follow the tolerance, rows do not depend on one another."""
    rate, y = jnp.array([1.0, 30.0]), jnp.ones((2, 1))

    def field(t, state):
        return (-rate[:, None] * state[0],)

    for tolerance in (1e-4, 1e-8):
        (end,), count = jax.jit(lambda y, r=tolerance: integrate(field, 0.0, 1.0, (y,), Tolerance(r, r)))(y)
        assert jnp.abs(end[:, 0] - jnp.exp(-rate)).max() < 20 * tolerance
        assert count < {1e-4: 200, 1e-8: 1500}[tolerance]
    (alone,), _ = integrate(lambda t, s: (-30.0 * s[0],), 0.0, 1.0, (y[1:],), Tolerance(1e-8, 1e-8))
    np.testing.assert_allclose(alone[0], end[1], rtol=1e-6)
    (lost,), count = integrate(field, 0.0, 1.0, (y,), Tolerance(1e-8, 1e-8, most_steps=20))
    assert jnp.isnan(lost[1, 0]) and count == 121


@pytest.mark.slow
def test_adaptive_steps_are_counted_whatever_the_path(in_float64):
    x = jax.random.normal(KEY, (8, 2))
    for path in (EDM(), RectifiedFlow()):
        (found, count), (finer, more) = (
            jit(lambda x, r=r, path=path: RK45(r, r, path=path).solve(mixture.denoise, [5.0, 0.2], x))(x)
            for r in (1e-8, 1e-10)
        )
        np.testing.assert_allclose(found, finer, atol=1e-6)
        assert 100 < count < more


CASES = [
    (lambda: Euler()(mixture.denoise, karras(4)[::-1], 0, KEY), "Euler: sigmas grow from 0 to 20: reverse them"),
    (lambda: Euler()(mixture.denoise, [1.0], 0, KEY), "Euler needs at least 1 steps, that is 2 noise levels"),
    (lambda: Euler()(mixture.denoise, [[2.0, 1.0]], 0, KEY), r"sigmas has the shape \(1, 2\)"),
    (lambda: Heun()(mixture.denoise, [2.0, 2.0, 1.0], 0, KEY), "Heun: sigmas must be finite and fall"),
    (lambda: LMS()(mixture.denoise, [np.inf, 1.0, 0.5, 0.2, 0], 0, KEY), "LMS: sigmas must be finite"),
    (lambda: UniPC(1)(mixture.denoise, [1.0, 0.0, -1.0], 0, KEY), "UniPC: sigmas must be finite and fall .* 0 or more"),
    (lambda: LMS()(mixture.denoise, karras(3), 0, KEY), "LMS needs at least 4 steps, that is 5 noise levels"),
    (lambda: DPMSolver(3)(mixture.denoise, karras(2), 0, KEY), "DPMSolver needs at least 3 steps"),
    (lambda: UniPC()(mixture.denoise, karras(2), 0, KEY), "UniPC needs at least 3 steps"),
    (lambda: DEIS()(mixture.denoise, karras(2), 0, KEY), "DEIS needs at least 3 steps"),
    (lambda: PNDM()(mixture.denoise, karras(3), 0, KEY), "PNDM needs at least 4 steps"),
    (lambda: EulerAncestral(1.5), "solver.eta=1.5 is not between 0"),
    (lambda: EulerAncestral(noise_scale=-1.0), "solver.noise_scale=-1.0"),
    (lambda: DPMSolver(4), "solver.order=4 is not between 1 and 3"),
    (lambda: DPMSolver(eta=-1.0), "solver.eta=-1.0"),
    (lambda: LMS(5), "solver.order=5 is not between 1 and 4"),
    (lambda: UniPC(0), "solver.order=0"),
    (lambda: Heun(churn=-1.0), "solver.churn=-1.0"),
    (lambda: Heun(churn_min=2.0, churn_max=1.0), "solver.churn_min=2.0, solver.churn_max=1.0"),
    (lambda: heun.RestartInterval(0.3, 0.06), "must have 0 < sigma_min < sigma_max"),
    (lambda: Restart()(mixture.denoise, [9.0, 5.0, 0.0], 0, KEY), "has no noise level near 0.06 to start from"),
    (lambda: ConsistencyMultistep(-1.0), "solver.sigma_min=-1.0"),
    (lambda: RK45(0.0)(mixture.denoise, karras(2), jnp.ones((1, 2)), KEY), "relative and absolute must be above 0"),
]


@pytest.mark.parametrize(("make", "message"), CASES, ids=[message for _, message in CASES])
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_eta_belongs_to_solvers_with_noise():
    for kind in (Euler, Heun, LMS, UniPC, DEIS, PNDM, RK45):
        with pytest.raises(TypeError, match="unexpected keyword argument 'eta'"):
            kind(eta=1.0)


def test_every_solver_is_tested():
    tested = {type(solve) for solve in (*REFERENCES.values(), *STOCHASTIC, *DETERMINISTIC)}
    assert tested == set(options_of(AnySolver).load_all())
