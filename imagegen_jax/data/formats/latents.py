"""Latents of images, encoded once by an autoencoder, to train latent diffusion on."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.arrays.random import normal_rows
from imagegen_jax.core.config.bounds import Positive
from imagegen_jax.core.files.archive import open_archive
from imagegen_jax.core.files.npz import explained, outline, read_array, stored
from imagegen_jax.core.files.regular import check_regular
from imagegen_jax.core.model import Batch, PRNGKeys
from imagegen_jax.core.source import Measured
from imagegen_jax.data.cache import cached
from imagegen_jax.data.formats.image_folder import fingerprint
from imagegen_jax.data.prepare import numbered
from imagegen_jax.data.source import Dataset

_NAMES = ("latent", "mean", "std", "label")
_NOTES = ("autoencoder", "scale", "shift")  # beside them, of all rows
_SAMPLES = {"arr_0": "latent", "arr_1": "label"}  # the names of samples in an .npz
_WRONG = "does not hold latents"
_ROWS = 256  # rows in memory at a time
_FORMAT = 2  # part of the cache's key: raise it when the same files would be stored in another way


@dataclasses.dataclass(frozen=True)
class Latents:
    """Arrays of latents as an autoencoder gives them, such as Stable Diffusion's 32x32x4 for images of 256x256.

        latent     [n h w c]  float16 or float32; or in its place the posterior of each image:
        mean, std  [n h w c]  from which each step draws anew
        label      [n]        integers from 0, if there are classes

    and, where `imagegen encode` has written them, `autoencoder`, a fingerprint of the weights that made them, and the
    `scale` and `shift`, numbers or rows of [c], that bring them to mean 0 and deviation 1.
    `path` is an .npz of these arrays; a folder of such files, whose rows follow one another in the order of the files'
    names; a folder with the arrays as latent.npy, mean.npy, ..., which are mapped from where they are; or one .npy,
    which holds latents without labels. For an `AutoencoderKL` of diffusers they are `encode(x).latent_dist`, with the
    channels moved last. Samples that `imagegen sample` has written can be read, too: their arr_0 is latent, and arr_1
    label. Mirroring a latent does not give the latent of the mirrored image: encode mirrored images too, as rows of
    their own.

    Models get float32. A paper's factor, 0.18215 for Stable Diffusion, belongs to the model: its space,
    `core.arrays.space.Latents(0.18215)`, applies it, and samples are latents like these again.
    """

    path: str
    scale: Positive = 1.0  # factor of rows as they are read, where the stored values are not yet the data

    def open(self) -> Dataset:
        """Opens the latents, or their means and deviations, mapped from disk; .npz files are copied to the cache first.

        Raises:
          FileNotFoundError: there is no such file or folder.
          ValueError: a file is damaged, or does not hold such arrays; `scale` is not above 0.
          OSError: the cache cannot be written.
        """
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"{self}: scale={self.scale} must be above 0")
        place = pathlib.Path(self.path).expanduser().absolute()
        if not place.exists():
            raise FileNotFoundError(f"{self}: there is no file or folder {place}")
        return _dataset(self, _arrays(self, place))


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws latents from their posterior, mean + std epsilon, anew in each batch, by the key of the row.

    Without it they are drawn after all augmentations (`core.arrays.autoencoding`), with it where it stands among them.
    DiT's code gets the same by encoding each image again, EDM2's and improved MeanFlow's from stored moments. Latents
    that are stored without deviations are left as they are.
    """

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        if "std" not in batch:
            return batch
        epsilon = normal_rows(keys, batch["std"].shape[1:])
        others = {name: leaf for name, leaf in batch.items() if name != "std"}
        return {**others, "image": batch["image"] + batch["std"] * epsilon}


def _arrays(source: Latents, place: pathlib.Path) -> dict[str, np.ndarray]:
    """Maps the arrays at `place` from disk, by their names, `_NAMES`. Raises ValueError where there are none."""
    if place.suffix == ".npy":
        return {"latent": _mapped(source, place)}
    there = [name for name in (*_NAMES, *_NOTES) if (place / f"{name}.npy").is_file()]
    if set(there) & set(_NAMES):
        return {name: _mapped(source, place / f"{name}.npy") for name in there}
    parts = sorted(place.glob("*.npz")) if place.is_dir() else [place]
    if not parts:
        raise ValueError(f"{source}: {place} has no .npz files, and none of {', '.join(_NAMES)} as .npy")
    stamps = {str(part): f"{part.stat().st_size} {part.stat().st_mtime_ns}" for part in parts}
    key = {"format": _FORMAT, "latents": fingerprint(stamps)}
    folder = cached(f"latents {place.name}", key, lambda folder: _join(source, parts, folder))
    return {path.stem: _mapped(source, path) for path in folder.glob("*.npy")}


def _mapped(source: Latents, path: pathlib.Path) -> np.ndarray:
    with explained(f"{source}: {path}", _WRONG):
        return np.load(check_regular(path), mmap_mode="r")


def _join(source: Latents, parts: Sequence[pathlib.Path], folder: pathlib.Path) -> None:
    """Writes the rows of all parts as one .npy file for each name."""
    outlines = [_outlines(source, part) for part in parts]
    for part, found in zip(parts, outlines, strict=True):
        same = {name: (a.dtype, a.shape[1:]) for name, a in found.items()}
        first = {name: (a.dtype, a.shape[1:]) for name, a in outlines[0].items()}
        if same != first:
            raise ValueError(f"{source}: {part} holds {_text(found)}, but {parts[0].name} {_text(outlines[0])}")
    for name, array in outlines[0].items():
        shape = (sum(len(found[name]) for found in outlines), *array.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
        with open(folder / f"{_SAMPLES.get(name, name)}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                rows = stored(f"{source}: {part}", part, name)
                for start in range(0, len(rows), _ROWS):
                    file.write(np.ascontiguousarray(rows[start : start + _ROWS]).data)
    for name, value in _notes(source, parts).items():
        np.save(folder / f"{name}.npy", value)


def _notes(source: Latents, parts: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    """Returns what all parts say of their rows; of each part, scale and shift would be another one's.

    Raises ValueError where they are of different autoencoders.
    """
    found = []
    for part in parts:
        with explained(f"{source}: {part}", _WRONG), open_archive(part) as archive:
            there = [name for name in _NOTES if f"{name}.npy" in archive.members]
            found.append({name: read_array(archive, f"{name}.npy") for name in there})
    named = zip(found, parts, strict=True)
    makers = {str(notes["autoencoder"]): part.name for notes, part in named if "autoencoder" in notes}
    if len(makers) > 1:
        said = ", ".join(f"{maker} ({name})" for maker, name in makers.items())
        raise ValueError(f"{source}: its files hold latents of different autoencoders: {said}")

    def same(name: str) -> bool:
        return all(name in notes and np.array_equal(notes[name], found[0][name]) for notes in found)

    return {name: value for name, value in found[0].items() if same(name)}


def _outlines(source: Latents, part: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays in an .npz without their values, for shapes and types, by the names that they have there."""
    with explained(f"{source}: {part}", _WRONG), open_archive(part) as archive:
        found = [[name for name in names if f"{name}.npy" in archive.members] for names in (_NAMES, _SAMPLES)]
        there = found[0] or found[1]
        if not there:
            raise ValueError(f"none of its arrays is called {', '.join(_NAMES)}: {', '.join(archive.members)}")
        return {name: outline(archive, f"{name}.npy") for name in there}


def _dataset(source: Latents, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """Makes a data set of latents, or of means and deviations, and labels. Raises ValueError where they do not fit."""
    labels = arrays.get("label")
    given = {name: array for name, array in arrays.items() if name not in ("label", *_NOTES)}
    if set(given) not in ({"latent"}, {"mean", "std"}):
        raise ValueError(f"{source}: holds {_text(arrays)}: wanted latent, or mean and std, and label with any of them")
    means = given.get("latent", given.get("mean"))
    assert means is not None
    for name, array in given.items():
        if array.ndim != 4 or 0 in array.shape or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{source}: {name} is {array.dtype} {list(array.shape)}, not floats [n h w c]")
        if array.shape[1] != array.shape[2] == array.shape[3]:
            remedy = "move the channels last with numpy.moveaxis(array, 1, -1)"
            raise ValueError(f"{source}: {name} has the shape {array.shape}, channels first: {remedy}")
        if array.shape != means.shape:
            raise ValueError(f"{source}: mean has the shape {means.shape}, but std {array.shape}: give each mean one")
    return Dataset(
        means, *_labels(source, labels, len(means)), stds=given.get("std"), scale=source.scale,
        autoencoder=str(arrays["autoencoder"]) if "autoencoder" in arrays else None, measured=_measured(source, arrays),
    )  # fmt: skip


def _measured(source: Latents, arrays: Mapping[str, np.ndarray]) -> Measured | None:
    """Returns scale and shift of the rows as batches have them; None where nobody has measured them."""
    if not {"scale", "shift"} <= arrays.keys():
        return None
    scale, shift = np.float64(arrays["scale"]) / source.scale, np.float64(arrays["shift"]) * source.scale
    return Measured(*(tuple(value.tolist()) if value.ndim else float(value) for value in (scale, shift)))


def _labels(source: Latents, labels: Any, n: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Returns labels as int32 [n], and the name of each class. Raises ValueError where they are not labels."""
    if labels is None:
        return None, ()
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"{source}: label is {labels.dtype} {list(labels.shape)}, not integers from 0, [{n}]")
    return np.asarray(labels, np.int32), numbered(source, int(labels.max()))


def _text(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
