"""Pictures that hold their settings, and the gallery that keeps them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.cli.safeguards.finding import find_run
from imagegen_jax.cli.safeguards.redrawing import redraw
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.pages.play import pictures
from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.places import DIGITS, places_of
from imagegen_jax.pages.play.playground import Playground
from imagegen_jax.pages.play.settings import DrawSettings

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
MADE = {"run": "digits", "seed": 7, "prompt": "Grüße <b>", "guidance": 1.5}


def test_a_picture_says_its_settings_and_is_not_changed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").write_bytes(content := pictures.png_of(IMAGE, MADE))
    assert pictures.settings_in(content) == MADE
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), IMAGE)


@pytest.mark.parametrize("content", [b"", b"no picture", pictures.png_of(IMAGE), pictures.png_of(IMAGE, MADE)[:-40]])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="settings"):
        pictures.settings_in(content)


def test_only_plain_values_are_read() -> None:
    assert pictures.settings_in(pictures.png_of(IMAGE, {"a": [1, 2.5], "b": {"c": 1}, "d": 1, "e": [[1]]})) == {
        "a": [1, 2.5],
        "d": 1,
    }


def test_the_gallery_keeps_each_visitors_pictures_apart(tmp_path: pathlib.Path) -> None:
    gallery = Gallery(tmp_path)
    name = gallery.add("one", IMAGE, MADE)
    assert gallery.names("one") == [name] and gallery.names("other") == []
    assert gallery.path("other", name) is None and gallery.settings("one", name) == MADE
    assert Gallery(tmp_path).names("one") == [name]  # of another server
    (tmp_path / "other").mkdir()
    for wrong in ("../one/" + name, "..", "", "a.png"):
        assert gallery.path("other", wrong) is None
    content = gallery.path("one", name).read_bytes()
    assert gallery.take("one", content) == (name, MADE)
    again, _ = gallery.take("other", content)
    assert gallery.names("other") == [again]
    gallery.remove("other", name)
    gallery.remove("other", again)
    assert gallery.names("other") == [] and gallery.names("one") == [name]


def test_image_i_has_the_seed_i_after_the_first() -> None:
    settings = DrawSettings(n=3, seed=2**32 - 1, label=0)
    assert settings.seeds.tolist() == [2**32 - 1, 0, 1]
    assert settings.of(2) == {"n": 1, "seed": 1, "label": 0}


def test_a_picture_of_the_packages_digits_is_drawn_again(tmp_path: pathlib.Path) -> None:
    """With what it was drawn beside, so that it is the same in every pixel; its settings are read as before."""
    ground = Playground(places_of([]), gallery := Gallery(tmp_path))
    work = ground.draw("one", {"n": 2, "seed": 4, "label": 3, "steps": 2})()
    kept: list[dict[str, Any]] = []
    while not kept:
        try:
            next(work)
        except StopIteration as end:
            kept = end.value["pictures"]
    path = gallery.path("one", kept[1]["name"])
    assert path is not None
    origin = read_said(path).origin
    assert origin is not None and (origin.seed, origin.row, origin.experiment) == (5, 1, "digits")
    found = find_run(origin, path)
    assert found == (DIGITS, True)
    redraw(origin, path, DIGITS, tmp_path / "again.png", ())
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "again.png")))
    assert pictures.settings_in((tmp_path / "again.png").read_bytes()) == kept[1]["settings"]
