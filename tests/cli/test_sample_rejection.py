"""`imagegen sample --rejection`: the likeliest of more samples, by a run of a classifier or by one of the data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Affine, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.cli.common import rejecting
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.drawing.rejection import Rejection
from imagegen_jax.core.experiment import row_shapes
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import store_rows
from imagegen_jax.core.state import create
from imagegen_jax.data import Codes, from_arrays
from imagegen_jax.data.pictures import streaming


@dataclasses.dataclass(frozen=True)
class Drawn(Regression):
    """Draws noise, whatever its class."""

    network: Affine = Affine(4)
    num_classes: int = 3

    def sample(self, nets, key, n, conditions):
        return jax.random.uniform(key, (n, 2, 2, 1), minval=-1.0)


@dataclasses.dataclass(frozen=True)
class Brightness(Regression):
    """Tells classes by brightness: the last is the brightest."""

    network: Affine = Affine(4)
    num_classes: int = 3

    def classify(self, nets, image):
        return jax.nn.log_softmax(image.mean((1, 2, 3))[:, None] * jnp.arange(self.num_classes))


def run_of(model, folder, data=None):
    """A run at step 0 whose data have classes a, b and c."""
    experiment = ig.Experiment("drawn", model, data or ToyData(), {"network": SGD(1e-3)}, batch_size=8)
    nets = model.init(jax.random.key(0), ToyData().open().batch(0, 2))
    folder.mkdir(exist_ok=True)
    store_rows(folder, row_shapes(ToyData().open()), ToyData().open().class_names)
    return Run(experiment, create(nets, experiment.optim, {}), folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    other = run_of(Brightness(), folder / "other")
    store_rows(other.workdir, row_shapes(ToyData().open()), ("a", "x", "c"))
    return {
        "drawn": run_of(Drawn(), folder / "drawn"),
        "judge": run_of(Brightness(), folder / "judge"),
        "other": other,
        "four": run_of(Brightness(num_classes=4), folder / "four"),
        "plain": run_of(Drawn(num_classes=0), folder / "plain"),
        "of_codes": run_of(Drawn(), folder / "of_codes", Codes(str(codes_in(folder)))),
    }


def codes_in(folder):
    path = folder / "codes.npz"
    np.savez(path, codes=np.zeros((4, 2, 2), np.int32), codebook_size=3, tokenizer="x", label=np.array([0, 1, 2, 0]))
    return path


@pytest.fixture
def imagegen(imagegen, runs, monkeypatch, tmp_path):
    """Runs `imagegen ...` in an empty folder, where each run is called by its name."""
    for module in (run_options, rejecting):
        monkeypatch.setattr(module, "load", lambda name, modules, step=None: runs[name.name])
    monkeypatch.chdir(tmp_path)
    return imagegen


CALL = ("sample", "drawn", "--n", 20, "--chunk", 16, "--seed", 5, "--rejection", 0.25)


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "f", "grid.png"])
def test_the_likeliest_are_written_and_an_interrupted_call_goes_on(imagegen, runs, monkeypatch, tmp_path, name):
    labels = np.sort(np.resize([0, 1, 2], 20))
    wanted = runs["drawn"].sample(20, labels, 5, 16, reject=Rejection(0.25, runs["judge"].classify))
    assert wanted[labels == 0].mean() + 60 < wanted[labels == 2].mean()
    call, written = (*CALL, "--classifier", "judge", "--out", name), streaming.write_json
    if name != "grid.png":
        with monkeypatch.context() as patch:

            def interrupted(path, note):
                written(path, note)
                if note["images"] > 7:  # after the second class
                    raise KeyboardInterrupt

            patch.setattr(streaming, "write_json", interrupted)
            assert imagegen(*call)[0] == 130
        code, _, said = imagegen(*call[:8], "--rejection", 0.5, *call[10:])
        assert code == 1 and "rejection: 0.25 there, 0.5 now" in said, said
    code, out, said = imagegen(*call)
    assert code == 0 and f"20 images in {name}, the likeliest of 80" in out, said
    if name == "x.npz":
        with np.load(tmp_path / name) as arrays:
            np.testing.assert_array_equal(arrays["arr_0"], wanted)
            np.testing.assert_array_equal(arrays["arr_1"], labels)


@pytest.mark.usefixtures("place")
def test_without_a_run_the_classifier_is_one_of_the_data(imagegen, runs, monkeypatch, tmp_path):
    class Trained:
        fingerprint = "0" * 64
        classify = staticmethod(runs["judge"].classify)

    rows = ToyData().open().batch(0, 6)
    data = from_arrays(np.zeros(rows["image"].shape, np.uint8), rows["label"], ("a", "b", "c"))
    experiment = dataclasses.replace(runs["drawn"].experiment, data=data)
    monkeypatch.setitem(runs, "drawn", dataclasses.replace(runs["drawn"], experiment=experiment))
    asked = []
    monkeypatch.setattr(rejecting, "trained_classifier", lambda source: asked.append(source) or Trained)
    assert imagegen(*CALL, "--out", "own.npy")[0] == 0 and asked == [data]
    assert imagegen(*CALL, "--classifier", "judge", "--out", "run.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "own.npy"), np.load(tmp_path / "run.npy"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("drawn --classifier judge", "--classifier judge: it chooses among more samples, but all are kept"),
        ("drawn --rejection 0.5 --classifier plain", "--classifier plain: a Drawn tells no classes of images"),
        ("drawn --rejection 0.5 --classifier four", "--classifier four: it tells 4 classes, but samples are of 3"),
        ("drawn --rejection 0.5 --classifier other", "its class 1 is 'x', but that of samples 'b'"),
        ("plain --rejection 0.5 --classifier judge", "a Drawn knows no classes"),
        ("of_codes --rejection 0.5", "which holds no images to train a classifier on: name the run of one"),
    ],
)
def test_what_cannot_choose_is_refused(imagegen, tmp_path, words, message):
    code, _, said = imagegen("sample", *words.split(), "--n", 3)
    assert code == 1 and message in said, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "nan", "x"])
def test_a_share_that_is_none_is_refused_as_it_is_read(imagegen, share):
    code, _, said = imagegen("sample", "drawn", "--rejection", share)
    assert code == 2 and "must be a finite number" in said, said


def test_a_classifier_of_other_images_is_refused(runs):
    larger = dataclasses.replace(runs["judge"].experiment.model, image_shape=(4, 4, 1))
    judge = dataclasses.replace(runs["judge"], experiment=dataclasses.replace(runs["judge"].experiment, model=larger))
    with pytest.raises(ValueError, match=r"it knows images of \(4, 4, 1\), but samples are of \(2, 2, 1\)"):
        rejecting._check_judges("--classifier x", judge, runs["drawn"])
