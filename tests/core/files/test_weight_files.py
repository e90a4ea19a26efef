"""The one reader of weight files: each kind gives the same arrays, and nothing in a file is executed."""

import io
import os
import pathlib
import pickle
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import imagegen_jax as ig
from imagegen_jax.core.checkpoints.weights import FromFile
from imagegen_jax.core.files.weight_files import read_weight_file, with_prefix

KINDS = ("state.pth", "older.pt", "parameters.bin", "state.safetensors", "state.npz")


@pytest.fixture(scope="module")
def reference():
    with np.load(pathlib.Path(__file__).parents[2] / "reference" / "weight_files.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def values(reference):
    """Tensors by name, as torch has them; those of 16 bits as float32."""
    return {name.removeprefix("value/"): x for name, x in reference.items() if name.startswith("value/")}


@pytest.fixture(scope="module")
def folder(reference, values, tmp_path_factory):
    """The files, as torch and safetensors wrote them, and the same as an .npz."""
    folder = tmp_path_factory.mktemp("files")
    for name, content in reference.items():
        if name.startswith("file/"):
            (folder / name.removeprefix("file/")).write_bytes(content.tobytes())
    np.savez(folder / "state.npz", **values)
    return folder


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file_gives_the_same_arrays(folder, values, name):
    """Also values that float16 and bfloat16 alone can hold, views, and tensors that share a storage."""
    assert len(values) == 8 and values["params.Norm_0.bias"][0] > 1e38
    assert_same(read_weight_file(folder / name).arrays, values)


def test_mappings_inside_others_have_longer_names(folder, values):
    found = read_weight_file(folder / "training.ckpt")
    assert_same(found.arrays, {f"state_dict/{name}": x for name, x in values.items()})
    assert_same(with_prefix(found.arrays, "state_dict", "here"), values)
    assert found.metadata == {"step": 12, "config/name": "a", "config/lr": 0.1, "config/sizes": [1, 2]}
    assert read_weight_file(folder / "state.safetensors").metadata == {"format": "pt"}


@pytest.mark.parametrize("name", KINDS)
def test_names_with_points_are_the_paths_of_a_network(folder, values, name):
    found = FromFile(str(folder / name)).read("network")
    assert found["params"].keys() == {"Dense_0", "Norm_0"} and found["batch_stats"].keys() == {"Norm_0"}
    np.testing.assert_array_equal(found["params"]["Dense_0"]["kernel"], values["params.Dense_0.kernel"])
    inner = FromFile(str(folder / name), "params.Dense_0").read("network")
    np.testing.assert_array_equal(inner["bias"], values["params.Dense_0.bias"])
    with pytest.raises(ValueError, match="no weights below 'generator'; .*begin with: batch_stats, params"):
        FromFile(str(folder / name), "generator").read("network")


def test_halves_are_widened_exactly(tmp_path):
    """Every one of the 65,536 of each kind."""
    every = np.arange(2**16, dtype=np.uint16)
    for dtype in (np.float16, jnp.bfloat16):
        given = every.view(dtype)
        save_file({"a": given}, tmp_path / "w.safetensors")
        found = read_weight_file(tmp_path / "w.safetensors").arrays["a"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, given.astype(np.float32))


class _Run:
    """What would make a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def torch_zip(path, value, **members):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", value if isinstance(value, bytes) else pickle.dumps(value, 2))
        for name, content in members.items():
            file.writestr(f"a/data/{name}", content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".npz", ".safetensors"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, suffix):
    trace = tmp_path / "ran"
    torch_zip(tmp_path / f"zip{suffix}", OrderedDict(a=_Run(trace)))
    (tmp_path / f"bare{suffix}").write_bytes(pickle.dumps({"a": _Run(trace)}))
    np.savez(tmp_path / "objects.npz", a=np.array([_Run(trace)]))
    (tmp_path / "objects.npz").rename(tmp_path / f"objects{suffix}")
    for name in ("zip", "bare", "objects"):
        with pytest.raises(ValueError, match=f"{name}{suffix}: truncated, or not a file of weights"):
            FromFile(str(tmp_path / f"{name}{suffix}")).read("network")
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Run(trace)))
    assert trace.exists()  # where it is trusted it does run, or this would show nothing


def test_pickles_without_end_are_refused(tmp_path):
    """A mapping in itself, and one that is each time twice in the next: read, its leaves would be 2^60."""
    ring: dict = {}
    ring["a"] = ring
    tower: dict = {"x": 1}
    for _ in range(60):
        tower = {"a": tower, "b": tower}
    for value in (ring, tower):
        with pytest.raises(ValueError, match="more than 100 mappings|more than 200,000 names"):
            read_weight_file(torch_zip(tmp_path / "w.pth", value))


def test_a_storage_that_is_packed_is_refused(tmp_path):
    """A few thousand bytes could stand for as many millions."""
    pickled = io.BytesIO()
    pickled.write(
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    )
    pickled.write(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89}tRs.")
    with pytest.raises(ValueError, match="storage 0 is compressed"):
        read_weight_file(torch_zip(tmp_path / "w.pth", pickled.getvalue(), **{"0": bytes(16_000)}))


def test_a_network_starts_from_a_file_of_torch(tmp_path, folder):
    with pytest.raises(ValueError, match="no network|holds no weights|begin with"):
        ig.load_network(f"{folder}/state.pth:nowhere", "network")
    assert ig.load_network(f"{folder}/training.ckpt:state_dict", "network").keys() == {"params", "batch_stats"}
