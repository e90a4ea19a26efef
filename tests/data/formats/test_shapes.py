"""Drawn shapes: what an image and its captions follow from, and a judge that finds each property and each fault."""

import dataclasses

import numpy as np
import pytest

from imagegen_jax.data import Shapes, judged
from imagegen_jax.data.formats.shape_judge import PROPERTIES, asked, read_shape
from imagegen_jax.data.formats.shapes import (
    CAPTIONS,
    COLOURS,
    DRAWINGS,
    HELD_OUT,
    PLACES,
    SHAPES,
    SIZES,
    coverage,
    drawings,
    painted,
)


@pytest.fixture(scope="module")
def some():
    """Images of both splits, 1,000 each, what they show, and a caption of each by turns."""
    found = []
    for split in ("train", "held_out"):
        source = Shapes(split=split, seed=3)
        found += [(source.image(i), source.shown(i), source.caption(i, i % len(CAPTIONS))) for i in range(1_000)]
    return found


def test_all_true_images_are_right(some):
    images, shown, captions = zip(*some, strict=True)
    judgements = judged(np.stack(images), captions)
    assert all(found.right for found in judgements)
    assert [tuple(found.reading[:4]) for found in judgements] == [tuple(drawing) for drawing in shown]
    assert min(found.reading.fit for found in judgements) > 0.9
    assert {*shown} == {*DRAWINGS}


@pytest.mark.parametrize("name", PROPERTIES)
def test_one_altered_property_is_wrong_and_no_other(some, name):
    """Each of the 240 combinations with each other value of one property, against the full caption of the first."""
    values = dict(zip(PROPERTIES, (COLOURS, SHAPES, SIZES, PLACES), strict=True))[name]
    image_of = {drawing: image for image, drawing, _ in some}
    cases = [
        (image_of[drawing._replace(**{name: value})], CAPTIONS[at % 3](drawing))
        for at, drawing in enumerate(DRAWINGS)
        for value in values
        if value != getattr(drawing, name)
    ]
    cases = cases[:: len(values) - 1]
    found = judged(np.stack([image for image, _ in cases]), [caption for _, caption in cases])
    assert {judgement.wrong for judgement in found} == {(name,)} and len(found) == len(DRAWINGS)


def test_noise_changes_no_reading(some):
    noise = np.random.default_rng(0).normal(0, 10, (200, 32, 32, 3))
    for (image, drawing, _), added in zip(some[::10], noise, strict=True):
        assert read_shape((image + added).clip(0, 255).astype(np.uint8))[:4] == drawing


def test_what_is_no_shape_is_not_read():
    """White, all of one colour, two shapes at once, a shape of two colours, and a grey one."""
    one, other = coverage("circle", 7, 9, 16), coverage("square", 4, 23, 16)
    assert read_shape(np.full((32, 32, 3), 255, np.uint8)).fit == 0
    assert read_shape(painted("red", np.ones((32, 32)))).size is None
    assert read_shape(painted("red", one + other)).shape is None
    mixed = painted("red", one)
    mixed[:, :9] = painted("blue", one)[:, :9]
    assert read_shape(mixed).colour is None
    assert read_shape((255 - 155 * one[..., None].repeat(3, 2)).astype(np.uint8)).colour is None


@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes_are_judged_too(size):
    source = Shapes(size=size)
    assert all(read_shape(source.image(at))[:4] == source.shown(at) for at in range(100))


def test_captions_name_what_they_say():
    for drawing in DRAWINGS:
        named = [asked(caption(drawing)) for caption in CAPTIONS]
        assert named[:3] == [drawing._asdict()] * 3
        assert named[3].keys() == {"colour", "shape", "place"} and named[4].keys() == {"colour", "shape", "size"}
        assert all(found.items() <= drawing._asdict().items() for found in named)
    assert Shapes(seed=3).caption(0) == CAPTIONS[0](Shapes(seed=3).shown(0))
    assert CAPTIONS[3](DRAWINGS[-1]) == "an orange cross in the middle"


def test_splits_share_no_colour_and_shape():
    pairs = {split: {(d.colour, d.shape) for d in drawings(split)} for split in ("train", "held_out")}
    assert pairs["held_out"] == HELD_OUT and not pairs["train"] & HELD_OUT
    assert len(pairs["train"]) == 18 and {c for c, _ in pairs["held_out"]} == {*COLOURS}
    assert {s for _, s in pairs["held_out"]} == {*SHAPES}


def test_images_follow_from_seed_and_index(place):
    data = Shapes(40, size=16).open()
    assert data.image_shape == (16, 16, 3) and len(data) == 40 and data.num_classes == 240
    source = Shapes(5, size=16)
    for at in range(5):
        np.testing.assert_array_equal(data.images[at], source.image(at))
        assert data.class_names[data.labels[at]] == " ".join(source.shown(at))
    assert (Shapes(40, size=16, seed=1).open().images != data.images).any()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("a dog", "names no colour"), ("red and blue circles, a red circle", "names blue and red: one colour")],
)
def test_a_prompt_that_cannot_be_judged_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        asked(prompt)


def test_bad_input_is_refused():
    image = Shapes().image(0)
    with pytest.raises(ValueError, match="2 prompts for 1 images"):
        judged(image[None], ["red", "blue"])
    with pytest.raises(ValueError, match="float64 of shape"):
        judged(image[None] / 255, ["red"])
    for fault in ({"split": "test"}, {"images": 0}, {"size": 8}):
        with pytest.raises(ValueError, match="size at least 16"):
            dataclasses.replace(Shapes(), **fault).open()
