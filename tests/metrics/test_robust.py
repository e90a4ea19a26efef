"""What holds for every metric of the catalog: rows in any order, classes by name, degenerate and broken input."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from toys import Game, ToyData

import imagegen_jax as ig
from imagegen_jax.cli import evaluate as evaluation
from imagegen_jax.cli.commands import main_parser
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run_folder import store_data, store_experiment
from imagegen_jax.metrics import catalog
from imagegen_jax.metrics.card import Card, append, leaderboard, text_table
from imagegen_jax.metrics.catalog import METRICS, printed
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.metrics.evaluate import applicable, check_metrics, evaluate
from imagegen_jax.metrics.features.extractor import Network, Pixels, random_network
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.scores.classes import paired_classes
from imagegen_jax.metrics.scores.frechet import fid_infinity
from imagegen_jax.metrics.scores.inception_score import inception_score
from imagegen_jax.metrics.scores.interval import bootstrap, distance_interval, proportion_interval, subset_interval
from imagegen_jax.metrics.scores.kernel import gaussian_mmd, kid
from imagegen_jax.metrics.scores.manifold import manifold_scores
from imagegen_jax.metrics.scores.memorization import c_t_score
from imagegen_jax.metrics.scores.of_pair import distance_to
from imagegen_jax.metrics.seeds import entries_of
from imagegen_jax.metrics.sets import ArraySet, SampleSet, balanced_labels, source_set

RANDOM = np.random.default_rng(0)
NAMES = ("ant", "bird", "cat", "dog", "eel")
PROTOTYPES = RANDOM.uniform(40, 215, (len(NAMES), 4, 4, 1))
WEIGHTS = np.linalg.pinv(PROTOTYPES.reshape(len(NAMES), -1) / 127.5 - 1).astype(np.float32)
# Of scores that draw rows: some four standard deviations over seeds.
NOISE = {"precision": 0.08, "recall": 0.08, "coverage": 0.08, "density": 0.25, "KID x 1000": 5.0, "IS": 0.7,
         "FD-tiny infinity": 0.05}  # fmt: skip
OF_A_CLASS = 0.08 * len(NAMES) ** 0.5  # of precision and recall, by a fifth of the rows
SHARES = {"precision": 1, "recall": 1, "coverage": 1, "agreement": 1, "MS-SSIM": 1, "AuthPct": 100}


# Searches for neighbours are compiled for each number of rows, which takes a second.
OF_FEATURES = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("authpct", "c_t", "nearest") else name
    for name, metric in METRICS.items()
    if not metric.of_pixels
]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


class Tiny(Network):
    """Features of 4 x 4 images that need no compilation; logits tell the prototypes apart."""

    def __call__(self, images):
        flat = np.asarray(images, np.float32).reshape(len(images), -1)[:, :16] / 127.5 - 1
        found = {"features": flat[:, :6], "spatial": flat[:, 5:9], "logits": 20 * flat @ WEIGHTS}
        return {name: found[name] for name in self.taps}


TINY = Tiny("FD-tiny", 4, WEIGHTS, None, ("features", "logits", "spatial"))


def drawn(name, each, shift=0.0, seed=0):
    """Images around the prototypes, sorted by class."""
    noise = np.random.default_rng([seed, each]).normal(shift, 12, (len(NAMES), each, 4, 4, 1))
    images = np.clip(PROTOTYPES[:, None] + noise, 0, 255).round().astype(np.uint8).reshape(-1, 4, 4, 1)
    return ArraySet(name, images, np.repeat(np.arange(len(NAMES), dtype=np.int32), each), False, NAMES)


def rows(images, index):
    """A set's rows in another order, or some of them."""
    return dataclasses.replace(images, images=images.images[index], labels=images.labels[index])


def shuffled(images, seed=1):
    return rows(images, np.random.default_rng(seed).permutation(len(images)))


def measure(metric, images, reference, held_out=None, extractor=TINY):
    return {c.metric: c for c in evaluate(images, reference, extractor, [metric], quiet=True, held_out=held_out)}


def large(name, count=6):
    return ArraySet(name, np.random.default_rng(len(name)).integers(0, 256, (count, 161, 161, 1), np.uint8), keep=False)


# --- the order of rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(60, 30), (30, 60)], ids=["more_samples", "more_references"])
@pytest.mark.parametrize("metric", OF_FEATURES)
def test_scores_do_not_depend_on_the_order_of_rows(metric, counts):
    images, reference, held_out = drawn("a", counts[0], 4), drawn("b", counts[1]), drawn("c", 30, seed=2)
    in_order = measure(metric, images, reference, held_out)
    for name, card in measure(metric, *map(shuffled, (images, reference, held_out))).items():
        assert not card.failed and card.samples == in_order[name].samples
        noise = OF_A_CLASS if name.startswith(("precision, ", "recall, ")) else NOISE.get(name, 1e-5)
        assert card.value == pytest.approx(in_order[name].value, rel=1e-4, abs=noise), name


@pytest.mark.slow
@pytest.mark.parametrize("metric", [name for name, of in METRICS.items() if "images" in of.reads])
def test_pairs_of_images_count_alike_in_any_order(metric):
    images, reference, order = large("a"), large("bb"), np.arange(6)[::-1]
    turned = (dataclasses.replace(x, images=x.images[order]) for x in (images, reference))
    for name, card in measure(metric, *turned).items():
        assert card.value == pytest.approx(measure(metric, images, reference)[name].value, rel=1e-5)


@pytest.mark.parametrize("counts", [(600, 300), (300, 600)])
def test_rows_that_are_drawn_are_counted(counts):
    """A card says how many rows it is of, and the table too; a seed changes which."""
    sets = [drawn(name, count // 5) for name, count in zip("ab", counts, strict=True)]
    cards = evaluate(*sets, TINY, ["fid", "prdc"], quiet=True)
    assert (cards[0].samples, cards[0].references, cards[0].note) == (*counts, "")
    longer = "samples" if counts[0] > counts[1] else "references"
    for card in cards[1:]:
        assert (card.samples, card.references) == (300, 300)
        assert card.note == f"300 of 600 {longer}, drawn by seed 0"
    assert f"precision; recall; density; coverage: 300 of 600 {longer}" in text_table(cards)
    other = evaluate(*sets, TINY, ["prdc"], seed=1, quiet=True)
    assert [card.value for card in other] != [card.value for card in cards[1:]]


@pytest.mark.parametrize(("n", "classes"), [(4, 10), (25, 10), (30, 10), (1, 1)])
def test_labels_that_do_not_go_round_are_drawn(n, classes):
    labels = [balanced_labels(n, classes, seed) for seed in range(50)]
    for found in labels:
        assert found.dtype == np.int32 and len(found) == n
        counts = np.bincount(found, minlength=classes)
        assert counts.max() - counts.min() <= 1
    assert set(np.concatenate([found[n // classes * classes :] for found in labels])) in (set(range(classes)), set())
    np.testing.assert_array_equal(labels[0], balanced_labels(n, classes, 0))


# --- classes by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "reference_names", "shared", "alone", "unused", "numbered"),
    [
        (("dog", "horse"), ("cat", "dog", "horse"), ("dog", "horse"), (), ("cat",), False),
        (("horse", "dog"), ("cat", "dog", "horse"), ("horse", "dog"), (), ("cat",), False),
        (("dog", "zebra"), ("cat", "dog"), ("dog",), ("zebra",), ("cat",), False),
        (("3", "7"), ("0", "1", "2", "3", "7"), ("3", "7"), (), ("0", "1", "2"), True),
        (("1", "10", "2"), ("0", "1", "2"), ("1", "2"), ("10",), ("0",), True),
        ((), ("cat", "dog"), ("cat", "dog"), (), (), True),
        (("cat", "dog"), ("0", "1", "2"), ("cat", "dog"), (), ("2",), True),
        (("cat", "dog"), ("dog", "cat", "0"), ("cat", "dog"), (), ("0",), False),
        (("e\u0301te\u0301",), ("\u00e9t\u00e9",), ("\u00e9t\u00e9",), (), (), False),
    ],
)
def test_classes_are_paired_by_name_where_both_sides_have_names(
    names, reference_names, shared, alone, unused, numbered
):
    labels = np.arange(len(names) or 2)
    found = paired_classes(labels, np.arange(len(reference_names)), names, reference_names)
    assert (found.names, found.alone, found.unused, found.numbered) == (shared, alone, unused, numbered)
    kept = [i for i in found.samples if i >= 0]
    assert sorted(kept) == list(range(len(shared))) == sorted(i for i in found.references if i >= 0)


@pytest.mark.parametrize("metric", OF_FEATURES)
def test_how_classes_are_numbered_changes_no_score(metric):
    """The samples' classes in another order, under the same names."""
    images, reference, held_out = drawn("a", 12, 4), drawn("b", 12), drawn("c", 12, seed=2)
    order = np.array([3, 0, 4, 1, 2])
    names = tuple(np.array(NAMES)[np.argsort(order)])
    turned = dataclasses.replace(images, labels=order[images.labels].astype(np.int32), class_names=names)
    found, wanted = (measure(metric, x, reference, held_out) for x in (turned, images))
    assert set(found) == set(wanted)
    for name, card in found.items():
        assert card.value == pytest.approx(wanted[name].value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("metric", ["fid_per_class", "agreement"])
def test_a_part_of_the_classes_is_compared_with_its_own(metric):
    whole, part = drawn("a", 12), drawn("b", 12, seed=1)
    part = rows(part, part.labels >= 2)
    part = dataclasses.replace(part, labels=part.labels - 2, class_names=NAMES[2:])
    found = measure(metric, part, whole)
    first = next(iter(found.values()))
    assert first.note == "not compared, without samples: ant, bird" and first.samples == 36
    if metric == "agreement":
        assert first.value == 1
    else:
        assert list(found)[1:] == [f"FD-tiny, class {name}" for name in NAMES[2:]]
        assert max(card.value for card in found.values()) < 0.1
        assert "not compared, without samples: ant, bird" in text_table(list(found.values()))


def test_classes_that_cannot_be_paired_are_named():
    images, reference = drawn("a", 12), drawn("b", 12)
    other = dataclasses.replace(images, class_names=("v", "w", "x", "y", "z"))
    for metric in ("fid_per_class", "agreement"):
        with pytest.raises(ValueError, match=r"\(v, w, x, y, z\) is one of the reference's \(ant, .*same class names"):
            check_metrics([metric], other, reference, TINY)
    unnamed = dataclasses.replace(images, class_names=())
    found = measure("fid_per_class", unnamed, reference)
    assert next(iter(found.values())).note == "classes paired by number, as one side has no names"
    assert "FD-tiny, class ant" in found
    more = dataclasses.replace(unnamed, labels=unnamed.labels + 1)
    with pytest.raises(ValueError, match="class 5 has 0 references"):
        check_metrics(["agreement"], more, reference, TINY)


# --- input that is degenerate or broken ------------------------------------------------------------------------------

SOME = drawn("some", 8).images
DEGENERATE = {
    "constant": np.full((40, 4, 4, 1), 7, np.uint8),
    "black": np.zeros((40, 4, 4, 1), np.uint8),
    "repeated": np.repeat(SOME[::8], 8, axis=0),
    "two": SOME[[0, 30]],
    "two_equal": SOME[[3, 3]],
    "some": SOME,
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("metric", [*OF_FEATURES, "psnr"])
def test_degenerate_sets_have_a_value_or_a_reason(metric, kind):
    images = DEGENERATE[kind]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for reference in (images, DEGENERATE["some"], DEGENERATE["constant"]):
            sets = [ArraySet(f"s{i}", x, np.zeros(len(x), np.int32), False) for i, x in enumerate((images, reference))]
            held_out = drawn("h", 9, seed=2)
            names, reasons = applicable(*sets, TINY, held_out)
            if metric not in names:
                assert reasons[metric]
                continue
            for card in evaluate(*sets, TINY, [metric], quiet=True, held_out=held_out):
                explained = card.failed or card.interval.startswith("none:")
                assert np.isfinite(card.value) or (explained and card.low is None), card
                assert card.low is None or np.isfinite([card.low, card.high]).all()
    assert not said, "warnings are notes of a card, or dropped"


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["ssim", "ms_ssim"])
def test_flat_images_are_alike(metric):
    flat = ArraySet("flat", np.full((2, 161, 161, 1), 9, np.uint8), keep=False)
    (card,) = measure(metric, flat, dataclasses.replace(flat, name="same")).values()
    assert card.value == pytest.approx(1) and card.high <= 1


@pytest.mark.parametrize("seed", range(12))
def test_a_set_is_not_far_from_itself(seed):
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (int(random.integers(40, 400)), int(random.integers(2, 20)))).astype(np.float32)
    score = distance_to(Moments.of(x), x, "FD", 0)
    assert 0 <= score.value < 1e-9 and 0 <= score.interval.low <= score.value <= score.interval.high < np.inf


@pytest.mark.parametrize("side", ["samples", "reference"])
@pytest.mark.parametrize("metric", OF_FEATURES)
def test_no_score_is_made_of_features_that_are_not_finite(metric, side):
    class Broken(Tiny):
        def __call__(self, images):
            found = super().__call__(images)
            wrong = (len(images) == 40) == (side == "samples")
            return {name: np.where(wrong & (np.arange(len(x)) == 3)[:, None], np.nan, x) for name, x in found.items()}

    sets = drawn("a", 8), drawn("b", 9)
    if side == "reference" and metric in ("is", "agreement", "modes"):
        sets = sets[0], dataclasses.replace(sets[1], labels=None)
        if metric != "modes":
            return  # it reads nothing of the reference's features
    broken = Broken(*(getattr(TINY, field.name) for field in dataclasses.fields(TINY)))
    cards = measure(metric, *sets, drawn("c", 9, seed=3), broken).values()
    for card in cards:
        assert np.isnan(card.value) and "NaN or infinite in 1 of" in card.failed and "weights" in card.failed
        assert json.loads(json.dumps(card.to_dict(), allow_nan=False))["value"] is None


def test_repeated_rows_are_warned_of():
    repeated = ArraySet("a", np.repeat(SOME[::5], 8, axis=0), keep=False)
    found = measure("prdc", repeated, dataclasses.replace(repeated, name="b"))
    for card in found.values():
        assert card.value == 0 and "64 of 64 samples and 64 of 64 references have 5 equal rows" in card.note
    assert "remove the duplicates" in text_table(list(found.values()))
    assert not next(iter(measure("prdc", drawn("a", 8), drawn("b", 8, seed=1)).values())).note


# --- a metric that fails ---------------------------------------------------------------------------------------------


def failing(monkeypatch, name, error):
    def compute(pair):
        raise error

    monkeypatch.setitem(catalog.METRICS, name, METRICS[name]._replace(compute=compute))


ERRORS = OverflowError("math range error"), ValueError("no\nroot"), RuntimeError("memory"), np.linalg.LinAlgError("SVD")


@pytest.mark.parametrize(
    ("name", "error"),
    [*(("fid", error) for error in ERRORS), *((name, ERRORS[0]) for name in METRICS if not METRICS[name].of_pixels)],
)
def test_a_metric_that_fails_does_not_take_the_others_with_it(monkeypatch, tmp_path, name, error):
    failing(monkeypatch, name, error)
    other = "kid" if name == "cmmd" else "cmmd"
    cards = evaluate(drawn("a", 8), drawn("b", 8), TINY, [name, other], quiet=True, held_out=drawn("c", 8, seed=2))
    assert [card.metric for card in cards] == list(printed([name, other], "FD-tiny"))
    reason = " ".join(str(error).split()) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    assert all(card.failed == reason and np.isnan(card.value) for card in cards[:-1])
    assert np.isfinite(cards[-1].value) and not cards[-1].failed
    lines = text_table(cards).splitlines()
    assert lines[1].split() == [*cards[0].metric.split(), "failed:", *reason.split()]
    append(cards, tmp_path / "kept.jsonl")
    assert [json.loads(line)["metric"] for line in (tmp_path / "kept.jsonl").open()] == [cards[-1].metric]


def run_command(*words):
    options = main_parser().parse_args(["evaluate", *words])
    evaluation.run(options.command.read(vars(options), []))


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_the_others_and_exits_with_one(monkeypatch, tmp_path, capsys, as_json):
    failing(monkeypatch, "kid", OverflowError("math range error"))
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", drawn(name, 8, seed=ord(name)).images)
    files = [str(tmp_path / f"{name}.npz") for name in ("a", "b")]
    options = [*files, "--extractor", "pixels", "--metrics", "kid,cmmd", "--quiet", *(["--json"] if as_json else [])]
    with pytest.raises(SystemExit) as stopped:
        run_command(*options)
    said = capsys.readouterr().out
    assert stopped.value.code == 1 and "OverflowError: math range error" in said and "MMD-Gaussian" in said
    if as_json:
        assert [json.loads(line)["value"] is None for line in said.splitlines()] == [True, False]


# --- leaderboards ----------------------------------------------------------------------------------------------------

TOY = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)}, batch_size=16
)


def card_of(folder, metric="FD", value=1.0, step=100, **fields):
    card = Card(metric, value, None, None, "none", 10, f"{folder} at step {step}", 10, "b", "FD", "0", "none", 0)
    return dataclasses.replace(card, **fields)


def stored(root, runs, steps=()):
    """Run folders with these experiments, name -> changes; the cards of each by its folder."""
    results = {}
    for name, changes in runs.items():
        folder = root / name
        folder.mkdir(parents=True)
        store_experiment(folder, dataclasses.replace(TOY, **changes), {})
        results[str(folder)] = [card_of(folder, step=dict(steps).get(name, 100))]
    return results


@pytest.mark.parametrize(
    ("runs", "entries"),
    [
        ({"a_1": {"seed": 1}, "a_2": {"seed": 2}}, {"a": 2}),
        ({"a_1": {"seed": 1, "name": "x"}, "a_2": {"seed": 2, "name": "y"}}, {"a": 2}),
        ({"a_1": {"seed": 1}, "a_2": {"seed": 2, "batch_size": 8}}, {"a_1": 1, "a_2": 1}),
        ({"a_1": {"seed": 1}, "a_2": {"seed": 2, "data": ToyData(scale=0.1)}}, {"a_1": 1, "a_2": 1}),
        ({"a_1": {"seed": 1}, "a_2": {"seed": 1}}, {"a_1": 1, "a_2": 1}),
        ({"a": {"seed": 1}, "b": {"seed": 2}}, {"a, b": 2}),
        ({"x/a": {"seed": 1}, "y/a": {"seed": 1, "steps": 9}}, None),
        (
            {"a1": {"seed": 1}, "a2": {"seed": 2}, "a3": {"seed": 1, "steps": 9}, "a4": {"seed": 2, "steps": 9}},
            {"a1, a2": 2, "a3, a4": 2},
        ),
    ],
)
def test_runs_are_seeds_only_of_equal_experiments(tmp_path, runs, entries):
    found = entries_of(stored(tmp_path, runs), ["toys"])
    if entries is None:
        entries = {str(tmp_path / name): 1 for name in runs}
    assert {name: len(of) for name, of in found.items()} == entries


def test_seeds_were_measured_at_one_step_and_changed_in_one_way(tmp_path):
    runs = {f"a_{seed}": {"seed": seed} for seed in range(4)}
    results = stored(tmp_path, runs, [("a_1", 200)])
    for name, change in (("a_2", {"batch_size": [8, 16]}), ("a_3", {"steps": [5, 10]})):
        (tmp_path / name / "changes.jsonl").write_text(json.dumps(change) + "\n")
    found = entries_of(results, ["toys"])
    assert {name: len(of) for name, of in found.items()} == {"a": 2, "a_1": 1, "a_2": 1}


def test_seeds_were_trained_on_the_same_data(tmp_path):
    """Of one place, whose images were others when the second of them was trained."""
    results = stored(tmp_path, {f"a_{seed}": {"seed": seed} for seed in range(3)})
    for name, data in (("a_0", TOY.data), ("a_1", ToyData(scale=0.1)), ("a_2", TOY.data)):
        store_data(tmp_path / name, data.open())
    assert {name: len(of) for name, of in entries_of(results, ["toys"]).items()} == {"a": 2, "a_1": 1}


@pytest.mark.parametrize(("metric", "scale"), printed(list(METRICS), "FD").items())
def test_no_interval_leaves_what_a_score_can_be(metric, scale):
    """Of few runs that lie at both ends; a share's ends are known to this test by themselves."""
    _, low, high = scale
    first = metric.partition(" ")[0]
    if first in SHARES:
        assert (low, high) == (0, SHARES[first])
    top, bottom = (high if np.isfinite(high) else 30.0), (low if np.isfinite(low) else -3.0)
    for values in ((bottom, top), (top, top, bottom), (bottom, bottom + 0.1)):
        runs = [[card_of("a", metric, value, scale=scale)] for value in values]
        cell = leaderboard({"a": runs}).splitlines()[2].split("|")[3]
        ends = [float(end) for end in cell[cell.index("[") + 1 : cell.index("]")].split(",")]
        assert low <= ends[0] <= np.mean(values) + 1e-3 and np.mean(values) - 1e-3 <= ends[1] <= high
    if first in ("KID", "C_T"):
        assert ends[0] < bottom  # an estimate that may be below zero is not cut


@pytest.mark.parametrize("metric", OF_FEATURES)
def test_the_interval_of_one_set_is_in_range(metric):
    """Of samples that are as good, and as bad, as they can be."""
    good, other = drawn("a", 8), drawn("b", 8, seed=5)
    far = dataclasses.replace(good, images=255 - good.images, labels=(good.labels + 1) % 5)
    for images in (dataclasses.replace(other, name="same"), good, far):
        for name, card in measure(metric, images, other, drawn("c", 8, seed=6)).items():
            _, low, high = card.scale
            assert card.low is None or low <= card.low <= card.value <= card.high <= high, name


def test_values_that_cannot_be_compared_are_not_ranked():
    def board(**fields):
        ends = {"low": 0.9, "high": 1.1}, {"low": 8.9, "high": 9.1}
        cards = card_of("a", value=1.0, **ends[0]), card_of("b", value=9.0, **ends[1], **fields)
        return leaderboard({"a": [[cards[0]]], "b": [[cards[1]]]})

    assert "**1**" in board() and "ranked" not in board()
    for fields in ({"reference": "other data"}, {"weights": "1"}, {"resize": "clean"}):
        assert "**" not in board(**fields) and "Not to be ranked" in board(**fields)


def test_a_leaderboard_says_what_failed():
    failed = card_of("a_2", value=float("nan"), failed="no root")
    table = leaderboard({"a": [[card_of("a_1")], [failed]], "b": [[dataclasses.replace(failed, images="b at 3")]]})
    assert "| a | 2 | 1 (1 of 2 runs) |" in table and "| b | 1 | - |" in table
    assert "FD of a_2 at step 100 failed: no root" in table and "FD of b at 3 failed: no root" in table


def test_a_run_that_fails_does_not_take_the_others_with_it(monkeypatch, tmp_path, capsys):
    results = stored(tmp_path, {"a": {}, "b": {"seed": 3}})

    def cards_of(pair, *rest):
        if pair[0].word.endswith("a"):
            raise ValueError("no checkpoint yet")
        return drawn("b", 8), results[pair[0].word]

    monkeypatch.setattr(evaluation, "_cards", cards_of)
    with pytest.raises(SystemExit, match="1"):
        run_command(*results, "--extractor", "random", "--module", "toys", "--leaderboard", str(tmp_path / "table.md"))
    assert "| b | 1 | 1 |" in (tmp_path / "table.md").read_text()
    assert f"{tmp_path / 'a'}: no checkpoint yet" in capsys.readouterr().err


# --- numbers ---------------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(60, 3))
INTEGERS = {
    "neighbours": lambda n: manifold_scores(X, X[:30], neighbours=n),
    "subsets": lambda n: kid(X, X, subsets=n, subset_size=9),
    "subset_size": lambda n: kid(X, X, subsets=20, subset_size=n),
    "splits": lambda n: inception_score(X, splits=n),
    "points": lambda n: fid_infinity(X, Moments.of(X), points=n),
    "least": lambda n: fid_infinity(X, Moments.of(X), least=n),
    "draws": lambda n: bootstrap(np.mean, X, draws=n),
    "draws of a distance": lambda n: distance_interval(np.mean, np.mean, X, draws=n),
    "subset_size of an interval": lambda n: subset_interval(X[:, 0], n, 90),
    "count": lambda n: proportion_interval(0.5, n),
    "cells": lambda n: c_t_score(X, X, X, n),
    "min_samples": lambda n: c_t_score(X, X, X, 2, min_samples=n),
    "samples": lambda n: Evaluate(samples=n),
    "every": lambda n: Evaluate(every=n),
    "most": lambda n: source_set(ig.data.Digits(), n),
    "n": lambda n: SampleSet(None, n),
    "chunk": lambda n: SampleSet(None, 9, chunk=n),
    "size": lambda n: random_network(size=n),
    "width": lambda n: random_network(width=n),
}
SEEDS = {
    "kid": lambda seed: kid(X, X, subsets=20, subset_size=9, seed=seed),
    "is": lambda seed: inception_score(X, seed=seed),
    "infinity": lambda seed: fid_infinity(X, Moments.of(X), seed=seed),
    "bootstrap": lambda seed: bootstrap(np.mean, X, seed=seed),
    "distance": lambda seed: distance_interval(np.mean, np.mean, X, seed=seed),
    "c_t": lambda seed: c_t_score(X, X, X, 2, seed=seed),
    "evaluate": lambda seed: evaluate(drawn("a", 2), drawn("b", 2), Pixels(), ["fid"], seed=seed, quiet=True),
    "during": lambda seed: Evaluate(seed=seed),
    "samples": lambda seed: SampleSet(None, 9, seed),
    "network": lambda seed: random_network(seed),
}


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), True, "3", None, -1, 2**64])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_metrics_are_integers(name, value):
    if value is None and name in ("least", "most"):
        return  # the default
    with pytest.raises(ValueError, match=name.partition(" ")[0]):
        INTEGERS[name](value)


@pytest.mark.parametrize("value", [0.5, float("nan"), True, "3", None, -1, 2**32])
@pytest.mark.parametrize("name", SEEDS)
def test_seeds_of_metrics_are_seeds(name, value):
    with pytest.raises(ValueError, match="seed"):
        SEEDS[name](value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1, True, "3", None])
def test_widths_of_kernels_are_numbers(value):
    with pytest.raises(ValueError, match="sigma"):
        gaussian_mmd(X, X, sigma=value)
