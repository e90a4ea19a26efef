"""Metrics of features against pytorch-fid, clean-fid, torch-fidelity and prdc, closed forms, and simulated truths."""

from __future__ import annotations

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.metrics.features import blocks
from imagegen_jax.metrics.features.moments import Moments, merge
from imagegen_jax.metrics.scores import kernel, manifold
from imagegen_jax.metrics.scores.frechet import fid_infinity, frechet_distance, per_class
from imagegen_jax.metrics.scores.inception_score import inception_score
from imagegen_jax.metrics.scores.interval import bootstrap, distance_interval, subset_interval
from imagegen_jax.metrics.scores.kernel import gaussian_mmd, kernel_distance, kid
from imagegen_jax.metrics.scores.manifold import Manifold, manifold_scores


@pytest.fixture(scope="module")
def reference(root):
    """Features, logits and the packages' values (tests/reference/make_metrics.py)."""
    with np.load(root / "tests/reference/metrics.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles that the data of these tests fills several of."""
    monkeypatch.setattr(blocks, "PAIR_COLUMNS", 64)
    monkeypatch.setattr(blocks, "PAIR_ROWS", 8)
    monkeypatch.setattr(blocks, "HOST_ROWS", 48)


@pytest.fixture
def use(monkeypatch):
    """A function that lets the metrics run on so many devices; 0: on the host."""

    def choose(devices):
        place = blocks.Place(MeshShape(data=devices).build() if devices else None)
        for module in (kernel, manifold):
            monkeypatch.setattr(module, "default_place", lambda: place)

    return choose


def normal(*shape, seed=0):
    """Standard normal features."""
    return np.random.default_rng(seed).standard_normal(shape)


def moments(mean, covariance):
    """Of a known Gaussian."""
    return Moments(None, np.asarray(mean, float), np.asarray(covariance, float))


def assert_same_moments(found, wanted, rtol):
    """Equal counts, and each covariance within `rtol` of the two standard deviations' product."""
    assert found.count == wanted.count
    deviation = np.sqrt(np.diag(wanted.covariance))
    assert np.abs((found.mean - wanted.mean) / deviation).max() < rtol
    assert np.abs((found.covariance - wanted.covariance) / np.outer(deviation, deviation)).max() < rtol


# --- Moments ---------------------------------------------------------------------------------------------------------


def test_moments_equal_numpy():
    x = normal(300, 7) + 1e4
    found = Moments.of(x)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-9)
    assert (found.count, found.covariance.dtype) == (300, np.float64)


def test_moments_do_not_depend_on_the_order_of_batches():
    """At Inception's width, far from zero, from float32."""
    x = (normal(160, 2048) * np.geomspace(1e-3, 1, 2048) + 5).astype(np.float32)
    whole = Moments.of(x)
    cut = [Moments.of(part) for part in np.split(x, [2, 70])]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = cut[order[0]]
        for i in order[1:]:
            merged = merge(merged, cut[i])
        assert_same_moments(merged, whole, 1e-10)


@pytest.mark.parametrize("count", [2, 9, 300])
def test_moments_do_not_depend_on_the_devices(count, monkeypatch):
    monkeypatch.setattr("imagegen_jax.metrics.features.moments.ROWS", 16)
    x = normal(count, 5)
    assert jax.device_count() == 8
    for devices in (1, 3, 8):
        assert_same_moments(Moments.of(x, mesh=MeshShape(data=devices).build()), Moments.of(x), 1e-12)


def test_moments_of_jax_arrays_and_short_dtypes():
    x = jnp.asarray(normal(50, 3), jnp.bfloat16)
    assert_same_moments(Moments.of(x), Moments.of(np.asarray(x, np.float64)), 1e-12)


def test_moments_survive_a_file(tmp_path):
    saved = Moments.of(normal(20, 4), fingerprint="inception pool3 bicubic")
    saved.save(tmp_path / "moments.npz")
    loaded = Moments.load(tmp_path / "moments.npz")
    assert_same_moments(loaded, saved, 1e-15)
    assert loaded.fingerprint == saved.fingerprint
    with np.load(tmp_path / "moments.npz") as file:
        np.testing.assert_array_equal(file["mu"], saved.mean)
        np.testing.assert_array_equal(file["sigma"], saved.covariance)


def test_a_foreign_file_has_no_count(tmp_path):
    x, y = Moments.of(normal(20, 4)), Moments.of(normal(30, 4, seed=1))
    np.savez(tmp_path / "foreign.npz", mu=x.mean, sigma=x.covariance)
    foreign = Moments.load(tmp_path / "foreign.npz")
    assert foreign.count is None and foreign.fingerprint is None
    np.testing.assert_allclose(frechet_distance(foreign, y), frechet_distance(x, y), rtol=1e-12)
    with pytest.raises(ValueError, match="without `count`"):
        merge(foreign, y)


def test_files_that_hold_no_moments_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    for arrays, message in (
        ({"mu": np.zeros(2)}, "no sigma, only mu"),
        ({"mu": np.zeros(2), "sigma": np.zeros(4)}, r"sigma \(4,\)"),
        ({"mu": np.full(2, np.nan), "sigma": np.eye(2)}, "NaN"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            Moments.load(path)


def test_moments_of_different_extractors_are_not_merged():
    a, b = (Moments.of(normal(5, 2), fingerprint=name) for name in ("inception", "clip"))
    with pytest.raises(ValueError, match="'inception' and 'clip'"):
        merge(a, b)


# --- Frechet distance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["pytorch_fid", "clean_fid", "torch_fidelity"])
def test_fid_equals_the_packages(reference, package):
    a, b = Moments.of(reference["fake"]), Moments.of(reference["real"])
    np.testing.assert_allclose(frechet_distance(a, b), reference[f"fid_{package}"], rtol=1e-12)
    np.testing.assert_allclose(frechet_distance(b, a), reference[f"fid_{package}"], rtol=1e-12)


def test_frechet_distance_of_gaussians_with_diagonal_covariances():
    """sum (mu_a - mu_b)^2 + (sigma_a - sigma_b)^2, with variances over eight orders of magnitude, as features have."""
    mean, sigma_b = abs(normal(2, 50))
    sigma_a = np.geomspace(1e-4, 1, 50)
    found = frechet_distance(moments(mean, np.diag(sigma_a**2)), moments(np.zeros(50), np.diag(sigma_b**2)))
    np.testing.assert_allclose(found, (mean**2 + (sigma_a - sigma_b) ** 2).sum(), rtol=1e-12)


def test_frechet_distance_of_covariances_that_do_not_commute():
    """In two dimensions, tr (A B)^(1/2) = (tr A B + 2 det(A B)^(1/2))^(1/2)."""
    a, b = np.array([[2, 0.5], [0.5, 1]]), np.array([[1, -0.7], [-0.7, 3]])
    trace = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    wanted = np.trace(a + b) - 2 * trace
    np.testing.assert_allclose(frechet_distance(moments([1, 1], a), moments([1, 1], b)), wanted, rtol=1e-12)


def test_frechet_distance_to_itself_is_zero(reference):
    same = Moments.of(reference["real"])
    assert abs(frechet_distance(same, same)) < 1e-10


@pytest.mark.parametrize("counts", [(20, 300), (300, 20), (20, 30)])
def test_rank_deficient_covariances_are_warned_of_and_handled(reference, counts):
    """For centred X [n d] and Y [m d], the trace is the nuclear norm of X Y^T / sqrt((n - 1) (m - 1))."""
    x, y = (reference[name][:n].astype(np.float64) for name, n in zip(("fake", "real"), counts, strict=True))
    x_spread, y_spread = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    traces = (x_spread**2).sum() + (y_spread**2).sum() - 2 * np.linalg.norm(x_spread @ y_spread.T, "nuc")
    with pytest.warns(UserWarning, match="20 samples for 64 features"):
        found = frechet_distance(Moments.of(x), Moments.of(y))
    np.testing.assert_allclose(found, ((x.mean(0) - y.mean(0)) ** 2).sum() + traces, rtol=1e-9)


def test_enough_samples_are_not_warned_of(reference):
    with warnings.catch_warnings(action="error"):
        frechet_distance(Moments.of(reference["fake"][:65]), Moments.of(reference["real"]))


def test_constant_features_have_a_distance():
    assert frechet_distance(moments([1, 2], np.zeros((2, 2))), moments([0, 0], np.eye(2))) == pytest.approx(7)


def test_fid_infinity_removes_the_bias_of_few_samples():
    """Of features that are distributed as the reference is: FID at N is above zero, its limit is zero."""
    known = moments(np.zeros(10), np.eye(10))
    sets = [normal(400, 10, seed=seed) for seed in range(6)]
    biased = np.mean([frechet_distance(Moments.of(x), known) for x in sets])
    limits = [fid_infinity(x, known, points=6, least=100) for x in sets]
    assert abs(np.mean(limits)) < biased / 4
    assert fid_infinity(sets[0], known, points=6, least=100) == limits[0]
    assert fid_infinity(sets[0], known, points=6, least=100, seed=1) != limits[0]


def test_each_class_has_its_distance(reference):
    x, y = reference["fake"][:, :5], reference["real"][:, :5]
    x_labels, y_labels = np.arange(len(x)) % 3, np.arange(len(y)) % 4
    found = per_class(x, x_labels, y, y_labels)
    assert list(found) == [0, 1, 2]
    for label, distance in found.items():
        assert distance == frechet_distance(Moments.of(x[x_labels == label]), Moments.of(y[y_labels == label]))
    with pytest.warns(UserWarning, match="class 7 of features has 4 samples for 5 features"):
        per_class(x, np.where(np.arange(len(x)) < 4, 7, 8), y, np.arange(len(y)) % 2 + 7)


def test_classes_that_cannot_be_compared_are_refused():
    x = normal(6, 2)
    with pytest.raises(ValueError, match="class 1 has 1 samples in reference_features"):
        per_class(x, np.array([0, 0, 0, 1, 1, 1]), x, np.array([0, 0, 0, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"6 samples and labels of shape \(5,\)"):
        per_class(x, np.zeros(5, int), x, np.zeros(6, int))


# --- Kernel distances ------------------------------------------------------------------------------------------------


def test_kid_equals_torch_fidelity(reference):
    found = kid(
        reference["fake"].astype(np.float64),
        reference["real"],
        subsets=int(reference["subsets"]),
        subset_size=int(reference["subset_size"]),
    )
    np.testing.assert_allclose([found.mean, found.std], reference["kid"], rtol=1e-10)
    assert found.values.shape == (20,) and found.values.mean() == found.mean


@pytest.mark.parametrize("subsets", [3, 9])  # each by itself, and all from the kernels of all pairs
@pytest.mark.parametrize("shift, short", [(0, True), (1e3, False), (1e20, False)])
def test_products_in_float32_are_taken_where_they_change_nothing(monkeypatch, subsets, shift, short):
    monkeypatch.setattr(kernel, "HOST_ROWS", 150)
    x, y = ((normal(400, 64, seed=seed) + shift).astype(np.float32) for seed in (0, 1))
    found = kid(x, 1.1 * y, subsets=subsets, subset_size=200)
    exact = kid(x.astype(np.float64), (1.1 * y).astype(np.float64), subsets=subsets, subset_size=200)
    np.testing.assert_allclose(found.values, exact.values, rtol=0, atol=1e-6 if short else 0)
    assert (found.values != exact.values).all() == short


def test_rows_far_from_those_that_were_tried_are_not_lost_in_float32(monkeypatch):
    monkeypatch.setattr(kernel, "PROBED", 20)
    tried = np.random.RandomState(2020).choice(400, 200, replace=False)[:20]
    x, y = (normal(400, 64, seed=seed).astype(np.float32) for seed in (0, 1))
    x[np.setdiff1d(np.arange(400), tried)[0]] *= 1e15  # whose kernel float32 does not hold
    found = kid(x, y, subsets=3, subset_size=200)
    np.testing.assert_array_equal(
        found.values, kid(x.astype(float), y.astype(float), subsets=3, subset_size=200).values
    )


def brute_force(kernel_of, x, y):
    """The kernel's means within and between: with and without the diagonals."""
    xx, yy, xy = kernel_of(x, x), kernel_of(y, y), kernel_of(x, y)
    without = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return xx.mean() + yy.mean() - 2 * xy.mean(), sum(without) - 2 * xy.mean()


@pytest.mark.parametrize("devices", [0, 1, 8])
def test_kernel_distances_over_several_tiles(reference, small_tiles, use, devices):
    use(devices)
    x, y = reference["fake"].astype(np.float64), reference["real"].astype(np.float64)
    _, unbiased = brute_force(lambda a, b: (a @ b.T / 64 + 1) ** 3, x, y)
    np.testing.assert_allclose(kernel_distance(x, y), unbiased, rtol=1e-10)
    squared = lambda a, b: ((a[:, None] - b) ** 2).sum(-1)  # noqa: E731
    biased, _ = brute_force(lambda a, b: np.exp(-squared(a, b) / 18), x, y)
    np.testing.assert_allclose(gaussian_mmd(x, y, sigma=3), 1000 * biased, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_kernel_distances_do_not_depend_on_the_devices(reference, use, devices):
    pair = reference["fake"], reference["real"]
    found = kernel_distance(*pair), gaussian_mmd(*pair)
    use(devices)
    np.testing.assert_allclose((kernel_distance(*pair), gaussian_mmd(*pair)), found, rtol=1e-11)


@pytest.mark.slow
def test_gaussian_mmd_of_known_gaussians():
    """E k = (1 + 2 / sigma^2)^(-d/2) within, and exp(-|m|^2 / (2 (sigma^2 + 2))) times that between."""
    x, y = normal(4000, 2), normal(4000, 2, seed=1) + [1.5, 0]
    within = 1 / (1 + 2 / 4)
    wanted = 2 * within * (1 - math.exp(-(1.5**2) / (2 * 6)))
    np.testing.assert_allclose(gaussian_mmd(x, y, sigma=2, scale=1), wanted, rtol=0.1)


def test_kid_is_unbiased():
    """Equal distributions have a mean of zero, within three standard errors; with diagonals it is 50 of them off."""
    found = [kernel_distance(normal(30, 4, seed=2 * i), normal(40, 4, seed=2 * i + 1)) for i in range(150)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))


@pytest.mark.parametrize("size", [1, 11])
def test_subsets_that_cannot_be_drawn_are_refused(size):
    with pytest.raises(ValueError, match=f"subset_size={size}"):
        kid(normal(10, 2), normal(20, 2), subset_size=size)


# --- Inception score -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_inception_score_equals_torch_fidelity(reference, shuffle):
    found = inception_score(reference["logits"], splits=int(reference["splits"]), shuffle=shuffle)
    np.testing.assert_allclose(found, reference[f"inception_score_{shuffle}"], rtol=1e-12)


def test_inception_score_of_extremes():
    """One where all images look alike; the number of classes where each is sure, however large the logits."""
    assert inception_score(np.tile(normal(1, 5), (40, 1)))[0] == pytest.approx(1)
    sure = np.tile(1e6 * np.eye(5), (20, 1))
    np.testing.assert_allclose(inception_score(sure, splits=4, shuffle=False), (5, 0), atol=1e-9)
    with pytest.raises(ValueError, match="splits=101"):
        inception_score(sure, splits=101)


# --- Precision, recall, density, coverage ----------------------------------------------------------------------------


def test_manifold_scores_equal_prdc(reference):
    for name, dtype in (("prdc", np.float64), ("prdc_float32", np.float32)):
        found = manifold_scores(reference["fake"].astype(dtype), reference["real"].astype(dtype))
        np.testing.assert_array_equal(found, reference[name])


@pytest.mark.parametrize("devices", [0, 1, 8])
def test_manifold_scores_over_several_tiles(reference, small_tiles, use, devices):
    use(devices)
    found = manifold_scores(reference["fake"], reference["real"])
    np.testing.assert_array_equal(found, reference["prdc"])


@pytest.mark.parametrize("devices", [1, 8])
def test_manifold_scores_do_not_depend_on_the_devices(reference, use, devices):
    use(devices)
    found = manifold_scores(reference["fake"], reference["real"])
    np.testing.assert_array_equal(found, reference["prdc"])


def test_manifold_scores_by_hand():
    """On a line. References at 0, 1, 3, 7 have radii 1, 1, 2, 4; samples at 1.5, 2.5 and 20 have 1, 1 and 17.5."""
    found = manifold_scores(np.array([[1.5], [2.5], [20]]), np.array([[0.0], [1], [3], [7]]), neighbours=1)
    # 1.5 is in the balls of 1 and 3, 2.5 of 3 only; 20 is in none. 1 and 3 lie within 1 of a sample, 7 within 17.5 of
    # 20, 0 in no ball. The nearest samples are 1.5, 0.5, 0.5 and 4.5 away.
    assert found == Manifold(precision=2 / 3, recall=3 / 4, density=1, coverage=1 / 2)


def test_neighbours_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="neighbours=5 with 5 samples in reference"):
        manifold_scores(normal(9, 2), normal(5, 2))


# --- Intervals -------------------------------------------------------------------------------------------------------


def coverage(interval_of, truth, repeats):
    """How often an interval holds the truth."""
    return np.mean([low <= truth <= high for _, low, high in map(interval_of, range(repeats))])


@pytest.mark.slow
def test_bootstrap_covers_a_mean():
    found = coverage(lambda i: bootstrap(np.mean, normal(200, seed=i), draws=300, seed=1000 + i), 0, 500)
    assert 0.92 <= found <= 0.98


@pytest.mark.slow
def test_bootstrap_covers_a_biased_distance():
    """The squared distance of means grows by resampling; percentiles of the draws would cover it in 5 % of the runs."""

    def distance(x, y):
        return ((x.mean(0) - y.mean(0)) ** 2).sum()

    def interval(i):
        return bootstrap(distance, normal(60, 20, seed=2 * i), normal(60, 20, seed=2 * i + 1) + 0.2, draws=200, seed=i)

    assert 0.92 <= coverage(interval, 20 * 0.2**2, 300) <= 0.98


def test_interval_of_overlapping_subsets_covers():
    def interval(i):
        random = np.random.default_rng(i)
        x = random.standard_normal(200)
        return subset_interval(np.array([random.permutation(x)[:40].mean() for _ in range(60)]), 40, 200)

    assert 0.92 <= coverage(interval, 0, 800) <= 0.98


def test_interval_of_kid(reference):
    found = kid(reference["fake"], reference["real"], subsets=20, subset_size=100)
    value, low, high = subset_interval(found.values, 100, 300)
    assert value == found.mean and 0 < low < value < high
    assert low < kernel_distance(reference["fake"], reference["real"]) < high


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 1.1, 2.0], ids=["equal", "near", "far"])
def test_interval_of_a_frechet_distance_covers(spread):
    """Of the mean distance of 200 samples, whether the distributions are equal or not."""
    reference = moments(np.zeros(4), np.eye(4))
    random = np.random.default_rng(0)

    def distance(x, to=reference):
        centred = x - x.mean(0)
        return frechet_distance(Moments(len(x), x.mean(0), centred.T @ centred), to)

    def draw():
        return spread * random.normal(size=(200, 4)) + 0.3 * (spread - 1)

    def interval(i):
        x = draw()
        own = Moments.of(x)
        return distance_interval(distance, lambda drawn: distance(drawn, own), x, draws=100, seed=i)

    mean = np.mean([distance(draw()) for _ in range(2000)])
    assert 0.92 <= coverage(interval, mean, 300) <= 0.98


def test_interval_of_a_distance_far_from_zero_is_that_of_its_logarithm():
    """The squared distance of a mean from 3: its error is 2 x 3 / sqrt(400)."""
    x = 3 + normal(400, 1)
    found = distance_interval(lambda y: y.mean() ** 2, lambda y: (y.mean() - x.mean()) ** 2, x, draws=1000)
    assert found.value == x.mean() ** 2
    np.testing.assert_allclose(math.log(found.high / found.value), math.log(found.value / found.low), rtol=1e-9)
    np.testing.assert_allclose(math.log(found.high / found.value), 1.96 * 0.3 / 9, rtol=0.1)


def test_bootstrap_is_seeded():
    x = normal(30)
    assert bootstrap(np.mean, x, draws=50) == bootstrap(np.mean, x, draws=50) != bootstrap(np.mean, x, draws=50, seed=1)
    assert bootstrap(np.mean, x, draws=50).value == x.mean()


def test_intervals_that_cannot_be_are_refused():
    x = normal(30)
    for call, message in (
        (lambda: bootstrap(np.mean, x, level=95), "level=95"),
        (lambda: bootstrap(np.mean, x, draws=30), "draws=30 .* at least 40"),
        (lambda: bootstrap(np.mean, x, x[:1]), r"lengths \[30, 1\]"),
        (lambda: distance_interval(np.mean, np.mean, x, draws=19), "draws=19, 30 samples"),
        (lambda: subset_interval(x, 30, 30), "subset_size=30, count=30"),
        (lambda: subset_interval(x[:19], 3, 30), "19 subset values"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# --- What no metric accepts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [kernel_distance, kid, gaussian_mmd, manifold_scores])
def test_pairs_that_cannot_be_compared_are_refused(score):
    good, bad = normal(10, 3), normal(10, 3)
    bad[[4, 6], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"reference\[4\] holds NaN or infinity, as 2 of 10 rows do"):
        score(good, bad)
    with pytest.raises(ValueError, match="features has 3 features and reference has 2"):
        score(good, good[:, :2])
    with pytest.raises(ValueError, match="features has 1 samples"):
        score(good[:1], good)
    with pytest.raises(ValueError, match=r"reference has shape \(10, 3, 1\)"):
        score(good, good[..., None])


def test_moments_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"features\[0\] holds NaN"):
        Moments.of(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="features has 1 samples"):
        Moments.of(normal(1, 2))
    with pytest.raises(ValueError, match="a has 2 features and b has 3"):
        frechet_distance(Moments.of(normal(5, 2)), Moments.of(normal(5, 3)))
    with pytest.raises(ValueError, match="b holds NaN"):
        frechet_distance(moments([0], [[1]]), moments([math.nan], [[1]]))
    with pytest.raises(ValueError, match="points=1, least=2"):
        fid_infinity(normal(9, 2), moments([0, 0], np.eye(2)), points=1)
