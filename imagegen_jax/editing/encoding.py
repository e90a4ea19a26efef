"""Images to what a trained model encodes them as, and back: codes of a tokenizer, or moments of latents, in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.arrays.shard import batch_sharding, mesh_of
from imagegen_jax.core.capabilities import EncodesLatents, Moments, Reconstructing, Tokenizing
from imagegen_jax.core.drawing.draw import chunk_on
from imagegen_jax.core.drawing.finite import check_finite_images
from imagegen_jax.core.model import Nets
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.metrics.scores.similarity import psnr

CHUNK = 256  # images encoded at a time
Pixels = UInt8[np.ndarray, "n h w c"]


def encoding_type(model: Any) -> np.dtype[Any]:
    """Returns the type of an image's encoding: a row with "codes", or with "mean" and "std" of its latents.

    Codes are the smallest integers that hold them, latents float32. Raises ValueError for a model that encodes nothing.
    """
    if isinstance(model, Tokenizing):
        return np.dtype([("codes", code_dtype(model.codebook_size), model.code_shape)])
    if isinstance(model, EncodesLatents):
        return np.dtype([(name, np.float32, model.latent_shape) for name in Moments._fields])
    raise ValueError(
        f"a {type(model).__name__} does not encode images: take the run of a tokenizer, such as one of vqvae_digits"
    )


def encoding_network(model: Any) -> str:
    """Returns the name of the network that encodes and decodes."""
    return "tokenizer" if isinstance(model, Tokenizing) else "autoencoder"


def code_dtype(codebook_size: int) -> np.dtype[Any]:
    """Returns the smallest of uint8, uint16 and int32 that holds the codes of a book."""
    kinds: tuple[Any, ...] = (np.uint8, np.uint16, np.int32)
    return np.dtype(next(kind for kind in kinds if codebook_size - 1 <= np.iinfo(kind).max))


def encoded_chunks(model: Any, nets: Nets, images: Any, chunk: int = CHUNK, start: int = 0) -> Iterator[np.ndarray]:
    """Encodes images uint8 [n h w c] from row `start` on, `chunk` at a time: rows of `encoding_type`.

    They may be a map of a file. Raises ValueError for a model that encodes nothing, and for images of another shape.
    """
    row = encoding_type(model)
    check_pictures(model, images)
    mesh = mesh_of(nets)
    chunk = chunk_on(mesh, len(images), chunk)
    encode = _program(model, mesh, "encode")
    for at in range(start, len(images), chunk):
        found = encode(nets, _padded(images[at : at + chunk], chunk))
        n = min(chunk, len(images) - at)
        rows = np.empty(n, row)
        for name in rows.dtype.names or ():
            values = np.asarray(found[name])[:n]
            _check_values(model, nets, values)
            rows[name] = values
        yield rows


def spread(arrays: Mapping[str, np.ndarray], per_channel: bool = False) -> dict[str, np.ndarray]:
    """Returns "scale" and "shift", 1 over the deviation and the mean of latents that are drawn by their moments.

    `arrays` are "mean" and "std" [n ... c], maps of files; numbers of all values, or of each channel [c].
    """
    means, stds = arrays["mean"], arrays["std"]
    total = squares = np.zeros(means.shape[-1])
    for at in range(0, len(means), 1_000):
        mean, std = (np.float64(rows[at : at + 1_000]).reshape(-1, means.shape[-1]) for rows in (means, stds))
        total, squares = total + mean.sum(axis=0), squares + (mean**2 + std**2).sum(axis=0)
    n = means.size // means.shape[-1]
    first, second = total / n, squares / n
    if not per_channel:
        first, second = first.mean(), second.mean()
    deviation = np.sqrt(np.maximum(second - first**2, 1e-24))
    return {"scale": 1 / deviation, "shift": np.asarray(first)}


def encoded(model: Any, nets: Nets, images: Pixels, chunk: int = CHUNK) -> np.ndarray:
    """Encodes images uint8 [n h w c] as codes [n *code_shape], or as rows with the mean and std of their latents."""
    found = np.concatenate(list(encoded_chunks(model, nets, images, chunk)))
    return found["codes"] if isinstance(model, Tokenizing) else found


def reconstructed(model: Any, nets: Nets, images: Pixels, chunk: int = CHUNK) -> Pixels:
    """Encodes and decodes images: uint8 [n h w c] -> uint8 [n h w c].

    Raises ValueError for a model that cannot, and for images of another shape, and NonFiniteError for what comes out.
    """
    check_reconstructs(model)
    check_pictures(model, images)
    mesh = mesh_of(nets)
    chunk = chunk_on(mesh, len(images), chunk)
    reconstruct = _program(model, mesh, "reconstruct")
    made = [reconstruct(nets, _padded(images[at : at + chunk], chunk)) for at in range(0, len(images), chunk)]
    found = np.concatenate([np.asarray(part) for part in made])[: len(images)]
    check_finite_images(found, nets)
    return np.asarray(to_uint8(jnp.asarray(found)))


def check_reconstructs(model: Any) -> None:
    """Raises ValueError for a model that does not reconstruct images."""
    if not isinstance(model, Reconstructing | Tokenizing | EncodesLatents):
        raise ValueError(
            f"a {type(model).__name__} does not reconstruct images: take the run of a tokenizer or another autoencoder"
        )


def finite_psnr(images: Pixels, others: Pixels) -> Float[np.ndarray, " n"]:
    """Returns the peak signal-to-noise ratio of each pair of images uint8 [n h w c], in dB.

    Of equal images it is that of half a level in one of their values, so that means of ratios are finite.
    """
    most = 10 * np.log10(4 * 255**2 * images[0].size)
    return np.minimum(psnr(images, others, (0, 255)), most)


def check_pictures(model: Any, images: Any, name: str = "the images") -> None:
    """Raises ValueError where `images` are not uint8 of the shape that a model was trained on."""
    wanted, given = tuple(model.image_shape), tuple(images.shape[1:])
    if images.dtype != np.uint8:
        raise ValueError(f"{name} are {images.dtype} {list(given)}, not images: uint8 [n h w c] are encoded")
    if given != wanted:
        text, other = ("x".join(map(str, shape)) for shape in (given, wanted))
        raise ValueError(
            f"{name} are of {text} (height x width x channels), but this model encodes {other}: give --size "
            f"{wanted[0]} and --channels {wanted[2]} where the data have these settings, or images of that shape"
        )


@cached_by_platform
def _program(model: Any, mesh: Any, what: str) -> Any:
    def encode(nets: Nets, images: Any) -> dict[str, Any]:
        found = model.encode(nets, to_float(images))
        return {"codes": found} if isinstance(model, Tokenizing) else found._asdict()

    def reconstruct(nets: Nets, images: Any) -> Any:
        x = to_float(images)
        if isinstance(model, Reconstructing):
            return model.reconstruct(nets, x)
        found = model.encode(nets, x)
        return model.decode(nets, found if isinstance(model, Tokenizing) else found.mean)

    return compiling.jit({"encode": encode, "reconstruct": reconstruct}[what], out_shardings=batch_sharding(mesh))


def _padded(images: Any, n: int) -> Any:
    """Returns `n` rows, the last one repeated: the last chunk is of the size that was compiled."""
    rows = np.asarray(images)
    return rows if len(rows) == n else rows[np.minimum(np.arange(n), len(rows) - 1)]


def _check_values(model: Any, nets: Nets, values: np.ndarray) -> None:
    """Raises ValueError for codes that are not in the book, and NonFiniteError for latents that are no numbers."""
    if not isinstance(model, Tokenizing):
        check_finite_images(values, nets)
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= model.codebook_size:
        raise ValueError(
            f"a {type(model).__name__} of {model.codebook_size:,} codes has encoded images as codes from {low} to "
            f"{high}: its `encode` has to keep them from 0 to {model.codebook_size - 1}"
        )
