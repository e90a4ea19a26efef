"""`imagegen play`: a playground in the browser of this machine."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import TYPE_CHECKING

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.options import integer

if TYPE_CHECKING:
    from imagegen_jax.pages.serving.site import Site
    from imagegen_jax.pages.serving.visitors import Visitors

TITLE = "imagegen play"
EXAMPLES = """examples:
  imagegen play                                      draw digits, with a small model that the package holds
  imagegen play runs/edm_digits                      draw, watch, explore, edit, compare checkpoints, watch it train
  imagegen play runs/edm_digits runs/stylegan2       several runs, also against each other
  imagegen play runs/demo --open --port 9000 --gallery pictures

It answers this machine alone: open the address that it prints. From another machine, ssh -L 8765:127.0.0.1:8765 HOST
leads there. Pictures are kept in the gallery, PNG files that hold the settings they were drawn by."""


@dataclasses.dataclass(frozen=True)
class PlayRequest:
    """Which runs to play with, where the page is and where its pictures are kept."""

    run: tuple[str | pathlib.Path, ...] = ()  # folders; (): the digits of the package
    _: dataclasses.KW_ONLY
    port: int | None = None  # None: 8765, or any that is free
    open: bool = False  # in the browser
    gallery: str | pathlib.Path = pathlib.Path("gallery")
    modules: tuple[str, ...] = ()


def run(request: PlayRequest) -> None:
    """Serves the playground until Ctrl-C: its address answers at once, and the models come as soon as they are loaded.

    Raises RunFolderError where a folder is none of a run, and ValueError for models that draw nothing by themselves,
    for a port that is taken and a gallery that cannot be written.
    """
    from imagegen_jax.core.checkpoints.run_files import load_experiment_dict
    from imagegen_jax.pages.serving.loading import Loading
    from imagegen_jax.pages.serving.server import listen, serve
    from imagegen_jax.pages.serving.visitors import Visitors, kept_secret

    for folder in request.run:
        load_experiment_dict(pathlib.Path(folder))  # what is no run is said before anything is served
    modules = _imported(request.modules)
    gallery = pathlib.Path(request.gallery).expanduser()
    listening = listen(request.port)
    try:
        visitors = Visitors(kept_secret(gallery / ".secret"))
    except OSError as error:
        listening.close()
        raise ValueError(f"--gallery {gallery}: cannot be written ({error}): give another folder") from error
    serve(Loading(TITLE, visitors, lambda: _loaded(request, modules, visitors)), listening, browse=request.open)


def _imported(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Imports a user's own modules, before the page: what is wrong with them ends the command."""
    if not modules:
        return ()
    from imagegen_jax.cli.common.targets import import_modules

    return tuple(import_modules(modules))


def _loaded(request: PlayRequest, modules: tuple[str, ...], visitors: Visitors) -> Site:
    """Makes the playground of a request: imports jax and the models, and opens the runs."""
    from imagegen_jax.core import compile as compiling
    from imagegen_jax.pages.play.gallery import Gallery
    from imagegen_jax.pages.play.places import places_of
    from imagegen_jax.pages.play.playground import Playground
    from imagegen_jax.pages.play.routes import play_site

    compiling.use_persistent_cache()
    places = places_of([pathlib.Path(run) for run in request.run], modules)
    ground = Playground(places, Gallery(pathlib.Path(request.gallery).expanduser()))
    _ = ground.abilities  # what cannot be played with ends the command
    return play_site(ground, visitors, TITLE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen play`."""
    parser.add_argument("run", type=pathlib.Path, nargs="*", help="folders of runs (default: digits of the package)")
    parser.add_argument("--port", type=integer(0, 65535), help="default: 8765, or a free one where that is taken")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument(
        "--gallery", type=pathlib.Path, default=pathlib.Path("gallery"), metavar="FOLDER",
        help="where pictures are kept (default: gallery)",
    )  # fmt: skip
    add_module_option(parser)


COMMAND = Command("play", "play with models in the browser", add_options, PlayRequest, run, EXAMPLES)
