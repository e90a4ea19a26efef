"""Drawing a picture of the playground again, by the settings that it holds."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from imagegen_jax.core.config.given import check_integer
from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.pages.play.drawing import Stepwise, drawn
from imagegen_jax.pages.play.exploring import WAYS
from imagegen_jax.pages.play.pictures import Saved, png_of, settings_in
from imagegen_jax.pages.play.places import DIGITS, DigitsPlace, Opened, Place, RunPlace
from imagegen_jax.pages.play.settings import read_settings


def redraw_played(content: bytes, origin: Origin, run: pathlib.Path, out: pathlib.Path, modules: Sequence[str]) -> None:
    """Writes the picture whose file has this content to `out`, by the run in a folder.

    Raises ValueError for a picture that was edited, since the one that it began with is not in it.
    """
    settings = settings_in(content)
    place: Place = DigitsPlace() if run.resolve() == DIGITS.resolve() else RunPlace(run, tuple(modules))
    opened = place.open(origin.step)
    kind = settings.get("kind")
    if kind != "draw" and kind not in WAYS:
        raise ValueError(f"the picture was made by {kind!r} of another one, which is not in it: make it anew there")
    images = _images(opened, place, {**settings, **origin.request})
    row = check_integer(origin.row, "row", 0, len(images) - 1)
    with whole(out) as partial:
        partial.write_bytes(png_of(images[row], settings, origin))


def _images(opened: Opened, place: Place, settings: Saved) -> np.ndarray:
    """Draws a picture with those that it was drawn beside, since rounding differs by their number."""
    given = {("steps" if name == "solver_steps" else name): value for name, value in settings.items()}
    asked, kind = read_settings(given, place), str(settings["kind"])
    making: Stepwise = drawn(opened, asked) if kind == "draw" else WAYS[kind](opened, asked, given)
    while True:
        try:
            next(making)
        except StopIteration as end:
            images: np.ndarray = end.value
            return images
