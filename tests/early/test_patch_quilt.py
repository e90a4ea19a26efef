"""Quilts of training images: what is kept, what strictness is learned, and that classes do not mix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.early.patch_quilt import PatchQuilt

RNG = np.random.default_rng(0)
MODEL = PatchQuilt((6, 6, 1), block=4, overlap=2, memory=8, num_classes=2)
LABELS = np.arange(8) % 2


@pytest.fixture(scope="module")
def images():
    """Class 0 is dark, class 1 bright, each image of one grey."""
    grey = np.where(LABELS == 0, -0.5, 0.5) + 0.05 * np.arange(8)
    return np.broadcast_to(grey[:, None, None, None], (8, 6, 6, 1)).astype(np.float32)


def test_the_oldest_images_are_replaced(images):
    nets = MODEL.init(jax.random.key(0), {"image": images[:4], "label": LABELS[:4]})
    np.testing.assert_array_equal(nets["network"]["memory"]["image"][4:], images[:4])  # in turn
    keep = jax.jit(lambda nets, batch: MODEL.loss(nets, Inputs(batch, *[None] * 4))[1].stats["network"]["memory"])
    memory = nets["network"]["memory"]
    for start in (0, 3, 6):
        batch = {"image": images[start : start + 3][:3], "label": LABELS[start : start + 3]}
        if len(batch["label"]) == 3:
            memory = keep({"network": {**nets["network"], "memory": memory}}, batch)
    assert memory["written"] == 6
    np.testing.assert_array_equal(memory["image"][:6], images[:6])
    np.testing.assert_array_equal(memory["label"][:6], LABELS[:6])


def test_strict_quilts_are_of_one_image_and_of_the_class_asked_for(images):
    nets = MODEL.init(jax.random.key(0), {"image": images, "label": LABELS})
    asked = np.array([0, 1, 1, 0])
    draw = jax.jit(lambda nets, key: MODEL.sample(nets, key, 4, {"label": asked}))
    strict = {"network": {**nets["network"], "params": {**nets["network"]["params"], "log_strictness": jnp.log(1e6)}}}
    for given, one_image in ((strict, True), (nets, False)):
        found = np.asarray(draw(given, jax.random.key(0)))
        assert ((found.mean((1, 2, 3)) > 0.1) == (asked == 1)).all()
        assert (np.ptp(found, axis=(1, 2, 3)) < 1e-6).all() == one_image


def test_strictness_is_learned_where_blocks_go_on_and_not_where_they_do_not():
    """Images of one grey each, against blocks of independent greys."""
    model = PatchQuilt((6, 6, 1), block=4, overlap=2, memory=40)
    alike = np.broadcast_to(RNG.uniform(-1, 1, (40, 1, 1, 1)), (40, 6, 6, 1)).astype(np.float32)
    apart = RNG.uniform(-1, 1, (40, 6, 6, 1)).astype(np.float32)
    slope = jax.jit(
        jax.grad(lambda nets, image: model.loss(nets, Inputs({"image": image}, *[None] * 4))[0], allow_int=True)
    )
    found = [
        float(slope(model.init(jax.random.key(0), {"image": x}), x)["network"]["params"]["log_strictness"])
        for x in (alike, apart)
    ]
    assert found[0] < -0.01 < -abs(found[1]) * 5


def test_what_leaves_no_step_is_refused():
    with pytest.raises(ValueError, match="overlap=4: must be above 0 and below the block's 4"):
        PatchQuilt(block=4, overlap=4)
