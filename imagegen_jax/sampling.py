"""`imagegen sample`: images of a run, as a picture, a folder or an array; and what other commands share with it."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core import compile as compiling
from imagegen_jax.core import program
from imagegen_jax.core.files import read_file
from imagegen_jax.core.model import Model, condition_rows
from imagegen_jax.core.override import parse_overrides
from imagegen_jax.data.decode import SUFFIXES, decode
from imagegen_jax.data.folder import Folder, may_be_image, open_files
from imagegen_jax.data.grid import beside, grid, magnified, repeated, write_png
from imagegen_jax.data.image import is_image
from imagegen_jax.diffusion.editing import Denoising
from imagegen_jax.main import step_word
from imagegen_jax.run import Run, load

Command = Callable[[argparse.Namespace, Run], str]  # does an edit, and says what it did

MODES = {1: "grey", 3: "RGB", 4: "RGBA"}  # channels -> what people call them
IMAGES = 64  # drawn where nothing else is asked for
SCALARS = {  # numbers that some models read: what the options of these names say of themselves
    "truncation": "0 (all alike) to 1 (default)",
    "guidance": "how strongly labels guide: 1 (default) follows them, above 1 exaggerates, 0 ignores them",
}

EXAMPLES = """examples:
  imagegen sample runs/demo --n 100
  imagegen sample runs/demo --n 20 --labels 3,7 --out grid.png
  imagegen sample runs/demo --n 50000 --out samples.npz       arr_0 images uint8, arr_1 labels
  imagegen sample runs/demo --model.levels.steps 32 --out folder/
  imagegen sample runs/stylegan2 --truncation 0.7
  imagegen sample runs/edm_digits --guidance 2 --labels 3,7
  imagegen sample runs/edm_digits --guidance 4 --model.guidance interval --model.guidance.high 2
  imagegen sample runs/edm_digits --guide runs/edm_digits_guide --guidance 2        away from a weaker model
  imagegen sample runs/edm_digits --guide runs/noisy_classifier_digits --guidance 1    towards the labels
  imagegen sample runs/pix2pix --source facade.png other.jpg  your own images, translated
  imagegen sample runs/upsampler --source small.png           enlarged, by a model that learned to
  imagegen sample runs/cyclegan --source zebras.zip --model.direction to_source"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `imagegen sample`."""
    add_run_options(parser)
    for name in SCALARS:
        add_scalar(parser, name)
    add_guide(parser)
    parser.add_argument("--n", type=int, help=f"how many images (default: {IMAGES}, or one for each --source)")
    parser.add_argument(
        "--out", default="grid.png", help="a grid .png, a folder/ of PNGs, or an .npz (default: grid.png)"
    )
    parser.add_argument("--chunk", type=int, default=256, help="images drawn at a time (default: 256)")
    parser.add_argument(
        "--source", nargs="+", metavar="PLACE",
        help="images to translate: files, folders or .zip files (default: those that the run was trained on)",
    )  # fmt: skip


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that draws from a run: which run, which weights, which images."""
    parser.add_argument("run", type=pathlib.Path, help="the folder of a run")
    parser.add_argument("--labels", type=classes, help="classes to draw, e.g. 3,7 (default: all), each as often")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other images (default: 0)")
    parser.add_argument("--step", type=step_word, help="which checkpoint, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average; 'none' for the last weights (default: the first)")
    parser.add_argument("--std", type=float, help="draw from the post-hoc average of this width (0 to 0.28)")


def add_scalar(parser: argparse.ArgumentParser, name: str) -> None:
    """The option for one of `SCALARS`."""
    parser.add_argument(f"--{name}", type=float, help=f"{SCALARS[name]}, for models that have it")


def add_guide(parser: argparse.ArgumentParser) -> None:
    """The option for a second run, by which what the first one draws is guided."""
    parser.add_argument(
        "--guide", type=pathlib.Path, metavar="RUN",
        help="a run that guides this one, as --guidance says: of a classifier of noisy images (0: not at all), or of a "
        "weaker denoiser (1: not at all)",
    )  # fmt: skip


def add_edit(
    edits: Any, name: str, what: str, command: Command, out: str = "", aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Adds an edit, a command below `imagegen edit`, with the options that all have; `command` does it."""
    description = f"{what[0].upper()}{what[1:]}."
    parser = edits.add_parser(name, aliases=aliases, help=what, description=description, allow_abbrev=False)
    add_run_options(parser)
    kind = "a .gif or an .mp4" if out else "a .png"
    parser.add_argument("--out", default=out or f"{name}.png", help=f"{kind} (default: {out or name + '.png'})")
    parser.add_argument("--chunk", type=int, default=64, help="images made at a time (default: 64)")
    parser.set_defaults(edit=command, parser=parser)
    return parser


def add_images(parser: argparse.ArgumentParser) -> None:
    """The options of edits that begin with images."""
    parser.add_argument("images", nargs="+", metavar="PLACE", help="files, folders or .zip files")
    parser.add_argument(
        "--fit", action="store_true",
        help="cut out the centre square of images of another size, resize and convert them (else they are refused)",
    )  # fmt: skip


def classes(text: str) -> list[int]:
    """What an option says of classes: "3,7"."""
    return [int(part) for part in text.split(",")]


def open_run(options: argparse.Namespace, modules: Sequence[str], overrides: Sequence[str] = ()) -> Run:
    """The run that the options name, with the average that they choose; `overrides` are options of its model.

    Raises ValueError for options of the model's guidance where nothing would read them.
    """
    compiling.use_persistent_cache()
    run = load(options.run, modules, step=options.step)
    prog = f"{options.parser.prog} {options.run}"
    run = dataclasses.replace(run, experiment=parse_overrides(run.experiment, overrides, prog, prefix=("model",)))
    guide = getattr(options, "guide", None)
    idle = next((word for word in overrides if word.startswith("--model.guidance")), None)
    if idle and not guide and "guidance" not in getattr(run.experiment.model, "optional_conditions", ()):
        raise ValueError(f"{idle}: a {type(run.experiment.model).__name__} reads it in training alone: leave it out")
    if idle and getattr(options, "guidance", None) is None:
        raise ValueError(f"{idle} says what a guidance scale does, but none is given: add one, such as --guidance 2")
    if options.std is not None and options.average:
        raise ValueError(f"--std {options.std}, --average {options.average}: give one of the two")
    run = run.with_average(options.average) if options.std is None else run.reconstruct(options.std)
    return run.guided_by(load(guide, modules)) if guide else run


def run_command(options: argparse.Namespace, overrides: Sequence[str], modules: Sequence[str]) -> None:
    """Draws what the command line asks for, and writes it."""
    if options.n is not None and options.n < 1:
        raise ValueError(f"--n {options.n}: must be at least 1")
    run = open_run(options, modules, overrides)
    model, data = run.experiment.model, run.experiment.data
    sources = _sources(options, model)
    n = len(next(iter(sources.values()))) if sources else options.n or IMAGES
    labels = labels_of(options, model, n)
    given = scalars_of(options, model) | sources
    conditions = program.completed(given, model, data.open, n, options.seed)
    images = run.sample(n, labels, options.seed, options.chunk, **conditions)
    write_samples(options.out, images, labels, conditions.get(translated(model)))
    print(f"{len(images)} images in {options.out}")


def _sources(options: argparse.Namespace, model: Model) -> dict[str, np.ndarray]:
    """What --source names, by the name that the model has for it; {} without the option."""
    if not options.source:
        return {}
    name = translated(model)
    if not name:
        raise ValueError(f"--source: a {type(model).__name__} makes images from none: leave it out")
    images = read_images(options.source, condition_rows(model)[name].shape)
    if options.n is not None and options.n > len(images):
        raise ValueError(f"--n {options.n}: there are {len(images)} images in --source")
    return {name: images[: options.n]}


def scalars_of(options: argparse.Namespace, model: Model) -> dict[str, Any]:
    """The conditions that the options of `SCALARS` make. Raises ValueError for one that `model` does not read."""
    given = {name: getattr(options, name, None) for name in SCALARS}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in getattr(model, "optional_conditions", ()):
            could = name == "guidance" and isinstance(model, Denoising)
            hint = " of its own; a second run could guide it: --guide" if could else ""
            raise ValueError(f"--{name} {value}: a {type(model).__name__} has none{hint}")
    return given


def labels_of(options: argparse.Namespace, model: Model, n: int) -> np.ndarray | None:
    """Classes of `n` images, those asked for or all, each as often and in order; None without classes."""
    wanted = options.labels or list(range(getattr(model, "num_classes", 0)))
    return np.sort(np.resize(wanted, n), kind="stable").astype(np.int32) if wanted else None


def translated(model: Model) -> str:
    """The name of the images that `model` makes its own from; "" where it makes them from none."""
    return next((name for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)), "")


def read_images(places: Sequence[str], shape: tuple[int, ...], fit: bool = True) -> np.ndarray:
    """The images of files, folders and .zip files, uint8 [n *shape].

    With `fit` they are read as data sets are: of each the channels of `shape`, and where that is square, the centre
    square brought to its size. Else each has to be of that shape. Raises ValueError where a file is no image, or its
    size or mode is not what it has to be.
    """
    return np.concatenate([_fitted(place, shape) if fit else _exact(place, shape) for place in places])


def _fitted(place: str, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    size = height if height == width else None
    path = pathlib.Path(place).expanduser()
    if path.suffix.lower() in SUFFIXES:
        images = _decoded(place, read_file(path), size, channels)[None]
    else:
        images = np.asarray(Folder(place, size, channels).open().images)
    if images.shape[1:] != shape:
        raise ValueError(f"{place}: images of {images.shape[1:3]}, but the model wants {(height, width)} pixels")
    return images


def _exact(place: str, shape: tuple[int, ...]) -> np.ndarray:
    path = pathlib.Path(place).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return _checked(place, read_file(path), shape)[None]
    with open_files(Folder(place), place) as files:
        images = [_checked(f"{place}/{name}", files.read(name), shape) for name in files.stamps if may_be_image(name)]
    if not images:
        raise ValueError(f"{place}: no images in it")
    return np.stack(images)


def _checked(name: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    image = _decoded(name, content, None, None)
    if image.shape == shape:
        return image
    found, wanted = (
        "{}x{} pixels, {}".format(*s[:2], MODES.get(s[2], f"{s[2]} channels")) for s in (image.shape, shape)
    )
    could = shape[0] == shape[1] or image.shape[:2] == shape[:2]
    fit = ", or add --fit, which cuts out the centre square, resizes and converts it" if could else ""
    raise ValueError(f"{name}: an image of {found}, but here it must be {wanted} (height x width): make it that{fit}")


def _decoded(name: str, content: bytes, size: int | None, channels: int | None) -> np.ndarray:
    try:
        return decode(content, size, channels)
    except MemoryError:
        raise
    except Exception as error:  # what Pillow's decoders raise on damaged input is not a closed list
        raise ValueError(f"{name} is damaged or no image ({error})") from error


def write_samples(out: str, images: np.ndarray, labels: np.ndarray | None, sources: np.ndarray | None = None) -> None:
    """Writes uint8 images [n h w c] as a grid, as a folder of PNGs, or as the .npz that ADM's evaluator reads.

    In a grid, each image is beside its source, where these have the same height or are magnified to it.
    """
    path = pathlib.Path(out)
    if path.suffix == ".npz":
        np.savez(path, images, *([] if labels is None else [labels.astype(np.int64)]))
    elif path.suffix == ".png":
        rows = 0 if labels is None else len(np.unique(labels))
        columns = max(1, round(len(images) / rows if rows else len(images) ** 0.5))
        path.parent.mkdir(parents=True, exist_ok=True)
        sources = None if sources is None else repeated(sources, images.shape[1])
        if sources is not None and sources.shape[1] == images.shape[1]:
            images = beside(sources, images)
        write_png(path, magnified(grid(images, min(columns, 64)), images.shape[1]))
    else:
        path.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            prefix = "" if labels is None else f"{labels[i]}_"
            write_png(path / f"{prefix}{i:06d}.png", image)


def write_grid(options: argparse.Namespace, images: np.ndarray, columns: int) -> str:
    """Writes uint8 images [n h w c] as a grid at --out, and says so."""
    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, magnified(grid(images, columns), images.shape[1]))
    return f"{len(images)} images in {path}"
