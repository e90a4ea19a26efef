"""`imagegen encode`: a data set as the codes or latents that an autoencoder makes of it, written once for models."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
from typing import Any, Literal

import numpy as np

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_set_options, add_source_options, given_settings
from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.runs import RunRequest, add_weight_options, open_run
from imagegen_jax.core.arrays.shard import mesh_of
from imagegen_jax.core.capabilities import Tokenizing
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.drawing.draw import chunk_on
from imagegen_jax.core.files.identity import contents
from imagegen_jax.core.files.npz import stored
from imagegen_jax.core.platform.target import platform_here
from imagegen_jax.core.run import Run
from imagegen_jax.data.formats.codes import codebook_use
from imagegen_jax.data.formats.image_folder import Folder
from imagegen_jax.data.parse import SETTINGS, check_settings, parse_source
from imagegen_jax.data.pictures.columns import ColumnsWriter
from imagegen_jax.data.pictures.output import check_output
from imagegen_jax.data.pictures.streaming import write_chunks
from imagegen_jax.data.remedy import as_options, option_words, remedies_spelled
from imagegen_jax.data.source import Dataset
from imagegen_jax.editing.encoding import (
    CHUNK,
    check_pictures,
    encoded_chunks,
    encoding_network,
    encoding_type,
    finite_psnr,
    reconstructed,
    spread,
)

COMPARED = 1_000  # images that are decoded again, to say how near they come

EXAMPLES = """examples:
  imagegen encode runs/vqvae_digits digits --split train --out codes.npz
  imagegen encode runs/vqvae_digits                          the data that the run was trained on
  imagegen encode runs/vqgan photos.zip --mirror --out codes.npz

The .npz holds codes [n ...], label [n], class_names, codebook_size, tokenizer (a fingerprint of its weights) and
made_of. As data of an experiment it is `data.Codes("codes.npz")`, for --data codes:codes.npz; a model over codes
refuses those of another tokenizer. An autoencoder with latents gives mean and std [n h w c] in place of codes, which
latents:PLACE reads, a fingerprint called autoencoder, and the scale and shift that bring latents to deviation 1 and
mean 0, which a model takes with --model.space.scale measured --model.space.shift measured. The code of a mirrored image
is not the mirrored code: --mirror encodes mirrored images as further rows.
An interrupted call goes on where it stopped when it is given again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeRequest(RunRequest):
    """The run that encodes, the data that are encoded and how they are read, and where codes go."""

    data: str | None = None  # None: the data that the run was trained on
    out: str | pathlib.Path = "codes.npz"
    mirror: bool = False  # whether mirrored images are encoded too, as rows behind all others
    per_channel: bool = False  # whether the spread of latents is measured of each channel
    size: int | None = None  # None: of the images of a folder or a .zip the model's, else as they are
    channels: Literal[1, 3, 4] | None = None
    skip_damaged: bool | None = None
    split: str | None = None
    data_dir: str | None = None
    overwrite: bool = False  # begin anew where `out` holds a part of an earlier call's codes
    chunk: int = CHUNK  # images encoded at a time

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of the data that are given, by name."""
        return given_settings(self)


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """Images uint8 [n h w c], and with `mirror` all of them once more, from right to left; made as they are read."""

    images: Any
    mirror: bool

    def __len__(self) -> int:
        return len(self.images) * (1 + self.mirror)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.images.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.images.shape[1:])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Reads the rows of a slice."""
        index, n = np.arange(len(self))[rows], len(self.images)
        found = np.asarray(self.images[index % n])
        return np.where((index >= n)[:, None, None, None], found[:, :, ::-1], found) if self.mirror else found


def run(request: EncodeRequest) -> pathlib.Path:
    """Encodes the images of a data set in their order, writes the codes, says how good they are, and returns the place.

    Raises ValueError, before anything is encoded, for a run that encodes nothing, for images that it does not take, and
    for a place that cannot be written.
    """
    place = check_output(request.out, (".npz",))
    opened = open_run(request, "imagegen encode").run
    model = opened.experiment.model
    row = encoding_type(model)
    with remedies_spelled(as_options(SETTINGS)):
        name, dataset = _open_data(request, opened)
    check_pictures(model, dataset.images, name)
    images = _Rows(dataset.images, request.mirror)
    network = encoding_network(model)
    of_network = {network: digest_of(opened.nets[network])}
    if isinstance(model, Tokenizing) and request.per_channel:
        raise ValueError("--per-channel: measures latents, and this run makes codes: leave it out")
    made_of = {
        "run": str(opened.workdir.resolve()), "step": opened.step, **of_network, "data": name,
        "content": contents(dataset), "mirror": request.mirror,
    }  # fmt: skip
    book = {"codebook_size": model.codebook_size} if isinstance(model, Tokenizing) else {}
    beside = {**_beside(dataset, request.mirror), **of_network, **book}
    summary = None if isinstance(model, Tokenizing) else functools.partial(spread, per_channel=request.per_channel)
    writer = ColumnsWriter(place, len(images), row, {**beside, "made_of": json.dumps(made_of)}, summary)
    call = {
        **made_of, "n": len(images), "chunk": chunk_on(mesh_of(opened.nets), len(images), request.chunk),
        "per_channel": request.per_channel, "platform": platform_here(),
    }  # fmt: skip
    draw = functools.partial(encoded_chunks, model, opened.nets, images, request.chunk)
    write_chunks(writer, call, lambda start: draw(start=start), request.overwrite)
    print(f"{len(images):,} images as {_words(row)} in {request.out}")
    print(_quality(opened, dataset.images, place))
    return place


def _open_data(request: EncodeRequest, run: Run) -> tuple[str, Dataset]:
    """Opens the data that a request names, photos at the model's size, and returns them with their name."""
    model, settings = run.experiment.model, request.settings
    if request.data is None:
        if settings:
            name, value = next(iter(settings.items()))
            words = option_words("--", name, value)
            raise ValueError(f"{words}: says how other data are read than the run's own, but none are named")
        source = run.experiment.data
        return str(source), _with_images(str(source), source.open())
    check_settings(request.data, settings)
    source = parse_source(request.data, **settings)
    if isinstance(source, Folder):  # as other images given to a model are read
        height, width, channels = model.image_shape
        of_model = {"size": height} if height == width else {}
        source = parse_source(request.data, **{**of_model, "channels": channels, **settings})
    return str(source), _with_images(request.data, source.open())


def _with_images(name: str, dataset: Any) -> Dataset:
    """Returns a data set. Raises ValueError for data without images."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"{name} has no images to encode: name data that have (`imagegen data info` shows them)")
    return dataset


def _beside(dataset: Dataset, mirror: bool) -> dict[str, Any]:
    """Returns labels and class names as the .npz has them; {} without classes."""
    if dataset.labels is None:
        return {}
    labels = np.tile(np.asarray(dataset.labels, np.int32), 1 + mirror)
    return {"label": labels, "class_names": np.asarray(dataset.class_names, np.str_)}


def _words(row: np.dtype[Any]) -> str:
    """Says what an image becomes, such as "codes of 4x4, uint8"."""
    parts = [(name, row[name].subdtype or (row[name], ())) for name in row.names or ()]
    return ", ".join(f"{name} of {'x'.join(map(str, shape)) or '1'}, {base}" for name, (base, shape) in parts)


def _quality(run: Run, images: Any, place: pathlib.Path) -> str:
    """Says how much of the codebook is used, or how far latents spread, and how near decoded images come."""
    model, some = run.experiment.model, np.asarray(images[:COMPARED])
    if isinstance(model, Tokenizing):
        use = str(codebook_use(stored(str(place), place, "codes"), model.codebook_size))
    else:
        scale, shift = (stored(str(place), place, name) for name in ("scale", "shift"))
        use = (
            f"latents of mean {_number(shift)} and deviation {_number(1 / scale)}, which a shift of {_number(shift)} "
            f"and a scale of {_number(scale)} bring to 0 and 1"
        )
    ratio = float(finite_psnr(some, reconstructed(model, run.nets, some)).mean())
    return f"{use}; PSNR {ratio:.2f} dB, mean of the first {len(some):,} images"


def _number(values: np.ndarray) -> str:
    return f"{float(values):.4g}" if not values.ndim else f"({', '.join(f'{value:.4g}' for value in values)})"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen encode`."""
    parser.add_argument(
        "run", type=pathlib.Path, help="the folder of a run of a tokenizer, or of an autoencoder with latents"
    )
    parser.add_argument(
        "data", nargs="?",
        help="digits, a TFDS name, a folder, a .zip, an .npz (default: the data that the run was trained on)",
    )  # fmt: skip
    parser.add_argument("--out", default="codes.npz", help="default: codes.npz")
    parser.add_argument("--mirror", action="store_true", help="encode mirrored images too, as rows behind all others")
    parser.add_argument(
        "--per-channel", action="store_true",
        help="of latents, measure scale and shift of each channel (default: of all together)",
    )  # fmt: skip
    add_source_options(parser, "the model's for a folder or a .zip")
    add_set_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew where an interrupted call left a part of --out"
    )
    parser.add_argument("--chunk", type=integer(), default=CHUNK, help=f"images encoded at a time (default: {CHUNK})")
    add_weight_options(parser)


COMMAND = Command(
    "encode",
    "write the codes or latents that a tokenizer or an autoencoder makes of a data set",
    add_options,
    EncodeRequest,
    run,
    EXAMPLES,
)
