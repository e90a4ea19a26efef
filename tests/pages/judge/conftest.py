"""A study of 24 pairs of dark pictures (a) and bright ones (b), in two classes."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from imagegen_jax.pages.judge.judging import Judging
from imagegen_jax.pages.judge.study import Settings, Study, save_study
from imagegen_jax.pages.judge.votes import Votes

SETTINGS = Settings("runs/secret at step 7", "digits", "real", answers=20, catch=0.1, class_names=("tabby", "poodle"))


@pytest.fixture
def study() -> Study:
    """Pictures whose left halves are lighter, so that scrambled ones can be told."""
    random = np.random.default_rng(0)
    dark = random.integers(0, 60, (24, 8, 8, 1), np.uint8)
    bright = random.integers(190, 250, (24, 8, 8, 1), np.uint8)
    return Study(SETTINGS, dark, bright, np.arange(24) % 2)


@pytest.fixture
def judging(study: Study, tmp_path: pathlib.Path) -> Judging:
    """The study, kept in a folder, with no votes yet."""
    save_study(study, tmp_path / "study")
    return Judging(study, Votes(tmp_path / "study"), b"s" * 32)
