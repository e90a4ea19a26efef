"""What an earlier version wrote: old names of modules, classes and fields, in files, options and imports."""

import dataclasses
import importlib
import json
import sys
from typing import Any

import pytest
from toys import Game, ToyData

import imagegen_jax as ig
from imagegen_jax import moved
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.arrays import texts
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.optim import SGD, Adam, CosineDecay
from imagegen_jax.text import tokenizer


@dataclasses.dataclass(frozen=True)
class Grown(Game):
    """A model whose fields have changed: `depth` was `layers`, and `scale` was a number, `gain`."""

    depth: int = 2
    scale: tuple[float, ...] = (1.0,)
    lr: CosineDecay | float = 1.0
    mirrored: bool = True

    @classmethod
    def upgraded(cls, items: dict[str, Any]) -> dict[str, Any]:
        if "layers" in items:
            items["depth"] = items.pop("layers")
        if "gain" in items:
            items["scale"] = (1 / items.pop("gain"),)
        for old, now in (("schedule", "lr"), ("flipped", "mirrored")):
            if old in items:
                items[now] = items.pop(old)
        return items


TOY = ig.Experiment(name="toy", model=Grown(), data=ToyData(), optim={"generator": Adam(), "critic": SGD()})


@pytest.fixture
def old(monkeypatch):
    """Enters lines of the tables, for as long as a test lasts; modules that came of it are forgotten."""
    before = set(sys.modules)

    def enter(modules=None, names=None):
        for table, lines in ((moved.MODULES, modules), (moved.NAMES, names)):
            for name, now in (lines or {}).items():
                monkeypatch.setitem(table, name, now)

    yield enter
    for name in set(sys.modules) - before:
        if name.startswith("imagegen_jax.gone"):
            del sys.modules[name]


def stored_before(value, **items):
    """What an earlier version stored of an experiment: `items` are fields of its model then."""
    tree = json.loads(json.dumps(to_dict(value)))
    for name in ("depth", "scale", "lr", "mirrored"):
        del tree["model"][name]
    tree["model"].update(items)
    return tree


# --- stored experiments ----------------------------------------------------------------------------------------------


def test_no_line_of_the_tables_leads_to_another_or_nowhere():
    for new in moved.MODULES.values():
        assert moved.current_module(new) == new
        importlib.import_module(new)
    for new in moved.NAMES.values():
        assert moved.current_name(new) == new
        module, _, name = new.partition(":")
        assert hasattr(importlib.import_module(module), name), new


def test_a_stored_class_is_found_where_it_is_now(old):
    old(
        {"imagegen_jax.gone.optim": "imagegen_jax.core.optim"},
        {"imagegen_jax.gone.optim:Ramp": "imagegen_jax.core.optim:CosineDecay"},
    )
    assert from_dict({"class": "imagegen_jax.gone.optim:Adam", "lr": 0.5}) == Adam(0.5)
    assert from_dict({"class": "imagegen_jax.gone.optim:Ramp", "peak": 0.5}) == CosineDecay(0.5)
    with pytest.raises(ValueError, match="cannot be imported"):
        from_dict({"class": "imagegen_jax.gone.data:Digits"})


def test_stored_fields_of_an_earlier_version_become_todays():
    tree = stored_before(TOY, layers=5, gain=4.0)
    assert from_dict(tree, ["toys", "test_moved"]) == dataclasses.replace(TOY, model=Grown(depth=5, scale=(0.25,)))
    tree["model"]["layer"] = 5
    with pytest.raises(ValueError, match=r"has no field \['layer'\]"):
        from_dict(tree, ["toys", "test_moved"])


def test_a_run_of_an_earlier_version_is_the_same_experiment(old, tmp_path):
    old({"imagegen_jax.gone.optim": "imagegen_jax.core.optim", "gone_toys": "toys"})
    tree = stored_before(TOY, layers=5, gain=4.0)
    tree["optim"]["generator"]["class"] = "imagegen_jax.gone.optim:Adam"
    tree["data"]["class"] = "gone_toys:ToyData"
    del tree["optim"]["generator"]["b1"], tree["snapshots"]
    (tmp_path / "experiment.json").write_text(json.dumps(tree))
    now = dataclasses.replace(TOY, model=Grown(depth=5, scale=(0.25,)))
    assert folders.compare_experiment(tmp_path, now) == {}
    assert folders.compare_experiment(tmp_path, dataclasses.replace(now, steps=7)) == {"steps": (10_000, 7)}
    with pytest.raises(folders.RunFolderError, match=r"model\.depth: 5 there, 2 now\n"):
        folders.compare_experiment(tmp_path, dataclasses.replace(now, model=Grown(scale=(0.25,))))


def test_what_cannot_be_rebuilt_is_compared_as_it_is(tmp_path):
    tree = to_dict(TOY)
    tree["optim"]["generator"]["class"] = "imagegen_jax.core.optim:Lion"
    (tmp_path / "experiment.json").write_text(json.dumps(tree))
    with pytest.raises(folders.RunFolderError) as error:
        folders.compare_experiment(tmp_path, TOY)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:-1]] == ["optim.generator.class"]


# --- options and dotted names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--model.gain", "4"], ["--model.gain=4"]])
def test_an_old_option_stands_for_what_has_its_place(words, capsys):
    changed = parse_overrides(TOY, [*words, "--model.layers", "3", "--steps", "5"], "test", prefix=())
    assert changed == dataclasses.replace(TOY, model=Grown(depth=3, scale=(0.25,)), steps=5)
    assert capsys.readouterr().err.splitlines() == [
        "warning: model.gain is a name of an earlier version: it is model.scale now",
        "warning: --model.layers is a name of an earlier version: it is --model.depth now",
    ]


def test_old_options_of_classes_and_below_them(old, capsys):
    others = {"imagegen_jax.gone.a:Ramp": "imagegen_jax.core.ema:HalfLife", "imagegen_jax.gone.z:Ramp": "toys:Game"}
    old(names={"imagegen_jax.gone.optim:Ramp": "imagegen_jax.core.optim:CosineDecay"} | others)
    changed = parse_overrides(TOY, ["--model.schedule", "ramp", "--model.schedule.peak", "3"], "test")
    assert changed.model == Grown(lr=CosineDecay(3.0))
    assert "it is --model.lr CosineDecay now" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_overrides(TOY, ["--model.schedule", "Ramps"], "test")
    with pytest.raises(SystemExit):
        parse_overrides(TOY, ["--model.layer", "3"], "test")


def test_old_switches(capsys):
    assert not parse_overrides(TOY, ["--model.no-flipped"], "test").model.mirrored
    assert "it is --model.no_mirrored now" in capsys.readouterr().err
    assert parse_overrides(TOY, ["--model.flipped"], "test").model.mirrored


def test_override_takes_old_names(capsys):
    assert override(TOY, {"model.layers": 3, "model.gain": 4.0}).model == Grown(depth=3, scale=(0.25,))
    assert "model.layers is a name of an earlier version: it is model.depth now" in capsys.readouterr().err
    changed = override(TOY, {"model.schedule": CosineDecay(1.0), "model.schedule.peak": 2.0})
    assert changed.model == Grown(lr=CosineDecay(2.0))
    with pytest.raises(TypeError, match=r"model\.depth='many' is of the wrong type"):
        override(TOY, {"model.layers": "many"})
    with pytest.raises(ValueError, match=r"model\.layer: there is no 'layer' here"):
        override(TOY, {"model.layer": 3})


# --- imports ---------------------------------------------------------------------------------------------------------


def test_old_modules_are_imported_with_a_warning_that_names_the_new(old):
    old(
        {"imagegen_jax.gone.deep.optim": "imagegen_jax.core.optim"},
        {"imagegen_jax.gone.deep.optim:Ramp": "imagegen_jax.core.optim:CosineDecay"},
    )
    with pytest.warns(DeprecationWarning, match="imagegen_jax.gone.deep.optim is imagegen_jax.core.optim now") as found:
        module = importlib.import_module("imagegen_jax.gone.deep.optim")
    assert module.Adam is Adam and module.Ramp is CosineDecay and "Adam" in module.__all__
    assert len(found) == 1
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = module.Nothing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("imagegen_jax.gone.deep.data")


def test_the_warning_is_of_the_line_that_imports(old):
    old({"imagegen_jax.gone.optim": "imagegen_jax.core.optim"})
    with pytest.warns(DeprecationWarning) as found:
        exec("import math\nfrom imagegen_jax.gone.optim import Adam", {"__name__": "a_notebook"})
    assert (found[0].filename, found[0].lineno) == ("<string>", 2)


def test_a_module_that_has_lost_a_name_finds_it(old):
    old(names={"imagegen_jax.core.optim:Ramp": "imagegen_jax.core.ema:HalfLife"})
    find = moved.attributes("imagegen_jax.core.optim")
    with pytest.warns(DeprecationWarning, match=r"core\.optim\.Ramp is imagegen_jax\.core\.ema\.HalfLife now"):
        assert find("Ramp").__name__ == "HalfLife"
    for name in ("Nothing", "__path__"):
        with pytest.raises(AttributeError):
            find(name)


def test_names_that_left_a_module_that_stays():
    with pytest.warns(
        DeprecationWarning, match=r"tokenizer\.say_cut is imagegen_jax\.core\.arrays\.texts\.say_cut now"
    ):
        found = tokenizer.say_cut, tokenizer.Tokenizer, tokenizer.Encoded
    assert found == (texts.say_cut, texts.Tokenizer, texts.Encoded)
    for name in ("check_range", "check_times"):
        now = f"imagegen_jax.diffusion.process.times:{name}"
        assert moved.current_name(f"imagegen_jax.diffusion.models.diffusion:{name}") == now


def test_a_package_in_the_place_of_a_module_has_modules_of_its_own(old):
    old(names={"imagegen_jax.core:optim": "imagegen_jax.core.ema:HalfLife"})
    with pytest.raises(AttributeError):
        moved.attributes("imagegen_jax.core")("optim")


def test_nothing_is_imported_for_names_that_are_not_old(old):
    assert moved.OldModules().find_spec("imagegen_jax.nothing") is None
    assert moved.OldModules().find_spec("imagegen") is None


def test_an_old_module_stands_in_for_the_function_of_its_name(monkeypatch):
    monkeypatch.setattr(ig, "main", ig.main)  # put back at the end
    monkeypatch.delitem(sys.modules, "imagegen_jax.main", raising=False)
    with pytest.warns(DeprecationWarning):
        importlib.import_module("imagegen_jax.main")
    with pytest.raises(SystemExit):
        ig.main(TOY, {}, ["--no-such-option"])
