"""A tokenizer's run is measured by what it makes of the reference's own images, row by row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toys import codes_of, pictures, tokenizer_run

from imagegen_jax.cli import evaluate
from imagegen_jax.cli.evaluate_options import EvaluateRequest
from imagegen_jax.core import run_folder
from imagegen_jax.data.remedy import SettingError
from imagegen_jax.metrics import named
from imagegen_jax.metrics.sets import ArraySet, ReconstructionSet


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of the tokenizer whose codes are known, wherever one is named."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text("{}")
    made = tokenizer_run(tmp_path / "run")
    monkeypatch.setattr(named, "load", lambda *_, **__: made)
    monkeypatch.setattr(run_folder, "load_experiment", lambda *_: made.experiment)
    return made


def ratios(images: np.ndarray) -> np.ndarray:
    """Of images and what the levels 0, 85, 170 and 255 leave of them."""
    error = ((images[..., 0] - 85.0 * codes_of(images)) ** 2).mean((1, 2))
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize(("samples", "n"), [(None, 10), (4, 4)])
@pytest.mark.parametrize("targets", [("run",), ("run", "others.npz")])
def test_each_image_is_compared_with_what_is_left_of_it(run, capsys, targets, samples, n):
    """Of the training data where nothing else is named; of their first images where fewer are asked for."""
    others = pictures()[::-1]
    np.savez("others.npz", images=others)
    found = evaluate.run(EvaluateRequest(targets, metrics="psnr", samples=samples, json=True))["run"]
    wanted = ratios((others if len(targets) == 2 else pictures())[:n]).mean()
    np.testing.assert_allclose(found[0].value, wanted, rtol=1e-6)
    assert found[0].samples == found[0].references == n and "reconstructions of" in found[0].images
    assert (run.workdir / "evaluations.jsonl").is_file()


def test_features_are_those_of_reconstructions(run):
    """Of every image once, however many samples a run draws by default; and the distance is that of two arrays."""
    found = evaluate.run(EvaluateRequest(("run",), metrics="fid", extractor="pixels"))["run"][0]
    np.savez("made.npz", images=(85 * codes_of(pictures())[..., None]).astype(np.uint8))
    np.savez("originals.npz", images=pictures())
    by_hand = evaluate.run(EvaluateRequest(("made.npz", "originals.npz"), metrics="fid", extractor="pixels"))
    np.testing.assert_allclose(found.value, by_hand["made.npz"][0].value, rtol=1e-5)


def test_a_set_of_reconstructions(run):
    """Follows the images and the weights, and refuses images of another shape with what to do about it."""
    given = ArraySet("a", pictures(), np.arange(10) % 2, class_names=("even", "odd"))
    found = ReconstructionSet(run, 6, given)
    np.testing.assert_array_equal(found.images[..., 0], 85 * codes_of(pictures()[:6]))
    assert len(found) == 6 and found.labels.tolist() == [0, 1, 0, 1, 0, 1] and found.class_names == ("even", "odd")
    other = dataclasses.replace(found, given=ArraySet("a", pictures()[::-1]))
    assert found.fingerprint != other.fingerprint
    large = ReconstructionSet(run, 6, ArraySet("large", np.zeros((3, 4, 3, 1), np.uint8)))
    with pytest.raises(
        SettingError, match="large: images of .4, 3, 1., but .*reconstructs those of .2, 3, 1.*channels=1"
    ):
        len(large)
