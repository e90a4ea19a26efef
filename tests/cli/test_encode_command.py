"""`imagegen encode` with a tokenizer whose codes are known: what it writes and says, interruptions, what is refused."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from PIL import Image
from toys import Halved, Independent, codes_of, pictures, tokenizer_run

from imagegen_jax.cli import encode
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.cli.encode import EncodeRequest
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.data import Latents
from imagegen_jax.editing import encoding


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The run that every request names; data are prepared in a cache of its own."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    made = tokenizer_run(tmp_path / "run")
    monkeypatch.setattr(run_options, "load", lambda *_, **__: made)
    return made


def asked(run, tmp_path, **fields):
    """The arrays that a request leads to."""
    place = encode.run(EncodeRequest(run.workdir, out=tmp_path / "codes.npz", **fields))
    return dict(np.load(place))


def test_codes_are_of_every_row_in_its_order(run, tmp_path, capsys):
    """With labels, names, the size of the book, and what stands for the weights; the message is right, too."""
    found = asked(run, tmp_path, chunk=8)
    codes = codes_of(pictures())
    np.testing.assert_array_equal(found["codes"], codes)
    assert found["codes"].dtype == np.uint8 and found["label"].dtype == np.int32 and found["codebook_size"] == 4
    np.testing.assert_array_equal(found["label"], np.arange(10) % 2)
    assert found["class_names"].tolist() == ["even", "odd"] and found["tokenizer"] == digest_of(run.nets["tokenizer"])
    note = json.loads(str(found["made_of"]))
    assert note["step"] == 0 and not note["mirror"] and set(note["content"]) == {"images", "labels"}
    shares = np.bincount(codes.ravel()) / codes.size
    error = ((pictures()[..., 0] - 85.0 * codes) ** 2).mean((1, 2))
    ratio = (10 * np.log10(255**2 / error)).mean()
    said = capsys.readouterr().out
    assert "10 images as codes of 2x3, uint8 in" in said
    assert f"4 of 4 codes used, perplexity {np.exp(-shares @ np.log(shares)):.1f}; PSNR {ratio:.2f} dB" in said
    assert not list(tmp_path.glob(".codes*"))


def test_mirrored_images_are_encoded_behind_the_others(run, tmp_path):
    found = asked(run, tmp_path, mirror=True, chunk=8)
    mirrored = codes_of(pictures()[:, :, ::-1])
    np.testing.assert_array_equal(found["codes"], np.concatenate([codes_of(pictures()), mirrored]))
    np.testing.assert_array_equal(found["label"], np.tile(np.arange(10) % 2, 2))


def test_data_without_classes_and_images_in_a_folder_of_another_size(run, tmp_path):
    """Which are brought to the model's channels; a model that is not square takes them as they are."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pictures(3)):
        Image.fromarray(image[..., 0]).convert("RGB").save(tmp_path / "photos" / f"{i}.png")
    found = asked(run, tmp_path, data=str(tmp_path / "photos"))
    np.testing.assert_array_equal(found["codes"], codes_of(pictures(3)))
    assert "label" not in found and "class_names" not in found


def test_an_interrupted_call_goes_on_and_another_is_refused(run, tmp_path, monkeypatch, capsys):
    whole, chunks = asked(run, tmp_path, chunk=8, mirror=True)["codes"], encode.encoded_chunks
    asked_for = []

    def interrupted(*args, start=0):
        asked_for.append(start)
        for i, rows in enumerate(chunks(*args, start=start)):
            if start == 0 and i == 2:
                raise KeyboardInterrupt
            yield rows

    monkeypatch.setattr(encode, "encoded_chunks", interrupted)
    (tmp_path / "codes.npz").unlink()
    with pytest.raises(SystemExit):
        asked(run, tmp_path, chunk=8, mirror=True)
    assert "16 of 20 images are kept" in capsys.readouterr().err and not (tmp_path / "codes.npz").exists()
    with pytest.raises(ValueError, match="of a call that was interrupted, and this is another .mirror: True there"):
        asked(run, tmp_path, chunk=8)
    np.testing.assert_array_equal(asked(run, tmp_path, chunk=8, mirror=True)["codes"], whole)
    assert asked_for == [0, 16]


def test_moments_of_latents_are_data_of_latents(run, tmp_path, monkeypatch, capsys):
    """Of an autoencoder in place of a tokenizer: read by `data.Latents`; said is how far they spread."""
    halved = tokenizer_run(run.workdir, Halved())
    monkeypatch.setattr(run_options, "load", lambda *_, **__: halved)
    found = asked(halved, tmp_path, chunk=8)
    mean = (pictures() / 127.5 - 1) / 2
    np.testing.assert_allclose(found["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(found["std"], mean**2, atol=1e-6)
    assert found["mean"].dtype == found["std"].dtype == np.float32 and "codebook_size" not in found
    assert found["autoencoder"] == digest_of(halved.nets["autoencoder"])
    data = Latents(str(tmp_path / "codes.npz")).open()
    assert data.image_shape == (2, 3, 1) and data.stds is not None and data.labels.tolist() == [0, 1] * 5
    spread = np.sqrt((mean**2 + mean**4).mean() - mean.mean() ** 2)
    said = capsys.readouterr().out
    assert f"latents of mean {mean.mean():.4g} and deviation {spread:.4g}, which a shift of" in said
    assert f"and a scale of {1 / spread:.4g} bring to 0 and 1; PSNR" in said
    np.testing.assert_allclose(data.measured, (1 / spread, mean.mean()), atol=1e-6)
    assert data.autoencoder == digest_of(halved.nets["autoencoder"])
    scaled = Latents(str(tmp_path / "codes.npz"), scale=4.0).open().measured
    assert scaled == (data.measured.scale / 4, data.measured.shift * 4)
    with pytest.raises(NonFiniteError, match="10 of 10 images are not finite numbers"):
        encoding.encoded(Lost(), halved.nets, pictures(), chunk=10)


def test_spread_is_measured_of_each_channel_where_that_is_asked_for(run):
    """Drawn from the moments: variances are those of means, and the mean of squared deviations."""
    random = np.random.default_rng(0)
    arrays = {"mean": random.normal(size=(2_500, 3, 3, 2)) * (1, 5) + (0, 2), "std": np.full((2_500, 3, 3, 2), 0.5)}
    found = encoding.spread(arrays, per_channel=True)
    deviation = np.sqrt(arrays["mean"].var((0, 1, 2)) + 0.25)
    np.testing.assert_allclose(found["scale"], 1 / deviation, rtol=1e-9)
    np.testing.assert_allclose(found["shift"], arrays["mean"].mean((0, 1, 2)), rtol=1e-9)
    whole = encoding.spread(arrays)
    assert float(whole["scale"]) == pytest.approx(1 / np.sqrt(arrays["mean"].var() + 0.25))
    with pytest.raises(ValueError, match="--per-channel: measures latents, and this run makes codes: leave it out"):
        encode.run(EncodeRequest(run.workdir, per_channel=True))


@pytest.mark.parametrize(("size", "kind"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (2**16 + 1, np.int32)])
def test_the_smallest_integers_that_hold_all_codes(size, kind):
    assert encoding.code_dtype(size) == kind


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": "large.npz"}, "large.npz.* are of 4x3x1 .height x width x channels., but this model encodes 2x3x1"),
        ({"data": "latents:x.npy"}, "x.npy"),
        ({"data": "large.npz", "skip_damaged": True}, "--skip-damaged"),
        ({"split": "test"}, "--split test: says how other data are read"),
        ({"out": "codes.txt"}, "this command writes .npz"),
    ],
)
def test_what_is_refused_before_anything_is_encoded(run, tmp_path, monkeypatch, fields, said):
    monkeypatch.setattr(encode, "encoded_chunks", None)
    monkeypatch.chdir(tmp_path)
    np.savez("large.npz", images=np.zeros((2, 4, 3, 1), np.uint8))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        encode.run(EncodeRequest(run.workdir, **{"out": tmp_path / "codes.npz", **fields}))


def test_a_model_that_encodes_nothing_and_codes_out_of_range(run):
    with pytest.raises(ValueError, match="a Independent does not encode images: take the run of a tokenizer"):
        encoding.encoded(Independent(), run.nets, pictures())
    with pytest.raises(ValueError, match="a Wrong of 4 codes has encoded images as codes from 9 to 9"):
        encoding.encoded(Wrong(), run.nets, pictures())


class Wrong(toys.Levels):
    """Encodes all as 9."""

    def encode(self, nets, image):
        return 9 + 0 * super().encode(nets, image)


class Lost(Halved):
    """Has deviations that are no numbers."""

    def encode(self, nets, image):
        return Moments(image, image * jnp.nan)
