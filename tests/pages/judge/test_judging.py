"""A person's way through a study: trials, votes that survive, results, and what the browser is told."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.cli import evaluate
from imagegen_jax.metrics.card import Card
from imagegen_jax.pages.judge.counts import wilson
from imagegen_jax.pages.judge.judging import Judging, png
from imagegen_jax.pages.judge.keeping import finish, judgements_of
from imagegen_jax.pages.judge.result import notes, result_of
from imagegen_jax.pages.judge.study import Study, load_study, save_study
from imagegen_jax.pages.judge.trials import chosen_a, milliseconds, pictures_of, trials_of
from imagegen_jax.pages.judge.votes import Vote, Votes, read_votes


def answer(judging: Judging, voter: str, takes_a: Any, looks: bool = True) -> None:
    """Answers all trials: of pairs, `takes_a(pair)`; of catch trials rightly, or with `looks` False wrongly."""
    while (trial := judging.next_of(voter)) is not None:
        wrong = not looks if trial.catch else takes_a(trial.pair)
        side = next(side for side in (0, 1) if chosen_a(trial, side) == wrong)
        judging.answer(voter, trial.number, side, 1.5)


def test_each_person_has_an_order_and_sides_of_their_own(study: Study) -> None:
    one, other = trials_of(study, "one"), trials_of(study, "other")
    assert one == trials_of(study, "one") and one != other
    assert len(one) == 22 and sum(trial.catch for trial in one) == 2 and not one[0].catch
    assert len({trial.pair for trial in one}) == 22  # of 24: none twice
    everyone = [trials_of(study, str(voter)) for voter in range(200)]
    assert 0.47 < np.mean([trial.swapped for trials in everyone for trial in trials]) < 0.53
    assert not any(trials[0].catch for trials in everyone)


def test_pairs_come_again_only_after_all_have_come(study: Study) -> None:
    few = Study(study.settings, study.a[:5], study.b[:5])
    pairs = [trial.pair for trial in trials_of(few, "one")]
    assert all(sorted(pairs[i : i + 5]) == list(range(5)) for i in (0, 5, 10, 15))


def test_the_choice_of_a_is_the_choice_of_its_picture(study: Study) -> None:
    for trial in trials_of(study, "one"):
        for side, picture in enumerate(pictures_of(study, trial)):
            of_a = not np.array_equal(picture, study.b[trial.pair])
            assert chosen_a(trial, side) == of_a
            if of_a and trial.catch:
                np.testing.assert_array_equal(np.sort(picture.ravel()), np.sort(study.b[trial.pair].ravel()))


def test_the_staircase_goes_three_times_as_far_up(study: Study) -> None:
    settings = dataclasses.replace(study.settings, staircase=True)
    assert [milliseconds(settings, answers) for answers in ([], [True], [True, False], [False] * 30, [True] * 90)] == [
        500, 490, 520, 1000, 100,
    ]  # fmt: skip
    assert milliseconds(study.settings, [True]) is None


def test_a_staircase_settles_where_three_of_four_are_right(study: Study) -> None:
    settings, random, right = dataclasses.replace(study.settings, staircase=True), np.random.default_rng(0), []
    times = []
    for _ in range(3000):
        times.append(milliseconds(settings, right) or 0)
        right.append(bool(random.random() < 0.5 + times[-1] / 1200))  # right in three of four at 300 ms
    assert np.mean(times[1000:]) == pytest.approx(300, abs=15)


def test_the_staircase_follows_a_persons_answers_to_pairs_alone(judging: Judging) -> None:
    """From trial to trial: 10 ms less after a right answer, 30 more after a wrong one; catch trials change nothing."""
    settings = dataclasses.replace(judging.study.settings, staircase=True)
    judging = dataclasses.replace(judging, study=dataclasses.replace(judging.study, settings=settings))
    expected = 500
    while (trial := judging.next_of("one")) is not None:
        assert judging.shown("one")["milliseconds"] == expected
        wrong = trial.number % 3 == 0 and not trial.catch
        side = next(side for side in (0, 1) if chosen_a(trial, side) == wrong)
        judging.answer("one", trial.number, side, 1.0)
        expected += 0 if trial.catch else 30 if wrong else -10
    found = result_of(judging.study, judging.votes.all)
    last = [vote.milliseconds for vote in judging.votes.all if not vote.catch][-1]
    assert found is not None and found.threshold == last != 500 and f"{last} ms" in notes(found)[-1]
    assert judging.shown("other")["done"] == 0 and judging.shown("other")["milliseconds"] == 500  # of their own alone


def test_votes_survive_a_new_server_a_second_click_and_a_cut_line(judging: Judging, tmp_path: pathlib.Path) -> None:
    for _ in range(5):
        trial = judging.next_of("one")
        assert trial is not None
        judging.answer("one", trial.number, 0, 0.5)
        judging.answer("one", trial.number, 1, 0.6)  # a second click
    path = tmp_path / "study" / "votes.jsonl"
    path.write_bytes(path.read_bytes()[:-9])  # killed as it wrote the fifth
    again = dataclasses.replace(judging, votes=Votes(tmp_path / "study"))
    trial = again.next_of("one")
    assert trial is not None and trial.number == 4
    again.answer("one", 4, 1, 0.5)
    kept = read_votes(tmp_path / "study")
    assert [(vote.trial, vote.left) for vote in kept] == [(0, True), (1, True), (2, True), (3, True), (4, False)]


def test_of_two_votes_for_a_trial_the_first_is_kept(tmp_path: pathlib.Path) -> None:
    """Such as of two tabs that answer at once; also where an older server has written both."""
    votes, vote = Votes(tmp_path), Vote("one", 0, 3, False, True, True, 1.0)
    other = dataclasses.replace(vote, chose_a=False)
    assert votes.add(vote) and not votes.add(other) and votes.all == read_votes(tmp_path) == [vote]
    with (tmp_path / "votes.jsonl").open("a") as file:
        file.write(json.dumps(dataclasses.asdict(other)) + "\n")
    assert read_votes(tmp_path) == [vote]


def test_a_vote_is_on_the_disk_before_it_counts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes, seen = Votes(tmp_path), []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append((os.fstat(file).st_size > 0, len(votes.all))))
    votes.add(Vote("one", 0, 3, False, True, True, 1.0))
    assert seen == [(True, 0)] and len(votes.all) == 1


@pytest.mark.parametrize(
    ("number", "side", "seconds"),
    [(0, 2, 1), (0, True, 1), (0, None, 1), ("0", 1, 1), (0, 0, -1), (0, 0, "x"), (0, 0, True), (0, 0, float("nan"))],
)
def test_what_is_no_answer_is_refused(judging: Judging, number: Any, side: Any, seconds: Any) -> None:
    with pytest.raises(ValueError, match="an answer"):
        judging.answer("one", number, side, seconds)


def test_an_answer_to_another_trial_than_the_shown_one_changes_nothing(judging: Judging) -> None:
    judging.answer("one", 3, 0, 1.0)
    assert judging.votes.all == []


def test_nothing_that_is_shown_tells_the_sets(judging: Judging) -> None:
    sizes = set()
    for _ in range(22):
        trial, shown = judging.next_of("one"), judging.shown("one")
        assert trial is not None and set(shown) == {
            "trial", "done", "of", "pictures", "width", "height", "pixels", "milliseconds",
        }  # fmt: skip
        assert (shown["width"], shown["height"], shown["pixels"]) == (256, 256, True)
        for side, name in enumerate(shown["pictures"]):
            found = judging.picture("one", name)
            assert found is not None and judging.picture("other", name) is None
            sizes.add(len(found))
            picture = Image.open(io.BytesIO(found))
            np.testing.assert_array_equal(np.asarray(picture)[..., None], pictures_of(judging.study, trial)[side])
            assert picture.info == {}
        judging.answer("one", trial.number, 0, 1.0)
        assert judging.picture("one", shown["pictures"][0]) is None
    assert len(sizes) == 1


def test_pictures_have_as_many_bytes_whatever_is_on_them() -> None:
    """Those of a network are often smoother than photos, and would be shorter files."""
    flat, noise = np.zeros((16, 16, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert len(png(flat)) == len(png(noise))


def test_results_by_class_with_attention_and_agreement(judging: Judging, tmp_path: pathlib.Path) -> None:
    answer(judging, "one", lambda pair: pair % 2 == 0)  # takes the tabbies for real
    answer(judging, "two", lambda pair: pair % 2 == 0)
    answer(judging, "asleep", lambda pair: True, looks=False)
    found = result_of(judging.study, judging.votes.all)
    assert found is not None
    assert found.overall.answers == 40 and found.voters == 2 and found.caught == (4, 4)
    assert [(row.name, row.share.value) for row in found.by_class] == [("tabby", 1.0), ("poodle", 0.0)]
    assert found.left_out == (("asleep", 2, 2),)
    assert sum(row.answers for row in found.by_time) == 40
    assert found.overall.share.low < wilson(20, 40).low  # two who always agree say less than 40 answers
    assert found.agreement is not None and found.agreement[:2] == (1.0, 1.0)


def test_one_slip_in_four_is_forgiven_and_two_are_not(study: Study) -> None:
    votes = [Vote("one", i, i, True, i == 0, True, 1.0) for i in range(4)] + [Vote("one", 4, 4, False, True, True, 1.0)]
    found = result_of(study, votes)
    assert found is not None and found.caught == (3, 4) and found.left_out == ()
    assert result_of(study, [dataclasses.replace(vote, chose_a=vote.trial < 2) for vote in votes]) is None


def test_a_result_is_printed_and_kept_with_the_run(
    study: Study, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    reported: list[pathlib.Path] = []
    monkeypatch.setattr("imagegen_jax.pages.judge.keeping.write_report", reported.append)
    kept = Study(dataclasses.replace(study.settings, run=str(run)), study.a, study.b, study.labels)
    save_study(kept, tmp_path / "study")
    assert finish(tmp_path / "study") is None and "nobody" in capsys.readouterr().out
    judging = Judging(load_study(tmp_path / "study"), Votes(tmp_path / "study"), b"s")
    answer(judging, "one", lambda pair: pair < 12)
    finish(tmp_path / "study")
    assert reported == [run]
    (line,) = (run / "evaluations.jsonl").read_text().splitlines()
    card = json.loads(line)
    assert card["metric"] == "human error rate" and card["samples"] == 20 and card["low"] < card["value"] < card["high"]
    assert "20 answers" in capsys.readouterr().out
    with (run / "evaluations.jsonl").open("a") as file:  # of other scores, of votes that came later, and cut off
        for more in ({"metric": "FID"}, {"samples": 30}, {"value": None}):
            file.write(json.dumps(card | more) + "\n")
    (line,) = judgements_of(run)
    assert re.fullmatch(r"human error rate: [\d.]+% \[[\d.]+%, [\d.]+%\], 30 answers, beside digits", line)
    fid = Card("FID", 3.0, 2.0, 4.0, "bootstrap", 10, "run", 10, "digits", "pixels", "", "none", 0)
    evaluate._print([fid], False, run)
    shown = capsys.readouterr().out
    assert "FID" in shown and f"people:     {line}" in shown
    evaluate._print([fid], True, run)
    assert "people" not in capsys.readouterr().out


def test_a_damaged_study_is_named(tmp_path: pathlib.Path, study: Study) -> None:
    save_study(study, tmp_path)
    whole = (tmp_path / "pictures.npz").read_bytes()
    for damaged in (b"PK", whole[: len(whole) // 2]):
        (tmp_path / "pictures.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no whole study"):
            load_study(tmp_path)


def test_one_person_does_not_agree_with_themselves(study: Study, tmp_path: pathlib.Path) -> None:
    few = Study(study.settings, study.a[:5], study.b[:5])  # each pair comes four times
    save_study(few, tmp_path)
    judging = Judging(few, Votes(tmp_path), b"s")
    answer(judging, "one", lambda pair: True)
    found = result_of(few, judging.votes.all)
    assert found is not None and found.agreement is None
