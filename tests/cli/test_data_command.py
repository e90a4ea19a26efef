"""`imagegen data`: settings of sources, remedies, notes on class names, pictures of every kind."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.cli.commands import main_parser
from imagegen_jax.data.pictures.describe import class_notes

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def photos(tmp_path):
    """A folder with three images, of which one is damaged."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (12, 9), "red").save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "c.png").write_bytes(b"no image")
    return tmp_path / "photos"


WITHOUT_EFFECT = {  # option -> sources that have no such setting
    "--size 8": ["latents:x.npy"],
    "--channels 3": ["latents:x.npy"],
    "--skip-damaged": ["digits", "images.npz", "tfds:mnist", "paired:photos.zip", "latents:x.npy"],
    "--split test": ["photos.zip", "images.npz", "paired:photos.zip", "latents:x.npy"],
    "--data-dir x": ["photos.zip", "images.npz", "digits", "unpaired:a.zip,b.zip"],
}
ALWAYS = {"--help", "--out"}


def test_the_table_is_of_all_options():
    commands = next(a for a in main_parser()._actions if isinstance(a, argparse._SubParsersAction))
    options = {a.option_strings[-1] for a in commands.choices["data"]._actions if a.option_strings}
    assert {option.split()[0] for option in WITHOUT_EFFECT} | ALWAYS == options


@pytest.mark.parametrize("action", ["info", "prepare"])
@pytest.mark.parametrize(("option", "source"), [(o, source) for o, of in WITHOUT_EFFECT.items() for source in of])
def test_an_option_without_effect_is_refused(imagegen, action, option, source):
    code, out, said = imagegen("data", action, source, *option.split())
    assert code == 1 and not out
    assert f"{option}: {source} has no such setting" in said


@pytest.mark.parametrize("option", ["--size=0", "--size=-1", "--size=nan", "--size=99999999", "--channels=2"])
def test_numbers_that_cannot_be(imagegen, option):
    code, _, said = imagegen("data", "info", "digits", option)
    assert code == 2 and option.partition("=")[0] in said and option.partition("=")[2] in said


@pytest.mark.parametrize("action", ["info", "prepare"])
def test_damaged_files_are_left_out_where_that_is_asked_for(imagegen, photos, action):
    code, out, said = imagegen("data", action, photos)
    assert code == 1 and not out and "c.png (not an image)" in said and "with --skip-damaged\n" in said
    code, out, said = imagegen("data", action, photos, "--skip-damaged")
    assert code == 0 and "2 images of 9x12x3" in out, said


@pytest.mark.parametrize(
    ("out", "form"),
    [("x.png", "PNG"), ("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.webp", "WEBP"), ("new/deep/x.png", "PNG")],
)
def test_pictures_are_of_the_kind_that_their_suffix_says(imagegen, out, form):
    code, printed, said = imagegen("data", "info", "digits", "--out", out)
    assert code == 0 and f"pictures: {out}" in printed, said
    assert Image.open(out).format == form


@pytest.mark.parametrize("out", ["x.gif", "x.mp4", "x.npz", "x", "x/", "/proc/none/x.png", ""])
def test_other_pictures_are_refused_before_any_image(imagegen, out):
    code, printed, said = imagegen("data", "info", "digits", "--out", out)
    assert code == 1 and not printed and f"--out {out}" in said + "--out "


def test_latents_have_pictures(imagegen, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 4), np.float32))
    code, out, said = imagegen("data", "info", f"latents:{tmp_path / 'x.npy'}")
    assert code == 0 and "4 images of 8x8x4" in out, said


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1", "10", "2"), ['"1" has label 0', '"10" has label 1', "sorted as text"]),
        (("0", "1", "10", "2"), ['"10" has label 2', '"2" has label 3']),
        (("1", "2", "3"), ['"1" has label 0', "labels count from 0"]),
        (("001", "002"), ['"001" has label 0']),
        (("train", "val"), ["train, val are taken for classes", "FOLDER/train"]),
        (("Test", "Train"), ["Test, Train are taken for classes"]),
        (("misc", "test", "training", "valid"), ["test, training, valid are taken"]),
    ],
)
def test_class_names_that_may_surprise_are_noted(imagegen, tmp_path, names, words):
    for name in names:
        (tmp_path / "sets" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "sets" / name / "a.png")
    code, out, said = imagegen("data", "info", tmp_path / "sets")
    assert code == 0, said
    assert all(word in out for word in words)
    chosen = next((name for name in names if name.lower().startswith("train")), None)
    if chosen:
        assert imagegen("data", "info", tmp_path / "sets" / chosen)[0] == 0


@pytest.mark.parametrize(
    "names", [(), ("0", "1", "2"), ("00", "01", "10"), ("cat", "dog"), ("cat", "train"), ("3d", "4")]
)
def test_other_class_names_are_not(names):
    if names == ("00", "01", "10"):
        names = tuple(f"{i:02}" for i in range(11))
    assert not class_notes(names)
