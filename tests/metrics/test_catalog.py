"""The metrics by name: each against its value in NumPy, its needs before any extraction, and `all` that apply."""

import json
import re

import numpy as np
import pytest

from imagegen_jax.cli.commands import main_parser
from imagegen_jax.metrics.card import Card, leaderboard, text_table
from imagegen_jax.metrics.catalog import METRICS, Metric, Pair, printed
from imagegen_jax.metrics.evaluate import applicable, check_metrics, evaluate
from imagegen_jax.metrics.features.extractor import Function, Network, Pixels
from imagegen_jax.metrics.scale import SHARE
from imagegen_jax.metrics.scores.pair import Score
from imagegen_jax.metrics.sets import ArraySet

RANDOM = np.random.default_rng(0)
CLASSES = 3
TRAIN, FRESH, OTHER = (
    RANDOM.integers(low, high, (120, 4, 4, 1), np.uint8) for low, high in ((0, 200),) * 2 + ((60, 256),)
)
LABELS = np.arange(120, dtype=np.int32) % CLASSES
WEIGHTS = RANDOM.normal(size=(16, CLASSES)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


def pixels(images):
    return np.asarray(images, np.float64).reshape(len(images), -1) / 127.5 - 1


def features(images):
    flat = pixels(images).astype(np.float32)
    return {"features": flat[:, :3], "spatial": flat[:, 5:9], "logits": 4 * flat @ WEIGHTS}


class Tiny(Network):
    """A network of 4 x 4 images whose features are known; it counts its calls."""

    calls = 0

    def __call__(self, images):
        Tiny.calls += 1
        return {name: features(images)[name] for name in self.taps}


@pytest.fixture
def tiny():
    Tiny.calls = 0
    return Tiny("FD-tiny", 4, WEIGHTS, None, ("features", "logits", "spatial"))


def measure(metrics, extractor, images=OTHER, reference=TRAIN, **settings):
    sets = ArraySet("samples", images, LABELS[: len(images)]), ArraySet("train", reference, LABELS[: len(reference)])
    cards = evaluate(*sets, extractor, metrics, quiet=True, **settings)
    return {card.metric: card for card in cards}


def frechet(x, y):
    """Eq. 6 by the eigenvalues of the product, which are not negative."""
    x, y = np.float64(x), np.float64(y)
    a, b = np.cov(x.T), np.cov(y.T)
    root = np.sqrt(np.abs(np.linalg.eigvals(a @ b))).sum()
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b) - 2 * root


def distances(x, y):
    return np.sqrt(((np.float64(x)[:, None] - np.float64(y)[None]) ** 2).sum(2))


# --- values ----------------------------------------------------------------------------------------------------------


def test_spatial_features_have_a_distance_of_their_own(tiny):
    found = measure(["fid", "sfid"], tiny)
    for name, key in (("FD-tiny", "features"), ("sFD-tiny", "spatial")):
        assert found[name].value == pytest.approx(frechet(features(OTHER)[key], features(TRAIN)[key]), rel=1e-5)
        assert found[name].low < found[name].value < found[name].high


def test_the_distance_at_infinity_is_a_line_read_at_zero(tiny):
    """Of Gaussians the expected distance of n samples is close to a + b / n, with b > 0: the line ends below."""
    found = measure(["fid", "fid_infinity"], tiny)
    card = found["FD-tiny infinity"]
    assert 0.7 * found["FD-tiny"].value < card.value < found["FD-tiny"].value
    assert card.low is None and "15 sizes from 12 to 120" in card.interval


def test_each_class_has_its_distance_and_they_have_a_mean(tiny):
    found = measure(["fid_per_class"], tiny)
    x, y = features(OTHER)["features"], features(TRAIN)["features"]
    expected = [frechet(x[LABELS == label], y[LABELS == label]) for label in range(CLASSES)]
    classes = [found[f"FD-tiny, class {label}"] for label in range(CLASSES)]
    assert [card.samples for card in classes] == [40, 40, 40]
    assert [card.value for card in classes] == pytest.approx(expected, rel=1e-5)
    mean = found["FD-tiny, mean of classes"]
    assert mean.value == pytest.approx(np.mean(expected), rel=1e-5)
    below = np.sqrt(sum((card.value - card.low) ** 2 for card in classes)) / CLASSES
    assert mean.low == pytest.approx(mean.value - below) and mean.low < mean.value < mean.high


def test_the_gaussian_kernel_distance_is_its_double_sum(tiny):
    card = measure(["cmmd"], tiny)["MMD-Gaussian x 1000 (FD-tiny)"]
    x, y = features(OTHER)["features"], features(TRAIN)["features"]
    means = [np.exp(-(distances(*pair) ** 2) / 200).mean() for pair in ((x, x), (y, y), (x, y))]
    assert card.value == pytest.approx(1000 * (means[0] + means[1] - 2 * means[2]), rel=1e-5)
    assert card.low < card.value < card.high


@pytest.mark.parametrize("labelled", [True, False])
def test_modes_are_the_classes_that_samples_fall_in(tiny, labelled):
    one_class_missing = np.argmax(features(OTHER)["logits"], 1) != 0
    images = OTHER[one_class_missing]
    reference = ArraySet("train", TRAIN, LABELS if labelled else None)
    cards = evaluate(ArraySet("samples", images), reference, tiny, ["modes"], quiet=True)
    predicted = np.argmax(features(images)["logits"], 1)
    truth = LABELS if labelled else np.argmax(features(TRAIN)["logits"], 1)
    g, d = (np.bincount(x, minlength=CLASSES) / len(x) for x in (predicted, truth))
    assert cards[0].value == np.count_nonzero(g) == 2 and cards[0].low is None and "of 3" in cards[0].interval
    assert cards[1].value == pytest.approx(sum(p * np.log(p / q) for p, q in zip(g, d, strict=True) if p), rel=1e-9)
    assert ("labels" if labelled else "predicted classes") in cards[1].interval


def test_agreement_is_the_share_in_the_class_asked_for(tiny):
    predicted = np.argmax(features(OTHER)["logits"], 1)
    asked = np.where(np.arange(len(OTHER)) % 4 == 0, (predicted + 1) % CLASSES, predicted)
    card = evaluate(
        ArraySet("samples", OTHER, asked), ArraySet("train", TRAIN, LABELS), tiny, ["agreement"], quiet=True
    )[0]
    assert card.value == 0.75 and 0.6 < card.low < 0.75 < card.high < 0.9
    few = [ArraySet(name, x[LABELS < 2], LABELS[LABELS < 2]) for name, x in (("samples", OTHER), ("train", TRAIN))]
    failed = evaluate(*few, tiny, ["agreement"], quiet=True)[0].failed
    assert "logits of 3 classes, and the reference has 2" in failed
    with pytest.raises(ValueError, match="agreement: class 2 has 0 references"):
        evaluate(ArraySet("samples", OTHER, asked), few[1], tiny, ["agreement"], quiet=True)
    with pytest.raises(ValueError, match="agreement: the samples have no labels"):
        evaluate(ArraySet("samples", OTHER), ArraySet("train", TRAIN, LABELS), tiny, ["agreement"], quiet=True)


def test_samples_of_a_class_that_the_data_lacks_are_infinitely_far(tiny):
    present = np.argmax(features(TRAIN)["logits"], 1) == 1
    sets = ArraySet("samples", OTHER), ArraySet("train", TRAIN[present])
    card = evaluate(*sets, tiny, ["modes"], quiet=True)[1]
    assert card.value == np.inf and card.low is None and card.interval.startswith("none")
    assert json.loads(json.dumps(card.to_dict(), allow_nan=False))["value"] is None


@pytest.mark.slow
def test_copies_are_told_from_fresh_data():
    held_out = ArraySet("test", FRESH)
    metrics = ["authpct", "c_t", "nearest"]
    copies = measure(metrics, Pixels(), images=np.clip(TRAIN, 1, 199), held_out=held_out)
    fresh = measure(metrics, Pixels(), images=RANDOM.integers(0, 200, TRAIN.shape, np.uint8), held_out=held_out)
    assert copies["C_T"].value < -5 and abs(fresh["C_T"].value) < 4
    assert copies["AuthPct"].value == 0 < fresh["AuthPct"].value
    anchor = fresh["AuthPct of held-out data"]
    train, test = pixels(TRAIN), pixels(FRESH)
    own = distances(train, train) + np.where(np.eye(120), np.inf, 0)
    near = distances(test, train)
    assert anchor.value == pytest.approx(100 * np.mean(near.min(1) > own.min(1)[near.argmin(1)]))
    assert (anchor.images, anchor.samples, anchor.held_out) == ("test", 120, "test")
    ratio = copies["nearest distance ratio"]
    expected = np.median(distances(pixels(np.clip(TRAIN, 1, 199)), train).min(1)) / np.median(near.min(1))
    assert ratio.value == pytest.approx(expected, rel=1e-4) and ratio.low <= ratio.value <= ratio.high < 1
    assert "held out:   test" in text_table(list(fresh.values()))


def test_c_t_is_the_mann_whitney_z_score_of_nearest_distances():
    """Of fewer than 200 images there is one cell: the test of Meehan et al. without k-means."""
    card = measure(["c_t"], Pixels(), held_out=ArraySet("test", FRESH))["C_T"]
    samples, test = (distances(pixels(x), pixels(TRAIN)).min(1) for x in (OTHER, FRESH))
    u = np.mean(samples[:, None] > test[None]) * 120 * 120
    assert card.value == pytest.approx((u - 120**2 / 2) / np.sqrt(120**2 * 241 / 12), rel=1e-3)


@pytest.mark.slow
def test_pairs_of_images_are_compared_without_an_extractor(tiny):
    large = RANDOM.integers(20, 230, (6, 161, 161, 1), np.uint8)
    noisy = (large + RANDOM.integers(-20, 21, large.shape)).astype(np.uint8)
    found = measure(["psnr", "ssim", "ms_ssim"], tiny, noisy, large)
    error = ((noisy.astype(float) - large) ** 2).mean((1, 2, 3))
    values = 10 * np.log10(255**2 / error)
    half = 1.96 * values.std(ddof=1) / np.sqrt(6)
    card = found["PSNR"]
    assert (card.value, card.high - card.value) == pytest.approx((values.mean(), half), rel=1e-4)
    assert 0.5 < found["SSIM"].value < found["MS-SSIM"].value < 1
    assert Tiny.calls == 0 and card.extractor == "none: the pixels" and "PSNR" in text_table([card])
    same = measure(["psnr", "ssim"], tiny, large, large)
    assert same["PSNR"].value == np.inf and "6 pairs of equal images" in same["PSNR"].interval
    assert same["SSIM"].value == pytest.approx(1)


def test_a_pair_can_be_made_without_sets(tiny):
    pair = Pair(features(OTHER), features(TRAIN), tiny, seed=0, labels=LABELS, reference_labels=LABELS)
    names = ["fid", "kid", "is", "prdc", "fid_per_class"]
    scores = [score.metric for name in names for score in METRICS[name].compute(pair)]
    assert [name for name in scores if ", class" not in name] == list(printed(names, "FD-tiny"))
    with pytest.raises(ValueError, match="no `held_out`"):
        METRICS["c_t"].compute(pair)
    with pytest.raises(ValueError, match="no `images`"):
        METRICS["psnr"].compute(pair)


# --- needs -----------------------------------------------------------------------------------------------------------

SHAPES = {"few": (3, 4, 4, 1), "grey": (120, 4, 4, 1), "colour": (120, 4, 4, 3)}
FEW, GREY, COLOUR = (
    ArraySet(name, RANDOM.integers(0, 255, shape, np.uint8), np.zeros(shape[0], np.int32))
    for name, shape in SHAPES.items()
)
BARE = ArraySet("bare", TRAIN)


@pytest.mark.parametrize(
    ("metric", "images", "reference", "message"),
    [
        ("kid", FEW, GREY, "kid: 3 samples against 120: it needs at least 4"),
        ("prdc", GREY, FEW, "prdc: 120 samples against 3: it needs at least 6"),
        ("is", FEW, GREY, "is: 3 samples: it needs at least 10"),
        ("fid_infinity", FEW, GREY, "at least 20"),
        ("fid_per_class", BARE, GREY, "the samples have no labels.*class-conditional"),
        ("fid_per_class", GREY, BARE, "the reference has no labels"),
        ("fid_per_class", ArraySet("l", TRAIN, LABELS), GREY, "class 1 has 0 references"),
        ("c_t", GREY, BARE, "c_t: there are no held-out data.*--held-out"),
        ("nearest", GREY, BARE, "no held-out data"),
        ("psnr", FEW, GREY, "psnr: it compares image by image.*3 of .*120 of"),
        ("ssim", GREY, BARE, "4 x 4: it needs 11"),
        ("ms_ssim", GREY, BARE, "it needs 161"),
        ("psnr", GREY, COLOUR, "one shape"),
        ("fad", GREY, GREY, "no metric 'fad': there are fid, sfid"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_extracted(tiny, metric, images, reference, message):
    with pytest.raises(ValueError, match=message):
        evaluate(images, reference, tiny, ["fid", metric], quiet=True)
    with pytest.raises(ValueError, match=message):
        check_metrics([metric], images, reference, None)
    assert Tiny.calls == 0


@pytest.mark.parametrize(
    ("metric", "message"), [("sfid", "FD-pixels gives no spatial.*inception"), ("modes", "gives no logits.*classifier")]
)
def test_features_that_an_extractor_lacks_are_named(metric, message):
    with pytest.raises(ValueError, match=message):
        evaluate(GREY, BARE, Pixels(), [metric], quiet=True)
    function = Function("FD-mean", lambda x: np.asarray(x, np.float32).mean((1, 2)), "1")
    (card, *_) = evaluate(GREY, BARE, function, [metric], quiet=True)  # known once it ran
    assert re.search("FD-mean gives no (spatial|logits), only features", card.failed) and np.isnan(card.value)


def test_images_that_cannot_be_compared_are_named(tiny):
    with pytest.raises(ValueError, match=r"colour: images of \(4, 4, 3\), but FD-pixels compares with \(4, 4, 1\)"):
        evaluate(COLOUR, GREY, Pixels(), ["fid"], quiet=True)
    with pytest.raises(ValueError, match="2 channels: FD-tiny takes"):
        evaluate(ArraySet("odd", np.zeros((9, 4, 4, 2), np.uint8)), GREY, tiny, ["fid"], quiet=True)
    with pytest.raises(ValueError, match="held-out data are the reference"):
        evaluate(GREY, BARE, tiny, ["c_t"], quiet=True, held_out=ArraySet("again", TRAIN))
    assert Tiny.calls == 0


def test_all_that_apply_are_found_and_the_others_have_a_reason(tiny):
    names, skipped = applicable(GREY, BARE, tiny)
    assert names == ["fid", "sfid", "fid_infinity", "kid", "cmmd", "is", "prdc", "modes", "shares", "authpct", "psnr"]
    assert set(names) | set(skipped) == set(METRICS) and "held-out" in skipped["c_t"]
    more, fewer = applicable(ArraySet("a", OTHER, LABELS), ArraySet("b", TRAIN, LABELS), tiny, ArraySet("c", FRESH))
    assert (
        set(fewer) == {"ssim", "ms_ssim", "cas", "augmentation", "membership"}
        and "c_t" in more
        and "fid_per_class" in more
    )
    assert Tiny.calls == 0


# --- cards and the command line --------------------------------------------------------------------------------------


def test_which_way_is_better_is_known_of_every_printed_name():
    def best(metric, scale):
        def card(value):
            given = value, value - 0.1, value + 0.1, "", 9, "a", 9, "b", "FD", "0", "none", 0
            return Card(metric, *given, scale=scale)

        table = leaderboard({"low": [[card(1.0)]], "high": [[card(2.0)]]})
        return next((entry for entry in ("low", "high") if f"| {entry} | 1 | **" in table), None)

    found = {name: best(name, scale) for name, scale in printed(list(METRICS), "FD").items()}
    higher = {
        "IS",
        "precision",
        "recall",
        "density",
        "coverage",
        "modes covered",
        "precision, lowest of classes",
        "recall, lowest of classes",
        "agreement",
        "PSNR",
        "SSIM",
        "MS-SSIM",
        "CAS",
        "CAS of real images",
        "CAS, generated minus real",
        "augmentation, generated",
        "augmentation, shifts",
        "augmentation, shifts and mirroring",
    }
    assert {name for name, entry in found.items() if entry == "high"} == higher
    assert {name for name, entry in found.items() if entry is None} == {"AuthPct", "C_T", "nearest distance ratio"}


def test_cards_have_the_direction_of_their_metric_those_of_classes_and_held_out_data_too(tiny):
    more, fewer = ArraySet("a", OTHER, LABELS), ArraySet("b", TRAIN, LABELS)
    names = ["fid_per_class", "prdc", "modes", "authpct"]
    cards = evaluate(more, fewer, tiny, names, quiet=True, held_out=ArraySet("c", FRESH))
    found = {card.metric: card.to_dict()["better"] for card in cards}
    assert found["FD-tiny, class 1"] == found["reverse KL"] == "lower" and found["density"] == "higher"
    assert found["AuthPct"] == found["AuthPct of held-out data"] == "neither"


def test_a_metric_of_a_users_own_says_which_way_is_better(tiny, monkeypatch):
    """A failed one too: whatever decides by it then, decides alike."""
    own = Metric(("blueness",), lambda pair: [Score("blueness", 1.5, None, "none: exact")], "", (SHARE,))
    monkeypatch.setitem(METRICS, "blue", own)
    monkeypatch.setitem(METRICS, "broken", own._replace(compute=lambda pair: 1 / 0))
    cards = evaluate(ArraySet("a", OTHER), ArraySet("b", TRAIN), tiny, ["blue", "broken"], quiet=True)
    assert [card.scale.better for card in cards] == ["higher", "higher"] and cards[1].failed


@pytest.fixture
def command(tmp_path, capsys):
    """Runs `imagegen evaluate` on files of images; its cards and what it says beside them."""

    def run(*arguments):
        options, more = main_parser().parse_known_args(["evaluate", *map(str, arguments), "--json", "--quiet"])
        options.command.run(options.command.read(vars(options), more))
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], said.err

    for name, images in (("samples", OTHER), ("train", TRAIN), ("test", FRESH)):
        np.savez(tmp_path / f"{name}.npz", images)
    return run


@pytest.mark.slow
def test_all_names_what_it_leaves_out_and_held_out_data_are_read(command, tmp_path):
    files = tmp_path / "samples.npz", tmp_path / "train.npz"
    options = "--extractor", "pixels", "--metrics"
    cards, said = command(*files, *options, "all", "--held-out", tmp_path / "test.npz")
    names = [card["metric"] for card in cards]
    assert {"FD-pixels", "C_T", "AuthPct of held-out data", "nearest distance ratio", "PSNR"} <= set(names)
    for skipped in ("sfid", "is", "modes", "fid_per_class", "ssim", "ms_ssim"):
        assert f"without {skipped}: " in said
    assert all("test.npz" in card["held_out"] for card in cards if card["metric"] in ("C_T", "AuthPct"))
    with pytest.raises(ValueError, match="--held-out"):
        command(*files, *options, "c_t")
    with pytest.raises(ValueError, match="only authpct, c_t, nearest, membership, cas, augmentation compare"):
        command(*files, *options, "fid", "--held-out", tmp_path / "test.npz")


def test_pairs_of_images_need_no_weights(command, tmp_path):
    cards, _ = command(tmp_path / "samples.npz", tmp_path / "train.npz", "--metrics", "psnr")
    assert [card["metric"] for card in cards] == ["PSNR"] and cards[0]["weights"] == ""


@pytest.mark.slow
def test_digits_have_their_test_split_as_held_out_data(command):
    options = "--extractor", "pixels", "--metrics", "nearest,authpct"
    cards, _ = command("digits", "digits", "--split", "all,train", *options)
    assert [card["metric"] for card in cards] == ["nearest distance ratio", "AuthPct", "AuthPct of held-out data"]
    assert cards[2]["samples"] == 297 and "split='test'" in cards[0]["held_out"]
    with pytest.raises(ValueError, match="no held-out data"):
        command("digits", "digits", "--split", "test,train", *options)  # the test split is what is measured
    chosen, _ = command("digits", "digits", "--split", "test,train,test", "--held-out", "digits", *options)
    assert chosen[0]["value"] == pytest.approx(1)
