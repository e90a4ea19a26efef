"""Model cards: what a run's files say is on them, what is secret or a folder of someone's disk is not."""

from __future__ import annotations

import json

import pytest
import yaml
from toys import Regression

from imagegen_jax import Experiment
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.privacy.private import DifferentialPrivacy
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run_folder import RunFolderError
from imagegen_jax.data import Digits, Folder
from imagegen_jax.interop.exports.card import CARD, Licences, check_licence, licences_in, write_run_card
from imagegen_jax.interop.exports.card_facts import command_of, portable_values, seconds_of

SCORES = [
    {"metric": "FD-classifier", "value": 0.5, "low": 0.4, "high": 0.61234, "samples": 1000, "reference": "digits"},
    {"metric": "membership AUC", "value": 0.732, "low": 0.7, "high": 0.76, "samples": 1500, "reference": "digits"},
    {"metric": "share, class 3", "value": 0.2, "low": 0.18, "high": 0.22, "note": "more than 0.1000 of the data"},
]


def folder_of(path, experiment):
    """The files of a run of 30 steps."""
    path.mkdir(exist_ok=True)
    write_json(path / "experiment.json", to_dict(experiment))
    write_json(path / "data.json", {"rows": {}, "class_names": ["one", "two"], "images": 1500})
    write_json(path / "parameters.json", {"network": {"count": 1234}})
    command = ["/home/someone/bin/imagegen", "train", "digits", "--seed", "7", "--data=/home/someone/secret/photos"]
    write_json(path / "environment.json", {"command": command, "devices": {"cpu": 2}, "versions": {"jax": "0.12"}})
    lines = ({"step": step, "images_per_second": 160.0} for step in (10, 20, 30))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (path / "checkpoints").mkdir(exist_ok=True)
    return path


def experiment(**changes):
    settings = {"data": Digits(), "optim": {"network": SGD(0.1)}, "batch_size": 128, "steps": 30, "seed": 7}
    return Experiment("toy", Regression(), **settings | changes)


@pytest.fixture
def run(tmp_path):
    return folder_of(tmp_path / "a", experiment())


def test_a_card_says_what_the_files_of_the_run_say(run):
    (run / "evaluations.jsonl").write_text("".join(f"{json.dumps(score)}\n" for score in SCORES))
    write_json(run / "copies.json", {"nearer": 3, "samples": 100})
    card = write_run_card(run, licences=Licences("cc-by-4.0", "CC0 1.0"), modules=("toys",)).read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "license": "cc-by-4.0", "library_name": "jax", "pipeline_tag": "unconditional-image-generation",
        "data_license": "CC0 1.0",
    }  # fmt: skip
    for words in (
        "A Regression of 2x2x1 images, 1,234 parameters", "1,500 images.", "2 classes: one, two.",
        "Licence of the data: CC0 1.0.", "`imagegen train digits --seed 7 --data=photos`", "2 x cpu", "24 s of",
        "| FD-classifier | 0.5 | 0.4 to 0.6123 | 1000 | digits |", "membership: membership AUC 0.732 0.7 to 0.76",
        "copies: 3 of 100 samples", "share, class 3 0.2 0.18 to 0.22 (more than 0.1000 of the data)",
        "It was not trained privately", '"seed": 7',
    ):  # fmt: skip
        assert words in card, words
    assert "/home" not in card and "## Privacy" not in card and "Nobody has measured" not in card


def test_what_nobody_has_looked_at_is_said(run):
    card = write_run_card(run, modules=("toys",)).read_text()
    assert "license: unknown" in card and "Nobody has measured how good its samples are." in card
    assert "Not looked at: membership, copies, shares of classes." in card and "give it by --data-licence" in card


def test_the_card_of_a_private_run_has_epsilon_and_no_seed(tmp_path, monkeypatch):
    monkeypatch.setattr("imagegen_jax.core.privacy.accountant.is_there", lambda: True)
    monkeypatch.setattr("imagegen_jax.core.privacy.accountant.epsilon", lambda *given: float(given[1] == 1500) * 6.004)
    run = folder_of(tmp_path / "a", experiment(private=DifferentialPrivacy(0.1, 2.0, 1e-4)))
    card = write_run_card(run, modules=("toys",)).read_text()
    assert "private: epsilon 6 at delta 0.0001 after 0 steps" in card and "clipped to a norm of 0.1" in card
    assert '"seed"' not in card and "--seed" not in card and "not trained privately" not in card
    assert "started from" not in card
    tuned = experiment(private=DifferentialPrivacy(), pretrained={"network": FromRun("runs/public")})
    assert (
        "nothing of what the weights had seen that it started from"
        in write_run_card(folder_of(tmp_path / "b", tuned), modules=("toys",)).read_text()
    )


def test_licences_stay_and_a_card_of_ones_own_is_not_written_over(run):
    write_run_card(run, licences=Licences("mit", "cc0-1.0"), modules=("toys",))
    assert licences_in(write_run_card(run, licences=Licences(data="other"), modules=("toys",))) == ("mit", "other")
    (run / CARD).write_text("my own words")
    with pytest.raises(ValueError, match="--out"):
        write_run_card(run, modules=("toys",))
    assert (run / CARD).read_text() == "my own words"
    assert "## Recipe" in write_run_card(run, run / "other.md", modules=("toys",)).read_text()


@pytest.mark.parametrize("text", ["a\nb", "", "x" * 101, "a: [b"])
def test_what_is_no_licence_is_refused(text):
    with pytest.raises(ValueError, match="no name of a licence"):
        check_licence(text)


def test_the_command_writes_it_and_refuses_what_is_no_run(run, imagegen, tmp_path):
    code, out, said = imagegen("card", run, "--module", "toys", "--license", "mit", "--data-licence", "cc0-1.0")
    assert code == 0 and out.strip() == str(run / CARD), said
    assert licences_in(run / CARD) == ("mit", "cc0-1.0")
    for words, names in (
        ((tmp_path / "absent",), "absent"), ((run, "--out", "card.txt"), ".md"),
        ((run, "--licence", "a\nb"), "licence"),
    ):  # fmt: skip
        code, _, said = imagegen("card", *words)
        assert code == 1 and names in said


def test_damaged_files_leave_facts_out(run):
    for name in ("data.json", "parameters.json", "environment.json", "metrics.jsonl", "evaluations.jsonl"):
        (run / name).write_text('{"half')
    card = write_run_card(run, modules=("toys",)).read_text()
    assert "0 parameters" in card and "## Privacy" not in card and "command:" not in card
    (run / "experiment.json").write_text("{")
    with pytest.raises(RunFolderError):
        write_run_card(run, run / "other.md")


def test_paths_are_those_that_may_be_published(run):
    assert portable_values({"a": ["/x/y/z.png", "folder:/x/y", "b/c", "a=/x/y", "/", 3]}) == {
        "a": ["z.png", "folder:y", "b/c", "a=y", "/", 3]
    }
    assert command_of(["/x/imagegen_jax/__main__.py", "train", "--seed=3", "--seed", "4", "b"], True) == (
        "imagegen train b"
    )
    assert command_of(["a", 3], False) == command_of(None, False) == ""
    assert seconds_of(run, 128) == pytest.approx(24.0)
    folder = experiment(data=Folder("/home/someone/photos", size=8))
    assert "someone" not in write_run_card(folder_of(run, folder), modules=("toys",)).read_text()
