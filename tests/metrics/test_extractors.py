"""Feature extractors against pytorch-fid, lpips, Pillow and torch at random weights; files of weights; refusals.

`tests/reference/make_extractors.py` writes the reference values.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import pickle
import shutil
import zipfile
import zlib
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.metrics.features import extractor as extracting
from imagegen_jax.metrics.features import inception, lpips, mobilenet
from imagegen_jax.metrics.features.extractor import (
    Extractor,
    Function,
    Network,
    Pixels,
    extract,
    random_network,
    stream,
)
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.features.resize import resize
from imagegen_jax.metrics.features.weights import read_weights, select

REFERENCE = pathlib.Path(__file__).parents[1] / "reference" / "extractors.npz"
INCEPTION_TAPS = ("features_64", "features_192", "features_768", "features", "logits", "logits_unbiased", "spatial")
SIZES = (75, 17, 33, 32, 16)  # of the references for resizing


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as arrays:
        return dict(arrays)


def random_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """As in `make_extractors.py`."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:
        return generator.normal(1.0 if name.endswith("bn.weight") else 0.0, 0.2, shape).astype(np.float32)
    return generator.normal(0.0, math.sqrt(2 / math.prod(shape[1:])), shape).astype(np.float32)


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# --- resizing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_clean_equals_pillow_on_uint8_images(reference, number):
    image, expected = reference[f"resize/{number}/image"], reference[f"resize/{number}/clean"]
    difference = np.abs(np.asarray(resize(image[None], SIZES[number], "clean")[0]) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("kind", ["clean_float", "legacy_torch"])
@pytest.mark.parametrize("number", range(len(SIZES)))
def test_float_kinds_equal_their_references(reference, number, kind):
    image, expected = reference[f"resize/{number}/image"], reference[f"resize/{number}/{kind}"]
    np.testing.assert_allclose(resize(image[None], SIZES[number], kind)[0], expected, atol=2e-3)


@pytest.mark.parametrize(("height", "width", "size"), [(5, 7, 13), (12, 6, 4)])
def test_legacy_tf_by_its_definition(height, width, size):
    image = images(1, height, width, 2)

    def along(side: int, i: int) -> list[tuple[int, float]]:
        position = i * side / size
        low = int(position)
        return [(low, 1 - position + low), (min(low + 1, side - 1), position - low)]

    expected = [
        [sum(a * b * image[0, y, x].astype(float) for y, a in along(height, i) for x, b in along(width, j))
         for j in range(size)]
        for i in range(size)
    ]  # fmt: skip
    np.testing.assert_allclose(resize(image, size, "legacy_tf")[0], expected, atol=1e-3)


@pytest.mark.slow
def test_none_leaves_the_images_and_all_kinds_work_under_jit():
    image = images(2, 6, 5, 3)
    np.testing.assert_array_equal(resize(image, 99, "none"), image)
    found = jax.jit(lambda x: resize(x, 8, "clean"))(image)
    np.testing.assert_allclose(found, resize(image, 8, "clean"), atol=1)  # where rounding falls the other way


@pytest.mark.skipif(PIL.__version__ < "13", reason="older Pillow takes the two passes in another order")
@pytest.mark.parametrize(
    ("height", "width", "size"), [(76, 58, 46), (41, 18, 14), (9, 40, 20), (60, 40, 20), (61, 40, 20)]
)
def test_clean_takes_the_passes_in_pillows_order(height, width, size):
    image = images(1, height, width, 3)
    expected = PIL.Image.fromarray(image[0]).resize((size, size), PIL.Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(resize(image, size, "clean")[0]) - np.asarray(expected, np.float32))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005  # where rounding falls the other way


def test_what_resize_refuses():
    with pytest.raises(ValueError, match="resize 'bicubic': must be one of clean, "):
        resize(images(1, 4, 4, 3), 8, "bicubic")
    with pytest.raises(ValueError, match="size=0: must be at least 1"):
        resize(images(1, 4, 4, 3), 0, "clean")
    with pytest.raises(ValueError, match=r"float32 \[1, 4, 4, 3\]: resize takes uint8"):
        resize(np.zeros((1, 4, 4, 3), np.float32), 8, "clean")


# --- the interface ---------------------------------------------------------------------------------------------------

ALL = [
    Pixels(),
    Pixels(size=4, resize="clean"),
    random_network(width=4),
    Function("mine", lambda x: x.mean((1, 2)), "1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ALL, ids=lambda e: e.name)
def test_extractors_stream_with_one_batch_size(extractor):
    assert isinstance(extractor, Extractor) and len(extractor.fingerprint) == 64
    data, seen = images(7, 6, 6, 3), []
    whole = extractor(data)

    class Watched:
        name, resize, fingerprint = extractor.name, extractor.resize, extractor.fingerprint

        def __call__(self, batch):
            seen.append(len(batch))
            return extractor(batch)

    found = extract(Watched(), (data[i : i + 3] for i in (0, 3, 6)))
    assert seen == [8, 8, 8]  # filled up, so that rows can be split over the devices
    assert found["features"].dtype == np.float32 and len(found["features"]) == 7
    np.testing.assert_allclose(found["features"], whole["features"], rtol=1e-5, atol=1e-6)


def test_statistics_do_not_depend_on_the_devices(monkeypatch):
    """Eight devices with an eighth of the rows each, against one device."""
    data, found = images(200, 20, 20, 3), []
    for devices in (8, 1):
        monkeypatch.setattr(extracting, "local_mesh", MeshShape(data=devices).build)
        network = random_network(width=8)
        batches = [data[i : i + 64] for i in range(0, 200, 64)]
        assert len(network(batches[0])["features"].sharding.device_set) == devices
        found.append(Moments.of(extract(network, batches)["features"]))
    eight, one = found
    deviation = np.sqrt(np.diag(one.covariance))
    assert np.abs((eight.mean - one.mean) / deviation).max() < 1e-6
    assert np.abs((eight.covariance - one.covariance) / np.outer(deviation, deviation)).max() < 1e-6


@pytest.mark.parametrize("extractor", ALL, ids=lambda e: e.name)
def test_images_that_extractors_refuse(extractor):
    with pytest.raises(ValueError, match=r"the images are float32 in \[-1, 1\]: features are taken of uint8 in 0..255"):
        extractor(np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3))
    with pytest.raises(ValueError, match="the images hold NaN"):
        extractor(np.full((1, 4, 4, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="the images are int64"):
        extractor(np.zeros((1, 4, 4, 3), np.int64))
    with pytest.raises(ValueError, match=r"shape \[4, 4, 3\]: must be \[n h w c\]"):
        extractor(images(4, 4, 3))
    with pytest.raises(ValueError, match=r"shape \[0, 4, 4, 3\]"):
        extractor(images(0, 4, 4, 3))


def test_grey_images_count_as_three_equal_channels_and_others_are_refused():
    network, grey = random_network(width=4), images(2, 8, 8, 1)
    np.testing.assert_array_equal(network(grey)["features"], network(np.repeat(grey, 3, 3))["features"])
    with pytest.raises(ValueError, match="images of 4 channels: FD-random takes"):
        network(images(2, 8, 8, 4))


def test_batches_that_are_refused():
    with pytest.raises(ValueError, match="no images"):
        extract(Pixels(), [])
    with pytest.raises(ValueError, match="a batch of 3 images after one of 2"):
        list(stream(Pixels(), [images(2, 4, 4, 3), images(3, 4, 4, 3)]))
    with pytest.raises(ValueError, match=r"mine returned 'features' \[2, 4, 3\]: must be \[2 d\]"):
        Function("mine", lambda x: x.mean(1), "1")(images(2, 4, 4, 3))


def test_a_fingerprint_follows_weights_resize_size_and_taps():
    def network(value=1.0, **settings):
        return Network("n", **{"size": 8, "weights": {"w": np.full(3, value)}, "forward": lambda w, x: {}, **settings})

    changed = [network(2.0), network(resize="legacy_tf"), network(size=9), network(taps=("features", "logits"))]
    assert network().fingerprint == network().fingerprint
    assert len({n.fingerprint for n in [network(), *changed]}) == 5
    assert random_network(0).fingerprint != random_network(1).fingerprint
    assert random_network(0).fingerprint == random_network(0).fingerprint
    with pytest.raises(ValueError, match="resize 'lanczos'"):
        network(resize="lanczos")
    with pytest.raises(ValueError, match=r"n has no \['logits'\]; it has \[\]"):
        network(taps=("logits",))(images(1, 8, 8, 3))


# --- Inception -------------------------------------------------------------------------------------------------------


def inception_weights() -> dict[str, np.ndarray]:
    return {name: random_weight(name, shape) for name, shape in inception.shapes().items()}


@pytest.mark.slow
def test_inception_equals_pytorch_fid_at_every_tap(reference, tmp_path):
    np.savez(tmp_path / "inception.npz", **inception_weights())
    network = inception.inception(tmp_path / "inception.npz", "legacy_torch", INCEPTION_TAPS)
    found = network(reference["inception/images"])
    for tap in INCEPTION_TAPS:
        expected = reference[f"inception/{tap}"]
        np.testing.assert_allclose(found[tap], expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=tap)
    assert {tap: values.shape[1] for tap, values in found.items()}["spatial"] == 7 * 17 * 17


def test_inception_has_the_parameters_of_the_published_file(reference):
    """Kernels, both of each normalisation's vectors, and the last layer; running statistics are not counted."""
    count = sum(math.prod(shape) for name, shape in inception.shapes().items() if "running" not in name)
    assert count == reference["inception/parameters"] == 23_850_960


def test_inception_says_which_file_it_lacks_and_which_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        inception.inception()
    assert all(part in str(caught.value) for part in (inception.FILE, inception.SHA256, f"{tmp_path / 'weights'}"))
    assert inception.FILE.removesuffix(".pth").endswith(inception.SHA256[:8])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / inception.FILE).write_bytes(b"truncated")
    with pytest.raises(ValueError, match=f"has SHA-256 [0-9a-f]{{64}}, expected {inception.SHA256}"):
        inception.inception()
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"not those of this network: .* absent, expected \[.*; and \d+ more"):
        inception.inception(tmp_path / "other.npz")


# --- MobileNet -------------------------------------------------------------------------------------------------------


def plain_mobilenet(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """[H W 3] in [-1, 1] -> [1024], one position after the other, in float64."""

    def layer(name: str, kernel: np.ndarray, x: np.ndarray, stride: int, depthwise: bool) -> np.ndarray:
        size = kernel.shape[0]
        out = [-(-side // stride) for side in x.shape[:2]]
        total = [max((o - 1) * stride + size - side, 0) for o, side in zip(out, x.shape[:2], strict=True)]
        x = np.pad(x, [*((t // 2, t - t // 2) for t in total), (0, 0)])
        rows = []
        for i in range(out[0]):
            for j in range(out[1]):
                patch = x[i * stride : i * stride + size, j * stride : j * stride + size]
                rows.append((patch * kernel[..., 0]).sum((0, 1)) if depthwise else np.tensordot(patch, kernel, 3))
        y = np.reshape(rows, (*out, -1))
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{key}"].astype(float) for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return np.clip((y - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6)

    x = layer("conv1", weights["conv1/kernel"].astype(float), x, 2, False)
    for block in range(1, 13):
        stride = 2 if block in (2, 4, 6, 12) else 1
        x = layer(f"conv_dw_{block}", weights[f"conv_dw_{block}/depthwise_kernel"].astype(float), x, stride, True)
        x = layer(f"conv_pw_{block}", weights[f"conv_pw_{block}/kernel"].astype(float), x, 1, False)
    return x.mean((0, 1))


def test_mobilenet_equals_a_plain_forward_pass(shared):
    folder = shared / "data" / "mobilenet_v1_1.0_224_tfjs"
    network, data = mobilenet.mobilenet(folder, resize="none"), images(2, 32, 48, 3)
    weights = read_weights(next(folder.glob("*.npz")))
    found = np.asarray(network(data)["features"])
    expected = np.stack([plain_mobilenet(weights, x / 127.5 - 1) for x in data.astype(float)])
    assert found.shape == (2, 1024) and network.name == "FD-MobileNet" and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())


def test_mobilenet_says_which_file_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*absent.npz"):
        mobilenet.mobilenet(tmp_path / "absent.npz")
    with pytest.raises(FileNotFoundError, match="holds 0 .npz files"):
        mobilenet.mobilenet(tmp_path)


# --- LPIPS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tower", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_equals_the_reference(reference, shared, tmp_path, tower):
    names = {name: shape for name, shape in lpips.shapes(tower).items() if name.startswith("features")}
    np.savez(tmp_path / "tower.npz", **{name: random_weight(name, shape) for name, shape in names.items()})
    metric = lpips.load(tower, tmp_path / "tower.npz", shared / "data" / "lpips" / "v0.1" / f"{tower}.pth")
    pairs = reference["lpips/images"]
    np.testing.assert_allclose(metric(pairs[:2], pairs[2:]), reference[f"lpips/{tower}"], rtol=1e-4)
    np.testing.assert_allclose(metric(pairs[:2] / 127.5 - 1, pairs[2:]), reference[f"lpips/{tower}"], rtol=1e-4)
    np.testing.assert_allclose(metric(pairs[:2], pairs[:2]), 0, atol=1e-10)


@pytest.mark.slow
def test_lpips_has_a_gradient_where_features_are_zero():
    weights = {name: np.zeros(shape, np.float32) for name, shape in lpips.shapes("alex").items()}
    x = jnp.ones((1, 31, 31, 3))
    gradient = jax.jit(jax.grad(lambda a: lpips.distance("alex", weights, a, x).sum()))(x)
    assert np.isfinite(gradient).all()


def test_what_lpips_refuses(tmp_path):
    metric = lpips.LPIPS("alex", {})
    for a, b, message in (
        (images(1, 32, 32, 3), images(1, 33, 32, 3), "must be the same"),
        (images(1, 32, 32, 1), images(1, 32, 32, 1), "must be the same"),
        (images(1, 30, 32, 3), images(1, 30, 32, 3), "takes 31 pixels or more"),
        (np.full((1, 32, 32, 3), np.nan), np.zeros((1, 32, 32, 3)), "hold NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(a, b)
    with pytest.raises(ValueError, match="tower 'squeeze': must be one of alex, vgg"):
        lpips.load("squeeze", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at .*alexnet.pth"):
        lpips.load("alex", tmp_path / "alexnet.pth", tmp_path)


# --- files of weights ------------------------------------------------------------------------------------------------


class _Global:
    """What pickles as the name of something in another module."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Storage:
    def __init__(self, kind: str, key: str, length: int) -> None:
        self.pid = ("storage", _Global("torch", kind), key, "cpu", length)


class _Tensor:
    def __init__(self, storage: _Storage, *layout: object) -> None:
        self.call = (storage, *layout, False, OrderedDict())


class _Call:
    """What pickles as the call of `name` in `module`."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.call = (_Global(module, name), *arguments)


class _Pickler(pickle._Pickler):
    """Writes what torch would, without torch."""

    def persistent_id(self, value):
        return value.pid if isinstance(value, _Storage) else None

    def save(self, value, save_persistent_id=True):
        match value:
            case _Global():
                self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
            case _Tensor():
                self.save_reduce(_Global("torch._utils", "_rebuild_tensor_v2"), value.call)
            case _Call():
                self.save_reduce(value.call[0], value.call[1:])
            case _:
                super().save(value, save_persistent_id)

    def save_reduce(self, function, arguments, *rest, **named):
        if not isinstance(function, _Global):
            return super().save_reduce(function, arguments, *rest, **named)
        self.save(function)
        self.save(arguments)
        self.write(pickle.REDUCE)


def write_zip(path: pathlib.Path, value: object, **storages: np.ndarray) -> pathlib.Path:
    """A file as torch 1.6 and newer save it."""
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(value)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", buffer.getvalue())
        for key, array in storages.items():
            file.writestr(f"archive/data/{key.removeprefix('s')}", array.tobytes())
    return path


@pytest.mark.parametrize("kind", ["zip", "older"])
def test_reads_what_torch_saves(reference, tmp_path, kind):
    (tmp_path / "w.pth").write_bytes(reference[f"file/{kind}"].tobytes())
    found = read_weights(tmp_path / "w.pth")
    expected = {name.removeprefix("state/"): x for name, x in reference.items() if name.startswith("state/")}
    assert found.keys() == expected.keys() and len(found) == 7
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_reads_the_heads_of_lpips(shared):
    """Written by Python 2, in the older format."""
    for tower in ("alex", "vgg", "squeeze"):
        heads = shared / "data" / "lpips" / "v0.1"
        found, expected = read_weights(heads / f"{tower}.pth"), read_weights(heads / f"{tower}.npz")
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_reads_views_of_a_storage(tmp_path):
    values = np.arange(12, dtype=np.float32)
    storage = _Storage("FloatStorage", "0", 12)
    state = OrderedDict(a=_Tensor(storage, 0, (3, 4), (4, 1)), b=_Tensor(storage, 4, (4, 2), (1, 4)))
    state |= {
        "same": _Tensor(storage, 5, (13, 2), (0, 1)),
        "count": _Tensor(_Storage("LongStorage", "1", 1), 0, (), ()),
    }
    found = read_weights(write_zip(tmp_path / "w.pth", state, s0=values, s1=np.array([7])))
    np.testing.assert_array_equal(found["a"], values.reshape(3, 4))
    np.testing.assert_array_equal(found["b"], values[4:].reshape(2, 4).T)
    np.testing.assert_array_equal(found["same"], np.tile(values[5:7], (13, 1)))
    assert found["count"] == 7 and found["count"].dtype == np.int64


@pytest.mark.parametrize(
    "layout",
    [(0, (3, 5), (5, 1)), (-1, (2,), (1,)), (0, (4,), (-1,)), (13, (1,), (1,)), (0, (2, 2), (1,))],
)
def test_refuses_tensors_outside_their_storage(tmp_path, layout):
    state = {"a": _Tensor(_Storage("FloatStorage", "0", 12), *layout)}
    with pytest.raises(ValueError, match=r"a tensor of size|argument 2 is shorter"):
        read_weights(write_zip(tmp_path / "w.pth", state, s0=np.zeros(12, np.float32)))


def test_refuses_a_tensor_in_place_of_a_storage(tmp_path):
    """Many rows over one value are a view without bounds of its own."""
    inner = _Tensor(_Storage("FloatStorage", "0", 12), 0, (12,), (0,))
    with pytest.raises(ValueError, match="a tensor whose storage is none"):
        read_weights(write_zip(tmp_path / "w.pth", {"a": _Tensor(inner, 0, (12,), (1,))}, s0=np.zeros(12, np.float32)))
    with pytest.raises(ValueError, match="a storage of another kind"):
        state = {"a": _Tensor(_Storage("BoolStorage", "0", 12), 0, (12,), (1,))}
        state["a"].call[0].pid = ("storage", "O", "0", "cpu", 12)
        read_weights(write_zip(tmp_path / "o.pth", state, s0=np.zeros(12, np.float32)))


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("posix", "system")])
def test_does_not_run_what_a_pickle_would_call(tmp_path, module, name, older):
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w')" if name == "eval" else f"touch {trace}"
    path = tmp_path / "w.pth"
    if older:
        with open(path, "wb") as file:
            for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"a": _Call(module, name, code)}, []):
                _Pickler(file, 2).dump(value)
    else:
        write_zip(path, {"a": _Call(module, name, code)})
    with pytest.raises(ValueError, match="it holds no arrays"):
        read_weights(path)
    assert not trace.exists()


def test_the_same_pickle_does_run_where_it_is_trusted(tmp_path):
    """Or the test above would show nothing."""
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump({"a": _Call("os", "system", f"touch {tmp_path / 'ran'}")})
    pickle.loads(buffer.getvalue())
    assert os.path.exists(tmp_path / "ran")


def test_refuses_what_is_no_state_dict(tmp_path, shared):
    with pytest.raises(ValueError, match="not a state dict"):
        read_weights(write_zip(tmp_path / "list.pth", [1, 2]))
    with pytest.raises(ValueError, match="not a state dict"):
        read_weights(write_zip(tmp_path / "numbers.pth", {"a": 1}))
    (tmp_path / "text.pth").write_text("hello")
    np.savez(tmp_path / "whole.npz", x=np.zeros(1000))
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    shutil.copy(tmp_path / "objects.npy", tmp_path / "objects.npz")
    write_zip(tmp_path / "short.pth", {"a": _Tensor(_Storage("FloatStorage", "0", 12), 0, (12,), (1,))}, s0=np.zeros(2))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    heads = (shared / "data" / "lpips" / "v0.1" / "alex.pth").read_bytes()
    for length in (0, 10, 100, len(heads) // 2, len(heads) - 1):
        (tmp_path / f"cut{length}.pth").write_bytes(heads[:length])
    for path in [*tmp_path.glob("cut*"), *(tmp_path / name for name in ("text.pth", "short.pth", "objects.npz"))]:
        with pytest.raises(ValueError, match=f"{path.name}: truncated, or not a file of weights"):
            read_weights(path)


def test_a_given_hash_is_checked(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="has SHA-256 [0-9a-f]{64}, expected 00ff"):
        read_weights(tmp_path / "w.npz", "00ff")
    with pytest.raises(ValueError, match=r"x \[3\], expected \[4\]; y absent, expected \[\]"):
        select(read_weights(tmp_path / "w.npz"), {"x": (4,), "y": ()})
