"""`imagegen judge`: what it compares, what it refuses, and how a study goes on."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from toys import Regression

import imagegen_jax as ig
from imagegen_jax.cli.pages import judging
from imagegen_jax.cli.pages.judging import JudgeRequest
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits
from imagegen_jax.pages.judge.judging import Judging
from imagegen_jax.pages.judge.study import load_study
from imagegen_jax.pages.judge.votes import Votes


@pytest.fixture(autouse=True)
def at_work(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder, and serves nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judging, "_serve", lambda study, folder, request: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run that draws digits of 2x2 pixels."""
    experiment = ig.Experiment(
        name="toy", model=Regression(), data=Digits(size=2), optim={"network": Adam(1e-2)}, batch_size=16, steps=2
    )
    folder: pathlib.Path = tmp_path_factory.mktemp("runs") / "toy"
    ig.fit(experiment, folder, quiet=True)
    return folder


def saved(name: str, shape: tuple[int, ...], **more: Any) -> str:
    """Images of noise in an .npz."""
    images = np.random.default_rng(len(name)).integers(0, 256, shape, np.uint8)
    np.savez(name, images=images, **more)
    return name


def test_a_run_beside_its_data_is_judged_and_the_study_goes_on(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    judging.run(JudgeRequest((str(run),), answers=12, seed=3, modules=("toys",)))
    folder = pathlib.Path("judgements/toy")
    study = load_study(folder)
    assert study.settings.question == "real" and len(study) == 12 and study.settings.run == str(run)
    assert study.a.shape == (12, 2, 2, 1)
    before = (folder / "pictures.npz").read_bytes()
    person = Judging(study, Votes(folder), b"s")
    while (trial := person.next_of("one")) is not None:
        person.answer("one", trial.number, int(trial.swapped != trial.catch) ^ 1 if trial.catch else 0, 1.0)
    judging.run(JudgeRequest((str(folder),)))
    judging.run(JudgeRequest((str(run),), answers=12, seed=3, modules=("toys",)))
    assert (folder / "pictures.npz").read_bytes() == before
    with pytest.raises(ValueError, match="a study with answers 12, not 30"):
        judging.run(JudgeRequest((str(run),), answers=30, seed=3, modules=("toys",)))


def test_classes_are_paired_by_their_names() -> None:
    labels = np.arange(40) % 2
    a = saved("a.npz", (40, 4, 4, 3), labels=labels)
    b = saved("bb.npz", (40, 4, 4, 3), labels=labels)
    judging.run(JudgeRequest((a, b), answers=10))
    study = load_study(pathlib.Path("judgements/a.npz-or-bb.npz"))
    assert study.settings.question == "better" and study.labels is not None and study.settings.run is None
    for side, name in ((study.a, "a.npz"), (study.b, "bb.npz")):
        images = np.load(name)["images"]
        rows = [int(np.flatnonzero((images == one).all((1, 2, 3)))[0]) for one in side]
        np.testing.assert_array_equal(np.asarray(rows) % 2, study.labels)


@pytest.mark.parametrize(
    ("sets", "more", "says"),
    [
        (("a.npz", "small.npz"), {}, "would tell them apart"),
        (("a.npz",), {}, "a second argument"),
        (("a.npz", "a.npz", "a.npz"), {}, "3 sets"),
        (("a.npz", "a.npz"), {"step": 4}, "--step 4: there is no run"),
        (("none.npz",), {}, "none.npz"),
        (("none",), {"result": True}, "holds no study"),
    ],
)
def test_what_cannot_be_judged_is_refused(sets: tuple[str, ...], more: dict[str, Any], says: str) -> None:
    saved("a.npz", (8, 4, 4, 3))
    saved("small.npz", (8, 2, 2, 3))
    with pytest.raises(ValueError, match=says):
        judging.run(JudgeRequest(sets, **more))
    assert not pathlib.Path("judgements/none").exists()


def test_other_pictures_of_the_same_words_are_another_study(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        saved("a.npz", (8, 4, 4, 3))
    monkeypatch.chdir(tmp_path)
    judging.run(JudgeRequest(("one/a.npz", "two/a.npz"), answers=4, out="study"))
    for sets, more in ((("two/a.npz", "one/a.npz"), {}), (("one/a.npz", "two/a.npz"), {"pairs": 3})):
        with pytest.raises(ValueError, match="a study of other pictures"):
            judging.run(JudgeRequest(sets, answers=4, out="study", **more))
    with pytest.raises(ValueError, match="--answers: .*goes on as it began"):
        judging.run(JudgeRequest(("study",), answers=5))


def test_a_staircase_wants_right_answers() -> None:
    with pytest.raises(ValueError, match="--staircase"):
        judging.run(JudgeRequest((saved("a.npz", (8, 4, 4, 3)), saved("bb.npz", (8, 4, 4, 3))), staircase=True))


def test_a_run_alone_is_asked_for_nothing_but_which_is_real(run: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="--question better"):
        judging.run(JudgeRequest((str(run),), question="better"))
