"""Images to complete, as conditions of models that draw what is missing in them: "image", and what is "known" of it."""

from __future__ import annotations

import numpy as np

from imagegen_jax.core.model import Batch


def check_completion(conditions: Batch, image_shape: tuple[int, int, int]) -> None:
    """Raises ValueError where images to complete, and what is known of them, do not go together or with the model.

    Likewise where nothing is left to draw.
    """
    given = {name: np.asarray(conditions[name]) for name in ("image", "known") if name in conditions}
    if not given:
        return
    if len(given) == 1:
        raise ValueError(f"{next(iter(given))!r} alone given: to complete images, give both 'image' and 'known'")
    for name, shape in (("image", image_shape), ("known", (*image_shape[:2], 1))):
        if given[name].shape[1:] != shape:
            raise ValueError(f"{name!r} has rows of {given[name].shape[1:]}: must be of {shape}")
    if given["known"].dtype != bool:
        raise ValueError(f"'known' is of {given['known'].dtype}: must be bool, True where a pixel stays")
    if (whole := given["known"].all(axis=(1, 2, 3))).any():
        raise ValueError(f"'known' is True everywhere in row {whole.argmax()}: mark by False what is to be drawn")
