"""Models over codes: the same training from codes as from images, and codes that are refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from toys import Independent, Levels, Regression, codes_of, pictures, source

import imagegen_jax as ig
from imagegen_jax.cli import encode
from imagegen_jax.cli.encode import EncodeRequest
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.program import Program
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run_folder import RunFolderError, compare_data, store_data
from imagegen_jax.data import Codes
from imagegen_jax.metrics.sets import source_set

WEIGHTS = Levels().init_tokenizer(jax.random.key(0))
OTHERS = {"params": {"levels": np.float32([-1, -0.2, 0.2, 1])}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Weights of the tokenizer, others, and codes by the first."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    ig.save_network(tmp_path / "levels.npz", WEIGHTS)
    ig.save_network(tmp_path / "others.npz", OTHERS)
    put(tmp_path / "codes.npz")
    return tmp_path


def put(path, **changes) -> None:
    """Codes of the untrained tokenizer, as a file."""
    arrays = {"codes": codes_of(pictures()), "label": np.arange(10) % 2, "codebook_size": 4}
    np.savez(path, **{**arrays, "tokenizer": np.str_(digest_of(WEIGHTS)), **changes})


def experiment_on(files, data, weights="levels.npz", model=Independent()):  # noqa: B008
    return ig.Experiment(
        "toy", model, data, {"prior": Adam(0.1)}, pretrained={"tokenizer": str(files / weights)}, batch_size=8,
        steps=3, log_every=1, samples=4, sample_every=0,
    )  # fmt: skip


@pytest.mark.slow
def test_training_on_codes_is_training_on_images(files):
    """Bit for bit, the run's grid included; and stopped and resumed, it ends with the same."""
    on_images = ig.fit(experiment_on(files, source()), files / "a", quiet=True)
    on_codes = experiment_on(files, Codes(str(files / "codes.npz")))
    found = ig.fit(on_codes, files / "b", quiet=True)
    np.testing.assert_array_equal(found.state.params["prior"]["logits"], on_images.state.params["prior"]["logits"])
    ig.fit(dataclasses.replace(on_codes, steps=2), files / "c", quiet=True)
    resumed = ig.fit(on_codes, files / "c", resume_with_changes=True, quiet=True)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, resumed.state, found.state)))
    lines = [json.loads(line) for line in (files / "b" / "metrics.jsonl").read_text().splitlines()]
    assert not any("diversity" in name for line in lines for name in line)  # there are no images to compare with
    assert (files / "b" / "samples" / "00000003.png").is_file() and found.sample(2).shape == (2, 2, 3, 1)


def test_codes_of_other_weights_are_refused_with_both_fingerprints(files):
    """Before anything is compiled; and so are fresh weights."""
    program = Program(experiment_on(files, Codes(str(files / "codes.npz")), "others.npz"))
    with pytest.raises(
        ValueError, match=f"codes of the tokenizer {digest_of(WEIGHTS)}, but .*others.npz.* {digest_of(OTHERS)}, "
    ):
        program.pretrained()
    fresh = experiment_on(files, Codes(str(files / "codes.npz")))
    fresh = dataclasses.replace(fresh, pretrained={"tokenizer": "random"})
    with pytest.raises(ValueError, match="but pretrained.'tokenizer'.=random holds fresh weights"):
        ig.fit(fresh, files / "run", quiet=True)
    assert not (files / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"codebook_size": 5},
            "codes of another tokenizer than model.tokenizer, a Levels: codebook_size is 5 there, 4",
        ),
        ({"codes": codes_of(pictures()).reshape(10, 6)}, "code_shape is 6 there, 2x3 here"),
    ],
)
def test_codes_of_another_shape_or_book_are_refused(files, changes, said):
    put(files / "other.npz", **changes)
    with pytest.raises(ValueError, match=said):
        Program(experiment_on(files, Codes(str(files / "other.npz"))))


def test_codes_are_no_data_for_models_and_metrics_of_images(files):
    codes = Codes(str(files / "codes.npz"))
    experiment = ig.Experiment("toy", Regression(), codes, {"network": Adam(1e-3)}, batch_size=8)
    with pytest.raises(ValueError, match="the data are codes, and a Regression is trained on images"):
        Program(experiment)
    with pytest.raises(ValueError, match="has no images to compare with"):
        source_set(codes)


def test_a_run_does_not_go_on_with_codes_of_another_tokenizer(files):
    """Not even with --resume-with-changes: it keeps the tokenizer that it began with."""
    write_json(files / "experiment.json", {"class": "of no matter here"})
    store_data(files, Codes(str(files / "codes.npz")).open())
    put(files / "other.npz", tokenizer=np.str_("other"))
    with pytest.raises(RunFolderError, match="data.content.tokenizer cannot change within a run"):
        compare_data(files, {}, Codes(str(files / "other.npz")).open(), resume_with_changes=True)


@pytest.mark.slow
def test_a_tokenizer_and_a_prior_from_data_to_samples(files):
    """Trained, encoded by its average, learned from; then its run is gone, and the prior's draws and trains on."""
    averaged = {"averages": {"ema": HalfLife(8.0)}, "batch_size": 8, "samples": 4}
    tokenizer = ig.Experiment("levels", Levels(), source(), {"tokenizer": Adam(0.1)}, steps=2, **averaged)
    run = ig.fit(tokenizer, files / "vq", quiet=True)
    encode.run(EncodeRequest(files / "vq", out=files / "own.npz", modules=("toys",)))
    codes = Codes(str(files / "own.npz"))
    assert codes.open().tokenizer == digest_of(run.nets["tokenizer"]) != digest_of(WEIGHTS)
    experiment = dataclasses.replace(
        experiment_on(files, codes), pretrained={"tokenizer": FromRun(files / "vq")}, steps=2
    )
    with pytest.raises(ValueError, match="Name the run, step and average that made them"):
        last = dataclasses.replace(experiment, pretrained={"tokenizer": FromRun(files / "vq", average="none")})
        Program(last).pretrained()
    found = ig.fit(experiment, files / "prior", quiet=True)
    (files / "vq").rename(files / "moved")
    again = ig.load(files / "prior", modules=["toys"])
    np.testing.assert_array_equal(again.sample(4), found.sample(4))
    assert ig.fit(dataclasses.replace(experiment, steps=3), files / "prior", True, quiet=True).step == 3
    with pytest.raises(
        RunFolderError, match=f"pretrained.'tokenizer'.: {files / 'vq'} is no run folder.* --pretrained.tokenizer RUN"
    ):
        ig.fit(experiment, files / "new", quiet=True)
    assert not (files / "new").exists()
