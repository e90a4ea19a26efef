"""`imagegen evaluate` at its edges: sets that differ, options without effect, outputs, files that hold no images."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from toys import Regression

import imagegen_jax as ig
from imagegen_jax.cli import evaluate as evaluation
from imagegen_jax.cli import evaluate_options as evaluation_options
from imagegen_jax.cli.commands import main_parser
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits, Folder
from imagegen_jax.data.decode import Whole, decode
from imagegen_jax.metrics import named as evaluation_sets
from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.metrics.evaluate import _width, check_metrics
from imagegen_jax.metrics.features.extractor import random_network
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.features.resize import resize

RANDOM = np.random.default_rng(0)
RANDOM_KID = ("--extractor", "random", "--metrics", "kid", "--quiet")


pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that draws digits of 2x2 pixels."""
    experiment = ig.Experiment(
        name="toy", model=Regression(), data=Digits(size=2), optim={"network": Adam(1e-2)}, batch_size=16, steps=2
    )
    folder = tmp_path_factory.mktemp("runs") / "toy"
    ig.fit(experiment, folder, quiet=True)
    return folder


def pictures(folder, shapes, seed=0):
    """A folder of images of noise, of these (height, width, channels)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i, shape in enumerate(shapes):
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(folder / f"{i:02}.png")
    return folder


LAYOUTS = {
    "same": [(16, 16, 3)] * 8,
    "bigger": [(24, 24, 3)] * 8,
    "sizes": [(16 + i % 3, 16 + i % 2, 3) for i in range(8)],
    "all_odd": [(16 + i % 3, 16, (1, 3, 4)[i % 3]) for i in range(8)],
    "one_grey": [(16, 16, 1 if i == 3 else 3) for i in range(8)],
    "grey_first": [(16, 16, 3 if i else 1) for i in range(8)],
    "grey": [(16, 16, 1)] * 8,
    "rgba": [(16, 16, 4)] * 8,
}


@dataclasses.dataclass(frozen=True)
class Layouts:
    """Folders whose images differ in size or channels, by name; they are drawn when they are asked for."""

    place: pathlib.Path

    def __getitem__(self, name):
        folder = self.place / name
        return folder if folder.exists() else pictures(folder, LAYOUTS[name], list(LAYOUTS).index(name))


@pytest.fixture
def layouts(tmp_path):
    return Layouts(tmp_path)


CARD = Card("KID", 0.0, None, None, "", 8, "a", 8, "b", "it", "0", "none", 0)


@pytest.fixture
def opened(monkeypatch):
    """The shapes of the images that were to be measured, in place of measuring them."""
    shapes = []

    def measured(images, reference, extractor, metrics, seed, quiet, held_out):
        check_metrics(metrics, images, reference, extractor, held_out)
        shapes.extend([images.image_shape, reference.image_shape])
        return [CARD]

    monkeypatch.setattr(evaluation, "evaluate", measured)
    return shapes


# --- sets that differ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 16, 3), (40, 33, 3), (32, 32, 3), (16, 20, 1)])
def test_a_whole_size_is_the_rule_clean(shape):
    """But for a grey level, where Pillow rounds between its two passes in the other order."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = (127 + 90 * np.sin(rows / 5 + columns / 7)[..., None] + 10 * np.arange(shape[2])).astype(np.uint8)
    difference = np.abs(decode(image, Whole(32), None) - np.asarray(resize(image[None], 32, "clean"))[0])
    assert difference.max() <= 1


def test_a_whole_size_is_prepared_apart_from_a_cut(layouts):
    whole, cut = (Folder(str(layouts["sizes"]), size=size).open().images for size in (Whole(8), 8))
    assert whole.shape == cut.shape and not np.array_equal(whole, cut)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("sizes", "same", ["several sizes", "32x32", "--resize clean"]),
        ("same", "sizes", ["several sizes"]),
        ("sizes", "sizes", ["several sizes"]),
        ("all_odd", "same", ["several sizes", "all as RGB"]),
        ("same", "one_grey", ["all as RGB"]),
        ("grey_first", "same", ["all as RGB"]),
        ("rgba", "same", ["composed on white"]),
        ("same", "rgba", ["composed on white"]),
        ("grey", "same", []),  # which the network repeats, as it says of itself
        ("same", "bigger", []),
    ],
)
def test_a_network_takes_sets_that_differ_and_says_how(imagegen, layouts, opened, first, second, says):
    code, _, said = imagegen("evaluate", layouts[first], layouts[second], *RANDOM_KID)
    assert code == 0 and all(shape[2] in (1, 3) for shape in opened), said
    for word in says:
        assert word in said
    assert bool(says) == bool(said)


@pytest.mark.parametrize(("others", "of"), [((4, 1), 3), ((3, 4), 1), ((4,), 3)])
def test_what_is_said_of_mixed_channels_is_true(imagegen, tmp_path, opened, others, of):
    """Of transparent images among colour ones too, which hold no grey."""
    pictures(tmp_path / "mixed", [(16, 16, c) for c in (of, *others) for _ in range(4)])
    code, _, said = imagegen("evaluate", tmp_path / "mixed", tmp_path / "mixed", *RANDOM_KID)
    assert code == 0 and opened[0][2] == 3 and "grey images among colour ones" not in said
    assert "all as RGB, a grey value in each channel, what is transparent on white" in said


@pytest.mark.parametrize("metrics", ["kid", "all"])
def test_a_shape_that_no_classifier_of_the_data_takes_is_said_before_it_is_trained(
    imagegen, layouts, monkeypatch, metrics
):
    asked = []
    monkeypatch.setattr(evaluation, "extractor_of", lambda *_: asked.append("training"))
    code, out, said = imagegen(
        "evaluate", layouts["same"], "digits", "--extractor", "classifier", "--metrics", metrics, "--quiet"
    )
    assert code == 1 and not out and not asked and "--size 8 and --channels 1" in said


@pytest.mark.slow
def test_the_score_is_that_of_images_resized_and_composed_before(imagegen, layouts, tmp_path):
    (tmp_path / "by_hand").mkdir()
    for path in layouts["all_odd"].iterdir():
        image = Image.open(path)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "by_hand" / path.name)
    values = []
    for folder in (layouts["all_odd"], tmp_path / "by_hand"):
        _, out, said = imagegen("evaluate", folder, layouts["same"], *RANDOM_KID, "--json")
        values.append(json.loads(out)["value"])
    assert values[0] == values[1], said


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("sizes", "same", "--size 16"),
        ("same", "sizes", "--size 16"),
        ("bigger", "same", "--size 16"),
        ("same", "bigger", "--size 24"),
    ],
)
def test_pixels_want_one_size_and_the_remedy_works(imagegen, layouts, opened, first, second, says):
    words = layouts[first], layouts[second]
    options = ("--extractor", "pixels", "--metrics", "kid", "--quiet")
    code, out, said = imagegen("evaluate", *words, *options)
    assert code == 1 and not out and says in said
    code, out, said = imagegen("evaluate", *words, *options, *says.split())
    assert code == 0 and opened[0] == opened[1], said


def test_a_classifier_wants_the_shape_of_the_data(imagegen, layouts, opened, monkeypatch):
    """A grey set stays grey, and what is compared with it is to be made so."""
    monkeypatch.setattr(evaluation, "extractor_of", lambda *_: evaluation.Pixels())
    code, _, said = imagegen("evaluate", layouts["same"], "digits", "--metrics", "kid", "--quiet")
    assert code == 1 and "--size 8 and --channels 1" in said
    fit = ("--size", 8, "--channels", 1)
    code, _, said = imagegen("evaluate", layouts["same"], "digits", "--metrics", "kid", "--quiet", *fit)
    assert code == 0 and opened == [(8, 8, 1), (8, 8, 1)], said


@pytest.mark.parametrize(("first", "second"), [("rgba", "same"), ("grey", "same"), ("same", "grey"), ("rgba", "grey")])
def test_pixels_are_compared_in_colour(imagegen, layouts, opened, first, second):
    code, _, said = imagegen(
        "evaluate", layouts[first], layouts[second], "--extractor", "pixels", "--metrics", "psnr,kid", "--quiet"
    )
    assert code == 0 and opened == [(16, 16, 3)] * 2 and "to RGB" in said, said


@pytest.mark.parametrize("kind", ["legacy_tf", "legacy_torch", "clean_float", "none"])
def test_other_resizes_refuse_several_sizes(imagegen, layouts, opened, kind):
    call = ("evaluate", layouts["sizes"], layouts["same"], *RANDOM_KID, "--resize", kind)
    code, _, said = imagegen(*call)
    assert code == 1 and "--size 16" in said and ("--resize clean" in said or kind == "none")
    assert imagegen(*call, "--size", 16)[0] == 0 and opened == [(16, 16, 3)] * 2


# --- remedies --------------------------------------------------------------------------------------------------------


def broken(tmp_path, kind):
    """A folder that wants a setting, and that setting in Python."""
    if kind == "damaged":
        (pictures(tmp_path / kind, [(8, 8, 3)] * 8) / "bad.png").write_bytes(b"no image")
        return tmp_path / kind, "skip_damaged=True"
    shapes = {"sizes": [(8, 8, 3)] * 4 + [(9, 8, 3)] * 4, "channels": [(8, 8, 1)] * 4 + [(8, 8, 3)] * 4}[kind]
    return pictures(tmp_path / kind, shapes), {"sizes": "size=8", "channels": "channels=3"}[kind]


def options_in(text):
    return set(re.findall(r"--[a-z][a-z.-]*", text))


@pytest.mark.parametrize("kind", ["damaged", "sizes", "channels"])
def test_remedies_are_said_in_the_terms_of_the_place(imagegen, tmp_path, kind):
    folder, setting = broken(tmp_path, kind)
    option = "--" + setting.replace("_", "-").replace("=True", "").replace("=", " ")
    with pytest.raises(ValueError, match=f"with {setting}$"):
        Folder(str(folder)).open()
    for command in (("data", "info"), ("data", "prepare"), ("evaluate", "--extractor=pixels", "--metrics=kid", folder)):
        code, _, said = imagegen(*command, folder)
        if code:  # `evaluate` brings channels to one by itself
            assert f"with {option}\n" in said and setting not in said
            assert imagegen(*command, folder, *option.split())[0] == 0
    with pytest.raises(SystemExit):
        ig.main(experiment_of(Folder(str(folder))), arguments=["--workdir", str(tmp_path / "run")], prog="train")
    said = imagegen("data", "info", "digits")[2]  # what was said before it is read with it
    assert option.replace("--", "--data.") in said and setting not in said


def experiment_of(data, **fields):
    return ig.Experiment(
        name="toy", model=Regression(), data=data, optim={"network": Adam(1e-2)}, batch_size=8, steps=1, **fields
    )


def test_commands_without_settings_of_data_name_none(imagegen, run, tmp_path):
    """Such as those that read images to edit: there is nothing to set there."""
    for kind in ("damaged", "sizes"):
        folder, setting = broken(tmp_path, kind)
        experiment = experiment_of(Folder(str(folder)))
        stored = json.loads((run / "experiment.json").read_text())
        stored["data"] = json.loads(json.dumps(ig.core.config.serial.to_dict(experiment)["data"]))
        other = tmp_path / f"run_{kind}"
        other.mkdir()
        for name in run.iterdir():
            if name.name != "experiment.json":
                os.symlink(name, other / name.name)
        (other / "experiment.json").write_text(json.dumps(stored))
        code, _, said = imagegen("evaluate", other, "--module", "toys", "--extractor", "pixels", "--metrics", "kid")
        assert code == 1 and "bad.png" in said or "9x8" in said
        assert setting not in said and not options_in(said)


# --- weights ---------------------------------------------------------------------------------------------------------


def no_image_is_read(*_, **__):
    raise AssertionError("images were read before all else was known")


def test_missing_inception_weights_are_said_first_with_three_ways(imagegen, layouts, monkeypatch):
    monkeypatch.setattr(evaluation_sets, "source_set", no_image_is_read)
    for word in ("auto", "inception", "inception:nowhere.pth"):
        code, _, said = imagegen("evaluate", layouts["same"], layouts["bigger"], "--extractor", word)
        assert code == 1 and "SHA-256 6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2" in said
        assert "https://" in said and "--extractor mobilenet:" in said and "--extractor random" in said
        assert "--extractor inception:FILE" in said
    code, _, said = imagegen("evaluate", layouts["same"], "--statistics", "x.npz")
    assert code == 1 and "--extractor random" in said


def test_missing_inception_weights_of_an_experiment(tmp_path, capsys):
    experiment = experiment_of(Digits(size=2), evaluation=Evaluate(extractor="inception", metrics=("fid",)))
    with pytest.raises(SystemExit):
        ig.main(experiment, arguments=["--workdir", str(tmp_path / "run")], prog="train")
    said = capsys.readouterr().err
    assert "--evaluation.extractor random" in said and "--extractor" not in said.replace("--evaluation.extractor", "")
    with pytest.raises(ValueError, match="extractor='random'"):
        ig.fit(experiment, tmp_path / "other", quiet=True)


@pytest.mark.parametrize("word", ["random:x", "pixels:x", "classifier:x", "auto:x", "mobilenet", "inceptions", ""])
def test_extractors_that_there_are_not(imagegen, layouts, monkeypatch, word):
    monkeypatch.setattr(evaluation_sets, "source_set", no_image_is_read)
    code, _, said = imagegen("evaluate", layouts["same"], layouts["same"], f"--extractor={word}")
    assert code == 1 and "extractor" in said or "mobilenet:weights/" in said


# --- options ---------------------------------------------------------------------------------------------------------

TWO, PIXELS = ("A", "B"), ("--extractor", "pixels")
WITHOUT_EFFECT = {  # option -> calls in which it would change nothing
    "--samples 8": [TWO, ("A", "--statistics", "x.npz")],
    "--step 1": [TWO],
    "--average ema": [TWO],
    "--module toys": [TWO],
    "--seed 1": [("A", "--statistics", "x.npz", *PIXELS)],
    "--metrics fid": [("A", "--statistics", "x.npz", *PIXELS)],
    "--extractor random": [(*TWO, "--metrics", "psnr")],
    "--resize clean": [(*TWO, "--metrics", "psnr"), (*TWO, *PIXELS), ("A", "digits")],
    "--held-out A": [
        (*TWO, "--metrics", "fid"), ("A", "--statistics", "x.npz", *PIXELS), ("A", "STATISTICS", "--metrics", "fid"),
    ],
    "--split test": [TWO, ("RUN",), ("A", "--statistics", "x.npz", *PIXELS), ("RUN", "--leaderboard", "x.md")],
    "--split test,train": [("A", "digits"), ("digits", "A"), ("RUN", "digits")],
    "--split a,b,c": [("digits", "digits")],
    "--size 8": [("RUN",), ("RUN", "STATISTICS", "--metrics", "fid"), ("RUN", "--leaderboard", "x.md")],
    "--channels 3": [("RUN",)],
    "--skip-damaged": [("RUN",), ("NPZ", "digits")],
    "--statistics x.npz": [TWO, ("A", "--leaderboard", "x.md")],
    "--leaderboard x.md": [("A",), TWO, ("RUN", "A")],
    "--json": [("A", "--statistics", "x.npz", *PIXELS), ("RUN", "--leaderboard", "x.md")],
}  # fmt: skip
ALWAYS = {"--help", "--quiet"}  # it says how much is said


def options_of(command):
    parser = argparse.ArgumentParser()
    commands = next(a for a in main_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parser = commands.choices[command]
    return {action.option_strings[-1] for action in parser._actions if action.option_strings}


@pytest.mark.parametrize("words", [("nowhere",), ("nowhere", "digits"), ("digits", "nowhere")])
def test_a_word_that_names_nothing_may_be_a_run(imagegen, words):
    code, _, said = imagegen("evaluate", *words)
    assert code == 1 and "'nowhere' is no source of images" in said and "a run's folder" in said


def test_the_table_is_of_all_options():
    assert {option.split()[0] for option in WITHOUT_EFFECT} | ALWAYS == options_of("evaluate")


@pytest.mark.parametrize(("option", "call"), [(option, call) for option, of in WITHOUT_EFFECT.items() for call in of])
def test_an_option_without_effect_is_refused(imagegen, layouts, run, monkeypatch, tmp_path, option, call):
    monkeypatch.setattr(evaluation_sets, "source_set", no_image_is_read)
    np.savez(tmp_path / "images.npz", RANDOM.integers(0, 256, (4, 8, 8, 3), np.uint8))
    Moments(9, np.zeros(4), np.eye(4)).save(tmp_path / "saved.npz")
    words = {"A": layouts["same"], "B": layouts["bigger"], "RUN": run}
    words |= {"NPZ": tmp_path / "images.npz", "STATISTICS": tmp_path / "saved.npz"}
    module = ("--module", "toys") if "RUN" in call else ()
    option_words = [words.get(word, word) for word in option.split()]
    code, out, said = imagegen("evaluate", *(words.get(word, word) for word in call), *option_words, *module)
    assert code == 1 and not out
    assert option.split()[0] in said or "no run folder" in said or "--leaderboard" in said


@pytest.mark.parametrize(
    "option",
    ["--seed=-1", "--seed=4294967296", "--seed=nan", "--samples=1", "--samples=1e9", "--samples=nan", "--size=0",
     "--size=1e9", "--size=99999999", "--size=-4", "--channels=2", "--channels=nan", "--step=-1", "--step=1.5",
     "--resize=bicubic"],
)  # fmt: skip
def test_numbers_that_cannot_be(imagegen, layouts, option):
    code, _, said = imagegen("evaluate", layouts["same"], layouts["same"], option)
    name, _, value = option.partition("=")
    assert code == 2 and name in said and value in said


@pytest.mark.parametrize(
    ("words", "splits"),
    [
        (("digits", "digits", "--split", "test"), ("test", "test")),
        (("digits", "digits", "--split", "train,test"), ("train", "test")),
        (("digits", "digits", "--split", ",test"), ("all", "test")),
        (("A", "digits", "--split", "test"), (None, "test")),
        (("digits", "A", "--split", "test"), ("test", None)),
        (("A", "digits", "--held-out", "digits", "--split", ",train"), (None, "train", "test")),
        (("digits", "digits", "--held-out", "digits", "--split", "test,train,all"), ("test", "train", "all")),
    ],
)
def test_splits_go_by_place(layouts, words, splits):
    """An empty place is that of what has none; one word is that of all that have splits."""
    options = main_parser().parse_args(["evaluate", *(str(layouts["same"]) if word == "A" else word for word in words)])
    request = options.command.read(vars(options), [])
    targets, held_out = evaluation_sets.targets_of(request.targets, request.held_out, request.settings, request.split)
    found = [target.source for target in [*targets, *([held_out] if held_out else [])]]
    assert tuple(source.split if isinstance(source, Digits) else None for source in found) == splits


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "path"),
    [("--leaderboard", "table.txt"), ("--leaderboard", "table"), ("--statistics", "x.png"), ("--leaderboard", "here/"),
     ("--leaderboard", "/proc/none/t.md"), ("--statistics", "/proc/none/x.npz"), ("--statistics", "file/x.npz")],
)  # fmt: skip
def test_outputs_are_checked_before_any_image(imagegen, layouts, run, monkeypatch, tmp_path, option, path):
    monkeypatch.setattr(evaluation_sets, "source_set", no_image_is_read)
    (tmp_path / "here" / "file").touch()
    target = (run, "--module", "toys") if option == "--leaderboard" else (layouts["same"], *PIXELS)
    code, out, said = imagegen("evaluate", *target, option, path)
    assert code == 1 and not out and f"{option} {path}" in said


def test_what_a_leaderboard_is_grouped_by_is_read_before_any_image(imagegen, run, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation_sets, "source_set", no_image_is_read)
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "changes.jsonl").write_text('{"steps": [1, 2]}\n[]\n')
    code, out, said = imagegen("evaluate", tmp_path / "copy", "--module", "toys", "--leaderboard", tmp_path / "t.md")
    assert code == 1 and not out and "changes.jsonl is damaged in line 2: remove that line" in said


def test_parent_folders_are_made(imagegen, layouts, run, tmp_path):
    code, _, said = imagegen("evaluate", layouts["same"], *PIXELS, "--statistics", tmp_path / "new/deep/x.npz")
    assert code == 0 and len(Moments.load(tmp_path / "new/deep/x.npz").mean) == 768, said
    toy = (run, "--module", "toys", *PIXELS, "--metrics", "kid", "--samples", 16, "--quiet")
    code, out, said = imagegen("evaluate", *toy, "--leaderboard", tmp_path / "other/t.md")
    assert code == 0 and (tmp_path / "other/t.md").read_text() == out, said


@pytest.mark.parametrize("extra", [(), ("--json",), ("--leaderboard", "t.md")])
def test_scores_are_printed_where_they_cannot_be_kept(imagegen, run, monkeypatch, extra):
    """On a read-only mount, on a full disk."""

    def fails(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(evaluation, "append", fails)
    toy = (run, "--module", "toys", *PIXELS, "--metrics", "kid", "--samples", 16, "--quiet")
    code, out, said = imagegen("evaluate", *toy, *extra)
    assert code == 1 and "KID x 1000" in out
    assert "not kept" in said and str(run) in said and "Read-only file system" in said


def test_a_run_that_cannot_be_written_is_said_before(imagegen, run, monkeypatch):
    def refuses(path, kinds, option):
        raise ValueError(f"{option} {path}: cannot be written (Read-only file system)")

    monkeypatch.setattr(evaluation_options, "check_output", refuses)
    toy = (run, "--module", "toys", *PIXELS, "--metrics", "kid", "--samples", 16, "--quiet")
    code, out, said = imagegen("evaluate", *toy)
    assert "note: scores are printed, but not kept" in said and "KID" in out


def test_it_says_what_it_does(imagegen, run):
    toy = (run, "--module", "toys", *PIXELS, "--metrics", "kid", "--samples", 16)
    _, _, said = imagegen("evaluate", *toy)
    assert f"kid by FD-pixels: 16 images drawn from {run} at step 2 against 1,797 of Digits" in said


# --- files that hold no images ---------------------------------------------------------------------------------------

IMAGES = RANDOM.integers(0, 256, (12, 8, 8, 3), np.uint8)
SIGMA = np.eye(512)
SAVED = {  # arrays of an .npz, and what is said of them
    "objects": ({"arr_0": np.array([1, None], object)}, "object"),
    "floats": ({"arr_0": IMAGES / 255.0}, "float64"),
    "nan": ({"arr_0": np.full((4, 8, 8, 3), np.nan)}, "float64"),
    "none_of_them": ({"arr_0": IMAGES[:0]}, "(0, 8, 8, 3)"),
    "wrong_dimensions": ({"arr_0": IMAGES[0, 0]}, "(8, 3)"),
    "other_names": ({"pixels": IMAGES}, "pixels"),
    "empty": ({}, "none of its arrays"),
    "mean_alone": ({"mu": np.zeros(512)}, "mu"),
    "mean_of_nan": ({"mu": np.full(512, np.nan), "sigma": SIGMA}, "NaN"),
    "infinite": ({"mu": np.zeros(512), "sigma": np.inf * SIGMA}, "infinity"),
    "mismatched": ({"mu": np.zeros(512), "sigma": np.eye(5)}, "(5, 5)"),
    "other_width": ({"mu": np.zeros(5), "sigma": np.eye(5)}, "5 features"),
    "no_width": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "(0, 0)"),
    "no_covariance": ({"mu": np.zeros(512), "sigma": RANDOM.normal(size=(512, 512))}, "symmetric"),
    "negative": ({"mu": np.zeros(512), "sigma": -SIGMA}, "variances"),
    "text": ({"mu": np.array(["a"] * 3), "sigma": np.eye(3)}, "numbers"),
    "complex": ({"mu": np.zeros(512, complex), "sigma": SIGMA}, "complex"),
    "counts": ({"mu": np.zeros(512), "sigma": SIGMA, "count": np.array([1, 2])}, "count"),
    "no_count": ({"mu": np.zeros(512), "sigma": SIGMA, "count": 0}, "count"),
    "objects_as_mean": ({"mu": np.array([None] * 3), "sigma": np.eye(3)}, "Python objects"),
}


def damaged(path, kind):
    """Something that is called .npz and is none."""
    np.savez(path, mu=np.zeros(64), sigma=np.eye(64)) if "statistics" in kind else np.savez(path, IMAGES)
    data = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 255
        path.write_bytes(
            {"truncated": data[: len(data) // 2], "text": b"hello", "empty": b""}.get(kind.split()[0], bytes(flipped))
        )


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "kind",
    [*SAVED, "truncated", "flipped", "text file", "empty file", "folder", "missing", "truncated statistics",
     "flipped statistics"],
)  # fmt: skip
def test_files_that_are_no_images_are_one_message(imagegen, tmp_path, kind, first):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, IMAGES)
    if kind in SAVED:
        np.savez(bad, **SAVED[kind][0])
    else:
        damaged(bad, kind)
    pair = (bad, good) if first else (good, bad)
    code, out, said = imagegen("evaluate", *pair, "--extractor", "random", "--metrics", "fid", "--quiet")
    assert code == 1 and not out and said.count("\n") <= 3 and said.startswith("error: ")
    assert "bad.npz" in said or "512" in said
    if kind in SAVED and not first:
        assert SAVED[kind][1] in said


def test_statistics_are_no_images(imagegen, tmp_path):
    Moments(9, np.zeros(512), np.eye(512)).save(tmp_path / "saved.npz")
    np.savez(tmp_path / "good.npz", IMAGES)
    code, _, said = imagegen("evaluate", tmp_path / "saved.npz", tmp_path / "good.npz", "--extractor", "random")
    assert code == 1 and "holds statistics, no images: give it as the second" in said


def test_the_width_of_statistics_is_known_before_any_work():
    """Of an extractor that is not run for it."""
    extractor = random_network()
    assert _width(extractor, (16, 16, 3)) == extractor(IMAGES)["features"].shape[1]
