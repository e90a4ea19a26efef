"""Edits of a visitor's picture by a model: painted parts drawn anew, repaired, coloured, enlarged, varied."""

from __future__ import annotations

import base64
import binascii
import collections
import dataclasses
import hashlib
import io
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from imagegen_jax.core.arrays.space import autoencoder_of, sample_shape
from imagegen_jax.core.capabilities import Denoising, completes
from imagegen_jax.core.config.given import check_integer, check_number
from imagegen_jax.core.drawing.finite import check_finite_images
from imagegen_jax.data.decode import decode
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse
from imagegen_jax.editing import restoration
from imagegen_jax.editing.rows import as_bytes, floats
from imagegen_jax.pages.play.drawing import Progress, Stepwise, rows_for
from imagegen_jax.pages.play.pictures import png_of
from imagegen_jax.pages.play.places import Opened
from imagegen_jax.pages.play.settings import DrawSettings

KEPT = 8  # pictures of a visitor in memory
FACTOR = 16  # of enlarging, at most
PIXELS = 1 << 26  # of an upload, at most


class Task(NamedTuple):
    """An edit as a program takes it, and what of the picture it is given, for looking at."""

    edit: Callable[..., Any]
    image: np.ndarray  # uint8 [h w c]
    arrays: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Uploads:
    """The pictures that visitors have sent, in memory alone: nobody gets another's."""

    _of: dict[str, collections.OrderedDict[str, bytes]] = dataclasses.field(default_factory=dict)

    def add(self, visitor: str, content: bytes) -> str:
        """Keeps a picture and returns its name. Raises ValueError for what is no picture, or a too large one."""
        square_of(content, 8, 3)
        own = self._of.setdefault(visitor, collections.OrderedDict())
        own[name := secrets.token_urlsafe(9)] = content
        while len(own) > KEPT:
            own.popitem(last=False)
        return name

    def of(self, visitor: str, name: Any) -> bytes:
        """Returns a visitor's picture. Raises ValueError where there is none of that name."""
        own = self._of.get(visitor, collections.OrderedDict())
        found = own.get(name) if isinstance(name, str) else None
        if found is None:
            raise ValueError("the picture is not here any more: choose it again")
        return found


def square_of(content: bytes, size: int, channels: int) -> np.ndarray:
    """Decodes a picture's centre square, uint8 [size size c]. Raises ValueError for what is none, or too large."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > PIXELS:
                raise ValueError(f"more than {PIXELS:,} pixels")
        return decode(content, size, channels)
    except MemoryError:
        raise
    except Exception as error:  # what Pillow raises at damaged files is not a closed list
        raise ValueError(f"this is no picture that can be read ({error}): choose a PNG, JPEG or WebP") from None


def edits_of(model: Any) -> tuple[str, ...]:
    """Returns the names of the edits that a model can make, for square images."""
    if sample_shape(model)[0] != sample_shape(model)[1]:
        return ()
    if not isinstance(model, Denoising):
        return ("inpaint",) if completes(model) else ()
    of_pixels = autoencoder_of(model) is None
    colours = of_pixels and sample_shape(model)[2] == 3
    able = {"enlarge": of_pixels and factors_of(model), "restore": of_pixels, "colour": colours}
    return ("inpaint", "vary", *(name for name, is_able in able.items() if is_able))


def factors_of(model: Any) -> tuple[int, ...]:
    """Returns the factors by which a model can enlarge: the divisors of its images' height up to `FACTOR`."""
    height = sample_shape(model)[0]
    return tuple(factor for factor in range(2, min(FACTOR, height) + 1) if height % factor == 0)


def edited(opened: Opened, settings: DrawSettings, content: bytes, given: Mapping[str, Any]) -> Stepwise:
    """Edits a picture `settings.n` times, by the edit "edit" and what it reads of `given`.

    Raises ValueError for an edit that the model cannot make and for what it reads that is wrong.
    """
    model, name = opened.model, given.get("edit")
    if name not in edits_of(model):
        raise ValueError(f"edit {name!r}: this model can {', '.join(edits_of(model)) or 'edit nothing'}")
    task = _TASKS[str(name)](model, content, given)
    rows = rows_for(settings.n)
    conditions = settings.conditions(opened, rows)
    image = floats(np.repeat(task.image[None], rows, axis=0))
    yield Progress(0, 1)
    program = restoration.program(task.edit, model, **task.settings)
    key = jax.random.key(settings.seed)
    images = np.asarray(program(opened.nets, {"image": image, "conditions": conditions, **task.arrays}, key))
    check_finite_images(images[: settings.n], opened.nets)
    return as_bytes(images[: settings.n])


def shown(model: Any, content: bytes) -> np.ndarray:
    """Returns a picture as the model gets it, uint8 [h w c]."""
    height, _, channels = sample_shape(model)
    return square_of(content, height, channels)


def _inpaint(model: Any, content: bytes, given: Mapping[str, Any]) -> Task:
    height, width, _ = sample_shape(model)
    known = mask_of(given.get("mask"), height, width)
    editing.check_mask(known)
    image = shown(model, content)
    if not isinstance(model, Denoising):
        return Task(restoration.completed, image, {"known": known}, {})
    return Task(restoration.inpainted, image, {"known": known}, {"solver": editing.RePaint(4)})


def mask_of(given: Any, height: int, width: int) -> np.ndarray:
    """Reads a painted mask, a PNG in base64 of any size: True [h w 1] where the picture stays.

    A pixel of the model is drawn anew where a quarter of it is painted. Raises ValueError for anything else.
    """
    try:
        content = base64.b64decode(given if isinstance(given, str) else "", validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
            if opened.width * opened.height > 1 << 22:
                raise ValueError("it is too large")
            painted = opened.convert("RGBA").getchannel("A").resize((width, height), Image.Resampling.BOX)
    except (OSError, ValueError, binascii.Error, SyntaxError) as error:
        raise ValueError(f"the mask cannot be read ({error}): paint what is to be drawn anew") from None
    return (np.asarray(painted) < 64)[..., None]


def mask_text(known: np.ndarray) -> str:
    """Writes a mask, True [h w 1] where the picture stays, so that `mask_of` reads the same one of that size."""
    layer = np.zeros((*known.shape[:2], 4), np.uint8)
    layer[..., 3] = np.where(known[..., 0], 0, 255)
    return base64.b64encode(png_of(layer)).decode()


def said(model: Any, content: bytes, read: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an edit `read`, as its pictures say it, and the SHA-256 of the picture that was edited."""
    found = {name: value for name, value in read.items() if name != "edit"}
    if "mask" in found:
        found["mask"] = mask_text(mask_of(found["mask"], *sample_shape(model)[:2]))
    return {**found, "picture": hashlib.sha256(content).hexdigest()}


def _vary(model: Any, content: bytes, given: Mapping[str, Any]) -> Task:
    strength = round(check_number(given.get("strength", 0.5), "strength", 0.05, 1.0), 2)
    return Task(restoration.redrawn, shown(model, content), {}, {"strength": strength})


def _enlarge(model: Any, content: bytes, given: Mapping[str, Any]) -> Task:
    height, _, channels = sample_shape(model)
    factors = factors_of(model)
    factor = check_integer(given.get("factor", factors[0]), "factor", 2, height)
    if factor not in factors:
        raise ValueError(f"factor {factor}: one of {', '.join(map(str, factors))}, which divide the {height} pixels")
    return _solving(restoration.enlarged, square_of(content, height // factor, channels), {}, factor=factor)


def _colour(model: Any, content: bytes, given: Mapping[str, Any]) -> Task:
    return _solving(restoration.coloured, square_of(content, sample_shape(model)[0], 1), {})


def _restore(model: Any, content: bytes, given: Mapping[str, Any]) -> Task:
    sigma = check_number(given.get("sigma", 1.0), "sigma", 0, 20, above=True)
    image = shown(model, content)
    odd = (min(image.shape[:2]) - 1) // 2 * 2 + 1
    kernel = inverse.gaussian(sigma, odd).astype(np.float32)
    return _solving(restoration.deblurred, image, {"kernel": kernel})


def _solving(edit: Any, image: np.ndarray, arrays: Mapping[str, Any], **settings: Any) -> Task:
    noise = np.float32(restoration.NOISE["pigdm"])
    return Task(edit, image, {**arrays, "noise": noise}, {**settings, "method": "pigdm"})


_TASKS: Mapping[str, Callable[[Any, bytes, Mapping[str, Any]], Task]] = {
    "inpaint": _inpaint, "vary": _vary, "enlarge": _enlarge, "colour": _colour, "restore": _restore,
}  # fmt: skip
