"""Pictures as PNG files that hold the settings they were made by, so that a picture says how to make it again."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from imagegen_jax.core.drawing.grid import coloured, grid
from imagegen_jax.core.provenance.embedded import saved_with
from imagegen_jax.core.provenance.origin import Origin

KEY = "imagegen"  # of the settings, a JSON object, in a PNG's texts
LARGEST = 1 << 17  # letters of settings: of prompts few, of a painted mask up to a bit for each pixel
SIDE = 4096  # pixels of a picture that is read, at most
Saved = dict[str, Any]


def png_of(image: np.ndarray, settings: Mapping[str, Any] | None = None, origin: Origin | None = None) -> bytes:
    """Writes an image, uint8 [h w c], as a PNG with its settings and its origin."""
    image, written = coloured(image), io.BytesIO()
    texts = {} if settings is None else {KEY: json.dumps(dict(settings), ensure_ascii=False)}
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(written, "PNG", **saved_with("PNG", origin, texts))
    return written.getvalue()


def settings_in(content: bytes) -> Saved:
    """Reads the settings that a picture holds. Raises ValueError where it is none of these pages, or damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if max(image.size) > SIDE:
                raise ValueError(f"it has more than {SIDE} pixels a side")
            image.load()
            text = image.info.get(KEY, "")
        found = json.loads(text) if 0 < len(text) <= LARGEST else None
    except MemoryError:
        raise
    except Exception as error:  # what Pillow raises at damaged files is not a closed list
        raise ValueError(f"no picture that says its settings: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("the picture does not say its settings: only pictures of these pages do")
    plain = (str, int, float, bool, type(None))
    lists = {
        name for name, value in found.items() if isinstance(value, list) and all(isinstance(v, plain) for v in value)
    }
    return {name: value for name, value in found.items() if name in lists or isinstance(value, plain)}


def url_of(image: np.ndarray, origin: Origin | None = None) -> str:
    """Returns an image, uint8 [h w c], as a data URL; what is saved of the page says its origin, too."""
    return f"data:image/png;base64,{base64.b64encode(png_of(image, origin=origin)).decode()}"


def sheet_of(images: np.ndarray, origin: Origin | None = None) -> str:
    """Returns images, uint8 [n h w c], side by side, at most four in a row, as a data URL."""
    return url_of(grid(images, min(4, len(images)), pad=0), origin)
