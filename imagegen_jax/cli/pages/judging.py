"""`imagegen judge`: people compare pictures by eye, in the browser of this machine."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
from typing import Any, Literal

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import READING, add_module_option, add_source_options, given_settings
from imagegen_jax.cli.common.options import integer, number, seed, step
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.core.platform.signals import watching

EXAMPLES = """examples:
  imagegen judge runs/demo                           its samples beside the data that it was trained on: which is real?
  imagegen judge runs/demo digits --question real    beside data that are named
  imagegen judge runs/a runs/b                       which of two runs' pictures is better?
  imagegen judge runs/demo --staircase               shorter and shorter sights, as HYPE has it
  imagegen judge judgements/demo                     go on with a study
  imagegen judge judgements/demo --result            what its votes say

People choose between two pictures, without a sign of which is which, in an order of their own. It answers this machine
alone: open the address that it prints; each browser, and each private window, is a person of its own. Votes are kept
in the study's folder; Ctrl-C ends and prints the result, which also goes beside the scores of the run that is judged.

answers  for an interval of +-10 points near 50 %: 97; of +-5: 385; to tell 45 from 50 % four times in five: 783"""


@dataclasses.dataclass(frozen=True)
class JudgeRequest:
    """What is judged, how, and where the study is kept."""

    sets: tuple[str, ...]  # a run or a study; or two sets of images
    _: dataclasses.KW_ONLY
    out: str | pathlib.Path | None = None  # the study's folder; None: judgements/NAME
    result: bool = False  # print what the votes of a study say, and serve nothing
    question: Literal["real", "better"] | None = None  # None: real where a run is judged alone, else better
    answers: int = 97  # of each person
    pairs: int | None = None  # different pairs of pictures; None: as many as answers
    catch: float = 0.1  # catch trials, as a share of the answers
    time: int | None = None  # milliseconds that pictures are seen
    staircase: bool = False
    size: int | None = None
    channels: Literal[1, 3, 4] | None = None
    skip_damaged: bool | None = None
    step: int | Literal["best"] | None = None
    average: str | None = None
    seed: int = 0
    port: int | None = None
    open: bool = False
    modules: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of sources that are given, by name."""
        return given_settings(self, READING)

    @property
    def folder(self) -> pathlib.Path:
        """Returns the study's folder."""
        words = [re.sub(r"[^\w.-]+", "-", pathlib.Path(word).name or word) for word in self.sets]
        return pathlib.Path(self.out or pathlib.Path("judgements") / "-or-".join(words)).expanduser()


def run(request: JudgeRequest) -> Any:
    """Serves a study until Ctrl-C, then prints what its votes say, keeps that with the run, and returns it.

    Raises ValueError for sets that cannot be compared, for a folder that holds another study, and for a port that is
    taken, before anything is drawn where that can be known.
    """
    from imagegen_jax.pages.judge.begin import begin
    from imagegen_jax.pages.judge.keeping import finish
    from imagegen_jax.pages.judge.study import is_study, load_study

    first = pathlib.Path(request.sets[0]).expanduser()
    going_on = len(request.sets) == 1 and is_study(first)
    folder = first if going_on else request.folder
    if going_on:
        _check_nothing_new(request)
    if request.result:
        if not is_study(folder):
            raise ValueError(f"--result: {folder} holds no study: give the folder of one")
        return finish(folder)
    _serve(load_study(folder) if going_on else begin(_plan(request), folder), folder, request)
    return finish(folder)


def _check_nothing_new(request: JudgeRequest) -> None:
    """Raises ValueError for an option that a study which goes on would not follow."""
    follows = ("sets", "result", "port", "open")
    for field in dataclasses.fields(request):
        if field.name not in follows and getattr(request, field.name) != field.default:
            option = "module" if field.name == "modules" else field.name.replace("_", "-")
            raise ValueError(
                f"--{option}: {request.sets[0]} is a study that goes on as it began: leave it out, or begin another "
                "with the sets and --out"
            )


def _plan(request: JudgeRequest) -> Any:
    from imagegen_jax.metrics.named import Drawing
    from imagegen_jax.pages.judge.begin import Plan

    pairs, modules = request.pairs or request.answers, tuple(import_modules(request.modules))
    return Plan(
        request.sets, request.question, request.answers, pairs, request.catch, request.time, request.staircase,
        request.settings, Drawing(pairs, request.seed, request.step, request.average, modules),
    )  # fmt: skip


def _serve(study: Any, folder: pathlib.Path, request: JudgeRequest) -> None:
    from imagegen_jax.pages.judge.counts import answers_for_width, answers_to_tell
    from imagegen_jax.pages.judge.judging import Judging
    from imagegen_jax.pages.judge.routes import judge_site
    from imagegen_jax.pages.judge.votes import Votes
    from imagegen_jax.pages.serving.server import listen, serve
    from imagegen_jax.pages.serving.visitors import Visitors, kept_secret

    secret = kept_secret(folder / ".secret")
    listening = listen(request.port)
    settings = study.settings
    print(
        f"{len(study)} pairs; each person gives {settings.answers} answers and {settings.trials - settings.answers} "
        f"that show whether they look. Near 50 %, an interval of +-10 points takes {answers_for_width(0.10)} answers, "
        f"of +-5 {answers_for_width(0.05)}; to tell 45 from 50 % four times in five takes {answers_to_tell(0.45)}."
    )
    site = judge_site(Judging(study, Votes(folder), secret), Visitors(secret))
    with watching(lambda signum: None):  # Ctrl-C ends the pages, not the counting after them
        serve(site, listening, browse=request.open)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen judge`."""
    parser.add_argument("sets", nargs="+", metavar="SET", help="a run, a study, or two sets of images; see below")
    parser.add_argument("--out", type=pathlib.Path, help="the study's folder (default: judgements/NAME)")
    parser.add_argument("--result", action="store_true", help="print what a study's votes say, and serve nothing")
    parser.add_argument(
        "--question", choices=("real", "better"),
        help="which is asked for (default: real for a run beside its data, else better)",
    )  # fmt: skip
    parser.add_argument("--answers", type=integer(1, 10_000), default=97, help="of each person (default: 97)")
    parser.add_argument("--pairs", type=integer(1, 100_000), help="different pairs (default: as many as answers)")
    parser.add_argument(
        "--catch", type=number(0, 1), default=0.1, metavar="SHARE",
        help="trials that show whether one looks, a picture beside its scrambled pixels (default: 0.1 of the answers)",
    )  # fmt: skip
    parser.add_argument("--time", type=integer(20, 60_000), metavar="MS", help="show pictures for so many milliseconds")
    parser.add_argument(
        "--staircase", action="store_true", help="10 ms less after a right answer, 30 more after a wrong one"
    )
    add_source_options(parser)
    parser.add_argument("--step", type=step, help="which checkpoint of runs, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average of runs; 'none' for the last weights")
    parser.add_argument("--seed", type=seed, default=0, help="of samples, pairs and orders (default: 0)")
    parser.add_argument("--port", type=integer(0, 65535), help="default: 8765, or a free one where that is taken")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add_module_option(parser)


COMMAND = Command(
    "judge", "have people compare pictures by eye, in the browser", add_options, JudgeRequest, run, EXAMPLES
)
