"""Images of one's own as a source: read at a size and with channels that suit them where nothing says which."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from PIL import Image

from imagegen_jax.data import Source, parse_source
from imagegen_jax.data.formats.image_folder import Folder, may_be_image, open_files
from imagegen_jax.data.parse import check_settings
from imagegen_jax.data.remedy import SettingError


def own_source(place: str, settings: Mapping[str, Any], image_shape: tuple[int, int, int]) -> Source:
    """Returns the source that a word names, for a model that was made for images of `image_shape`.

    Unless `settings` say otherwise, photos in a folder or a .zip are brought to the height of that shape, if they are
    not smaller, and images of several kinds, such as grey ones among others, are all read as RGB; a message says so.
    Raises ValueError for settings that the source does not have, and what opening it raises.
    """
    check_settings(place, settings)
    given = dict(settings)
    source = parse_source(place, **given)
    if isinstance(source, Folder) and "size" not in given:
        size = own_size(place, image_shape[0])
        given["size"] = size
        print(
            f"{place}: the centre square of each image, at {size}x{size} pixels (--size for another)", file=sys.stderr
        )
        source = parse_source(place, **given)
    try:
        source.open()
    except SettingError as error:
        if "channels" not in error.settings or "channels" in given:
            raise
        print(f"{place}: grey, colour or transparent images among others: all as RGB", file=sys.stderr)
        return parse_source(place, **given, channels=3)
    return source


def own_size(place: str, size: int) -> int:
    """Returns the height of the first image of a folder or a .zip, where it is square and smaller than `size`.

    Of a source of another kind, the size of its images, where they are square. `size` for all else.
    """
    source = parse_source(place)
    if not isinstance(source, Folder):
        height, width, _ = source.open().image_shape
        return height if height == width else size
    with open_files(source, source.path) as files:
        for name in filter(may_be_image, files.stamps):
            try:
                with Image.open(io.BytesIO(files.read(name))) as image:
                    width, height = image.size
            except (OSError, ValueError, SyntaxError):  # a damaged one: reading them all says so
                continue
            return height if height == width and height < size else size
    return size
