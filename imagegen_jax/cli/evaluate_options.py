"""The request of `imagegen evaluate`, its options, and the checks of them before any image is read."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

from imagegen_jax.cli.common import options as types
from imagegen_jax.cli.common.data_options import READING, add_module_option, add_source_options, given_settings
from imagegen_jax.data import Source
from imagegen_jax.data.pictures.output import check_output
from imagegen_jax.data.remedy import option_words
from imagegen_jax.metrics.catalog import METRICS
from imagegen_jax.metrics.features.choose import EXTRACTORS, kind_of
from imagegen_jax.metrics.features.resize import KINDS
from imagegen_jax.metrics.named import SAMPLES, Drawing, Target

ALL = "all"
DEFAULT = "fid,kid,prdc"
Pair = tuple[Target, Target]  # what is measured, and what it is compared with

EXAMPLES = """examples:
  imagegen evaluate runs/demo --metrics fid,kid,is,prdc --samples 10000
  imagegen evaluate samples.npz tfds:cifar10 --extractor inception
  imagegen evaluate tfds:mnist tfds:mnist --split test,train      the floor: real images against real ones
  imagegen evaluate tfds:cifar10 --extractor inception --statistics cifar10.npz
  imagegen evaluate samples.npz train.npz --held-out test.npz --metrics authpct,c_t
  imagegen evaluate decoded.npz originals.npz --metrics psnr,ssim
  imagegen evaluate runs/vqvae_digits digits --split test --metrics psnr,fid   a tokenizer: of what it reconstructs
  imagegen evaluate runs/* --leaderboard table.md

Each argument is a run's folder, a folder or .zip of images, an .npz of images or of saved statistics (mu, sigma),
`digits`, or a TFDS name. One run alone is compared with the data that it was trained on. A tokenizer's run is measured
by its reconstructions of the second argument's first --samples images, against these. Images of several sizes are
resized as --resize says; --size cuts squares out instead. Options that would change nothing are refused.

metrics:
""" + "\n".join(f"  {name:14} {metric.about}" for name, metric in METRICS.items())


@dataclasses.dataclass(frozen=True)
class EvaluateRequest:
    """What is measured, what it is compared with, by which metrics, and where the scores go."""

    targets: tuple[str, ...]  # runs, places and names of images, saved statistics; see `EXAMPLES`
    _: dataclasses.KW_ONLY
    metrics: str | None = None  # names with commas between them, or "all"; None: `DEFAULT`
    samples: int | None = None  # images drawn from a run; None: 10,000
    extractor: str | None = None  # None: "auto"
    resize: str | None = None  # how images come to the extractor's size; None: "clean"
    held_out: str | None = None  # images not trained on; None: the test split of the data
    split: str | None = None  # in the order of `targets`, with commas between them
    size: int | None = None
    channels: Literal[1, 3, 4] | None = None
    skip_damaged: bool | None = None
    step: int | Literal["best"] | None = None
    average: str | None = None
    seed: int | None = None  # None: 0
    statistics: str | pathlib.Path | None = None  # an .npz for mean and covariance of the first target
    leaderboard: str | pathlib.Path | None = None  # an .md for a table of runs, each evaluated on its own
    json: bool = False
    quiet: bool = False
    modules: tuple[str, ...] = ()  # that runs' own classes come from, by name or file

    @property
    def names(self) -> list[str]:
        """Returns the names of the metrics, or "all" alone."""
        return [name.strip() for name in (self.metrics or DEFAULT).split(",")]

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of sources that are given, by name."""
        return given_settings(self, READING)

    def drawing(self, modules: Sequence[str]) -> Drawing:
        """Returns how images are drawn from runs, whose classes come from `modules`."""
        return Drawing(self.samples or SAMPLES, self.seed or 0, self.step, self.average, tuple(modules))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen evaluate`."""
    parser.add_argument("targets", nargs="+", help="what to evaluate, and what against; see below")
    parser.add_argument(
        "--metrics", help=f"names from the list below, with commas, or all that apply: {ALL} (default: {DEFAULT})"
    )
    parser.add_argument("--samples", type=types.integer(2), help=f"images drawn from a run (default: {SAMPLES:,})")
    parser.add_argument("--extractor", help=f"auto, {EXTRACTORS} (default: auto)")
    parser.add_argument("--resize", choices=KINDS, help="how images come to the extractor's size (default: clean)")
    parser.add_argument("--held-out", metavar="WORD", help="images not trained on (default: the data's test split)")
    parser.add_argument("--split", help="splits of TFDS sets and digits, in the order of arguments, --held-out last")
    add_source_options(parser)
    parser.add_argument("--step", type=types.step, help="which checkpoint of a run, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average of a run; 'none' for the last weights")
    parser.add_argument("--seed", type=types.seed, help="of samples, subsets and bootstrap (default: 0)")
    parser.add_argument("--statistics", help="write mean and covariance of the first to this .npz")
    parser.add_argument("--leaderboard", help="evaluate each run on its own; a Markdown table in this .md")
    parser.add_argument("--json", action="store_true", help="a card a line, for machines")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    add_module_option(parser)


def names_of(metrics: Sequence[str]) -> list[str]:
    """Returns the names of metrics, with those of all in place of "all"."""
    return list(METRICS) if metrics == [ALL] else list(metrics)


def labelled(pair: Pair) -> Source | None:
    """Returns the data that a classifier for a pair would be trained on."""
    first, second = pair
    return first.source if second.saved else second.source


# --- checks before any work ------------------------------------------------------------------------------------------


def check_outputs(request: EvaluateRequest) -> None:
    """Raises ValueError where a file that is asked for cannot be written."""
    for name, path, kind in (
        ("statistics", request.statistics, ".npz"),
        ("leaderboard", request.leaderboard, ".md"),
    ):
        if path is not None:
            check_output(path, (kind,), f"--{name}")


def say_what_is_not_kept(targets: Sequence[Target]) -> None:
    """Says which runs' folders cannot be written, such as on a read-only mount: their scores are only printed."""
    for target in targets:
        if target.run is not None:
            try:
                check_output(target.run / "evaluations.jsonl", (".jsonl",), "keeping scores in")
            except ValueError as error:
                print(f"note: scores are printed, but not kept: {error}", file=sys.stderr)


def check_options(request: EvaluateRequest, targets: Sequence[Target], pairs: Sequence[Pair]) -> None:
    """Raises ValueError for an option that is given, but would change nothing."""
    given = {**dataclasses.asdict(request), "module": request.modules}
    for name, why in _idle(request, targets, pairs, names_of(request.names)).items():
        value = given[name]
        if not (value is None or value is False or value == ()):
            words = option_words("--", name, ",".join(value) if isinstance(value, tuple) else value)
            raise ValueError(f"{words}: {why}: leave it out")


def _idle(
    request: EvaluateRequest, targets: Sequence[Target], pairs: Sequence[Pair], names: Sequence[str]
) -> dict[str, str]:
    """Returns the options that would change nothing, with the reason for each."""
    found: dict[str, str] = {}
    word = request.extractor or "auto"
    kinds = {kind_of(word, labelled(pair)) for pair in pairs} or {kind_of(word, targets[0].source)}
    if kinds <= {"classifier", "pixels"}:
        found["resize"] = f"the extractor ({', '.join(sorted(kinds))}) takes images as they are"
    if pairs and all(METRICS[name].of_pixels for name in names):
        found |= dict.fromkeys(("extractor", "resize"), f"{', '.join(names)} compare pixels, without an extractor")
    if not any(METRICS[name].wants_held_out for name in names):
        readers = ", ".join(name for name, metric in METRICS.items() if metric.wants_held_out)
        found["held_out"] = f"of all metrics only {readers} compare with such images"
    if pairs and all(second.saved for _, second in pairs):
        found["held_out"] = "saved statistics allow fid alone, which compares with no such images"
    if not any(target.run for target in targets):
        found |= dict.fromkeys(("samples", "step", "average", "module"), "no argument is a run, so nothing is drawn")
        if request.statistics:
            found["seed"] = "nothing is drawn"
    if request.statistics:
        found |= dict.fromkeys(("metrics", "held_out", "leaderboard", "json"), "--statistics measures nothing")
    if request.leaderboard:
        found["json"] = "--leaderboard prints a table"
    return found
