"""Where models come from: folders of runs at their checkpoints, and the digits of the package."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from fuzz import make_run

from experiments.diffusion import ddpm_digits
from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.experiment import abstract_nets
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.run_folder import load_rows
from imagegen_jax.data import Digits
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.pages.play.drawing import drawn
from imagegen_jax.pages.play.places import DIGITS, DigitsPlace, RunPlace, place_at, places_of
from imagegen_jax.pages.play.settings import read_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run at step 0 with weights of zeros."""
    folder = tmp_path_factory.mktemp("runs") / "zeros"
    model = dataclasses.replace(ddpm_digits.experiment.model, network=UNet(width=8, multipliers=(1,), attention_at=()))
    make_run(folder, dataclasses.replace(ddpm_digits.experiment, model=model))
    return folder


def test_a_run_is_opened_at_its_checkpoints_and_kept(run: pathlib.Path) -> None:
    (place,) = places_of([run])
    assert place.name == "zeros" and place.steps == (0,) and place.class_names == tuple("0123456789")
    opened = place.open()
    assert opened.step == 0 and place.open(0) is opened and place_at([place], 0) is place
    with pytest.raises(ValueError, match="step 5: zeros has checkpoints of 0"):
        place.open(5)


def test_what_is_no_run_or_has_no_checkpoint_is_said(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunFolderError):
        places_of([tmp_path])
    for name in ("experiment.json", "data.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        RunPlace(tmp_path).open()
    with pytest.raises(ValueError, match="run=1"):
        place_at(places_of([run]), 1)


def test_the_packages_digits_are_small_whole_and_say_how_they_were_made() -> None:
    (place,) = places_of([])
    assert isinstance(place, DigitsPlace) and place.class_names == tuple("0123456789")
    opened = place.open(place.steps[0])
    shapes = abstract_nets(place.model, load_rows(DIGITS))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), opened.nets) == jax.tree.map(lambda a: (a.shape, a.dtype), shapes)
    assert sum(path.stat().st_size for path in DIGITS.iterdir()) < 2 * 10**6
    card = (DIGITS / "README.md").read_text()
    width = json.loads((DIGITS / "experiment.json").read_text())["model"]["network"]["width"]
    assert f"imagegen train edm_digits --model.network.width {width}" in card and "imagegen export" in card
    with pytest.raises(ValueError, match="step 1"):
        place.open(1)


@pytest.mark.slow
def test_the_packages_digits_are_those_that_are_asked_for() -> None:
    """The mean image of the class that was asked for is the nearest to most of what is drawn."""
    place, data = DigitsPlace(), Digits().open()
    means = np.stack([np.asarray(data.images)[np.asarray(data.labels) == digit].mean(axis=0) for digit in range(10)])
    right = []
    for digit in (0, 3, 6):
        drawing = drawn(place.open(), read_settings({"n": 8, "label": digit, "guidance": 2}, place))
        while True:
            try:
                next(drawing)
            except StopIteration as end:
                images = end.value
                break
        distances = ((images[:, None].astype(float) - means) ** 2).sum(axis=(2, 3, 4))
        right += (distances.argmin(axis=1) == digit).tolist()
    assert np.mean(right) > 0.8
