"""Weights as values: from runs and files, for networks that a model names frozen, kept once a run."""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from judged import Judged, Unjudged, classifier
from judged import experiment as judged
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.checkpoints.weights import FromFile, FromRun, Random, parse, weights_of
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.ema import FixedDecay, HalfLife
from imagegen_jax.core.experiment import frozen_sources
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.state import create, networks

TOY = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": SGD(0.1), "critic": SGD(0.1)},
    averages={"slow": HalfLife(1000.0, ramp=None), "fast": HalfLife(16.0, ramp=None)}, batch_size=16, steps=4,
    checkpoint_every=2, sample_every=0, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Before(Judged):
    """As the model was when nothing was named frozen."""

    frozen: tuple[str, ...] = ()


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert jax.tree.structure(a) == jax.tree.structure(b)


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a run of a classifier, and one of a VAE that it judges under another name."""
    root = tmp_path_factory.mktemp("weights")
    ig.fit(classifier, root / "classifier", quiet=True)
    ig.fit(given(root), root / "vae", quiet=True)
    return root


def given(root, **changes):
    """The experiment of the judged VAE, with its judge from the classifier's run."""
    source = FromRun(root / "classifier", network="network")
    return dataclasses.replace(judged, pretrained={"judge": source}, **changes)


@pytest.fixture
def vae(root, tmp_path):
    return shutil.copytree(root / "vae", tmp_path / "vae")


# --- what is given ---------------------------------------------------------------------------------------------------


def test_texts_stand_for_weights(tmp_path):
    assert parse("runs/a") == FromRun("runs/a") == weights_of(pathlib.Path("runs/a"))
    assert parse("runs/a:encoder") == FromRun("runs/a", "encoder")
    assert parse("a.npz") == FromFile("a.npz") and parse("b/a.safetensors:x.y") == FromFile("b/a.safetensors", "x.y")
    assert parse("a.pth") == FromFile("a.pth") and parse("C:/runs/a") == FromRun("C:/runs/a")
    assert parse("random") == Random() and parse("./random") == FromRun("./random")
    (tmp_path / "12:30").mkdir()
    assert parse(f"{tmp_path}/12:30") == FromRun(f"{tmp_path}/12:30")  # as names of folders were taken before
    assert weights_of(Random()) == Random()
    for text in ("", "runs/a:", ":encoder"):
        with pytest.raises(ValueError, match=f"'{text}' names no weights: give a run folder"):
            parse(text)
    for value in ("runs/a:", 3):
        with pytest.raises(ValueError, match=r"pretrained\['generator'\]: .*give a run folder"):
            dataclasses.replace(TOY, pretrained={"generator": value})


def test_weights_are_a_part_of_an_experiment_as_it_is_stored(tmp_path):
    for value in (FromRun("runs/a", "encoder", step="best", average="fast"), FromFile("a.npz"), Random(), "runs/a"):
        stored = to_dict(dataclasses.replace(TOY, pretrained={"frozen": value}))
        found = from_dict(json.loads(json.dumps(stored)), modules=["toys"])
        assert found.pretrained == {"frozen": value}


def test_a_network_is_read_without_the_classes_of_its_run(root, monkeypatch):
    """The run's file names a class of no module; its arrays are what they are."""
    nets = ig.load(root / "vae", modules=["judged"]).nets
    copy = shutil.copytree(root / "vae", root / "copy")
    stored = json.loads((copy / "experiment.json").read_text())
    stored["model"]["class"] = "a_module_that_is_gone:Judged"
    (copy / "experiment.json").write_text(json.dumps(stored))
    (copy / "data.json").unlink()
    for name in ("encoder", "decoder", "judge"):
        assert_same(FromRun(copy, name).read("anything"), jax.device_get(nets[name]))
    with pytest.raises(RunFolderError, match="a_module_that_is_gone"):
        ig.load(copy)


def test_a_network_is_read_as_its_run_samples_by_it(tmp_path):
    run = ig.fit(TOY, tmp_path, quiet=True)
    for average in (None, "fast", "none"):
        for name in ("generator", "critic", "frozen"):
            wanted = jax.device_get(run.with_average(average).nets[name])
            assert_same(FromRun(tmp_path, average=average).read(name), wanted)
    assert {"params", "pool"} == FromRun(tmp_path).read("critic").keys()
    earlier = FromRun(tmp_path, step=2).read("generator")
    assert_same(earlier, jax.device_get(ig.load(tmp_path, experiment=TOY, step=2).nets["generator"]))
    with pytest.raises(ValueError, match="average 'quick'.*slow, fast"):
        FromRun(tmp_path, average="quick").read("generator")
    with pytest.raises(CheckpointError, match="no checkpoint of step 3; it has"):
        FromRun(tmp_path, step=3).read("generator")
    with pytest.raises(ValueError, match="no network 'judge'; it has .*'critic', 'frozen', 'generator'"):
        FromRun(tmp_path).read("judge")
    with pytest.raises(RunFolderError, match="no run folder"):
        FromRun(tmp_path / "nowhere").read("judge")


def test_a_codebook_is_read_with_what_no_average_covers(tmp_path):
    """An average keeps its vectors, and not how many images ago each code was chosen."""
    book = {"quantiser": {"embedding": jnp.zeros(2)}, "use": {"unchosen": jnp.int32(7)}}
    state = create({"a": {"params": {"w": jnp.zeros(2)}, "codebook": book}}, {"a": SGD(1.0)}, {"ema": FixedDecay(0.9)})
    moved = {"quantiser": {"embedding": jnp.ones(2)}, "use": {"unchosen": jnp.int32(3)}}
    state = state.replace(params={"a": {"w": jnp.ones(2)}}, stats={"a": {"codebook": moved}})
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as saved:
        saved.save(1, state)
    stored = Stored(tmp_path / "checkpoints")
    for average in ("ema", None):
        assert_same(stored.read_network(1, "a", average)[0], jax.device_get(networks(state, average)["a"]))


def test_a_network_of_a_damaged_checkpoint_is_read_from_the_one_before(tmp_path, capfd):
    ig.fit(TOY, tmp_path, quiet=True)
    place = tmp_path / "checkpoints" / "4" / "fingerprint" / "metadata"
    words = json.loads(place.read_text())
    place.write_text(json.dumps([word ^ 1 for word in words]))
    assert_same(FromRun(tmp_path).read("generator"), FromRun(tmp_path, step=2).read("generator"))
    assert "checkpoints/4 is damaged: 2 arrays differ" in capfd.readouterr().err  # of the two that were read


# --- frozen networks -------------------------------------------------------------------------------------------------


def test_a_frozen_classifier_judges_a_vae_under_another_name(root):
    """Trained, saved, loaded and drawn from; its weights are the classifier's, before and after."""
    wanted = jax.device_get(ig.load(root / "classifier").nets["network"])
    run = ig.load(root / "vae", modules=["judged"])
    assert_same(jax.device_get(run.nets["judge"]), wanted)
    assert run.step == 6 and run.sample(3).shape == (3, 8, 8, 1)
    assert_same(ig.Program(given(root)).init().params["judge"], wanted["params"])
    lines = [json.loads(line) for line in (root / "vae" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["elbo/judged"] > 0 for line in lines)


def drawn(shapes):
    """Arrays of these shapes, in their places, of numbers that no archive makes smaller."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda a: jax.device_put((99 * random.standard_normal(a.shape)).astype(a.dtype), a.sharding), shapes
    )


def test_checkpoints_are_no_larger_than_without_the_frozen_network(tmp_path):
    """By a judge of a million bytes beside a VAE of a few thousand, which Orbax writes once or a few times over."""
    judge = judged.model.judge.clone(width=32, features=256)
    models, weights = {"with": Judged(judge=judge), "held": Before(judge=judge), "without": Unjudged()}, 0
    for name, model in models.items():
        given = {} if name == "without" else {"judge": "random"}
        value = dataclasses.replace(judged, model=model, pretrained=given)
        state = drawn(ig.Program(value).abstract_state(1))
        with contextlib.closing(Checkpoints(tmp_path / name / "checkpoints", frozen=frozen_sources(value))) as saved:
            for step in (1, 2):
                saved.save(step, state)
        weights = sum(x.nbytes for x in jax.tree.leaves(state.params.get("judge", {}))) or weights
    assert weights > 1e6
    for step in ("1", "2"):
        places = {name: tmp_path / name / "checkpoints" / step for name in models}
        sizes = {name: size(place) for name, place in places.items()}
        assert sizes["with"] < sizes["without"] + 0.1 * weights and sizes["held"] > sizes["without"] + 0.8 * weights
        arrays = {name: (place / "state" / "_METADATA").read_text() for name, place in places.items()}
        assert arrays["with"] == arrays["without"] and "judge" in arrays["held"]
    kept = list((tmp_path / "with" / "frozen").iterdir())
    assert len(kept) == 1 and kept[0].name.startswith("judge-") and size(kept[0]) > 0.8 * weights
    assert not (tmp_path / "without" / "frozen").exists() and not (tmp_path / "held" / "frozen").exists()


def test_a_run_goes_on_bit_for_bit_without_the_source(root, tmp_path):
    source = shutil.copytree(root / "classifier", tmp_path / "classifier")
    short = given(tmp_path, steps=2)
    ig.fit(short, tmp_path / "vae", quiet=True)
    shutil.rmtree(source)
    run = ig.fit(dataclasses.replace(short, steps=6), tmp_path / "vae", resume_with_changes=True, quiet=True)
    assert_same(run.state, ig.load(root / "vae", modules=["judged"]).state)
    assert_same(ig.load(tmp_path / "vae", modules=["judged"]).state, run.state)
    assert len(list((tmp_path / "vae" / "frozen").iterdir())) == 1


def test_a_frozen_network_that_is_missing_is_read_from_its_source_again(root, vae, capfd):
    wanted = ig.load(root / "vae", modules=["judged"]).state
    shutil.rmtree(vae / "frozen")
    assert_same(ig.load(vae, modules=["judged"]).state, wanted)
    assert "is missing; read from pretrained['judge'] again" in capfd.readouterr().err
    assert not (vae / "frozen").exists()  # who only reads a run writes nothing in it
    ig.fit(given(root, steps=7), vae, resume_with_changes=True, quiet=True)
    assert [path.name for path in (vae / "frozen").iterdir()] == [p.name for p in (root / "vae" / "frozen").iterdir()]


def test_a_frozen_network_that_is_missing_for_good_is_said(root, vae, tmp_path):
    """Also where the source holds other weights now."""
    kept = next((vae / "frozen").iterdir())
    kept.rename(tmp_path / "kept")
    for source, why in ((tmp_path / "gone", "cannot be read"), (tmp_path / "other", "holds other weights now")):
        if source.name == "other":
            ig.fit(dataclasses.replace(classifier, seed=1), source, quiet=True)
        text = json.loads((vae / "experiment.json").read_text())
        text["pretrained"]["judge"]["path"] = str(source)
        (vae / "experiment.json").write_text(json.dumps(text))
        with pytest.raises(CheckpointError, match=rf"{kept.name} is missing.*{why}.*\. Copy the folder 'frozen' here"):
            ig.load(vae, modules=["judged"])
    (tmp_path / "kept").rename(kept)
    assert ig.load(vae, modules=["judged"]).step == 6


def test_a_damaged_frozen_network_is_said_once(vae):
    kept = next((vae / "frozen").iterdir())
    for path in kept.rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        CheckpointError, match=f"{kept.name}, the frozen network 'judge', is damaged: .*\nEvery"
    ) as said:
        ig.load(vae, modules=["judged"])
    assert "Copy the folder 'frozen' here" in str(said.value)
    assert FromRun(vae).read("encoder")  # which is in the checkpoint
    with pytest.raises(CheckpointError, match="is damaged"):
        FromRun(vae).read("judge")


def test_a_frozen_network_with_other_bits_is_damaged(root, vae, tmp_path):
    """One that can be read, in the other's place."""
    other = dataclasses.replace(given(root), pretrained={"judge": "random"}, steps=1)
    ig.fit(other, tmp_path / "other", quiet=True)
    kept, wrong = (next((run / "frozen").iterdir()) for run in (vae, tmp_path / "other"))
    shutil.rmtree(kept)
    shutil.copytree(wrong, kept)
    with pytest.raises(CheckpointError, match="its arrays differ from what was saved"):
        ig.load(vae, modules=["judged"])


def test_a_run_whose_checkpoints_hold_the_frozen_network_loads_and_goes_on(root, tmp_path):
    """As runs of before do; what is saved from then on is without it."""
    old = given(root, model=Before(), steps=2)
    ig.fit(old, tmp_path, quiet=True)
    assert not (tmp_path / "frozen").exists()
    new = dataclasses.replace(old, model=Judged())
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(to_dict(new)))
    assert_same(ig.load(tmp_path, modules=["judged"]).state, ig.load(tmp_path, experiment=old).state)
    run = ig.fit(dataclasses.replace(new, steps=6), tmp_path, resume_with_changes=True, quiet=True)
    assert_same(run.state, ig.load(root / "vae", modules=["judged"]).state)
    assert len(list((tmp_path / "frozen").iterdir())) == 1
    listed = {step: (tmp_path / "checkpoints" / step / "state" / "_METADATA").read_text() for step in ("2", "6")}
    assert "judge" in listed["2"] and "judge" not in listed["6"]


@dataclasses.dataclass(frozen=True)
class Adrift(Judged):
    """Returns statistics of what is frozen."""

    def loss(self, nets, inputs):
        loss, aux = super().loss(nets, inputs)
        return loss, aux._replace(stats={"judge": {"batch_stats": {"mean": jnp.zeros(3)}}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"pretrained": {}},
            "'judge' is frozen and has no weights.*FromRun.*--pretrained.judge runs/a:network.*'random'",
        ),
        ({"optim": {**judged.optim, "judge": SGD(0.1)}}, r"'judge' is frozen .*optim\['judge'\] would"),
        ({"model": Judged(frozen=("judge", "decoder"))}, "'decoder' is frozen .*a phase trains it"),
        ({"model": Judged(frozen=("jury",))}, "model.frozen names 'jury', which is no network.*judge"),
        ({"pretrained": {"judge": "runs/nowhere"}}, "runs/nowhere is no run folder"),
        ({"pretrained": {"judge": "nowhere.npz"}}, "no weights at nowhere.npz"),
        ({"model": Adrift()}, "returned statistics of 'judge', which is frozen"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(root, tmp_path, changes, words):
    with pytest.raises((ValueError, TypeError, OSError, RunFolderError), match=words):
        ig.fit(dataclasses.replace(given(root), **changes), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_shape_are_refused_by_name(root, tmp_path):
    wide = Judged(judge=judged.model.judge.clone(features=8))
    with pytest.raises(
        ValueError,
        match=r"pretrained\['judge'\].*params/Dense_0/bias: \(16,\) there, \(8,\) wanted; params/.*; params/.* wanted",
    ):
        ig.fit(given(root, model=wide), tmp_path / "run", quiet=True)
    ig.save_network(
        tmp_path / "half.npz",
        {"params": {"Dense_0": FromRun(root / "classifier").read("network")["params"]["Dense_0"]}},
    )
    with pytest.raises(ValueError, match=r"pretrained\['judge'\].*params/Conv_0/bias: none there"):
        ig.fit(dataclasses.replace(judged, pretrained={"judge": f"{tmp_path}/half.npz"}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_random_weights_are_frozen_where_that_is_said(tmp_path):
    run = ig.fit(dataclasses.replace(judged, pretrained={"judge": "random"}, steps=2), tmp_path, quiet=True)
    fresh = ig.Program(run.experiment).init()
    assert_same(run.state.params["judge"], fresh.params["judge"])


def test_a_network_that_starts_from_weights_needs_not_be_frozen(tmp_path):
    first = ig.fit(
        dataclasses.replace(TOY, model=Regression(), optim={"network": SGD(0.1)}), tmp_path / "a", quiet=True
    )
    second = dataclasses.replace(first.experiment, pretrained={"network": FromRun(tmp_path / "a")}, seed=1)
    state = ig.Program(second).init()
    assert_same(jax.device_get(state.params["network"]), FromRun(tmp_path / "a").read("network")["params"])
    ig.fit(second, tmp_path / "b", quiet=True)
    assert not (tmp_path / "b" / "frozen").exists()


# --- the command line ------------------------------------------------------------------------------------------------


def test_networks_that_are_given_whole_are_not_drawn(monkeypatch):
    program, drawn = ig.Program(TOY), []
    fresh = program.init({})
    make = program._jit_sharded

    def seen(function, *arguments):
        made = make(function, *arguments)
        drawn.extend([set(made)] if isinstance(made, dict) else [])
        return made

    monkeypatch.setattr(program, "_jit_sharded", seen)
    given = {
        name: {"params": jax.tree.map(np.zeros_like, fresh.params[name])} | dict(fresh.stats.get(name, {}))
        for name in fresh.params
    }
    one = program.init({"generator": given["generator"]})
    assert not any(map(np.any, jax.tree.leaves(one.params["generator"])))
    assert_same(one.params["critic"], fresh.params["critic"])
    program.init({"critic": {"params": given["critic"]["params"]}})  # without its statistics, which are made
    all_given = program.init(given)
    assert [sorted(names) for names in drawn] == [["critic", "frozen"], ["critic", "frozen", "generator"]]
    places = jax.tree.map(lambda x: x.sharding, (all_given, fresh))
    assert places[0] == places[1] and not any(map(np.any, jax.tree.leaves(all_given.params)))


def test_frozen_weights_are_given_on_the_command_line(root, tmp_path, capfd):
    run = f"{root / 'classifier'}:network"
    for words in (["--pretrained.judge", run], [f"--pretrained.judge={run}"]):
        ig.main(judged, arguments=["--workdir", str(tmp_path / words[0][-3:]), "--steps", "2", *words], prog="train")
        found = ig.load(tmp_path / words[0][-3:], modules=["judged"])
        assert found.experiment.pretrained == {"judge": run}
        assert_same(jax.device_get(found.nets["judge"]), FromRun(root / "classifier").read("network"))
    replaced = parse_overrides(given(root), ["--pretrained.judge", "a.npz", "--steps", "3"], "train")
    assert (replaced.pretrained, replaced.steps) == ({"judge": "a.npz"}, 3)
    inside = parse_overrides(given(root), ["--pretrained.judge.path", "runs/b"], "train")
    assert inside.pretrained == {"judge": FromRun("runs/b", "network")}
    ig.main(judged, {"pretrained": {"judge": "random"}}, ["--smoke", "--steps", "1", "--workdir", str(tmp_path / "s")])
    capfd.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--pretrained.judge runs/a:network"),
        (
            ["--pretrained.judge=random", "--pretrained.jury", "random"],
            r"pretrained\['jury'\] is no network of the model.*judge",
        ),
        (["--pretrained.judge"], "give the name of an item and its value: --pretrained.NAME VALUE"),
        (["--pretrained", "runs/a"], "give the name of an item and its value: --pretrained.NAME VALUE"),
        (["--pretrained.judge", "runs/a:"], r"pretrained\['judge'\]: 'runs/a:' names no weights"),
    ],
)
def test_bad_options_are_refused(tmp_path, capfd, arguments, words):
    with pytest.raises(SystemExit) as refused:
        ig.main(judged, arguments=["--workdir", str(tmp_path / "run"), *arguments], prog="train")
    said = capfd.readouterr().err + str(refused.value)
    assert refused.value.code and re.search(words, said), said
    assert not (tmp_path / "run").exists()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_saved_network_is_read_back(root, tmp_path, suffix):
    wanted = FromRun(root / "classifier").read("network")
    ig.save_network(tmp_path / f"w{suffix}", wanted)
    assert_same(ig.load_network(tmp_path / f"w{suffix}", "judge"), wanted)
    assert_same(FromFile(tmp_path / f"w{suffix}", "params").read("judge"), wanted["params"])
    with pytest.raises(ValueError, match="no weights below 'judge'; the names in it begin with: params"):
        FromFile(tmp_path / f"w{suffix}", "judge").read("judge")


def test_files_that_are_no_network_or_not_finite_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **{"params/a": np.zeros(2), "params/a/b": np.zeros(2)})
    np.savez(tmp_path / "b.npz", **{"params/a/b": np.zeros(2), "params/a": np.zeros(2)})
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="holds no network: 'params/a"):
            FromFile(tmp_path / f"{name}.npz").read("x")
    np.savez(tmp_path / "nan.npz", **{"params/a": np.array([np.nan])})
    with pytest.raises(NonFiniteError, match="nan.npz: params/a hold NaN"):
        FromFile(tmp_path / "nan.npz").read("x")
