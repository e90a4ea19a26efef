"""Folders of pipelines whose weights are drawn again, and images of runs that were made of them."""

from __future__ import annotations

import json
import math
import pathlib
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from drawn_weights import drawn_file
from official import jit

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.diffusion.sampling.levels import Spaced

Stored = Mapping[str, np.ndarray]


def written(stored: Stored, case: str, place: pathlib.Path) -> pathlib.Path:
    """Writes the folder that a case of make_pipelines.py saved: texts as they were, and weights."""
    begin = f"{case}/folder/"
    for key in (key for key in stored if key.startswith(begin)):
        path = place / key.removeprefix(begin)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            drawn_file(path, stored[key].tobytes())
        else:
            path.write_text(str(stored[key]))
    return place


def rewritten(name: str, **changes: Any) -> Callable[[pathlib.Path], None]:
    """Returns the function that changes a configuration of a folder; the other copies stay as they are."""

    def change(folder: pathlib.Path) -> None:
        config = json.loads((folder / name).read_text())
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(config | changes))

    return change


def add_byte_pairs(root: pathlib.Path, *folders: pathlib.Path) -> None:
    """Writes the files of CLIP's tokenizer, small, into folders."""
    with np.load(root / "tests/reference/text.npz") as words:
        for folder in folders:
            for name in ("vocab.json", "merges.txt"):
                (folder / name).write_bytes(words[name].tobytes())


def with_tokenizers(root: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Writes the files of all tokenizers, of CLIP's kind and of T5's, into a pipeline's folder, and returns it."""
    texts = sorted(folder.glob("tokenizer*"))
    add_byte_pairs(root, *texts)
    with np.load(root / "tests/reference/sentence_pieces.npz") as pieces:
        for text in texts:
            (text / "spiece.model").write_bytes(pieces["model"].tobytes())
    return folder


def write_bin(path: pathlib.Path, tensors: Stored) -> None:
    """Writes a state dict as torch saves one."""

    def numbers(values: Any) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    out = b"\x80\x02}("
    with zipfile.ZipFile(path, "w") as file:
        for i, (name, array) in enumerate(tensors.items()):
            strides = (stride // array.itemsize for stride in array.strides)
            out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
            out += text(str(i)) + text("cpu") + b"J" + struct.pack("<i", array.size) + b"tQK\x00"
            out += numbers(array.shape) + numbers(strides) + b"\x89}tR"
            file.writestr(f"a/data/{i}", array.tobytes())
        file.writestr("a/data.pkl", out + b"u.")


def draw(run: Any, latents: np.ndarray, conditions: Any, steps: int | None = None) -> np.ndarray:
    """Images in [-1, 1] from latents as diffusers has them, of so many steps of DDIM; None: of the run's own levels."""
    model = run.experiment.model
    path, levels = model.path, model.levels
    if steps is not None:
        path = path._replace(sigmas=Spaced(levels.schedule, steps, levels.spacing, levels.offset, levels.to_zero)())
    start = jnp.asarray(latents.transpose(0, 2, 3, 1)) * math.sqrt(1 + path.sigmas[0] ** 2)

    def drawn(nets, x):
        denoise = model.denoiser(nets, conditions)
        return model.space.decode(path.ended(path.solver(denoise, path.sigmas, x, jax.random.key(0))), nets)

    return np.asarray(jit(drawn)(run.nets, start))


def assert_same(images: np.ndarray, wanted: np.ndarray) -> None:
    """Images in [-1, 1] are those in [0, 1] to 2e-5, and as 8 bits the same; hardly any of it is clipped.

    A value that lies that near to the middle between two of 8 bits may become either: which, its last bits say, and
    they differ from processor to processor.
    """
    np.testing.assert_allclose(images / 2 + 0.5, wanted, atol=2e-5)
    halfway = np.abs(wanted * 255 % 1 - 0.5) < 2e-5 * 255
    assert halfway.mean() < 0.03
    np.testing.assert_array_equal(to_uint8(images)[~halfway], np.round(wanted * 255).astype(np.uint8)[~halfway])
    assert np.mean((wanted > 0) & (wanted < 1)) > 0.9
