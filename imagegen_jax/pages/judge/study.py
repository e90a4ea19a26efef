"""A study of two sets of pictures: what is asked, the pictures themselves, and the folder where all of it is kept."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from imagegen_jax.core.files.regular import whole

Question = Literal["real", "better"]
ASKED: Mapping[str, str] = {"real": "Which picture is real?", "better": "Which picture is better?"}
SETTINGS, PICTURES = "study.json", "pictures.npz"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is asked and how. `a` is judged: generated where the question is which is real, and `b` is real then."""

    a: str  # what the sets are, for whoever reads the result
    b: str
    question: Question
    answers: int  # of each person
    catch: float  # attentive people's trials a trial: pictures beside scrambled ones
    milliseconds: int | None = None  # that pictures are seen; None: until the answer
    staircase: bool = False  # whether that time follows the answers
    seed: int = 0
    asked: str = ""  # what pictures were asked for: a study goes on for the same alone
    run: str | None = None  # the folder of the run that `a` was drawn from
    class_names: tuple[str, ...] = ()  # of the pairs' labels

    @property
    def trials(self) -> int:
        """The number of all trials of a person, catch trials among them."""
        return self.answers + math.ceil(self.answers * self.catch)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Settings, pairs of pictures as uint8 [n h w c], row by row, and the class of each pair, int [n]; None: none."""

    settings: Settings
    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.a.shape != self.b.shape or self.a.dtype != np.uint8 or self.b.dtype != np.uint8:
            raise ValueError(f"pictures of {self.a.shape} and of {self.b.shape}: wanted uint8 of one shape [n h w c]")

    def __len__(self) -> int:
        return len(self.a)


def save_study(study: Study, folder: pathlib.Path) -> None:
    """Writes a study to a folder, the settings last: a folder that has them is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"a": study.a, "b": study.b}
    if study.labels is not None:
        arrays["labels"] = study.labels
    with whole(folder / PICTURES) as partial:
        np.savez_compressed(partial, **arrays)
    with whole(folder / SETTINGS) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(study.settings), indent=1) + "\n")


def is_study(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds a study."""
    return (folder / SETTINGS).is_file()


def load_study(folder: pathlib.Path) -> Study:
    """Reads a study. Raises ValueError where the folder's files are damaged or missing."""
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        settings = Settings(**found | {"class_names": tuple(found["class_names"])})
        with np.load(folder / PICTURES, allow_pickle=False) as arrays:
            return Study(settings, arrays["a"], arrays["b"], arrays["labels"] if "labels" in arrays else None)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder} holds no whole study ({error}): begin another in an empty folder") from error
