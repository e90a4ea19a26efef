"""Samples beside their nearest training images: planted copies come first, in the file and on the page."""

from __future__ import annotations

import base64
import dataclasses
import io
import pathlib
import types
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.core.files.json_lines import read_object
from imagegen_jax.core.run import Run
from imagegen_jax.data import Digits
from imagegen_jax.metrics.copies import ranked_copies
from imagegen_jax.metrics.sets import SampleSet
from imagegen_jax.pages import copies

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (60, 6, 6, 1), np.uint8)


def test_planted_copies_are_ranked_first_and_others_have_no_suspicion() -> None:
    samples = RANDOM.integers(0, 256, (40, 6, 6, 1), np.uint8)
    samples[7], samples[21] = TRAIN[5], np.clip(TRAIN[9].astype(int) + 3, 0, 255)
    found = ranked_copies(samples, TRAIN)
    assert found.samples[:2].tolist() == [7, 21] and found.training[:2].tolist() == [5, 9]
    assert found.ratios[0] == found.distances[0] == 0 and found.distances[1] == pytest.approx(3 / 255, rel=0.1)
    assert found.ratios[1] < 0.1 and found.ratios[2] > 0.7 and (np.diff(found.ratios) >= 0).all()
    with pytest.raises(ValueError, match="at least two of one shape"):
        ranked_copies(samples, TRAIN[:1])


def test_samples_of_some_classes_alone_are_drawn() -> None:
    run: Any = types.SimpleNamespace(experiment=ig.recipe("edm_digits"))
    labels = SampleSet(run, 7, classes=(3, 5)).labels
    assert labels is not None and sorted(np.bincount(labels, minlength=10)[[3, 5]]) == [3, 4]
    assert len(labels) == 7 and len(set(SampleSet(run, 20).labels.tolist())) == 10  # type: ignore[union-attr]


def test_the_page_shows_them_and_is_left_out_where_nobody_looked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Digits(split="test")
    images = np.asarray(data.open().images)

    drawn = np.concatenate([255 - images[:30], images[3:4] ^ 1])

    def sampled(*_: Any, classes: tuple[int, ...]) -> types.SimpleNamespace:
        assert classes == (3, 5)
        return types.SimpleNamespace(image_shape=images.shape[1:], images=drawn)

    monkeypatch.setattr(copies, "SampleSet", sampled)
    experiment = dataclasses.replace(ig.recipe("edm_digits"), data=data)
    run = Run(experiment, types.SimpleNamespace(step=5), tmp_path)  # type: ignore[arg-type]
    path = copies.look_for_copies(run, 31, classes=(3, 5))
    found = read_object(path)
    assert found["pairs"][0]["sample"] == 30 and found["pairs"][0]["training"] == 3 and found["nearer"] == 1
    _, content = found["pairs"][0]["picture"].split("base64,")
    both = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    zoom = both.shape[0] // images.shape[1]
    np.testing.assert_array_equal(both[::zoom, ::zoom], np.concatenate([drawn[30], images[3]], axis=1)[..., 0])
    page = copies.copies_of(found)
    assert page.index("sample 30,") < page.index(f"sample {found['pairs'][1]['sample']},")
    assert "1 of 31 samples of step 5" in page and copies.copies_of({}) == ""
