"""The request of `imagegen train`, and the options that make it."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from imagegen_jax.cli.common.data_options import add_module_option, add_set_options, add_source_options, given_settings
from imagegen_jax.cli.common.options import add_metadata_option

FAMILIES = "dcgan, cgan, wgan, sngan, stylegan2, r3gan, vae, ddpm, edm, flow"  # `recipes.families` takes long to import

EXAMPLES = """examples:
  imagegen train ddpm_digits                  a recipe: `imagegen list` shows them all
  imagegen train dcgan_mnist --workdir runs/a --optim.generator.lr 1e-4
  imagegen train my_experiment.py --smoke
  imagegen train runs/a                       goes on with a run that was stopped
  imagegen train flow_digits --write-config run.yaml && imagegen train --config run.yaml --steps 2000
  imagegen train flow_digits --track csv --track wandb:digits --profile 20:25
  imagegen train ddpm_cifar10 --help          every field as an option
  imagegen train photos/ --recipe stylegan2 --size 64     your own images: a folder, a .zip, an .npz
  imagegen train photos.zip --recipe edm --size 32 --steps 20000
  imagegen train edm_cifar10 --data photos/               a recipe on other data
  imagegen train runs/a --few new/ --workdir runs/b       teach a run the class of ten images, new/fox/1.png, ...

Images of several classes are those in a folder for each: photos/cat/, photos/dog/; a model that knows classes then
learns them. --recipe is one of {families}."""


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """What to train, on which data, and where."""

    target: str | None = None  # a recipe, a module, a .py or .yaml file, a run to go on with; with `recipe` images
    _: dataclasses.KW_ONLY
    recipe: str | None = None  # a family, for images of one's own
    few: str | None = None  # a few images of new classes, which the run `target` is to learn
    data: str | None = None  # other data than the experiment's, as `imagegen data` names them
    size: int | None = None
    channels: int | None = None
    skip_damaged: bool | None = None
    split: str | None = None
    data_dir: str | None = None
    workdir: str | pathlib.Path | None = None  # None: runs/NAME; resumes there
    smoke: bool = False  # a tiny version that runs in seconds
    resume_with_changes: bool = False
    distributed: bool = False
    config: str | None = None  # a .yaml file, as `target` may be one
    write_config: pathlib.Path | None = None  # write what would be trained to this file, and train nothing
    track: tuple[str, ...] = ()  # trackers beside the run's own files: "csv", "wandb:PROJECT"
    profile: tuple[int, int] | None = None  # the first and the last step to trace
    metadata: bool = True  # whether grids of samples say in their metadata that they are generated
    modules: tuple[str, ...] = ()  # that classes of one's own come from
    overrides: tuple[str, ...] = ()  # options of the experiment, as words: ("--steps", "100")

    @property
    def wants_help(self) -> bool:
        """Tells whether help is asked for, or nothing is named to be trained."""
        named = self.config if self.target is None else self.target
        return named in (None, "-h", "--help")

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of the data that are given, by name."""
        return given_settings(self)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen train`, which are not those of its experiment."""
    parser.add_argument(
        "target", nargs="?",
        help="a recipe such as ddpm_digits, a module, the path of a .py or .yaml file, the folder of a run to go on "
        "with, or with --recipe the place of images",
    )  # fmt: skip
    parser.add_argument("--recipe", metavar="FAMILY", help="train a model of this family on your own images")
    parser.add_argument(
        "--few", metavar="PLACE",
        help="teach a run the classes of a few images, in a folder for each, and keep what it knows; as a new run",
    )  # fmt: skip
    add_config_option(parser)
    add_module_option(parser)
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", type=pathlib.Path, help="the run's folder (default: runs/NAME); resumes there")
    parser.add_argument("--smoke", action="store_true", help="a tiny version that runs in seconds on a CPU")
    parser.add_argument(
        "--resume-with-changes", action="store_true", help="go on in an old folder with other values, such as steps"
    )
    parser.add_argument("--distributed", action="store_true", help="join the other processes of a run over many hosts")
    parser.add_argument(
        "--write-config", metavar="FILE", type=pathlib.Path,
        help="write what would be trained as YAML, for --config, and train nothing",
    )  # fmt: skip
    parser.add_argument(
        "--track", metavar="TRACKER", action="append", default=[],
        help="follow the metrics elsewhere, too: csv, wandb[:PROJECT], trackio[:PROJECT]; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--profile", metavar="FROM:TO", type=step_range,
        help="trace these training steps for xprof and Perfetto; the report lists the largest operations",
    )  # fmt: skip
    add_metadata_option(parser)
    parser.add_argument(
        "--data", metavar="PLACE",
        help="train on other data: a folder, a .zip, an .npz, a TFDS name, ...; the model is fitted to their shape and "
        "classes",
    )  # fmt: skip
    add_source_options(parser, "that of the recipe, 64 of a family; smaller images stay as they are")
    add_set_options(parser)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Adds --config FILE, which is another word for the file as target (`target_first`)."""
    parser.add_argument(
        "--config", metavar="FILE",
        help="train what a YAML file says: a whole experiment, or `recipe: NAME` with changes",
    )  # fmt: skip


def target_first(arguments: Sequence[str]) -> list[str]:
    """Puts the file of --config where commands have their target: behind options that are not theirs it is not seen."""
    words = [part for word in arguments for part in _parts(word)]
    if "--config" not in words[:-1] or words[0] not in ("train", "sweep"):
        return list(arguments)
    at = words.index("--config")
    return [words[0], words[at + 1], *words[1:at], *words[at + 2 :]]


def _parts(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--config=") else [word]


def step_range(text: str) -> tuple[int, int]:
    """Reads FROM:TO for argparse, which shows the message of its own kind of error alone."""
    from imagegen_jax.core.reporting.profile import parse_profile

    try:
        return parse_profile(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def options_of(prog: str) -> argparse.ArgumentParser:
    """Makes the parser of what is asked of an experiment that is known already."""
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    _add_run_options(parser)
    return parser
