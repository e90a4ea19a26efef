"""`imagegen import diffusers` of pipelines of latents: the images that diffusers draws, and what is refused."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import jit
from reference_weights import drawn_file

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.interop.diffusers_folder import import_diffusers

SCALE = 7.5


@pytest.fixture(scope="module")
def stored(root):
    with np.load(root / "tests/reference/pipelines.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folders(root, stored, tmp_path_factory):
    """What diffusers saved, by case: texts as they were, weights drawn again, and a tokenizer's files."""
    place = tmp_path_factory.mktemp("saved")
    for key, value in stored.items():
        case, kind, name = (*key.split("/", 2), "", "")[:3]
        if kind != "folder":
            continue
        (place / case / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            drawn_file(place / case / name, value.tobytes())
        else:
            (place / case / name).write_text(str(value))
    with np.load(root / "tests/reference/text.npz") as words:
        for case in ("sd1", "sd2"):
            for name in ("vocab.json", "merges.txt"):
                (place / case / "tokenizer" / name).write_bytes(words[name].tobytes())
    return place


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """The runs that were made of them."""
    place = tmp_path_factory.mktemp("runs")
    return {case: import_diffusers(folders / case, place / case) for case in ("sd1", "sd2")}


def draw(run, latents, conditions):
    """Images in [-1, 1] of 10 steps from latents as diffusers has them."""
    model = run.experiment.model
    levels = Spaced(model.levels.schedule, 10, model.levels.spacing, model.levels.offset, model.levels.to_zero)
    path = model.path._replace(sigmas=levels())
    start = jnp.asarray(latents.transpose(0, 2, 3, 1)) * math.sqrt(1 + path.sigmas[0] ** 2)

    def drawn(nets, x):
        denoise = model.denoiser(nets, conditions)
        return model.space.decode(path.ended(path.solver(denoise, path.sigmas, x, jax.random.key(0))), nets)

    return np.asarray(jit(drawn)(run.nets, start))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "negative"), [("sd1", ()), ("sd1", ("grey",)), ("sd2", ())])
def test_guided_images_are_those_of_diffusers(case, negative, runs, stored):
    conditions = runs[case].prompted(2, stored[f"{case}/prompts"].tolist(), negative, guidance=SCALE)
    images = draw(runs[case], stored[f"{case}/latents"], conditions)
    wanted = stored[f"{case}/images_by_negative" if negative else f"{case}/images"]
    np.testing.assert_allclose(images / 2 + 0.5, wanted, atol=2e-5)
    np.testing.assert_array_equal(to_uint8(images), np.round(wanted * 255).astype(np.uint8))
    assert 0.02 < np.mean((wanted > 0) & (wanted < 1))  # not all of it is clipped
