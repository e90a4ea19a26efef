"""Places of output: which are refused before any work, and files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib
import resource

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.files.regular import partial_of, whole
from imagegen_jax.data.pictures.output import FOLDER, PICTURES, VIDEOS, check_output, kind_of, write_picture
from imagegen_jax.data.pictures.streaming import check_folder

pytestmark = pytest.mark.versions

KINDS = (*PICTURES, ".npz", FOLDER)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"new/{name}", suffix) for name, suffix in [("a.png", ".png"), ("a.JPG", ".jpg"), ("a.b.webp", ".webp")]),
        ("x.npz", ".npz"),
        ("folder", FOLDER),
        ("new/folder/", FOLDER),
        ("v1.5/", FOLDER),
        ("a.png/", FOLDER),
    ],
)
def test_places_that_can_be_written(tmp_path, name, kind):
    assert check_output(f"{tmp_path}/{name}", KINDS) == tmp_path / name
    assert kind_of(f"{tmp_path}/{name}") == kind
    assert not list(tmp_path.iterdir())  # neither parents nor a probe


@pytest.mark.parametrize(
    ("name", "kinds", "words"),
    [
        ("grid.bmp", KINDS, r"--out .*grid\.bmp: this command writes \.png, \.jpg, \.jpeg, \.webp, \.npz or a folder/"),
        ("o.gif", PICTURES, r"writes \.png, \.jpg, \.jpeg or \.webp, by the end"),
        ("o.png", VIDEOS, r"writes \.gif or \.mp4"),
        ("grid", PICTURES, r"writes \.png, \.jpg, \.jpeg or \.webp"),
        (".png", KINDS, r"a suffix without a name.*out\.png"),
        ("there.png", KINDS, "there is a folder of this name"),
        ("file.npz/", KINDS, "there is a file of this name, but a folder"),
        ("file.npz/a.png", KINDS, "is a file, not a folder"),
        ("file.npz/deep/er/a.png", KINDS, "is a file, not a folder"),
        ("pipe.png", KINDS, "something that is no file"),
        ("x" * 300 + ".png", KINDS, "too long"),
        ("x" * 300 + "/a.png", KINDS, "too long"),
        ("x.npz", [FOLDER], r"writes a folder/"),
        ("/proc/nowhere/a.png", KINDS, "cannot be written"),
        ("/proc/nowhere/", KINDS, "cannot be written"),
    ],
)
def test_places_that_cannot_be_written_are_refused(tmp_path, name, kinds, words):
    (tmp_path / "there.png").mkdir()
    (tmp_path / "file.npz").touch()
    os.mkfifo(tmp_path / "pipe.png")
    before = sorted(tmp_path.iterdir())
    path = name if name.startswith("/") else f"{tmp_path}/{name}"
    with pytest.raises(ValueError, match=words):
        check_output(path, kinds)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_may_be_called_anything_where_only_folders_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_output(".", [FOLDER]) == pathlib.Path(".")
    assert check_output(tmp_path / "run_v1.5", [FOLDER]) == tmp_path / "run_v1.5"
    with pytest.raises(ValueError, match="--leaderboard '': give the name"):
        check_output("", [".md"], "--leaderboard")


@pytest.mark.parametrize("suffix", [*PICTURES, ".PNG"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_what_their_suffix_says(tmp_path, suffix, channels):
    image = np.full((8, 12, channels), 200, np.uint8)
    write_picture(tmp_path / f"new/a{suffix}", image)
    with Image.open(tmp_path / f"new/a{suffix}") as found:
        assert found.format == {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix, "PNG")
        assert found.size == (12, 8)
        shown = np.asarray(found.convert("L"), int)
    seen = 200 if channels < 4 or suffix not in (".jpg", ".jpeg") else 212  # over white: 200 of 255, and white
    assert abs(shown - seen).max() <= 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


def test_pictures_larger_than_their_format_holds(tmp_path):
    with pytest.raises(ValueError, match=r"20000x1 pixels, but a \.webp has at most 16383: write a \.png"):
        write_picture(tmp_path / "a.webp", np.zeros((20_000, 1, 1), np.uint8))
    with pytest.raises(ValueError, match=r"a picture is one of"):
        write_picture(tmp_path / "a.gif", np.zeros((2, 2, 1), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_appears_whole_or_not_at_all(tmp_path, error):
    (tmp_path / "a.txt").write_text("before")
    (tmp_path / "link.txt").symlink_to("a.txt")
    with pytest.raises(error), whole(tmp_path / "link.txt") as partial:
        partial.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "before"
    with whole(tmp_path / "link.txt") as partial:
        partial.write_text("after")
        assert partial.suffix == ".txt" and partial_of(tmp_path / "a.txt") == partial
    assert (tmp_path / "a.txt").read_text() == "after" and (tmp_path / "link.txt").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "link.txt"]


def test_a_full_disk_is_told_with_the_name_of_what_was_to_be_written(tmp_path):
    """Not with the name that it had until it would have been whole."""
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        for suffix in PICTURES:
            with pytest.raises(OSError, match=rf"File too large: '.*/new/a\{suffix}'$"):
                write_picture(tmp_path / f"new/a{suffix}", picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(OSError, match=r"^\[.*: '.*/folder.txt'"), whole(tmp_path / "folder.txt") as partial:
        partial.touch()
    with pytest.raises(OSError, match="'source'"), whole(tmp_path / "b.txt"):
        pathlib.Path("source").read_text()
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3_000001.png", "holds images already, such as 3_000001.png, .*or add --overwrite"),
        ("000001.png", "holds images already, such as 000001.png, .*or add --overwrite"),
        ("photo.jpg", "holds images already, such as photo.jpg, .*give another folder$"),
        ("sub/000001.png", "holds images already, such as sub/000001.png, .*give another folder$"),
        ("lock", "holds files that may be images already, such as lock, .*give another folder$"),
    ],
)
def test_images_of_others_are_not_proposed_to_be_overwritten(tmp_path, name, says):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=says):
        check_folder(tmp_path, overwrite=False)
    if says.endswith("$"):
        with pytest.raises(ValueError, match=f"holds other images too, such as {name}"):
            check_folder(tmp_path, overwrite=True)
    else:
        check_folder(tmp_path, overwrite=True)
