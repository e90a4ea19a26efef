"""Resampling against scipy, the convolutions that resample against their definitions, derivatives in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import signal

from imagegen_jax.nn.upfirdn import (
    BINOMIAL,
    _up_at_once,
    _up_filtered,
    convolve,
    convolve_down,
    convolve_up,
    downsample,
    normalised,
    upfirdn,
    upsample,
)

pytestmark = pytest.mark.versions

RNG = np.random.default_rng(0)
resampled = jax.jit(upfirdn, static_argnums=(1, 2, 3, 4))


def one_axis(x: np.ndarray, taps: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> np.ndarray:
    """`upfirdn` of a vector by scipy's, whose output has all values that the filter touches at all."""
    length = (len(x) * up + sum(pad) - len(taps)) // down + 1
    whole = signal.upfirdn(taps, x, up)
    at = np.arange(length) * down + len(taps) - 1 - pad[0]
    return np.where((at >= 0) & (at < len(whole)), whole[np.clip(at, 0, len(whole) - 1)], 0)


@pytest.mark.parametrize("pad", [(3, 2), (-1, 4)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 1), (2, 3), (3, 2), (2, 2), (5, 1)])
@pytest.mark.parametrize("k", [1, 4])
def test_upfirdn_equals_scipy(up, down, pad, k):
    x, taps = RNG.standard_normal((2, 7, 6, 3)), RNG.standard_normal(k)
    wanted = np.apply_along_axis(one_axis, 1, x, taps, up, down, pad)
    wanted = np.apply_along_axis(one_axis, 2, wanted, taps, up, down, pad)
    found = resampled(jnp.asarray(x, jnp.float32), tuple(taps.tolist()), up, down, pad)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="2 values with 4 taps"):
        upfirdn(jnp.zeros((1, 2, 2, 1)), BINOMIAL)


@pytest.mark.slow
def test_a_line_stays_a_line_at_new_sizes():
    """New pixels lie at quarters beside the old ones, and halved ones between two: no shift by parts of pixels."""
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 8, 1))
    fine = upsample(ramp)[0, :, 8, 0]
    np.testing.assert_allclose(fine[2:-2], np.arange(16)[2:-2] / 2 - 0.25, atol=1e-6)
    coarse = downsample(ramp)[0, :, 2, 0]
    np.testing.assert_allclose(coarse[1:-1], 2 * np.arange(4)[1:-1] + 0.5, atol=1e-6)


def filtered(x: np.ndarray, taps, before: int, after: int, gain: float) -> np.ndarray:
    """Each image and channel by scipy's two-dimensional convolution."""
    square = np.outer(taps, taps) / np.sum(taps) ** 2 * gain
    x = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    images = [[signal.convolve2d(image[..., c], square, "valid") for c in range(x.shape[-1])] for image in x]
    return np.moveaxis(np.asarray(images), 1, -1)


def correlated(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution layer without padding, as sums of scipy's correlations."""
    found = [
        [sum(signal.correlate2d(image[..., i], kernel[..., i, o], "valid") for i in range(kernel.shape[2]))
         for o in range(kernel.shape[3])]
        for image in x
    ]  # fmt: skip
    return np.moveaxis(np.asarray(found), 1, -1)


@pytest.mark.slow
@pytest.mark.parametrize("taps", [BINOMIAL, (1.0, 1.0), (0.1, -0.3, 0.5, 2.0, 1.0, 0.2)])
def test_convolutions_that_resample_equal_their_definitions(taps):
    x, kernel = RNG.standard_normal((2, 6, 4, 3)), RNG.standard_normal((3, 3, 3, 2))
    k, single = len(taps), kernel[1:2, 1:2]
    given = [jnp.asarray(a, jnp.float32) for a in (x, kernel, single)]
    zeros = np.zeros((2, 12, 8, 3))
    zeros[:, ::2, ::2] = x
    wanted = correlated(filtered(zeros, taps, (k + 1) // 2 + 1, (k - 2) // 2 + 1, 4), kernel)
    for way in (convolve_up, _up_filtered, _up_at_once):  # on accelerators, and on a CPU
        np.testing.assert_allclose(way(given[0], given[1], taps), wanted, atol=1e-5)
    wanted = correlated(filtered(x, taps, (k + 1) // 2, k // 2, 1), kernel)[:, ::2, ::2]
    np.testing.assert_allclose(convolve_down(given[0], given[1], taps), wanted, atol=1e-5)
    wanted = correlated(filtered(x, taps, (k - 1) // 2, (k - 2) // 2, 1)[:, ::2, ::2], single)
    np.testing.assert_allclose(convolve_down(given[0], given[2], taps), wanted, atol=1e-5)


@pytest.mark.slow
def test_convolving_up_is_upsampling_then_convolving():
    """But for a border of one pixel, where the latter has already cut what lies beyond."""
    x, kernel = (jnp.asarray(RNG.standard_normal(s), jnp.float32) for s in ((2, 5, 6, 3), (3, 3, 3, 4)))
    found, wanted = convolve_up(x, kernel), convolve(upsample(x), kernel)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], wanted[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("function", [convolve, _up_filtered, _up_at_once, convolve_down])
def test_first_and_second_derivatives_equal_finite_differences(function):
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(RNG.standard_normal(shape)) for shape in ((2, 4, 4, 2), (3, 3, 2, 2)))
        taps = () if function is convolve else (BINOMIAL,)
        check_grads(lambda x, k: jnp.sum(jnp.sin(function(jnp.sin(x), k**2, *taps))), (x, kernel), order=2, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("function", [upsample, downsample])
def test_derivatives_of_plain_resampling(function):
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.standard_normal((1, 4, 6, 2)))
        check_grads(lambda x: jnp.sum(jnp.sin(function(x))), (x,), order=2, rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_stays():
    x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    assert upsample(x).dtype == downsample(x).dtype == jnp.bfloat16
    assert sum(normalised(BINOMIAL, 2.0)) == 2
