"""Files that are not what their names say: pipes, damaged and dishonest archives. Each is one message, at once."""

import contextlib
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.files import archive as archives
from imagegen_jax.core.files.archive import clean_name
from imagegen_jax.core.files.regular import read_file
from imagegen_jax.core.run import load_network
from imagegen_jax.data import Folder
from imagegen_jax.data.formats.arrays import Arrays
from imagegen_jax.data.formats.latents import Latents
from imagegen_jax.data.formats.paired import Paired, Unpaired
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.diffusion.sampling.levels import FromFile
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.features.weights import read_weights

pytestmark = pytest.mark.versions

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
OPENERS = {  # by the suffix of what they open
    "folder.zip": lambda path: Folder(path).open(),
    "paired.zip": lambda path: Paired(path).open(),
    "unpaired.zip": lambda path: Unpaired(path, path).open(),
    "arrays.npz": lambda path: Arrays(path).open(),
    "latents.npz": lambda path: Latents(path).open(),
    "latents.npy": lambda path: Latents(path).open(),
    "weights.pth": read_weights,
    "weights.npz": read_weights,
    "moments.npz": Moments.load,
    "network.npz": lambda path: load_network(path, "network"),
    "levels.json": lambda path: FromFile(path)(),
    "fitted.png": lambda path: read_images([path], (8, 8, 3)),
    "exact.png": lambda path: read_images([path], (8, 8, 3), fit=False),
    "images.zip": lambda path: read_images([path], (8, 8, 3)),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


@contextlib.contextmanager
def at_once(seconds=10):
    """Fails where the block takes longer, also where it waits for a file."""

    def late(*_):
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def png(color=0, size=(8, 8)):
    content = io.BytesIO()
    Image.new("RGB", size, (color, 0, 0)).save(content, "PNG")
    return content.getvalue()


def packed(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return str(path)


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "empty", "text", "zeros", "nothing", "cut"])
def test_what_is_no_such_file_is_refused_at_once_by_its_name(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)  # the name of a socket has 108 letters at most
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.close()
    elif kind == "cut":
        np.savez(tmp_path / "whole.npz", images=IMAGES, mu=np.zeros(2), sigma=np.eye(2))
        path.write_bytes((tmp_path / "whole.npz").read_bytes()[:-30])
    elif kind != "nothing":
        path.write_bytes({"empty": b"", "text": b"hello, world\n" * 20, "zeros": bytes(1000)}[kind])
    with at_once(), pytest.raises((ValueError, OSError)) as caught:
        OPENERS[name](str(path))
    assert name in str(caught.value)
    if kind in ("pipe", "socket"):
        assert f"is a {'named pipe' if kind == 'pipe' else 'socket'}, not a file" in str(caught.value)


@pytest.mark.parametrize("skip", [False, True])
def test_a_pipe_among_the_images_of_a_folder_is_a_damaged_file(tmp_path, skip):
    (tmp_path / "images").mkdir()
    for i in range(2):
        (tmp_path / "images" / f"{i}.png").write_bytes(png(i))
    os.mkfifo(tmp_path / "images" / "2.png")
    with at_once():
        if skip:
            assert len(Folder(str(tmp_path / "images"), skip_damaged=True).open()) == 2
        else:
            with pytest.raises(ValueError, match=r"2\.png.* is a named pipe"):
                Folder(str(tmp_path / "images")).open()


def test_a_device_is_refused():
    with at_once(), pytest.raises(ValueError, match="/dev/zero is a device, not a file"):
        read_file("/dev/zero")


# --- names in zips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("cat\\0.png", "cat/0.png"),
        ("C:\\data\\cat\\0.png", "data/cat/0.png"),
        ("/cat/0.png", "cat/0.png"),
        ("./cat//0.png", "cat/0.png"),
        ("cat\\", "cat/"),
        ("cat/", "cat/"),
        ("cat/0.png", "cat/0.png"),
        ("a:b.png", "a:b.png"),
    ],
)
def test_names_in_zips_are_brought_to_one_form(name, clean):
    assert clean_name(name) == clean


@pytest.mark.parametrize("form", ["{}/{}.png", "{}\\{}.png", ".\\{}\\{}.png", "./{}/{}.png", "\\{}\\{}.png"])
def test_zips_keep_their_classes_wherever_they_were_made(tmp_path, form):
    members = [(form.format(kind, i), png(i)) for kind in ("cat", "dog") for i in range(2)]
    members.insert(0, ("cat\\" if "\\" in form else "cat/", b""))
    place = packed(tmp_path / "a.zip", members)
    dataset = Folder(place).open()
    assert dataset.class_names == ("cat", "dog") and dataset.labels.tolist() == [0, 0, 1, 1]
    assert len(Folder(f"{place}/dog").open()) == 2
    assert len(Unpaired(f"{place}/dog", f"{place}/cat").open()) == 2
    assert len(read_images([f"{place}/dog"], (8, 8, 3))) == 2


def test_labels_of_a_windows_zip_are_found_beside_its_images(tmp_path):
    members = [("set\\dataset.json", '{"labels": [["a\\\\0.png", 1], ["a/1.png", 0]]}')]
    place = packed(tmp_path / "a.zip", [*members, ("set\\a\\0.png", png(0)), ("set\\a\\1.png", png(1))])
    assert Folder(place).open().labels.tolist() == [1, 0]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../0.png", png())], r"\.\./0\.png, which leads out of it"),
        ([("a\\..\\..\\0.png", png())], "which leads out of it"),
        ([("a/0.png", png()), ("a/0.png", png(1))], "a/0.png twice"),
        ([("a/0.png", png()), ("a\\0.png", png(1))], "a/0.png twice"),
        ([("inner.zip", b"PK\3\4")], "inner.zip"),
        ([], "no images"),
    ],
)
def test_a_zip_that_is_ambiguous_or_leads_elsewhere_is_refused(tmp_path, members, said):
    with pytest.raises(ValueError, match=said):
        Folder(packed(tmp_path / "a.zip", members)).open()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("litter", [".DS_Store", "a/.DS_Store", "__MACOSX/a/._0.png", "a\\Thumbs.db", "desktop.ini"])
def test_what_file_managers_pack_twice_is_no_matter(tmp_path, litter):
    members = [("a/0.png", png()), ("b/0.png", png()), (litter, b"1"), (litter, b"2")]
    assert Folder(packed(tmp_path / "a.zip", members)).open().class_names == ("a", "b")


@pytest.mark.parametrize(
    ("inside", "only"),
    [("photos/cow", "photos/cat, photos/dog"), ("photos/cat/deep/er", "files"), ("cow", "photos"), ("cow/a", "photos")],
)
def test_a_folder_that_a_zip_lacks_is_refused_with_those_beside_it(tmp_path, inside, only):
    members = [(f"photos/{name}/0.png", png()) for name in ("cat", "dog")]
    place = packed(tmp_path / "a.zip", [*members, ("__MACOSX/photos/cat/._0.png", b"x")])
    with pytest.raises(FileNotFoundError, match=rf"no folder {inside}/ in .*a\.zip, only {only}$"):
        Folder(f"{place}/{inside}").open()


def test_a_link_in_a_zip_is_not_followed(tmp_path):
    link = zipfile.ZipInfo("1.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    place = packed(tmp_path / "a.zip", [("0.png", png()), (link, "/etc/passwd")])
    with pytest.raises(ValueError, match=r"1\.png \(a symbolic link"):
        Folder(place).open()


@pytest.mark.parametrize("name", ["folder.zip", "arrays.npz", "latents.npz", "moments.npz", "network.npz"])
def test_an_encrypted_zip_is_refused(tmp_path, name):
    np.savez(tmp_path / "a.npz", images=IMAGES, latent=IMAGES, mu=IMAGES, sigma=IMAGES)
    if name == "folder.zip":
        packed(tmp_path / "a.npz", [("0.png", png())])
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(mark, start + 4)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        OPENERS[name](str(tmp_path / name))


# --- what zips unpack to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_unpacks_to_very_much_is_refused_by_its_total(tmp_path, monkeypatch, method):
    monkeypatch.setattr(archives, "_FREE", 1 << 20)
    members = [(f"{i}.png", bytes(300_000)) for i in range(20)]
    with pytest.raises(ValueError, match=r"unpacks from [\d,]+ to 6,000,000 bytes, .* more than 1,048,576 and .* 100 "):
        Folder(packed(tmp_path / "a.zip", members, method)).open()
    packed(tmp_path / "b.zip", members, zipfile.ZIP_STORED)  # as honest as a file can be
    with pytest.raises(ValueError, match="20 damaged files"):
        Folder(str(tmp_path / "b.zip")).open()


def test_a_constant_npz_is_read_up_to_the_limit_and_beyond_it_where_it_is_not_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_FREE", 1 << 20)
    for n, save, honest in (
        (500, np.savez_compressed, True),
        (9000, np.savez_compressed, False),
        (9000, np.savez, True),
    ):
        save(tmp_path / "a.npz", images=np.zeros((n, 16, 16), np.uint8))
        if honest:
            assert len(Arrays(str(tmp_path / "a.npz")).open()) == n
        else:
            with pytest.raises(ValueError, match="unpacks from .* to 2,304,\\d+ bytes.*without compression"):
                Arrays(str(tmp_path / "a.npz")).open()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_images_are_read_from_zips_of_every_method(tmp_path, method):
    place = packed(tmp_path / "a.zip", [(f"{i}.png", png(i)) for i in range(3)], method)
    assert Folder(place).open().images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_an_npz_is_mapped_not_held(tmp_path):
    for images in (IMAGES, np.asfortranarray(IMAGES)):
        np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(12))
        dataset = Arrays(str(tmp_path / "a.npz")).open()
        assert np.array_equal(dataset.images, IMAGES) and isinstance(dataset.images, np.memmap)


# --- damaged .npz files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["arrays.npz", "moments.npz", "network.npz", "weights.npz", "latents.npz"])
def test_a_damaged_npz_is_one_message_wherever_it_is_damaged(tmp_path, name, save):
    rng = np.random.default_rng(0)
    arrays = {"images": IMAGES, "labels": np.arange(12), "mu": np.zeros(3), "sigma": np.eye(3)}
    save(tmp_path / name, **arrays, latent=np.ones((2, 4, 4, 1), np.float32))
    whole, refused = (tmp_path / name).read_bytes(), 0
    damaged = [whole[:n] for n in range(0, len(whole) - 1, len(whole) // 10)]
    for _ in range(40):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            content[at] = rng.integers(256)
        damaged.append(bytes(content))
    for content in damaged:
        (tmp_path / name).write_bytes(content)
        try:
            with at_once():
                OPENERS[name](str(tmp_path / name))
        except ValueError as error:
            refused += 1
            assert name in str(error)
    assert refused >= 15


def header(text):
    body = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 8, 8)}") + bytes(128),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999, 8, 8)}") + bytes(128),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 8, 8)}") + bytes(100),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 8, 8)}") + bytes(200),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 8, 8)}") + bytes(128),
        header("{'descr': '|zz', 'fortran_order': False, 'shape': (2, 8, 8)}") + bytes(128),
        header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2, 8, 8)}") + bytes(128),
        header("__import__('os').system('true')") + bytes(128),
        header("{'descr': '|u1'") + bytes(128),
        header("[" * 100) + bytes(128),
        b"\x93NUMPY\x09\x00" + bytes(128),
        b"",
        b"not an array",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["arrays.npz", "moments.npz", "network.npz", "weights.npz", "latents.npz"])
def test_a_member_that_is_no_array_is_one_message(tmp_path, name, content):
    members = [(f"{array}.npy", content) for array in ("images", "latent", "mu", "sigma")]
    place = packed(tmp_path / name, members)
    if name in ("network.npz", "weights.npz") and b"[('a'" in content:
        return  # an array, though no network has it
    with at_once(), pytest.raises(ValueError, match=name):
        OPENERS[name](place)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_large_image_takes_little_more_memory_than_its_own_pixels(tmp_path):
    """Of 16 million pixels of 16 bits, whose conversion at once took 24 bytes for each."""
    Image.fromarray(np.zeros((4000, 4000), np.uint16)).save(tmp_path / "a.png", compress_level=1)
    program = (
        "import resource, sys; from imagegen_jax.data.decode import decode; content = open(sys.argv[1], 'rb').read()\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); decode(content, 16, 3); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True)
    assert int(done.stdout) / 1024 < 200, done  # MiB
