"""TensorFlow Datasets: read without TensorFlow, with the published figures, and said plainly where that fails."""

from __future__ import annotations

import importlib.util
import io
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from imagegen_jax.data import TFDS, Captioned, CaptionedFolder, prepare_tfds
from imagegen_jax.data.pictures.describe import channel_statistics
from imagegen_jax.text import WordVocabulary

QUICKLY = """
import runpy, sys
from PIL import Image
save = Image.Image.save
Image.Image.save = lambda self, *out, optimize, **how: save(self, *out, **how, compress_level=1)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # runs a script that writes many small images with no search for the smallest files


@pytest.fixture
def data_dir(shared: pathlib.Path) -> str:
    """Where MNIST is prepared."""
    return str(shared / "tfds")


def test_mnist_test_images(data_dir: str) -> None:
    """10,000 images, whose classes have the counts of the published labels, as TFDS itself decodes them."""
    import tensorflow_datasets as tfds

    dataset = TFDS("mnist", split="test", data_dir=data_dir).open()
    assert len(dataset) == 10_000 and dataset.image_shape == (28, 28, 1)
    assert dataset.labels is not None
    assert np.bincount(dataset.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    reference = tfds.data_source("mnist", split="test", data_dir=data_dir)
    for index in (0, 31, 32, 4999, 9999):
        np.testing.assert_array_equal(dataset.images[index], reference[index]["image"])
        assert dataset.labels[index] == reference[index]["label"]


@pytest.mark.slow
def test_mnist_statistics(data_dir: str) -> None:
    """Mean .1307 and standard deviation .3081 of the 60,000 training images, the figures that all use."""
    dataset = TFDS("mnist", data_dir=data_dir).open()
    mean, std = channel_statistics(dataset)
    assert len(dataset) == 60_000
    np.testing.assert_allclose([*mean, *std], [0.1307, 0.3081], atol=5e-5)


@pytest.mark.slow
def test_cifar10_statistics(shared: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means .4914 .4822 .4465, standard deviations .2470 .2435 .2616, and 5,000 images a class."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    prepare = str(shared / "tools" / "prepare_cifar10.py")
    command = [sys.executable, "-c", QUICKLY, prepare, str(tmp_path / "tfds")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    dataset = TFDS("cifar10", data_dir=str(tmp_path / "tfds")).open()
    assert len(dataset) == 50_000 and dataset.image_shape == (32, 32, 3) and dataset.class_names[3] == "cat"
    assert np.bincount(dataset.labels).tolist() == [5000] * 10  # type: ignore[arg-type]
    mean, std = channel_statistics(dataset)
    np.testing.assert_allclose([*mean, *std], [0.4914, 0.4822, 0.4465, 0.2470, 0.2435, 0.2616], atol=5e-5)


def test_size_channels_and_slices(data_dir: str) -> None:
    """As asked."""
    dataset = TFDS("mnist", split="test[:1%]", size=16, channels=3, data_dir=data_dir).open()
    assert len(dataset) == 100 and dataset.image_shape == (16, 16, 3)


@pytest.mark.slow
def test_tensorflow_is_not_imported(data_dir: str) -> None:
    """Nor TFDS or scikit-learn by importing the package; TensorFlow not by reading a set either."""
    program = (
        "import sys, imagegen_jax.data as data\n"
        "assert not {'tensorflow', 'tensorflow_datasets', 'sklearn', 'torch'} & set(sys.modules)\n"
        f"data.TFDS('mnist', split='test[:1%]', data_dir={data_dir!r}).open().batch(0, 8)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_not_prepared(tmp_path: pathlib.Path) -> None:
    """The command that prepares it."""
    for name in ("mnist", "celeb_a"):
        with pytest.raises(FileNotFoundError) as caught:
            TFDS(name, data_dir=str(tmp_path)).open()
        assert f"imagegen data prepare tfds:{name} --data-dir {tmp_path}`" in str(caught.value)


def test_prepared_in_another_format(data_dir: str, tmp_path: pathlib.Path) -> None:
    """TFDS's default format cannot be read out of order."""
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        text = (pathlib.Path(data_dir) / "mnist" / "3.0.1" / name).read_text()
        (folder / name).write_text(text.replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match="in the format tfrecord, .* delete that folder, then run `imagegen data"):
        TFDS("mnist", data_dir=str(tmp_path)).open()


def test_unknown_names(data_dir: str) -> None:
    """Of sets the nearest; of splits those that there are."""
    with pytest.raises(ValueError, match="no data set 'cifar_10': perhaps you meant cifar10"):
        TFDS("cifar_10").open()
    with pytest.raises(ValueError, match="cannot give 'mnist:9.9.9': .*only: 3.0.1"):
        TFDS("mnist:9.9.9", data_dir=data_dir).open()
    with pytest.raises(ValueError, match=r"trainn.*\['train', 'test'\]"):
        TFDS("mnist", split="trainn", data_dir=data_dir).open()


@pytest.mark.parametrize("damage", ["missing", "cut short", "changed"])
def test_damaged_files(data_dir: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """The folder to delete and the command."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (pathlib.Path(data_dir) / "mnist" / "3.0.1").glob("*[!1]"):
        (folder / path.name).write_bytes(path.read_bytes())
    name = "mnist-test.array_record-00000-of-00001"
    content = (pathlib.Path(data_dir) / "mnist" / "3.0.1" / name).read_bytes()
    if damage == "cut short":
        (folder / name).write_bytes(content[: len(content) // 2])
    if damage == "changed":
        (folder / name).write_bytes(content[:1_000_000] + bytes(100) + content[1_000_100:])
    with pytest.raises(
        ValueError, match=f"{folder} are damaged .* delete that folder, then run `imagegen data prepare"
    ):
        TFDS("mnist", split="test", data_dir=str(tmp_path)).open()


def test_a_set_without_images(data_dir: str, tmp_path: pathlib.Path) -> None:
    """What it has instead."""
    published, folder = pathlib.Path(data_dir) / "mnist" / "3.0.1", tmp_path / "my_words" / "1.0.0"
    folder.mkdir(parents=True)
    info = json.loads((published / "dataset_info.json").read_text()) | {"name": "my_words", "version": "1.0.0"}
    features = json.loads((published / "features.json").read_text())
    del features["featuresDict"]["features"]["image"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(ValueError, match="it has no images, only label"):
        TFDS("my_words", data_dir=str(tmp_path)).open()


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_preparing_needs_tensorflow(tmp_path: pathlib.Path) -> None:
    """And the error says which extra has it."""
    with pytest.raises(ImportError, match=r'pip install "imagegen_jax\[tfds\]"'):
        prepare_tfds("mnist", str(tmp_path))
    with pytest.raises(ValueError, match="perhaps you meant mnist"):
        prepare_tfds("mnits", str(tmp_path))


def words_set(folder: pathlib.Path, name: str, feature: tfds.features.FeatureConnector, texts: list[object]) -> str:
    """Prepares four tiny images with texts in a feature "captions", and returns where."""
    with tfds.core.registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> tfds.core.DatasetInfo:
                features = {"image": tfds.features.Image(shape=(6, 6, 3)), "captions": feature}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager: object) -> dict[str, object]:
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
                for at, text in enumerate(texts):
                    png = io.BytesIO()
                    Image.new("RGB", (6, 6), (at, 10 * at, 200)).save(png, format="PNG")
                    png.seek(0)
                    yield at, {"image": png, "captions": text}

    Prepared.name = name
    Prepared(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.mark.parametrize("form", ["one", "several", "with numbers"])
def test_texts_are_captions(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Of one text, of several, and of several with other values; equal to the folder with the same texts beside."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    text, wanted = tfds.features.Text(), [("a red circle",), ("grün, and 円", "a square"), ("a cross",), ("a star",)]
    feature: tfds.features.FeatureConnector = text
    texts: list[object] = [one[0] for one in wanted]
    if form == "several":
        feature, texts = tfds.features.Sequence(text), [list(one) for one in wanted]
    elif form == "with numbers":
        feature = tfds.features.Sequence({"id": np.int64, "text": text})
        texts = [[{"id": i, "text": word} for i, word in enumerate(one)] for one in wanted]
    wanted = [one[:1] for one in wanted] if form == "one" else wanted
    place = words_set(tmp_path, "my_captions", feature, texts)
    found = TFDS("my_captions", data_dir=place).open()
    images = {int(image[0, 0, 0]): image for image in found.images}
    order = [int(image[0, 0, 0]) for image in found.images]  # that of the shuffled records
    assert list(found.captions or ()) == [wanted[at] for at in order] and sorted(order) == [0, 1, 2, 3]
    assert list(TFDS("my_captions", data_dir=place).open().captions or ()) == [wanted[at] for at in order]
    (tmp_path / "folder").mkdir()
    for rank, at in enumerate(order):
        Image.fromarray(images[at]).save(tmp_path / "folder" / f"{rank}.png")
        (tmp_path / "folder" / f"{rank}.txt").write_text("\n".join(wanted[at]), "utf-8")
    sources = (TFDS("my_captions", data_dir=place), CaptionedFolder(str(tmp_path / "folder")))
    batches = [Captioned(source, WordVocabulary(context=8)).open().batch(1, 6, seed=3) for source in sources]
    assert batches[0].keys() == batches[1].keys() == {"image", "text", "text_mask"}
    assert all((batches[0][name] == batches[1][name]).all() for name in batches[0])


def test_an_image_without_a_text_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    place = words_set(tmp_path, "my_gaps", tfds.features.Text(), ["a", " ", "b", ""])
    with pytest.raises(ValueError, match=r"2 of 4 images have no text, the first is train\["):
        Captioned(TFDS("my_gaps", data_dir=place)).open()
    assert len(TFDS("my_gaps", data_dir=place).open()) == 4  # where nobody asks for texts
