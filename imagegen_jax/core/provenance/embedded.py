"""Origins in files of pictures and videos: what PNG, JPEG and WebP take to hold one, and reading it back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from imagegen_jax.core.files.regular import Path, open_regular
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.core.provenance.videos import packet_in_video
from imagegen_jax.core.provenance.xmp import origin_in, packet_of, properties_of, source_type_of

XMP_IN_PNG = "XML:com.adobe.xmp"
LARGEST_IN_JPEG = 65_000  # bytes of a packet: a segment has 65,533, and a name


class Said(NamedTuple):
    """What a picture file says of how it came to be."""

    source_type: str  # IPTC's word, such as "trainedAlgorithmicMedia"; "" where it says nothing
    origin: Origin | None  # None: it was not made by this library, or says nothing


def saved_with(form: str, origin: Origin | None, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns what Pillow's `save` takes, to put an origin into a file of a `form`: "PNG", "JPEG" or "WEBP".

    In a PNG, `texts` stand beside it by name, and the prompts as "prompts", a list in JSON. A JPEG holds 65 kB of it:
    where prompts and request are longer, they are left out.
    """
    if form != "PNG":
        return {} if origin is None else {"xmp": _packet(origin, LARGEST_IN_JPEG if form == "JPEG" else None)}
    found = dict(texts or {})
    if origin is not None:
        found[XMP_IN_PNG] = packet_of(origin).decode()
        if origin.prompts:
            found["prompts"] = json.dumps(list(origin.prompts), ensure_ascii=False)
    if not found:
        return {}
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in found.items():
        info.add_itxt(name, text)
    return {"pnginfo": info}


def _packet(origin: Origin, largest: int | None) -> bytes:
    shorter = (origin, dataclasses.replace(origin, prompts=()), dataclasses.replace(origin, prompts=(), request={}))
    packets = (packet_of(one) for one in shorter)
    return next((packet for packet in packets if largest is None or len(packet) <= largest), b"")


def read_said(path: Path) -> Said:
    """Reads what the file of a picture or a video says of its origin, from its metadata alone.

    Raises ValueError where the file is neither, and OSError where it cannot be read.
    """
    with open_regular(path) as file:
        packet = packet_in_video(file)
    properties = properties_of(_packet_in(path) if packet is None else packet)
    return Said(source_type_of(properties), origin_in(properties))


def _packet_in(path: Path) -> bytes:
    from PIL import Image, UnidentifiedImageError

    try:
        with open_regular(path) as file, Image.open(file) as picture:
            if picture.format == "PNG":
                with contextlib.suppress(SyntaxError, OSError):  # of damaged pixels: texts before them are read
                    picture.load()  # texts may stand after the pixels
            packet = picture.info.get("xmp", picture.info.get(XMP_IN_PNG, b""))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: no picture that can be read: give a PNG, JPEG, WebP, GIF or MP4 file") from None
    except (SyntaxError, OSError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Pillow's own have no number
            raise
        raise ValueError(f"{path}: a damaged picture ({error}): give it as it was written") from None
    return packet.encode() if isinstance(packet, str) else packet
