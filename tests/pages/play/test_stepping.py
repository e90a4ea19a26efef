"""Steps of solvers, one program for all: they draw what the solver draws, from noise that is each seed's own."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playthings import DENOISER, denoiser_nets

from imagegen_jax.diffusion.sampling.ancestral import EulerAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.multistep import LMS
from imagegen_jax.pages.play import stepping

SEEDS = np.asarray([3, 4], np.uint32)
CONDITIONS = {"label": np.asarray([1, 1], np.int32), "guidance": np.float32(2)}


@pytest.mark.parametrize("solver", [DPMSolver(2), LMS(3)], ids=lambda solver: type(solver).__name__)
def test_steps_lead_where_the_solver_does(solver) -> None:
    model, nets = dataclasses.replace(DENOISER, solver=solver), denoiser_nets()
    noise = stepping.start_noise(SEEDS, model.image_shape)
    *_, last = stepping.walked(model, nets, CONDITIONS, SEEDS)
    path, start = model.path, jnp.asarray(noise * (1 + model.path.sigmas[0] ** 2) ** 0.5, jnp.float32)
    wanted = path.ended(path.solver(model.denoiser(nets, CONDITIONS), path.sigmas, start, jax.random.key(0)))
    assert last.step == last.of == 4
    np.testing.assert_allclose(last.estimate, wanted, atol=2e-5)


def test_steps_guidance_and_class_share_a_program(caplog) -> None:
    nets = denoiser_nets()
    list(stepping.walked(DENOISER, nets, CONDITIONS, SEEDS))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        other = stepping.with_steps(DENOISER, 7)
        seen = list(
            stepping.walked(other, nets, {"label": np.asarray([0, 2], np.int32), "guidance": np.float32(0)}, SEEDS)
        )
    assert len(seen) == 7 and not [m for m in caplog.messages if "Compiling" in m and "step" in m]


def test_noise_is_each_seeds_own_and_added_where_the_solver_does() -> None:
    noise = stepping.start_noise(SEEDS, (8, 8, 3))
    np.testing.assert_array_equal(noise[1], stepping.start_noise(SEEDS[1:], (8, 8, 3))[0])
    assert abs(noise.std() - 1) < 0.1 and not np.array_equal(noise, stepping.start_noise(SEEDS, (8, 8, 3), 1))
    model = dataclasses.replace(DENOISER, solver=EulerAncestral())
    two = [list(stepping.walked(model, denoiser_nets(), CONDITIONS, SEEDS))[-1].estimate for _ in range(2)]
    np.testing.assert_array_equal(*two)
    noiseless = dataclasses.replace(DENOISER, solver=EulerAncestral(noise_scale=0))
    *_, other = stepping.walked(noiseless, denoiser_nets(), CONDITIONS, SEEDS)
    assert np.abs(two[0] - other.estimate).max() > 1e-3


def test_which_models_go_by_steps() -> None:
    assert stepping.steps_of(DENOISER) == 4 and stepping.steps_of(stepping.with_steps(DENOISER, 9)) == 9
    for solver in (Heun(), EulerAncestral(clipped_noise=False)):
        assert stepping.steps_of(dataclasses.replace(DENOISER, solver=solver)) is None
    assert stepping.steps_of(object()) is None
