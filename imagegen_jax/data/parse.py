"""Sources named by a word of the command line."""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.data.formats.arrays import Arrays
from imagegen_jax.data.formats.caption_files import CaptionedFolder
from imagegen_jax.data.formats.codes import Codes
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.formats.image_folder import Folder
from imagegen_jax.data.formats.latents import Latents
from imagegen_jax.data.formats.paired import Paired, Unpaired
from imagegen_jax.data.formats.parquet import Parquet
from imagegen_jax.data.formats.shapes import Shapes
from imagegen_jax.data.formats.tfds import TFDS, tfds_names
from imagegen_jax.data.formats.webdataset import WebDataset
from imagegen_jax.data.remedy import option_words
from imagegen_jax.data.source import Source
from imagegen_jax.data.wrappers.captioned import Captioned

SETTINGS = ("size", "channels", "skip_damaged", "split", "data_dir")  # sources' settings that commands have as options
_CAPTIONED = "captioned:"
_EMBEDDED: Mapping[str, Any] = {"digits": Digits, "shapes": Shapes}

_FORMS = (
    "digits, shapes, tfds:NAME (or NAME alone: mnist, cifar10, celeb_a), a folder, a .zip, a .tar or an .npz; "
    "webdataset:PLACE, a folder of tars or a-{000..127}.tar; parquet:PLACE, a file or a folder of .parquet; "
    "latents:PLACE, a folder, an .npz or an .npy; codes:PLACE, an .npz of `imagegen encode`; captioned:SOURCE, shapes, "
    "tars, parquet:PLACE, tfds:NAME, or a folder or a .zip of images with captions beside them; for translation "
    "paired:PLACE (side by side), paired:IMAGES,SOURCES or unpaired:IMAGES,SOURCES, each a folder or a .zip"
)


def parse_source(
    text: str,
    size: int | None = None,
    channels: int | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    skip_damaged: bool | None = None,
) -> Source:
    """Makes the source that `text` names: "digits", "shapes", "tfds:NAME", a folder, a .zip or an .npz, or a NAME.

    The files are named by their paths; a NAME is one of TensorFlow Datasets. Parquet files are "parquet:PLACE", latents
    "latents:PLACE", codes "codes:PLACE"; images with texts are "captioned:SOURCE", such as "captioned:shapes" or
    "captioned:PLACE", and their settings those of what the word ends with; images for translation are "paired:PLACE",
    "paired:IMAGES,SOURCES" or "unpaired:IMAGES,SOURCES". None leaves a setting at the source's default. Raises
    ValueError where `text` is none of these, or a setting is given that such a source does not have.
    """
    kind, fixed = _kind(text)
    given = {"size": size, "channels": channels, "split": split, "data_dir": data_dir}
    given["skip_damaged"] = skip_damaged
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in kind.__dataclass_fields__:
            raise ValueError(f"{name}={given[name]!r}: {text} ({kind.__name__}) has no {name}")
    source = kind(**fixed, **given)
    return Captioned(source) if text.startswith(_CAPTIONED) else source


def settings_of(text: str) -> tuple[str, ...]:
    """Returns the names of the settings that the source named by `text` has. Raises ValueError as `parse_source`."""
    kind, fixed = _kind(text)
    return tuple(name for name in kind.__dataclass_fields__ if name not in fixed)


def check_settings(text: str, settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a setting that the source named by `text` does not have, written as a command's option."""
    known = settings_of(text)
    for name, value in settings.items():
        if name not in known:
            has = ", ".join(f"--{word.replace('_', '-')}" for word in known if word in SETTINGS) or "none of these"
            raise ValueError(f"{option_words('--', name, value)}: {text} has no such setting, only {has}: leave it out")


def _kind(text: str) -> tuple[Any, dict[str, str]]:
    if text.startswith(_CAPTIONED):
        kind, fixed = _kind(text.removeprefix(_CAPTIONED))
        return (CaptionedFolder if kind is Folder else kind), fixed
    path = pathlib.Path(text).expanduser()
    if text in _EMBEDDED:
        return _EMBEDDED[text], {}
    if text.startswith("tfds:"):
        return TFDS, {"name": text.removeprefix("tfds:")}
    if text.startswith("parquet:") or text.lower().endswith(".parquet"):
        return Parquet, {"path": text.removeprefix("parquet:")}
    if text.startswith("webdataset:") or text.lower().endswith(".tar"):
        return WebDataset, {"path": text.removeprefix("webdataset:")}
    if text.startswith("latents:"):
        return Latents, {"path": text.removeprefix("latents:")}
    if text.startswith("codes:"):
        return Codes, {"path": text.removeprefix("codes:")}
    if text.startswith("paired:"):
        images, _, sources = text.removeprefix("paired:").partition(",")
        return Paired, {"images": images} | ({"sources": sources} if sources else {})
    if text.startswith("unpaired:"):
        images, _, sources = text.removeprefix("unpaired:").partition(",")
        if not sources:
            raise ValueError(f"{text!r} names no sources: unpaired:IMAGES,SOURCES")
        return Unpaired, {"images": images, "sources": sources}
    lower = text.lower()  # some systems write .ZIP
    if lower.endswith(".npz"):
        return Arrays, {"path": text}
    if lower.endswith(".zip") or ".zip/" in lower or (text and path.is_dir()):
        return Folder, {"path": text}
    names = tfds_names()
    if text.partition("/")[0].partition(":")[0] in names:
        return TFDS, {"name": text}
    near = difflib.get_close_matches(text, [*_EMBEDDED, *names], n=1)
    hint = f" (perhaps you meant {near[0]})" if near else ""
    raise ValueError(f"{text!r} is no source of images that can be found{hint}: give {_FORMS}")
