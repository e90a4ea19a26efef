"""Curves as SVG: well formed for whatever values there are, with places that follow from them."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from imagegen_jax.studies.inference import Band, band
from imagegen_jax.studies.plot import COLOURS, legend_of, svg_of

STEPS = np.arange(1, 1_001)


def drawn(values, steps=STEPS, **settings):
    """The elements of a plot of one group, by their kinds."""
    found: dict[str, list] = {}
    for element in ElementTree.fromstring(
        svg_of("a<b", {"g": (steps, band(np.array(values)))}, ["f", "g"], **settings)
    ):
        found.setdefault(element.tag, []).append(element)
    return found


def places(element):
    return np.array([pair.split(",") for pair in element.get("points").split()], float)


def test_a_curve_goes_down_where_its_values_do_and_keeps_its_colour():
    found = drawn([1 / STEPS + 1, 1 / STEPS + 2])
    (line,), (area,) = found["polyline"], found["polygon"]
    at = places(line)
    assert len(at) <= 400 and (np.diff(at[:, 0]) > 0).all() and (np.diff(at[:, 1]) >= 0).all()
    assert line.get("stroke") == area.get("fill") == COLOURS[1] and COLOURS[1] in legend_of(["f", "g"])
    assert "training steps" in [text.text for text in found["text"]]


def test_one_seed_has_no_band_and_one_step_is_a_point():
    assert "polygon" not in drawn([1 / STEPS])
    assert "circle" in drawn([[2.0], [3.0]], np.array([5]))


def test_values_over_decades_are_logarithmic():
    assert any("(logarithmic)" in text.text for text in drawn([1 / STEPS])["text"])
    assert not any("(logarithmic)" in text.text for text in drawn([1 / STEPS], logarithmic=False)["text"])
    assert not any("(logarithmic)" in text.text for text in drawn([1 / STEPS - 0.5])["text"])
    with pytest.raises(ValueError, match="no logarithm"):
        drawn([1 / STEPS - 0.5], logarithmic=True)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-12, 1e30])
def test_equal_values_are_a_line_within_the_picture(value):
    at = places(drawn([np.full(len(STEPS), value)])["polyline"][0])
    assert np.isfinite(at).all() and (at > 0).all() and (at[:, 1] < 300).all()


def test_a_band_below_zero_stays_in_a_logarithmic_picture():
    wide = Band(np.array([1.0, 1e-3]), np.array([-1.0, -1e-3]), np.array([3.0, 3e-3]))
    picture = svg_of("x", {"g": (np.array([1, 2]), wide)}, ["g"], logarithmic=True)
    (area,) = (element for element in ElementTree.fromstring(picture) if element.tag.endswith("polygon"))
    assert places(area).max() <= 640 and places(area).min() >= 0
