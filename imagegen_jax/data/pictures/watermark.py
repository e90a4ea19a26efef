"""A faint mark over a whole picture, found again without the picture as it was: a label, not security.

The mark is one tile that repeats, of the frequencies that JPEG and halving leave, the same in each channel, and
stronger where the picture is busy. The tile equals its mirror image, so that a mirrored picture is no other case. It is
found by folding: what repeats with the tile's period adds up, and the picture itself does not (after Honsinger and
Rabbani, "Data embedding using phase dispersion", 2000). Whoever has the code can take it off or put it on.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, UInt8

TILE, SEED = 16, 20261201  # pixels a side of what repeats, and what it is drawn by
BAND = (0.09, 0.30)  # cycles a pixel
SMALLEST = 2 * TILE  # pixels a side of a picture that can hold a mark
PSNR = 40.0  # dB of a marked picture against the one before
RESIZED = (1.0, 2.0, 0.5)  # sizes to look at a picture in that may have been left at half its size, or twice
THRESHOLD = 5.5  # a score that about 1 % of pictures without a mark exceed, or fewer: benchmarks/watermark.py


class Detected(NamedTuple):
    """How surely a picture holds the mark."""

    score: float  # deviations of what a picture without a mark gives at one place

    @property
    def marked(self) -> bool:
        """Tells whether it has a score that few pictures without a mark have."""
        return self.score > THRESHOLD


@functools.cache
def tile() -> Float[np.ndarray, "16 16"]:
    """Makes the tile, of mean 0 and deviation 1, equal to its mirror image; each frequency has the same power."""
    noise = np.random.default_rng(SEED).standard_normal((TILE, TILE))
    spectrum = np.fft.fft2(noise + np.roll(noise[:, ::-1], 1, axis=1))
    found = np.fft.ifft2(np.where(_in_band(), spectrum / np.maximum(np.abs(spectrum), 1e-12), 0)).real
    return found / found.std()


def _in_band() -> np.ndarray:
    y, x = np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE), indexing="ij")
    return (np.hypot(y, x) >= BAND[0]) & (np.hypot(y, x) <= BAND[1])


def add_mark(image: UInt8[np.ndarray, "h w c"], psnr: float = PSNR) -> UInt8[np.ndarray, "h w c"]:
    """Marks a grey, RGB or RGBA image, whose transparency stays; the result has `psnr` dB against it, but for 0.1.

    Raises ValueError for an image below `SMALLEST` pixels a side, which could not hold a mark.
    """
    height, width, channels = image.shape
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"an image of {height}x{width} pixels is too small to hold a mark: at least {SMALLEST} a side; enlarge it "
            "before, or mark the picture that it is part of"
        )
    from scipy import ndimage

    luma = _luma(image)
    pattern = np.tile(tile(), (-(-height // TILE), -(-width // TILE)))[:height, :width]
    mean = ndimage.uniform_filter(luma, 5)
    busy = np.sqrt(np.maximum(ndimage.uniform_filter(luma**2, 5) - mean**2, 0))
    change = pattern * np.clip(0.6 + busy / 20, 0.6, 2.0)
    wanted, colours = 255 / 10 ** (psnr / 20), 3 if channels == 4 else channels
    change *= wanted / np.sqrt((change**2).mean())
    marked = image.copy()
    for _ in range(5):  # whole numbers add a little, which differs by image
        marked[..., :colours] = np.clip(np.round(image[..., :colours] + change[..., None]), 0, 255)
        found = np.sqrt(((marked[..., :colours].astype(float) - image[..., :colours]) ** 2).mean())
        if found <= wanted:
            break
        change *= 0.999 * wanted / found
    return marked


def find_mark(image: UInt8[np.ndarray, "h w c"], scales: Sequence[float] = (1.0,)) -> Detected:
    """Looks for the mark in an image, wherever it was cut, mirrored or turned upside down, at each of `scales`.

    The score is the largest over all of these. That of an image too small for a mark is 0.
    """
    spectrum = np.fft.fft2(tile())[_in_band()]
    spectrum = spectrum / np.abs(spectrum)
    best = 0.0
    for scale in scales:
        luma = _resized(_luma(image), scale)
        if min(luma.shape) < SMALLEST:
            continue
        white = _whitened(_flattened(luma))
        for seen in (white, np.roll(white[::-1], 1, axis=0)):  # as it is, and upside down
            best = max(best, _score(seen[_in_band()], spectrum))
    return Detected(best)


def _luma(image: UInt8[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w"]:
    colours = image[..., :3].astype(np.float64)
    return colours[..., 0] if image.shape[-1] < 3 else colours @ np.array([0.299, 0.587, 0.114])


def _resized(luma: Float[np.ndarray, "h w"], scale: float) -> Float[np.ndarray, "H W"]:
    if scale == 1:
        return luma
    from PIL import Image

    size = tuple(max(1, round(side * scale)) for side in luma.shape[::-1])
    return np.asarray(Image.fromarray(luma.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), np.float64)


def _flattened(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Takes smooth content away, and makes what remains about as strong everywhere, so that no edge decides."""
    from scipy import ndimage

    rest = luma - ndimage.gaussian_filter(luma, 2.0)
    spread = np.sqrt(ndimage.uniform_filter(rest**2, 9) + 2.0)
    return np.clip(rest / spread, -2.5, 2.5)


def _whitened(rest: Float[np.ndarray, "h w"]) -> Complex[np.ndarray, "16 16"]:
    """Folds a picture by the tile's period: its spectrum at the tile's frequencies, each over what is beside it.

    What is no multiple of the tile's frequencies cannot come of the tile: it shows how strong the picture itself is
    around each. Without a mark, the result has deviation 1.
    """
    rows, columns = (side // TILE for side in rest.shape)
    spectrum = np.fft.fft2(rest[: rows * TILE, : columns * TILE])
    power = np.abs(spectrum) ** 2
    at = np.zeros(power.shape, bool)
    at[::rows, ::columns] = True
    # a window that reaches half way to the next multiples, and at least to the neighbours
    reach = (max(3, rows | 1), max(3, columns | 1))
    from scipy import ndimage

    around = ndimage.uniform_filter(np.where(at, 0, power), reach, mode="wrap")
    share = ndimage.uniform_filter((~at).astype(float), reach, mode="wrap")
    noise = (around / np.maximum(share, 1e-9))[::rows, ::columns]
    white = spectrum[::rows, ::columns] / np.sqrt(np.maximum(noise, 1e-9))
    return white / np.maximum(1, np.abs(white) / 3)  # a picture that is periodic itself does not decide alone


def _score(white: Complex[np.ndarray, " frequencies"], spectrum: Complex[np.ndarray, " frequencies"]) -> float:
    """Returns the largest correlation with the tile over all shifts, in deviations of that of noise."""
    surface = np.zeros((TILE, TILE), complex)
    surface[_in_band()] = white * np.conj(spectrum)
    # conjugate pairs of frequencies say the same, so that the variance is twice their number
    return float(np.fft.ifft2(surface).real.max() * TILE**2 / np.sqrt(len(white)))
