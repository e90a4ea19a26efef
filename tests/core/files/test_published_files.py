"""Files as authors publish weights: read to the last bit as their own code reads them, and nothing in them is run."""

import hashlib
import io
import json
import os
import pathlib
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from imagegen_jax.core.checkpoints.weights import FromFile, parse
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.files.wrong_files import read_text_file

with np.load(pathlib.Path(__file__).parents[2] / "reference" / "published_files.npz") as stored:
    WANTED = json.loads(str(stored["wanted"]))
    FILES = {name: stored[f"file/{name}"].tobytes() for name in WANTED}


def written(folder, name, content=None):
    path = folder / name
    path.write_bytes(FILES[name] if content is None else content)
    return path


def described(arrays):
    return {
        name: [str(x.dtype), list(x.shape), hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16]]
        for name, x in arrays.items()
    }


@pytest.mark.parametrize("name", WANTED)
def test_each_file_has_the_values_that_its_own_code_reads(tmp_path, name):
    """Every type of torch, views, shared storages, another byte order; a training; modules by NVIDIA's classes."""
    found = described(read_weight_file(written(tmp_path, name)).arrays)
    kept = {path: value for path, value in found.items() if not path.startswith("G_opt_state/")}
    assert kept == WANTED[name]
    assert len(kept) >= 7


def test_a_network_in_a_pickle_of_several_is_named(tmp_path):
    place = written(tmp_path, "stylegan2.pkl")
    assert parse(f"{place}:G_ema") == FromFile(str(place), "G_ema")
    found = FromFile(str(place), "G_ema").read("network")
    assert found["synthesis"]["b4"]["const"].shape == (4, 4, 4) and found["mapping"]["w_avg"].shape == (4,)
    with pytest.raises(ValueError, match="no weights below 'D'; the names in it begin with: G_ema"):
        FromFile(str(place), "D").read("network")
    assert read_weight_file(place).metadata["training_set_kwargs/max_size"] == 9


# --- hostile files ---------------------------------------------------------------------------------------------------


def inside(name):
    """The pickle in a file, and how a file is made of another in its place."""
    if not FILES[name].startswith(b"PK"):
        return FILES[name], lambda content: content
    with zipfile.ZipFile(io.BytesIO(FILES[name])) as file:
        members = {member: file.read(member) for member in file.namelist()}
    place = next(member for member in members if member.endswith("/data.pkl"))

    def packed(content):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as file:
            for member, value in members.items():
                file.writestr(member, content if member == place else value)
        return made.getvalue()

    return members[place], packed


CALL = b"cos\nsystem\n(S'touch %s'\ntR0"
OPCODES = b"N\x88K\x01M\x01\x00]})\x8f(012ae\x90suldt\x85\x86\x87Rob\x81\x92\x93\x94h\x00q\x01Q.U\x03abc"


def flipped(content, rng, _):
    places = rng.integers(0, len(content), rng.integers(1, 9))
    made = bytearray(content)
    for place in places:
        made[place] ^= 1 << int(rng.integers(8))
    return bytes(made)


def truncated(content, rng, _):
    return content[: rng.integers(len(content))]


def inflated(content, rng, _):
    """What follows an opcode with a length gets a large one."""
    places = [i for i, code in enumerate(content[:-9]) if code in b"XBTUCq\x8a\x8b\x8d\x8e\x95"]
    place = int(rng.choice(places)) + 1
    length = int(rng.choice([1 << 31, 1 << 40, (1 << 63) - 1, len(content)])).to_bytes(8, "little")
    return content[:place] + length[: rng.integers(1, 9)] + content[place + 8 :]


def inserted(content, rng, trace):
    place = int(rng.integers(len(content)))
    new = bytes(rng.choice(list(OPCODES), rng.integers(1, 9)).astype(np.uint8))
    return content[:place] + new + (CALL % os.fsencode(trace) if rng.random() < 0.5 else b"") + content[place:]


@pytest.mark.parametrize("change", [flipped, truncated, inflated, inserted])
def test_a_damaged_file_is_refused_in_a_line_or_read(tmp_path, change):
    """Fifty of each kind; what is read of 3 to 20 kB takes neither long nor much memory, and runs nothing."""
    trace, refused = tmp_path / "ran", 0
    kinds = [inside(name) for name in ("types_older.pth", "stylegan2.pkl", "training.ckpt")]
    tracemalloc.start()
    for seed in range(50):
        content, packed = kinds[seed % len(kinds)]
        path = written(tmp_path, "w.pkl", packed(change(content, np.random.default_rng(seed), trace)))
        tracemalloc.reset_peak()
        before, start = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            read_weight_file(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: truncated, or not a file of weights (") and "\n" not in str(error)
            assert len(str(error)) < 500
        assert tracemalloc.get_traced_memory()[1] - before < 32e6 and time.process_time() - start < 5
    tracemalloc.stop()
    assert refused >= 20 and not trace.exists()


@pytest.mark.parametrize("name", ["types.pth", "types_older.pth", "training.ckpt", "stylegan2.pkl", "w.safetensors"])
def test_a_file_damaged_anywhere_is_refused_in_a_line_or_read(tmp_path, name):
    """Fifty of each kind: in its archive, its names or its values."""
    content = FILES.get(name) or save({"Block/C": np.arange(6.0), "T": np.ones((2, 3), np.float16)})
    trace, refused = tmp_path / "ran", 0
    for seed in range(50):
        change = (flipped, truncated, inflated, inserted)[seed % 4]
        path = written(tmp_path, name, change(content, np.random.default_rng(seed), trace))
        start = time.process_time()
        try:
            read_weight_file(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: truncated, or not a file of weights (") and "\n" not in str(error)
        assert time.process_time() - start < 5
    assert refused >= 13 and not trace.exists()  # all that are cut off, at least


class _Run:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_an_object_that_would_run_code_is_left_out(tmp_path, protocol):
    """In a training's file such objects are usual: the arrays beside them are read, and what they name is not."""
    trace = tmp_path / "ran"
    content = pickle.dumps({"a": _Run(f"touch {trace}"), _Run: [print, _Run("b")], "x": np.arange(3)}, protocol)
    found = read_weight_file(written(tmp_path, "w.pkl", content))
    assert found.arrays.keys() == {"x"} and not found.metadata and not trace.exists()
    np.testing.assert_array_equal(found.arrays["x"], np.arange(3))


# --- what is no file of weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors", ".npz"])
def test_what_a_failed_download_leaves_is_named_with_its_remedy(tmp_path, suffix):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    page = b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"
    half = {".safetensors": save({"a": np.zeros(99)})[:-80], ".npz": FILES["types.pth"][:999]}.get(
        suffix, FILES["types.pth"][:999]
    )
    for content, message in (
        (b"", "it is empty: download it again"),
        (pointer, "a pointer of Git LFS, not the file itself: `git lfs pull`"),
        (page, "a web page: .* a login or a consent; open it in a browser"),
        (b"\x1f\x8b\x08" + bytes(30), "packed: unpack it first"),
        (half, "the download was cut short: download it again"),
    ):
        with pytest.raises(ValueError, match=f"w{suffix}: truncated, or not a file of weights .*{message}"):
            read_weight_file(written(tmp_path, f"w{suffix}", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page: .* open it in a browser"),
    ],
)
def test_what_stands_in_place_of_a_text_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"vocab.json: it is {message}"):
        read_text_file(written(tmp_path, "vocab.json", content))
    assert read_text_file(written(tmp_path, "merges.txt", b"a <html>")) == b"a <html>"


def test_a_safetensors_cut_in_its_names_is_named_too(tmp_path):
    path = written(tmp_path, "w.safetensors", save({"a": np.zeros(3)})[:30])
    with pytest.raises(ValueError, match="30 bytes are there and its names alone are 64"):
        read_weight_file(path)


def test_parts_of_one_network_are_read_together_or_not_at_all(tmp_path):
    names = [f"m-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        save_file({f"x.{i}": np.full(2, i)}, tmp_path / name)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"x.{i}": name for i, name in enumerate(names)}}))
    for place in (index, tmp_path / names[1]):
        found = read_weight_file(place).arrays
        assert sorted(found) == ["x.0", "x.1", "x.2"] and found["x.2"].tolist() == [2, 2]
    assert FromFile(str(index)).read("network")["x"].keys() == {"0", "1", "2"} and parse(str(index)) == FromFile(
        str(index)
    )
    (tmp_path / names[2]).unlink()
    for place in (index, tmp_path / names[1]):
        with pytest.raises(ValueError, match=f"of the 3 parts of its network 1 are missing, {names[2]}: download them"):
            read_weight_file(place)
    for text, message in (
        ("{", "it is no index"),
        ('{"weight_map": {}}', "are not files beside it"),
        ('{"weight_map": {"a": "../secret.pth"}}', "are not files beside it: .*secret"),
        ('{"weight_map": {"a": 3}}', "are not files beside it"),
    ):
        index.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_weight_file(index)


# --- what a small file could ask for ---------------------------------------------------------------------------------

STORAGE = (
    b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuM\x00\x04tQ"  # 1,024 values
)


def torch_file(pickled, content=bytes(4096)):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/data/0", content)
    return made.getvalue()


def tensor(rest):
    return b"ctorch._utils\n_rebuild_tensor_v2\n((" + STORAGE + rest + b"\x89}tR"


def tower(value, levels):
    """A mapping with one value 30 times, which is 30 times in another, and so on."""
    made = value + b"q\x000"
    for level in range(levels):
        made += b"}(" + b"".join(b"K%ch%c" % (i, level) for i in range(30)) + b"uq%c0" % (level + 1)
    return made + b"h%c" % levels


def item(value):
    return b"}X\x01\x00\x00\x00a" + value + b"s."


WHOLE = tensor(b"K\x00M\x00\x04\x85K\x01\x85")


@pytest.mark.parametrize(
    "pickled, message",
    [
        (item(tensor(b"K\x00J\x00\x00\x00\x7f\x85K\x00\x85")), "more than 16 times as large"),
        (tower(WHOLE, 3) + b".", "more than 16 times as large"),
        (item(WHOLE.replace(b"M\x00\x04tQ", b"J\x00\x00\x00\x40tQ")), "storages larger than the file"),
        (item(tensor(b"K\x01M\x00\x04\x85K\x01\x85")), "at 1 in a storage of 1024 values"),
        (item(tensor(b"K\x00J\xff\xff\xff\xff\x85K\x01\x85")), "a tensor of size"),
        (item(tensor(b"K\x00(" + b"K\x01" * 65 + b"tK\x01\x85")), "more than 64 dimensions"),
        (item(tensor(b"K\x00K\x04\x85)")), "shorter"),
        (tower(b"N", 60) + b"q\x630" + item(tensor(b"K\x00h\x63\x85K\x01\x85")), "whose size is no numbers"),
        (tower(b"N", 9) + b".", "more than 200,000 names"),
        (b"}" + b"K\x01}" * 200 + b"s" * 200 + b".", "more than 100 mappings"),
    ],
)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path, pickled, message):
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        read_weight_file(written(tmp_path, "w.pth", torch_file(pickled)))
    assert time.process_time() - start < 5


def test_what_a_pickle_has_inside_is_read_once(tmp_path):
    """A storage of 4 kB that a thousand calls would each read anew, and bytes of a text."""
    alone = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {})) + b"(" + STORAGE + b"."
    alone += pickle.dumps(["0"], 2) + (1024).to_bytes(8, "little") + np.arange(1024, dtype="<f4").tobytes()
    inside = b"ctorch.storage\n_load_from_bytes\nq\x00B" + len(alone).to_bytes(4, "little") + alone + b"\x85q\x01R"
    once = tensor(b"K\x00M\x00\x04\x85K\x01\x85").replace(b"(" + STORAGE, inside)
    found = read_weight_file(written(tmp_path, "w.pkl", item(once))).arrays
    np.testing.assert_array_equal(found["a"], np.arange(1024))
    text = b"c_codecs\nencode\nq\x00X\x00\x10\x00\x00" + b"a" * 4096 + b"X\x06\x00\x00\x00latin1\x86q\x01R"
    for content, what in ((inside, "storages"), (text, "texts")):
        with pytest.raises(ValueError, match=f"more {what} than a file of 4,"):
            read_weight_file(written(tmp_path, "w.pkl", content + b"](" + b"h\x00h\x01R" * 9 + b"e."))


def test_tensors_that_are_not_plain_are_refused_not_left_out(tmp_path):
    pickled = item(b"ctorch._utils\n_rebuild_qtensor\nK\x01\x85R")
    with pytest.raises(ValueError, match="a sparse or quantised tensor"):
        read_weight_file(written(tmp_path, "w.pth", torch_file(pickled)))
