"""Metrics of image pairs, memorisation, modes, path length and likelihood: closed forms and reference libraries."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans

from imagegen_jax.core.arrays.bits_per_dim import density_to_bits_per_dim, dequantize, mean_and_standard_error
from imagegen_jax.metrics.scores import memorization
from imagegen_jax.metrics.scores.memorization import authenticity, c_t_score, nearest
from imagegen_jax.metrics.scores.modes import class_frequencies, modes_covered, reverse_kl
from imagegen_jax.metrics.scores.path_length import path_length
from imagegen_jax.metrics.scores.similarity import ms_ssim, psnr, ssim

# --- similarity ------------------------------------------------------------------------------------------------------

CASES = {"small": (0, (3, 24, 33, 3)), "large": (1, (3, 176, 192, 1))}


def pairs(case):
    """The images of tests/reference/make_similarity.py."""
    seed, shape = CASES[case]
    random = np.random.RandomState(seed)
    n, h, w, c = shape
    coarse = random.randint(0, 256, (n, h // 8 + 1, w // 8 + 1, c))
    first = coarse.repeat(8, 1).repeat(8, 2)[:, :h, :w] // 2 + random.randint(0, 128, shape)
    amount = 20 * (1 + np.arange(n)).reshape(-1, 1, 1, 1)
    second = first + random.randint(-100, 101, shape) * amount // 100
    return first.astype(np.uint8), second.clip(0, 255).astype(np.uint8)


def flat(value, shape=(1, 16, 16, 1)):
    """An image of one value."""
    return np.full(shape, value, np.float32)


@pytest.fixture(scope="module")
def reference(root):
    """Values of scikit-image and pytorch-msssim (tests/reference/make_similarity.py), [3] each."""
    with np.load(root / "tests/reference/similarity.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", CASES)
def test_psnr_and_ssim_equal_the_libraries(reference, case):
    first, second = pairs(case)
    np.testing.assert_allclose(psnr(first, second, (0, 255)), reference[f"{case}/psnr"], atol=1e-5)
    np.testing.assert_allclose(ssim(first, second, (0, 255)), reference[f"{case}/ssim_torch"], atol=1e-5)
    np.testing.assert_allclose(ssim(first, second, (0, 255)), reference[f"{case}/ssim_skimage"], atol=1e-5)


def test_ms_ssim_equals_the_library(reference):
    first, second = pairs("large")
    np.testing.assert_allclose(ms_ssim(first, second, (0, 255)), reference["large/ms_ssim_torch"], atol=1e-5)


def test_the_range_of_the_values_changes_nothing(reference, monkeypatch):
    """uint8, and floats in [-1, 1] in blocks of one image."""
    first, second = (x / np.float32(127.5) - 1 for x in pairs("small"))
    monkeypatch.setattr("imagegen_jax.metrics.scores.similarity.BLOCK_VALUES", 1)
    np.testing.assert_allclose(psnr(first, second, (-1, 1)), reference["small/psnr"], atol=1e-5)
    np.testing.assert_allclose(ssim(first, second, (-1, 1)), reference["small/ssim_torch"], atol=1e-5)


def test_psnr_by_hand():
    """An error of a tenth of the range everywhere is 20 dB; of one level in 255, 20 log10 255."""
    np.testing.assert_allclose(psnr(flat(-0.5), flat(-0.3), (-1, 1)), [20], rtol=1e-6)
    np.testing.assert_allclose(psnr(np.uint8(flat(7)), np.uint8(flat(8)), (0, 255)), [20 * math.log10(255)], rtol=1e-6)
    assert psnr(flat(0.5), flat(0.5), (0, 1)) == [math.inf]


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_similarity_of_equal_images_is_1(measure):
    image = np.random.RandomState(2).uniform(size=(2, 161, 161, 1))
    np.testing.assert_allclose(measure(image, image, (0, 1)), [1, 1], atol=1e-6)


def test_similarity_of_flat_images():
    """Only the luminance term differs from 1, in MS-SSIM only at the last scale; odd sides at every scale."""
    luminance = (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)
    a, b = flat(0.2, (1, 163, 175, 1)), flat(0.7, (1, 163, 175, 1))
    np.testing.assert_allclose(ssim(a, b, (0, 1)), [luminance], rtol=1e-5)
    np.testing.assert_allclose(ms_ssim(a, b, (0, 1)), [luminance**0.1333], rtol=1e-5)


def test_ms_ssim_of_a_negative_is_0():
    image = np.random.RandomState(3).uniform(size=(1, 161, 161, 1))
    assert ssim(image, 1 - image, (0, 1)) < -0.5
    assert ms_ssim(image, 1 - image, (0, 1)) == [0]


@pytest.mark.parametrize(
    ("a", "b", "data_range", "message"),
    [
        (flat(0), flat(0, (1, 16, 17, 1)), (0, 1), r"\(1, 16, 16, 1\) and \(1, 16, 17, 1\): must be equal"),
        (flat(0)[0], flat(0)[0], (0, 1), "must be .N H W C."),
        (np.uint8(flat(0)), np.uint8(flat(0)), (0, 1), r"the range of uint8 images is \(0, 255\)"),
        (flat(0.5), flat(1.5), (0, 1), "b has values from 1.5 to 1.5, outside"),
        (flat(-0.5), flat(0.5), (0, 1), "a has values from -0.5 to -0.5, outside"),
        (flat(0.5), flat(math.nan), (0, 1), "b holds NaN"),
        (flat(0.5), flat(0.5), (1, 0), "low < high"),
    ],
)
def test_pairs_that_are_refused(a, b, data_range, message):
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match=message):
            measure(a, b, data_range)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11"):
        ssim(flat(0, (1, 10, 16, 1)), flat(0, (1, 10, 16, 1)), (0, 1))
    with pytest.raises(ValueError, match="at least 161"):
        ms_ssim(flat(0, (1, 161, 160, 1)), flat(0, (1, 161, 160, 1)), (0, 1))


# --- memorisation ----------------------------------------------------------------------------------------------------


def circle(random, n):
    """A curve without ends, [N 2]."""
    angle = random.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def torus(random, n):
    """A flat surface without edges, [N 4]."""
    return np.concatenate([circle(random, n), circle(random, n)], 1)


def test_nearest_of_points_on_a_line():
    """Also far from the origin, where squares of float32 leave no digits for the differences."""
    train = 1000 + np.arange(100)[:, None] / 128
    index, distance = nearest(1000 + np.array([[0.0], [3.25], [3.5], [-2.0], [99.0]]) / 128, train)
    np.testing.assert_array_equal(index, [0, 3, 3, 0, 99])
    np.testing.assert_allclose(distance, np.array([0, 0.25, 0.5, 2, 0]) / 128, atol=1e-4)


def test_nearest_of_close_points_far_from_the_others():
    """Squares of 100 leave no digits for 1/256, whatever the center: only exact differences tell."""
    cluster = 100 + np.arange(6)[:, None] / 256
    index, distance = nearest(cluster, np.concatenate([-cluster, cluster]))
    np.testing.assert_array_equal(index, 6 + np.arange(6))
    np.testing.assert_array_equal(distance, 0)


def test_nearest_in_blocks_equals_all_differences(monkeypatch):
    random = np.random.RandomState(0)
    samples, train = random.normal(size=(45, 5)), random.normal(size=(31, 5))
    train *= 3 / np.linalg.norm(train, axis=1, keepdims=True)  # none near the center, where padding is
    train[30] = train[4]
    samples[7], samples[8] = train[4], 0.1
    monkeypatch.setattr(memorization, "QUERIES", 16)
    monkeypatch.setattr(memorization, "POINTS", 9)
    index, distance = nearest(samples, train)
    every = np.linalg.norm(samples[:, None] - train, axis=-1)
    np.testing.assert_array_equal(index, every.argmin(1))
    np.testing.assert_allclose(distance, every.min(1), atol=1e-6)
    assert (index[7], distance[7]) == (4, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "mutual"), [(circle, 2 / 3), (torus, math.pi / (4 * math.pi / 3 + math.sqrt(3) / 2))])
def test_authenticity_of_copies_and_fresh_draws(draw, mutual):
    """Fresh draws fail where sample and point are mutual nearest neighbours.

    Poisson points leave the union of both balls of radius r empty with probability exp(-density |union|), and the
    sample's own with exp(-density |ball|). Over all r, the share of mutual pairs is |ball| / |union|: 2/3 of a line,
    pi / (4 pi / 3 + sqrt(3) / 2) of a plane.
    """
    random = np.random.RandomState(1)
    train, fresh = draw(random, 4000), draw(random, 4000)
    assert authenticity(train[:500], train) == 0
    assert authenticity(fresh, train) == pytest.approx(1 - mutual, abs=0.04)  # five binomial standard errors
    assert authenticity(3 * fresh, train) == 1


def test_authenticity_by_hand():
    """Gaps of 1 and 4 between points at 0, 1 and 5; samples 0.5 below 0, 2 below 0 and 3.5 above 5; then a tie."""
    train = np.array([[0.0], [1.0], [5.0]])
    assert authenticity(np.array([[-0.5], [-2.0], [8.5]]), train) == pytest.approx(1 / 3)
    assert authenticity(np.array([[-1.0]]), train) == 0


@pytest.mark.slow
def test_c_t_of_copies_and_of_samples_off_the_data():
    """Each pair decided alike gives U = 0 or m n, so z = -+ sqrt(3 m n / (m + n + 1))."""
    random = np.random.RandomState(2)
    train, test = random.normal(size=(300, 3)), random.normal(size=(200, 3))
    extreme = math.sqrt(3 * 300 * 200 / 501)
    assert c_t_score(train, train, test, cells=1) == pytest.approx(-extreme)
    assert c_t_score(train + 100, train, test, cells=1) == pytest.approx(extreme)
    assert c_t_score(test, train, test, cells=1) == pytest.approx(0)


@pytest.mark.slow
def test_c_t_of_fresh_draws_is_about_zero():
    random = np.random.RandomState(3)
    train, test, fresh = (torus(random, 2000) for _ in range(3))
    assert abs(c_t_score(fresh, train, test, cells=5)) < 5 / math.sqrt(5)  # five standard deviations of the mean
    assert c_t_score(train, train, test, cells=5) < -15


def test_c_t_equals_scipys_u_in_each_cell():
    random = np.random.RandomState(4)
    train, test, samples = (random.normal(size=(n, 2)) for n in (120, 90, 100))
    partition = KMeans(8, n_init=1, random_state=5).fit(np.float32(train))
    scores, weights = [], []
    for cell in range(8):
        points = train[partition.labels_ == cell]
        of_samples, of_test = (x[partition.predict(np.float32(x)) == cell] for x in (samples, test))
        if len(of_samples) >= 12:
            x, y = (np.linalg.norm(q[:, None] - points, axis=-1).min(1) for q in (of_samples, of_test))
            m, n = len(x), len(y)
            scores.append((mannwhitneyu(x, y).statistic - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
            weights.append(n / len(test))
    assert 2 < len(scores) < 8
    wanted = np.dot(scores, weights) / sum(weights)
    assert c_t_score(samples, train, test, cells=8, min_samples=12, seed=5) == pytest.approx(wanted, abs=1e-6)


def test_features_that_are_refused():
    good = np.zeros((4, 2))
    with pytest.raises(ValueError, match="samples has shape"):
        nearest(np.zeros(4), good)
    with pytest.raises(ValueError, match="same length"):
        nearest(np.zeros((4, 3)), good)
    with pytest.raises(ValueError, match="train holds NaN"):
        nearest(good, good * math.nan)
    with pytest.raises(ValueError, match="at least 2"):
        authenticity(good, good[:1])
    with pytest.raises(ValueError, match="cells=5"):
        c_t_score(good, good, good, cells=5)
    with pytest.raises(ValueError, match="none of 1 cells holds min_samples=20"):
        c_t_score(good, good, good, cells=1)


# --- modes -----------------------------------------------------------------------------------------------------------


def test_modes_and_kl_by_hand():
    """3/4 ln(3/4 / 1/2) + 1/4 ln(1/4 / 1/4), the third class of the data unseen."""
    generated = class_frequencies(np.array([0, 1, 0, 0]), (3,))
    data = class_frequencies(np.array([0, 0, 1, 2]), (3,))
    np.testing.assert_array_equal(generated, [0.75, 0.25, 0])
    assert modes_covered(generated) == 2
    assert reverse_kl(generated, data) == pytest.approx(0.75 * math.log(1.5))
    assert reverse_kl(data, generated) == math.inf
    assert reverse_kl(data, data) == 0


def test_modes_of_stacked_digits():
    """Triples spread evenly over a fifth of all: KL ln 5 from uniform ones."""
    triples = np.stack(np.unravel_index(np.arange(0, 1000, 5), (10, 10, 10)), 1)
    frequencies = class_frequencies(np.concatenate([triples, triples]), (10, 10, 10))
    assert modes_covered(frequencies) == 200
    assert reverse_kl(frequencies, np.full(1000, 1e-3)) == pytest.approx(math.log(5))
    assert class_frequencies(np.array([[4, 0, 7]]), (10, 10, 10)).argmax() == 407


def test_labels_and_frequencies_that_are_refused():
    with pytest.raises(ValueError, match="need .N 3."):
        class_frequencies(np.zeros((4, 2), int), (10, 10, 10))
    with pytest.raises(ValueError, match="must be integers"):
        class_frequencies(np.zeros(4), (10,))
    with pytest.raises(ValueError, match="from 0 to 10"):
        class_frequencies(np.array([0, 10]), (10,))
    with pytest.raises(ValueError, match="from -1 to 0"):
        class_frequencies(np.array([0, -1]), (10,))
    with pytest.raises(ValueError, match="must be equal"):
        reverse_kl(np.array([1.0]), np.array([0.5, 0.5]))
    for bad in ([0.5, 0.4], [1.5, -0.5], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="data: must be a list of shares"):
            reverse_kl(np.array([0.5, 0.5]), np.array(bad))


# --- path length -----------------------------------------------------------------------------------------------------

MATRIX = np.random.RandomState(6).normal(size=(6, 4)).astype(np.float32)


def linear(latents):
    """Images [N 2 2 1] that are linear in the latents [N 6]."""
    return (latents @ MATRIX).reshape(-1, 2, 2, 1)


def as_images(latents):
    """The latents themselves, as images [N 6 1 1]."""
    return latents[:, :, None, None]


def squared(a, b):
    """[N H W C], [N H W C] -> [N]"""
    return ((a - b) ** 2).sum((1, 2, 3))


class Normal:
    """Normal latents that are kept: ends of all paths, [2 N 6]."""

    def __init__(self, normalise=False):
        self.drawn, self.normalise = [], normalise

    def __call__(self, key, n):
        z = jax.random.normal(key, (n, 6))
        self.drawn.append(z / jnp.linalg.norm(z, axis=1, keepdims=True) if self.normalise else z)
        return self.drawn[-1]

    def ends(self):
        """All latents of both ends of the paths."""
        return np.concatenate(self.drawn[::2]), np.concatenate(self.drawn[1::2])


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["full", "end"])
def test_path_length_of_a_linear_generator_along_lines(sampling):
    """|(b - a) A|^2 for every pair, whatever t; with 200 pairs one at each end is trimmed."""
    latents = Normal()
    found = path_length(linear, squared, latents, jax.random.key(0), "w", sampling, samples=200)
    a, b = latents.ends()
    lengths = np.sort((((b - a) @ MATRIX) ** 2).sum(1))
    assert found == pytest.approx(lengths[1:-1].mean(), rel=2e-3)
    assert abs(found / lengths.mean() - 1) > 0.01


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_path_length_along_arcs_of_the_unit_sphere(sampling):
    """The squared angle, whatever t."""
    latents = Normal(normalise=True)
    found = path_length(as_images, squared, latents, jax.random.key(1), "z", sampling, samples=200, trim=0)
    a, b = latents.ends()
    assert found == pytest.approx((np.arccos((a * b).sum(1)) ** 2).mean(), rel=2e-3)


def test_path_length_along_arcs_of_changing_length():
    """At the start of an arc: (|a| angle)^2 across and (|b| - |a|)^2 along."""
    latents = Normal()
    found = path_length(as_images, squared, latents, jax.random.key(2), "z", "end", samples=200, trim=0)
    a, b = latents.ends()
    length_a, length_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    angle = np.arccos((a * b).sum(1) / length_a / length_b)
    assert found == pytest.approx(((angle * length_a) ** 2 + (length_b - length_a) ** 2).mean(), rel=2e-3)


@pytest.mark.slow
def test_full_paths_are_taken_at_times_from_0_to_1():
    """From 0 to 1 along the line, the squared latent changes by 2 t per step: the mean of its square is 4/3."""

    def ends(key, n):
        ends.calls += 1
        return jnp.full((n, 1), 1.0 - ends.calls % 2)

    ends.calls = 0
    found = path_length(
        lambda z: as_images(z**2), squared, ends, jax.random.key(3), "w", "full", 4000, 4000, epsilon=1e-3, trim=0
    )
    assert found == pytest.approx(4 / 3, abs=0.1)  # five standard errors


@pytest.mark.slow
def test_the_last_batch_is_cut_to_the_number_of_samples():
    latents = Normal()
    found = path_length(linear, squared, latents, jax.random.key(4), "w", "end", samples=5, batch_size=4, trim=0)
    a, b = latents.ends()
    assert found == pytest.approx((((b - a) @ MATRIX) ** 2).sum(1)[:5].mean(), rel=2e-3)


@pytest.mark.slow
def test_faces_are_cropped():
    """Of 16 x 16 pixels, rows 6 to 13 and columns 4 to 11."""
    image = jnp.arange(256.0).reshape(1, 16, 16, 1)

    def distance(a, b):
        np.testing.assert_array_equal(a, image[:, 6:14, 4:12])
        np.testing.assert_array_equal(b, image[:, 6:14, 4:12])
        return jnp.zeros(1)

    assert path_length(lambda z: image, distance, Normal(), jax.random.key(0), "w", "end", 1, 1, crop_faces=True) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "x"}, "space='x'"),
        ({"sampling": "half"}, "sampling='half'"),
        ({"samples": 0}, "samples=0"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"trim": 0.5}, "trim=0.5"),
        ({"distance": lambda a, b: jnp.float32(0)}, r"shape \(\), must be \(2,\)"),
        ({"distance": lambda a, b: jnp.full(2, jnp.nan)}, "finite"),
    ],
)
def test_paths_that_are_refused(change, message):
    settings = {"distance": squared, "space": "w", "sampling": "end", "samples": 2, "batch_size": 2}
    with pytest.raises(ValueError, match=message):
        path_length(linear, sample_latents=Normal(), key=jax.random.key(0), **(settings | change))


# --- likelihood ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_range", [(0, 1), (-1, 1), (0, 256)])
def test_a_uniform_density_costs_8_bits(data_range):
    nats = np.full(3, 2 * 3 * 4 * math.log(data_range[1] - data_range[0]))
    np.testing.assert_allclose(density_to_bits_per_dim(nats, (2, 3, 4), data_range), 8)


def test_bits_per_dim_of_a_known_density():
    """Density 1, twice the uniform one of [-1, 1], costs one bit less."""
    np.testing.assert_allclose(density_to_bits_per_dim(0.0, (2, 2, 1), (-1, 1)), 7)


@pytest.mark.slow
@pytest.mark.parametrize("data_range", [(0, 1), (-1, 1)])
def test_dequantised_levels_fill_their_intervals(data_range):
    """Each level's interval is found again, with uniform noise in it that depends on the row's key alone."""
    low, high = data_range
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(400, 0)
    keys = jax.random.split(jax.random.key(0), 400)
    x = dequantize(images, keys, data_range)
    levels = (np.float64(x) - low) / (high - low) * 256
    noise = levels - images
    assert x.dtype == jnp.float32
    assert noise.min() > -1e-4 and noise.max() < 1 + 1e-4
    quantiles = np.quantile(noise, [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.01)
    np.testing.assert_array_equal(dequantize(images[:2], keys[:2], data_range), x[:2])
    assert not np.array_equal(x[0], x[1])


def test_mean_and_standard_error_by_hand():
    """Deviation sqrt(20 / 3) of 1, 3, 5, 7, over sqrt(4)."""
    assert mean_and_standard_error(np.array([1, 3, 5, 7])) == pytest.approx((4, math.sqrt(5 / 3)))


def test_likelihoods_that_are_refused():
    with pytest.raises(ValueError, match="low < high"):
        density_to_bits_per_dim(0.0, (1, 1, 1), (1, 1))
    with pytest.raises(ValueError, match="must be uint8"):
        dequantize(jnp.zeros((1, 2, 2, 1)), jax.random.split(jax.random.key(0), 1), (0, 1))
    with pytest.raises(ValueError, match="N of at least 2"):
        mean_and_standard_error(np.ones(1))
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        mean_and_standard_error(np.array([1, math.nan, 2]))
