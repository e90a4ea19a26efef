"""Small warps: of the classes named, small, each by its own key, and the same again."""

import jax
import numpy as np

from imagegen_jax.data import Digits, to_float
from imagegen_jax.nn.affine import SmallWarps


def test_only_the_classes_named_are_warped_and_a_little():
    data = Digits().open()
    batch = {"image": to_float(data.images[:40]), "label": data.labels[:40]}
    keys = jax.random.split(jax.random.key(0), 40)
    warps = jax.jit(SmallWarps((3, 9)))
    image = np.asarray(warps(batch, keys)["image"])
    changed = np.abs(image - batch["image"]).max((1, 2, 3)) > 1e-3
    np.testing.assert_array_equal(changed, np.isin(batch["label"], [3, 9]))
    assert abs(image).max() <= 1
    every = np.asarray(jax.jit(SmallWarps())(batch, keys)["image"])
    np.testing.assert_array_equal(every[changed], image[changed])
    distance = np.sqrt(((every - batch["image"]) ** 2).mean((1, 2, 3)))
    between = np.sqrt(((batch["image"] - np.roll(batch["image"], 1, 0)) ** 2).mean((1, 2, 3)))
    assert 0.05 < np.median(distance) < np.median(between) / 2  # less than from digit to digit


def test_without_deviations_nothing_is_warped_and_a_shift_is_the_share_of_the_side_it_says():
    image = to_float(Digits().open().images[:1])
    keys = jax.random.split(jax.random.key(1), 1)
    still = dict.fromkeys(("turn", "zoom", "stretch", "slant", "shift"), 0.0)
    np.testing.assert_allclose(SmallWarps(**still)({"image": image}, keys)["image"], image, atol=1e-5)
    matrices = jax.vmap(lambda key: SmallWarps(**{**still, "shift": 0.1}).where_from(key, (20, 40)))(
        jax.random.split(jax.random.key(2), 2_000)
    )
    np.testing.assert_allclose(matrices[:, :2, 2].std(0), [2, 4], rtol=0.1)
