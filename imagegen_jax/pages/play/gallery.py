"""The gallery: each visitor's pictures, a file each, which stay when the tab or the server does not."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.pages.play.pictures import Saved, png_of, settings_in

_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}\.png")
SHOWN = 200  # the newest pictures that a page shows


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Pictures in the folder `root`, those of each visitor in a folder of its own."""

    root: pathlib.Path

    def add(self, visitor: str, image: np.ndarray, settings: Mapping[str, Any], origin: Origin | None = None) -> str:
        """Writes an image, uint8 [h w c], with its settings and origin, whole or not at all; returns its name."""
        return self._write(visitor, png_of(image, settings, origin))

    def take(self, visitor: str, content: bytes) -> tuple[str, Saved]:
        """Takes a picture back in; returns its name and its settings. Raises ValueError where it says none."""
        settings = settings_in(content)
        for name in self.names(visitor):
            if (self.root / visitor / name).read_bytes() == content:
                return name, settings
        return self._write(visitor, content), settings

    def names(self, visitor: str) -> list[str]:
        """Returns the names of a visitor's newest pictures, the newest first."""
        folder = self.root / visitor
        found = sorted((path.name for path in folder.glob("*.png") if _NAME.fullmatch(path.name)), reverse=True)
        return found[:SHOWN]

    def path(self, visitor: str, name: str) -> pathlib.Path | None:
        """Returns the place of a visitor's picture; None where there is none of that name."""
        path = self.root / visitor / name
        return path if _NAME.fullmatch(name) and path.is_file() else None

    def settings(self, visitor: str, name: str) -> Saved:
        """Returns the settings of a visitor's picture; {} where its file is damaged or gone."""
        path = self.path(visitor, name)
        try:
            return settings_in(path.read_bytes()) if path is not None else {}
        except (OSError, ValueError):
            return {}

    def remove(self, visitor: str, name: str) -> None:
        """Deletes a visitor's picture, where there is one."""
        if (path := self.path(visitor, name)) is not None:
            path.unlink(missing_ok=True)

    def _write(self, visitor: str, content: bytes) -> str:
        name = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}.png"
        with whole(self.root / visitor / name) as partial:
            partial.write_bytes(content)
        return name
