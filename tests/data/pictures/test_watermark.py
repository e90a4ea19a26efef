"""A mark over a picture: found after what pictures go through, and not where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from imagegen_jax.data.pictures.watermark import RESIZED, THRESHOLD, TILE, add_mark, find_mark, tile


def picture(seed: int, side: int = 128, channels: int = 3) -> np.ndarray:
    """A smooth picture with edges, about as rough as a photograph."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal((side, side, channels)), (6, 6, 0))
    edges = np.sign(ndimage.gaussian_filter(random.standard_normal((side, side, 1)), (9, 9, 0)))
    found = 128 + 400 * smooth + 30 * edges + random.normal(0, 4, smooth.shape)
    return np.clip(found, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


ATTACKS = {
    "none": lambda image: image, "jpeg": jpeg, "cut": lambda image: image[13:109, 7:103],
    "grey": lambda image: image[..., :1],
    "smaller": lambda image: resized(resized(image, 64), 128), "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1], "turned": lambda image: image[::-1, ::-1],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_mark_is_found_and_none_where_there_is_none(attack: str) -> None:
    change = ATTACKS[attack]
    for seed in range(2):
        image = picture(seed)
        marked = add_mark(image)
        error = ((marked.astype(float) - image) ** 2).mean()
        assert 40 <= 10 * np.log10(255**2 / error) < 40.1
        assert find_mark(change(marked)).marked and not find_mark(change(image)).marked


def test_scores_of_pictures_without_a_mark_are_as_the_threshold_takes_them() -> None:
    """At most 1 % above it; and they have the spread of the largest of some normal numbers, or nothing is whitened."""
    scores = np.array([find_mark(picture(seed, 64)).score for seed in range(50)])
    assert (scores > THRESHOLD).mean() <= 0.01 and 2.4 < np.median(scores) < 3.6


def test_a_picture_that_was_left_smaller_is_found_where_sizes_are_searched() -> None:
    small = resized(add_mark(picture(1, 256)), 128)
    assert find_mark(small, scales=RESIZED).marked


def test_the_tile_is_its_own_mirror_image() -> None:
    one = tile()
    np.testing.assert_allclose(one, np.roll(one[:, ::-1], 1, axis=1), atol=1e-9)
    assert one.shape == (TILE, TILE) and abs(one.mean()) < 1e-9 and one.std() == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels: int) -> None:
    image = picture(3, channels=channels)
    marked = add_mark(image, psnr=38)
    assert marked.shape == image.shape and find_mark(marked).marked
    if channels == 4:
        np.testing.assert_array_equal(marked[..., 3], image[..., 3])


def test_a_mark_is_as_sure_upside_down() -> None:
    marked = add_mark(picture(4))
    assert find_mark(marked[::-1]).score == pytest.approx(find_mark(marked).score, rel=0.1)


def test_small_pictures_are_refused_and_hold_no_mark() -> None:
    with pytest.raises(ValueError, match="8x8 pixels is too small to hold a mark: at least 32 a side"):
        add_mark(np.zeros((8, 8, 3), np.uint8))
    assert find_mark(np.zeros((8, 8, 3), np.uint8)).score == 0 == find_mark(np.zeros((64, 64, 3), np.uint8)).score
