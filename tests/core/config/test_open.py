"""Fields that hold whatever meets a protocol: the package's own by name, a user's by module, imported when chosen."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import textwrap
import typing

import pytest

import imagegen_jax as ig
from imagegen_jax.core.config.bounds import Share
from imagegen_jax.core.config.choices import Choices, is_protocol, options_of
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.ema import PowerFunction
from imagegen_jax.core.optim import SGD
from imagegen_jax.diffusion.process.weighting import P2

MINE = """
    import dataclasses
    import flax.linen as nn
    import jax.numpy as jnp
    from imagegen_jax.core.config.bounds import Share

    @dataclasses.dataclass(frozen=True)
    class Jump:
        share: Share = 1.0  # of the way that is gone
        def __call__(self, denoise, sigmas, x, key):
            return x + self.share * (denoise(x, jnp.full(len(x), sigmas[0])) - x)

    @dataclasses.dataclass(frozen=True)
    class Straight:
        def alpha(self, t): return 1 - t
        def sigma(self, t): return t
        def alpha_rate(self, t): return -jnp.ones_like(t)
        def sigma_rate(self, t): return jnp.ones_like(t)
        def time(self, level): return level / (1 + level)
        def scale(self, level): return 1 / (1 + level)

    @dataclasses.dataclass(frozen=True)
    class Doubled:
        by: float = 2.0
        def __call__(self, conditional, unconditional, scale):
            def denoise(x, sigma):
                free = unconditional(x, sigma)
                return free + self.by * scale * (conditional(x, sigma) - free)
            return denoise

    class Tiny(nn.Module):
        width: int = 4
        @nn.compact
        def __call__(self, x, t, conditioning):
            return nn.Conv(x.shape[-1], (3, 3))(nn.gelu(nn.Conv(self.width, (3, 3))(x) + t[:, None, None, None]))

    class Lonely:
        pass

    def function(denoise, sigmas, x, key):
        return x
"""


@dataclasses.dataclass(frozen=True)
class Still:
    """A solver that stays where it is."""

    strength: Share = 0.5

    def __call__(self, denoise, sigmas, x, key):
        return x


@pytest.fixture
def mine(place, monkeypatch):
    """A user's own module, in the folder that they work in."""
    with open("mine.py", "w") as file:
        file.write(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(".")
    sys.modules.pop("mine", None)  # of another test
    yield
    sys.modules.pop("mine", None)


@pytest.fixture
def experiment():
    return importlib.import_module("experiments.edm_digits").experiment


# --- a user's own ----------------------------------------------------------------------------------------------------

OWN = (
    "--model.network mine:Tiny --model.network.width 2 --model.process mine:Straight --model.times Uniform "
    "--model.prediction velocity --model.solver mine.py:Jump --model.solver.share 0.5 --model.guidance mine:Doubled"
).split()


def test_a_users_own_parts_are_chosen_trained_stored_and_loaded(mine, imagegen):
    command = ("train", "experiments.edm_digits", "--smoke", "--workdir", "run", *OWN)
    code, _, said = imagegen(*command)
    assert code == 0, said
    stored = json.loads(open("run/experiment.json").read())["model"]
    assert stored["solver"] == {"class": "mine:Jump", "share": 0.5}
    assert stored["network"] == {"class": "mine:Tiny", "width": 2}
    assert stored["process"]["class"] == "mine:Straight" and stored["guidance"] == {"class": "mine:Doubled", "by": 2.0}

    code, _, said = imagegen("sample", "run", "--n", "4", "--labels", "1,2", "--guidance", "2")
    assert code == 1 and "--module mine" in said
    sample = ("sample", "run", "--n", "4", "--labels", "1,2", "--guidance", "2", "--module", "mine")
    assert imagegen(*sample)[0] == 0
    assert imagegen(*sample, "--model.guidance.by", "3", "--out", "others")[0] == 0
    assert ig.load("run", modules=["mine"]).sample(2, [1, 2]).shape == (2, 8, 8, 1)

    code, _, said = imagegen(*command, "--steps", "9", "--resume-with-changes")
    assert code == 0 and "experiment.json" not in said, said


@pytest.mark.parametrize(
    "words, message",
    [
        ("--model.solver mine:Nobody", "mine:Nobody: there is no such class in it"),
        ("--model.solver mine:Lonely", "mine:Lonely: it must be a frozen dataclass, to be stored"),
        ("--model.solver mine:function", "mine:function: it must be a frozen dataclass"),
        ("--model.solver mine:Doubled", "has a positional argument (conditional) that should be named 'denoise'"),
        ("--model.process mine:Jump", "protocol because it has no"),
        ("--model.solver yours:Jump", "no module 'yours' here"),
        ("--model.solver mine:Jump --model.solver.share 2", "model.solver.share=2.0: must be at least 0 and at most 1"),
        ("--model.solver hen", "did you mean Heun? it can be Euler, LMS, DEIS"),
        ("--model.solver Jump", "MODULE:CLASS"),
    ],
)
def test_what_cannot_be_chosen_is_named(mine, experiment, words, message):
    with pytest.raises((SystemExit, ValueError, TypeError)) as error:
        parse_overrides(experiment, words.split(), "test")
    assert message in str(error.value)


def test_a_class_of_a_notebook_takes_part_in_overrides(experiment):
    changed = override(experiment, {"model.solver": Still(), "model.solver.strength": 0.25})
    assert changed.model.solver == Still(0.25)
    assert (
        parse_overrides(experiment, ["--model.solver", "test_open:Still", "--model.solver.strength", "0.25"], "x")
        == changed
    )
    assert from_dict(to_dict(changed), ["test_open"]) == changed
    for value in (P2(), Still, lambda denoise, sigmas, x, key: x, 3):
        with pytest.raises(TypeError, match=r"model\.solver=.* is of the wrong type: wanted"):
            override(experiment, {"model.solver": value})


def test_help_says_what_can_be_chosen(experiment, capsys):
    with pytest.raises(SystemExit):
        parse_overrides(experiment, ["--help"], "test")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--model.network {UNet,ADM,SongUNet,EDM2UNet,DiT,LatentUNet,PixArt,MMDiT, MODULE:CLASS}" in text
    assert "--model.augment {EDMAugment,None,MODULE:CLASS}" in text and "(default: DPMSolver)" in text
    assert "--optim.network.lr FLOAT|{WarmUp,Cosine" in text and "--optim.network {Adam,AdamW,RMSprop,SGD," in text


def test_items_of_a_mapping_are_chosen_too(experiment):
    words = ["--optim.network", "sgd", "--optim.network.lr", "0.5", "--averages.ema", "PowerFunction"]
    changed = parse_overrides(experiment, words, "test")
    assert changed.optim["network"] == SGD(0.5) and changed.averages["ema"] == PowerFunction()


def test_nothing_at_all_can_be_chosen(experiment):
    chosen = parse_overrides(experiment, ["--model.network", "SongUNet", "--model.augment", "edmaugment"], "test")
    assert chosen.model.augment is not None
    assert parse_overrides(chosen, ["--model.augment", "none"], "test").model.augment is None


# --- the package's own -----------------------------------------------------------------------------------------------


def _modules():
    return [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(ig.__path__, "imagegen_jax.")
        if not found.name.endswith("__main__")
    ]


def _annotations():
    """Name -> annotation with choices, of all that the package has."""
    for module in _modules():
        for name, one in vars(module).items():
            extras = getattr(one, "__metadata__", ())
            if typing.get_origin(one) is typing.Annotated and any(isinstance(extra, Choices) for extra in extras):
                yield name, one


ANNOTATIONS = {id(one): (name, one) for name, one in _annotations()}.values()


def _protocols(annotation):
    base = typing.get_args(annotation)[0]
    return [base] if is_protocol(base) else list(typing.get_args(base))


def _meets(cls, protocol):
    """Whether a class has what a protocol asks for, by the names of members and of their arguments."""
    names = {n for base in protocol.__mro__ if is_protocol(base) for n in vars(base) if n == "__call__" or n[0] != "_"}
    if ("apply" in names) != hasattr(cls, "apply"):
        return False
    return all(_fits(inspect.getattr_static(cls, n, None), getattr(protocol, n)) for n in names - {"init", "apply"})


def _fits(member, wanted):
    if not inspect.isfunction(wanted):
        return member is not None
    asked = list(inspect.signature(wanted).parameters)
    given = list(inspect.signature(member).parameters.values()) if inspect.isfunction(member) else []
    rest = [one for one in given[len(asked) :] if one.default is one.empty]
    return [one.name for one in given[: len(asked)]] == asked and not rest


@pytest.mark.parametrize("name, annotation", ANNOTATIONS)
def test_choices_are_classes_that_meet_the_protocol(name, annotation):
    for cls in options_of(annotation).load_all():
        assert dataclasses.is_dataclass(cls)
        assert any(_meets(cls, protocol) for protocol in _protocols(annotation)), cls


def test_no_class_that_meets_a_protocol_is_missing():
    classes = {one for module in _modules() for one in vars(module).values() if _is_part(one)}
    for name, annotation in ANNOTATIONS:
        listed = set(options_of(annotation).load_all())
        found = {cls for cls in classes if any(_meets(cls, protocol) for protocol in _protocols(annotation))}
        assert {cls.__qualname__ for cls in found - listed} <= ALIKE.get(name, set()), name


def _is_part(one):
    return isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__.startswith("imagegen_jax")


ALIKE = {  # called alike, but for something else
    "AnySolver": {"RePaint"},  # of an edit, whose image and mask it holds
    "AnyUncertainty": {"Fourier", "MPFourier", "LearnedGamma", "LearnedWeight"},
    "AnyAugmentation": {"EDMAugment"},  # which a GAN cannot tell its discriminator of
    "AnyOptimizer": {"PerStage"},  # of one model's stages
    "AnyClassGenerator": {"Generator"},  # SNGAN's, as its discriminator, which returns more
    "AnyClassCritic": {"Discriminator"},
    "AnyOneHotCritic": {"ClassBatchNorm"},
    "AnyCritic": {"BatchNorm", "BlurredDiscriminator", "PatchDiscriminator"},
    "AnyImageDiscriminator": {"BatchNorm", "Discriminator", "ResNetCritic"},  # of other families
}


def test_importing_a_model_imports_its_defaults_alone():
    code = "import sys, imagegen_jax.diffusion.models.diffusion; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    chosen = [options_of(one) for name, one in ANNOTATIONS if name in ("AnyNetwork", "AnySolver")]
    homes = {tag.partition(":")[0] for options in chosen for tag in options.names.values()}
    assert homes & set(modules) == {"imagegen_jax.nn.backbones.unet", "imagegen_jax.diffusion.sampling.heun"}
    assert not {"imagegen_jax.gan", "imagegen_jax.autoencoders"} & set(modules)
