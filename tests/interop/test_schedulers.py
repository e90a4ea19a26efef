"""Schedulers of diffusers, imported: the way that they lead, to 1e-5, with a function in place of a network."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.diffusion.process.denoiser import clipped, from_prediction
from imagegen_jax.interop.diffusers_config import model_of
from imagegen_jax.nn.backbones.unet import UNet

NAMES = (
    "dpm", "dpm_1_trailing", "dpm_heun_leading", "dpm_v", "unipc", "unipc_sample", "euler", "euler_offset", "pndm",
    "pndm_trailing", "flow", "flow_shifted", "ddim_offset", "ddim_clipped", "stable_diffusion_1",
    "ddim_stable_diffusion_2", "stable_diffusion_xl",
)  # fmt: skip


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/diffusers_schedulers.npz") as arrays:
        return dict(arrays)


def of_config(config):
    return model_of(UNet(), (4, 4, 1), config, "scheduler_config.json")


@pytest.mark.parametrize("name", NAMES)
def test_the_way_is_that_of_diffusers(reference, name):
    """From where it starts: at trailing times Euler's deviation is sigma, and ours, as of all others, 2e-5 more."""
    model, deviation = of_config(json.loads(str(reference[f"{name}/config"]))), reference[f"{name}/deviation"]
    path = model.path
    start = reference["start"] * (deviation if deviation > 1 else (1 + path.sigmas[0] ** 2) ** 0.5)

    def predict(x, t):
        t = (t * model.time_scale)[:, None, None, None]
        return 0.9 * x + 0.1 * jnp.sin(3 * x) * jnp.cos(t / 300)

    with jax.enable_x64(True):
        denoise = from_prediction(predict, model.process, model.prediction)
        denoise = clipped(denoise) if model.clip else denoise
        end = path.ended(path.solver(denoise, path.sigmas, start, jax.random.key(0)))
    wanted = reference[f"{name}/end"]
    assert np.abs(end - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("dpm", {"use_karras_sigmas": True}, "use_karras_sigmas=True: only False"),
        ("dpm", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='sigma_min': only 'zero'"),
        ("dpm", {"algorithm_type": "dpmsolver"}, "algorithm_type='dpmsolver': only 'dpmsolver[+][+]'"),
        ("unipc", {"solver_order": 3}, "solver_order=3: only 1 or 2"),
        ("unipc", {"solver_type": "bh1"}, "solver_type='bh1': only 'bh2'"),
        ("euler", {"timestep_spacing": "linspace"}, "timestep_spacing='linspace': only 'leading' or 'trailing'"),
        ("pndm", {"skip_prk_steps": False}, "skip_prk_steps=False: only True"),
        ("pndm", {"steps_offset": 50}, "steps_offset=50: levels.offset=50: the last time would be 1000"),
        ("euler", {"timestep_spacing": "leading", "steps_offset": 50}, "steps_offset: the first time is 1000"),
        ("flow", {"use_dynamic_shifting": True}, "use_dynamic_shifting=True: only False"),
        ("flow", {"zeal": 3}, "zeal=3: this setting is not known here"),
        ("flow", {"_class_name": "LMSDiscreteScheduler"}, "_class_name='LMSDiscreteScheduler': only DDPMScheduler"),
    ],
)
def test_settings_that_are_not_here_are_refused_by_name(reference, name, change, words):
    with pytest.raises(ValueError, match=f"^scheduler_config.json: {words}"):
        of_config(json.loads(str(reference[f"{name}/config"])) | change)
