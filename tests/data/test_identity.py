"""A run knows its data again: what is said, refused and allowed where they have changed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from toys import Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.space import Latents as LatentSpace
from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.files.identity import contents
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.run_folder import compare_data, compare_experiment, data_changes, store_data, store_experiment
from imagegen_jax.data import Captioned, CaptionedFolder, Digits, Folder, from_arrays
from imagegen_jax.data.formats.arrays import Arrays
from imagegen_jax.data.formats.latents import Latents
from imagegen_jax.data.formats.paired import DigitPairs, Paired, Unpaired
from imagegen_jax.data.formats.shapes import Shapes
from imagegen_jax.data.wrappers.derived import Erased, Lowered
from imagegen_jax.data.wrappers.stacked import Stacked
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.text import WordVocabulary

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 1), np.uint8)
MODEL = Regression()


def experiment(data):
    return ig.Experiment(name="toy", model=MODEL, data=data, optim={"network": SGD(0.1)}, batch_size=4, steps=1)


def folder_of(root, classes, images=IMAGES):
    for i, image in enumerate(images):
        place = root / classes[i % len(classes)] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_png(place, image)
    return root


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def changed(image):
    other = image.copy()
    other[-1, 0, 0] ^= 1
    return other


FLOATS = IMAGES.astype(np.float32)
# kind of source -> two makers: of a source, and of one whose last pixel is another
PAIRS = {
    "folder": (lambda p: Folder(str(folder_of(p, "ab"))), lambda p: Folder(str(folder_of(p, "ab", changed(IMAGES))))),
    "arrays": (lambda p: from_arrays(IMAGES), lambda p: from_arrays(changed(IMAGES))),
    "labels": (lambda p: from_arrays(IMAGES, [0, 1] * 3), lambda p: from_arrays(IMAGES, [0, 1, 0, 1, 1, 1])),
    "npz": (lambda p: Arrays(npz(p.with_suffix(".npz"), x=IMAGES)),
            lambda p: Arrays(npz(p.with_suffix(".npz"), x=changed(IMAGES)))),
    "digits": (lambda p: Digits(), lambda p: Digits(split="train")),
    "stacked": (lambda p: Stacked(Digits(), 9), lambda p: Stacked(Digits(), 9, seed=1)),
    "shapes": (lambda p: Shapes(9), lambda p: Shapes(9, seed=1)),
    "lowered": (lambda p: Lowered(Digits(), 2), lambda p: Lowered(Digits(), 4)),
    "erased": (lambda p: Erased(Digits()), lambda p: Erased(Digits(), seed=1)),
    "pairs": (lambda p: DigitPairs(), lambda p: DigitPairs(paired=False)),
    "paired": (lambda p: Paired(str(folder_of(p / "i", "a")), str(folder_of(p / "s", "a"))),
               lambda p: Paired(str(folder_of(p / "i", "a")), str(folder_of(p / "s", "a", changed(IMAGES))))),
    "unpaired": (lambda p: Unpaired(str(folder_of(p / "i", "a")), str(folder_of(p / "s", "a"))),
                 lambda p: Unpaired(str(folder_of(p / "i", "a")), str(folder_of(p / "s", "a", changed(IMAGES))))),
    "latents": (lambda p: Latents(npz(p.with_suffix(".npz"), latent=FLOATS)),
                lambda p: Latents(npz(p.with_suffix(".npz"), latent=FLOATS * 2))),
    "scale": (lambda p: Latents(npz(p.with_suffix(".npz"), latent=FLOATS)),
              lambda p: Latents(npz(p.with_suffix(".npz"), latent=FLOATS), scale=0.5)),
    "deviations": (lambda p: Latents(npz(p.with_suffix(".npz"), mean=FLOATS, std=FLOATS)),
                   lambda p: Latents(npz(p.with_suffix(".npz"), mean=FLOATS, std=FLOATS + 1))),
    "of a user": (lambda p: ToyData(), lambda p: ToyData(scale=0.25)),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAIRS)
def test_equal_data_are_known_again_and_others_are_not(tmp_path, kind):
    """Also from another place, and opened anew; of every kind of source."""
    one, other = PAIRS[kind]
    (tmp_path / "run").mkdir()
    store_data(tmp_path / "run", one(tmp_path / "here").open())
    assert data_changes(tmp_path / "run", one(tmp_path / "moved").open()) == {}
    assert data_changes(tmp_path / "run", other(tmp_path / "other").open())


def compared(run, source, resume_with_changes=False):
    """What a training says of a run's folder, without training."""
    value = experiment(source)
    found = compare_experiment(run, value)
    return compare_data(run, found, source.open(), resume_with_changes)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that was trained on class folders."""
    source = Folder(str(folder_of(tmp_path / "data", ["cat", "dog", "horse"])))
    (tmp_path / "run").mkdir()
    store_experiment(tmp_path / "run", experiment(source), {})
    store_data(tmp_path / "run", source.open())
    return tmp_path / "run"


def test_other_classes_are_named_and_refused(run, tmp_path):
    shutil.rmtree(tmp_path / "data")
    source = Folder(str(folder_of(tmp_path / "data", ["ant", "bird", "cat"])))
    with pytest.raises(RunFolderError) as error:
        compared(run, source)
    said = str(error.value)
    assert "other data" in said and "data.class_names: ['cat', 'dog', 'horse'] there, ['ant', 'bird', 'cat']" in said
    assert "--workdir" in said and "--resume-with-changes" in said and len(said.splitlines()) < 7
    assert list(compared(run, source, resume_with_changes=True)) == ["data.class_names"]


@pytest.mark.parametrize(("classes", "images", "size", "named"), [
    (["cat", "dog"], IMAGES, None, "data.num_classes"),
    (["cat", "dog", "horse"], IMAGES, 4, "data.rows.image.shape"),
    (["all"], IMAGES, None, "data.num_classes"),
])  # fmt: skip
def test_what_shapes_the_state_is_never_allowed(run, tmp_path, classes, images, size, named):
    shutil.rmtree(tmp_path / "data")
    source = Folder(str(folder_of(tmp_path / "data", classes, images)), size)
    for resume_with_changes in (False, True):
        with pytest.raises(RunFolderError, match=rf"{named}.*cannot change within a run"):
            compared(run, source, resume_with_changes)


def test_captions_that_make_another_vocabulary_are_refused_with_the_reason(tmp_path):
    """With one more word, of an image that was there."""
    folder_of(tmp_path / "data", ["all"])
    texts = [place.with_suffix(".txt") for place in sorted((tmp_path / "data" / "all").iterdir())]
    for text in texts:
        text.write_text("a circle")
    source = Captioned(CaptionedFolder(str(tmp_path / "data")), WordVocabulary(context=8))
    (tmp_path / "run").mkdir()
    store_experiment(tmp_path / "run", experiment(source), {})
    store_data(tmp_path / "run", source.open())
    texts[0].write_text("a red circle")
    with pytest.raises(RunFolderError) as error:
        compared(tmp_path / "run", source, resume_with_changes=True)
    said = str(error.value)
    assert "a vocabulary that is made of the captions is another one when words come, go" in said
    assert "undo the change (data.content.tokenizer cannot change within a run)" in said


def test_how_a_grid_is_decoded_may_change(tmp_path):
    """A run that died for memory as it drew one goes on; what is learned stays as it is."""
    stored = ig.Experiment("toy", Diffusion(Regression(), space=LatentSpace(0.5)), Digits(), {}, batch_size=4, steps=1)
    store_experiment(tmp_path, stored, {})
    tiled = ig.override(stored, {"model.space.decoding.tile": 64})
    assert compare_experiment(tmp_path, tiled) == {"model.space.decoding.tile": (None, 64)}
    with pytest.raises(RunFolderError, match="model.space.scale cannot change within a run"):
        compare_experiment(tmp_path, ig.override(tiled, {"model.space.scale": 0.25}))


def test_more_images_are_allowed_when_asked_for(run, tmp_path):
    folder_of(tmp_path / "data", ["cat", "dog", "horse"], np.concatenate([IMAGES, IMAGES]))
    source = Folder(str(tmp_path / "data"))
    with pytest.raises(RunFolderError, match=r"data.images: 6 there, 12 now\n *data.content.images"):
        compared(run, source)
    assert compared(run, source, resume_with_changes=True)["data.images"] == (6, 12)


def test_a_folder_that_was_moved_or_copied_is_no_change(run, tmp_path):
    """It is noted all the same where the data are now."""
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)  # with other times
    moved = compared(run, Folder(str(tmp_path / "copy")))
    assert list(moved) == ["data.path"]
    other = Folder(str(folder_of(tmp_path / "third", ["cat", "dog", "horse"], changed(IMAGES))))
    with pytest.raises(RunFolderError, match="data.path.*\n.*data.content.images"):
        compared(run, other)


def test_a_run_of_an_earlier_version_takes_the_data_that_it_finds(run, tmp_path):
    """All but the names of its classes, which it knows."""
    path = run / "data.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({name: stored[name] for name in ("rows", "class_names")}))
    folder_of(tmp_path / "data", ["cat", "dog", "horse"], changed(IMAGES))
    assert compared(run, Folder(str(tmp_path / "data"))) == {}
    with pytest.raises(RunFolderError, match="data.path cannot change"):
        compared(run, Folder(str(folder_of(tmp_path / "new", ["cat", "dog", "horse"]))), True)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(RunFolderError, match="class_names"):
        compared(run, Folder(str(folder_of(tmp_path / "data", ["ant", "bird", "cat"]))))


def test_a_digest_that_the_cache_keeps_is_of_the_file_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("imagegen_jax.core.files.identity._BLOCK", 16)
    np.save(tmp_path / "latent.npy", FLOATS)
    first = contents(Latents(str(tmp_path / "latent.npy")).open())
    assert first == contents(Latents(str(tmp_path / "latent.npy")).open())
    assert len(list((tmp_path / "cache" / "digests").iterdir())) == 1
    np.save(tmp_path / "latent.npy", FLOATS + 1)
    assert first != contents(Latents(str(tmp_path / "latent.npy")).open())
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("")  # which cannot be a folder
    assert first != contents(Latents(str(tmp_path / "latent.npy")).open())


def test_a_resumed_run_whose_data_changed_keeps_its_record(tmp_path, capsys):
    """Refused by the training itself, with nothing written; allowed, it goes on, and notes what changed."""
    value = dataclasses.replace(
        experiment(ToyData()), sample_every=0, samples=4, mesh=ig.core.arrays.shard.MeshShape(data=1)
    )
    ig.fit(value, tmp_path, quiet=True)
    before = (tmp_path / "data.json").read_text()
    other = dataclasses.replace(value, data=ToyData(scale=0.25), steps=2)
    for steps in (1, 2):  # one who is told of other steps alone would let the data in with them
        with pytest.raises(RunFolderError, match="data.content.image"):
            ig.fit(dataclasses.replace(other, steps=steps), tmp_path, quiet=True)
    assert (tmp_path / "data.json").read_text() == before
    capsys.readouterr()
    assert ig.fit(other, tmp_path, resume_with_changes=True).step == 2
    said = capsys.readouterr().err
    assert "other values:" in said and "steps: 1 there, 2 now" in said and "data.content.image" in said
    noted = json.loads((tmp_path / "changes.jsonl").read_text())
    assert {"data.content.image", "data.scale", "steps"} <= noted.keys()
