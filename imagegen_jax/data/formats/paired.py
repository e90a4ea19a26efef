"""Images and their sources, for translation from source to image: in pairs, or as two sets without pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.data.decode import decode
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.formats.image_folder import Files, Folder, fingerprint, is_beside, may_be_image, open_files
from imagegen_jax.data.prepare import Item, Listing, damage_error, prepare
from imagegen_jax.data.remedy import Remedy, SettingError, remedies_of
from imagegen_jax.data.source import Dataset, Source

Side = Literal["left", "right"]

_NAMED = 10  # files without a partner that an error names; the others are counted


@dataclasses.dataclass(frozen=True)
class Paired:
    """Images, each paired with a source: side by side in one file, or in two places under equal names.

    Without `sources`, each file of `images` is twice as wide as high: its `image_side` is the image, the other half the
    source. With `sources`, the names of an image and its source differ at most in their ends, such as 1.jpg and 1.png.
    Both are folders, .zip files or folders of a .zip ("facades.zip/train"); folders in them are not classes. `size`
    None keeps the size of the images, `channels` None their channels.
    """

    images: str
    sources: str | None = None
    image_side: Side = "right"
    size: Count | None = None
    channels: Count | None = None

    def open(self) -> Dataset:
        """Opens the pairs, in the order of their names.

        Raises:
          FileNotFoundError: there is no such folder or zip.
          ValueError: a file has no partner, is not twice as wide as high, or is no image; images and sources differ
            in size; as `prepare` does.
        """
        if self.image_side not in ("left", "right"):
            raise ValueError(f"{self}: image_side must be left or right")
        with open_files(self, self.images) as files:
            if self.sources is None:
                names = list(_by_stem(self, files).values())
                other: Side = "left" if self.image_side == "right" else "right"
                images = self._prepare(files, names, self.image_side)
                return Dataset(images, sources=self._prepare(files, names, other))
            with open_files(self, self.sources) as source_files:
                pairs = _partners(self, files, source_files)
                images = self._prepare(files, [image for image, _ in pairs])
                sources = self._prepare(source_files, [source for _, source in pairs])
        return Dataset(images, sources=_of_one_size(self, images, sources))

    def _prepare(self, files: Files, names: Sequence[str], side: Side | None = None) -> UInt8[np.ndarray, "n h w c"]:
        """Prepares the files of these names, or one half of each."""

        def items(indices: range) -> Iterator[Item]:
            for index in indices:
                content = files.read_or_error(names[index])
                yield Item(content if side is None else self._half(names[index], content, side))

        listing = Listing(
            title=files.title + (f", {side} half" if side else ""),
            fingerprint=fingerprint({name: files.stamps[name] for name in names}),
            total=len(names),
            name=lambda index: names[index],
            start=lambda: items,
        )
        return prepare(self, listing, self.size, self.channels).images

    def _half(self, name: str, content: bytes | Exception, side: Side) -> np.ndarray | Exception:
        if isinstance(content, Exception):
            return content
        try:
            pixels = decode(content, None, self.channels)
        except MemoryError:
            raise
        except Exception as error:  # what Pillow's decoders raise on damaged input is not a closed list
            return error
        height, width = pixels.shape[:2]
        if width != 2 * height:
            raise ValueError(
                f"{self}: {name} is {height}x{width} (height x width), but two images side by side are twice as wide "
                "as high: correct the file, or name the place of the sources too (`sources`; in a command "
                "paired:IMAGES,SOURCES)"
            )
        return pixels[:, :height] if side == "left" else pixels[:, height:]


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """Images of one domain and sources of another, without pairs; there may be more of one than of the other.

    Each side is shuffled on its own. Both are folders, .zip files or folders of a .zip ("horse2zebra.zip/trainB");
    `size`, `channels` and `skip_damaged` are as for `Folder`, and hold for both.
    """

    images: str
    sources: str
    size: Count | None = None
    channels: Count | None = None
    skip_damaged: bool = False

    def open(self) -> Dataset:
        """Opens the images and the sources. Raises ValueError where they differ in size, and what `Folder` raises."""
        with remedies_of(self):
            images, sources = (
                Folder(path, self.size, self.channels, self.skip_damaged).open().images
                for path in (self.images, self.sources)
            )
        return Dataset(images, sources=_of_one_size(self, images, sources), paired=False)


@dataclasses.dataclass(frozen=True)
class DigitPairs:
    """A tiny set for trying translation, without a download: scikit-learn's digits, with blurred negatives as sources.

    Where it is not `paired`, the images are made of the first half of the digits and the sources of the second.
    """

    size: Count = 16
    channels: Count = 1
    paired: bool = True

    def open(self) -> Dataset:
        """Opens the digits and their negatives. Raises ValueError where a setting is impossible."""
        images = np.asarray(Digits(self.size, self.channels).open().images)
        sources = 255 - _blurred(images)
        if self.paired:
            return Dataset(images, sources=sources)
        half = len(images) // 2
        return Dataset(images[:half], sources=sources[half:], paired=False)


def _blurred(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Blurs images: each pixel becomes the mean of the 3x3 pixels around it."""
    height, width = images.shape[1:3]
    around = np.pad(images.astype(np.uint16), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    parts = [around[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return (np.sum(parts, axis=0) // 9).astype(np.uint8)


def _by_stem(source: Source, files: Files) -> dict[str, str]:
    """Returns the names of the images among `files`, in order, by their names without the ends.

    Raises ValueError for files that are no images, for two of one name, and where there are none.
    """
    others = [name for name in files.stamps if not may_be_image(name) and not is_beside(name)]
    if others:
        raise damage_error(source, others)
    names = [name for name in files.stamps if may_be_image(name)]
    if not names:
        raise ValueError(f"{source}: no images in {files.title}")
    found: dict[str, str] = {}
    for name in names:
        folder, slash, last = name.rpartition("/")
        stem = folder + slash + (last.rpartition(".")[0] or last)
        if stem in found:
            raise ValueError(f"{source}: {found[stem]} and {name} in {files.title} have one name: rename one of them")
        found[stem] = name
    return dict(sorted(found.items()))


def _partners(source: Source, images: Files, sources: Files) -> list[tuple[str, str]]:
    """Returns the names of each image and of its source. Raises ValueError for files without a partner."""
    of_images, of_sources = _by_stem(source, images), _by_stem(source, sources)
    alone = _only_in(images, of_images, of_sources) + _only_in(sources, of_sources, of_images)
    if alone:
        named = "".join(f"\n  {name}" for name in alone[:_NAMED])
        more = f"\n  and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
        raise ValueError(
            f"{source}: {len(alone)} files have no partner of the same name, of {len(of_images)} images and "
            f"{len(of_sources)} sources: add the partners, or take these away:{named}{more}"
        )
    return [(name, of_sources[stem]) for stem, name in of_images.items()]


def _only_in(files: Files, names: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    return [f"{files.title}/{name}" for stem, name in names.items() if stem not in others]


def _of_one_size(source: Source, images: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Returns `sources`. Raises ValueError where they do not have the height and width of `images`."""
    ours, theirs = images.shape[1:3], sources.shape[1:3]
    if ours != theirs:
        problem = f"{source}: images are {ours[0]}x{ours[1]} (height x width), but sources {theirs[0]}x{theirs[1]}: "
        with_size = Remedy("have it done with {}", {"size": min(*ours, *theirs)})
        raise SettingError(source, problem, [Remedy("bring the files to one size"), with_size])
    return sources
