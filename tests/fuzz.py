"""Generated command lines, driven by the parsers themselves: each is a right call with one thing made wrong.

What is wrong is known (`Call.word`), so that a call can be judged: it has to be refused, in a message that says the
word. Calls without a word may be right or not; they must only end, without a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
import random
import shutil
import signal
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from imagegen_jax import cli
from imagegen_jax.cli.commands import main_parser
from imagegen_jax.core import program
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.config.serial import fields_of, to_dict
from imagegen_jax.core.reporting.log import write_json

SECONDS = 20  # that a call may take
LINES = 8  # of a message, without the usage that argparse prints before it, and the field's help that tyro prints
NO_NUMBERS = ("nan", "inf", "-inf", "1e999", "text", "", "1.5.2", "0x10", "1,2;3", "[]")
NO_INTEGERS = (*NO_NUMBERS, "1.5", "1e3", "-" + "9" * 30)
ODD_NUMBERS = ("0", "-1", "1e-30", "-0.0", "1e30", "9" * 30)  # which may be right
NOT_HAD = (
    "edit mix",
    "edit truncate",
    "edit directions",
    "edit project",
    "edit colour",
    "edit attention",
    "edit reword",
    "edit prompt-to-prompt",
    "edit style",  # their pictures are too small
    "edit texture",
    "import",
)  # by these runs
OF_FEW = ("--std", "--source")  # options that are for other runs, which may be said first


class Call(NamedTuple):
    arguments: tuple[str, ...]
    word: str = ""  # what is wrong, which a refusal has to say; "" where the call may be right
    other: bool = False  # whether something else is wrong too, which may be said instead

    @property
    def command(self) -> str:
        return self.arguments[0]


class Outcome(NamedTuple):
    kind: str  # ok, refused; or what must not be: traceback, hang, accepted, mute, long
    said: str


class Hang(BaseException):
    """Raised by the alarm; of a kind that no command catches."""


# --- running a call --------------------------------------------------------------------------------------------------


def outcome_of(call: Call) -> Outcome:
    """Runs a call in this process, for at most `SECONDS`, and judges it."""
    out, error = io.StringIO(), io.StringIO()
    code: object = 0
    try:
        with _alarm(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            cli.main(call.arguments)
    except SystemExit as exit:
        code = exit.code
        if isinstance(code, str):  # Python prints it and leaves with 1
            error.write(code)
    except Hang:
        return Outcome("hang", error.getvalue()[-500:])
    except BaseException:
        return Outcome("traceback", traceback.format_exc()[-1500:])
    return _judged(call, code, error.getvalue(), out.getvalue())


def _judged(call: Call, code: object, error: str, out: str) -> Outcome:
    said = error[error.rfind("error:") :] if "error:" in error else error
    if "Traceback (most recent" in error:
        return Outcome("traceback", said)
    if code in (0, None):
        return Outcome("accepted" if call.word else "ok", (out + error)[-500:])
    text = " ".join((error + out).split())
    if call.word and not call.other and call.word.lstrip("-").replace("-", "_") not in text.replace("-", "_"):
        return Outcome("mute", error + out)
    long = len(said.splitlines()) > LINES and "For full helptext" not in text  # tyro adds the option's help
    return Outcome("long" if long else "refused", said)


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def late(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- a place with a run and with odd files ---------------------------------------------------------------------------


def make_run(folder: pathlib.Path, experiment) -> None:
    """A run at step 0 whose weights are zeros: nothing is compiled."""
    folder.mkdir()
    dataset = experiment.data.open()
    folders.store_data(folder, dataset)
    rows = folders.load_rows(folder)
    shapes = program.abstract_state(experiment, rows, MeshShape(data=1).build(), 0)
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        checkpoints.save(0, jax.device_put(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)))
        checkpoints.wait()
    write_json(folder / "parameters.json", {})
    write_json(folder / "environment.json", {})
    (folder / "metrics.jsonl").write_text('{"step": 1, "time": 0.1}\n')
    write_json(folder / "experiment.json", to_dict(experiment))


def make_odd_files(place: pathlib.Path) -> None:
    """Right and odd inputs; those called bad_ are wrong wherever they are given."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "images.npz", images=images, labels=np.arange(8) % 2)
    (place / "folder").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(place / "folder" / f"{i}.png")
    Image.fromarray(images[0, ..., 0]).save(place / "image.png")
    whole, npz = (place / "image.png").read_bytes(), (place / "images.npz").read_bytes()
    for suffix, content in (("png", whole), ("npz", npz), ("zip", npz), ("jpg", b"\xff\xd8\xff\xe0" + whole)):
        (place / f"bad_cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
        (place / f"bad_empty.{suffix}").write_bytes(b"")
        (place / f"bad_text.{suffix}").write_text("no such thing\n" * 9)
        (place / f"bad_noise.{suffix}").write_bytes(rng.bytes(999))
        os.mkfifo(place / f"bad_pipe.{suffix}")
    np.savez(place / "bad_floats.npz", images=images / 255)
    np.savez(place / "bad_objects.npz", images=np.array([{}, 1], object))
    np.savez(place / "bad_none.npz", images=images[:0])
    np.savez(place / "bad_labels.npz", images=images, labels=np.arange(5))
    np.savez(place / "bad_statistics.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    (place / "bad_folder").mkdir()
    (place / "bad_mixed").mkdir()
    (place / "bad_mixed" / "a.png").write_bytes(whole)
    (place / "bad_mixed" / "b.png").write_bytes(whole[:50])
    (place / "bad_module.py").write_text("import no_such_library\n")
    (place / "bad_nothing.py").write_text("steps = 1\n")
    (place / "file.txt").write_text("in the way")
    (place / "pem.txt").write_text("-----BEGIN CERTIFICATE-----\n")


def make_odd_runs(place: pathlib.Path, run: pathlib.Path, rng: random.Random) -> list[tuple[str, str]]:
    """Copies of a run with one JSON file spoilt: (its folder, what a refusal names)."""
    made = []
    spoilers = {
        "empty": lambda text: "",
        "list": lambda text: "[1, 2]",
        "null": lambda text: "null",
        "cut": lambda text: text[: len(text) // 2],
        "number": lambda text: _spoilt_number(text, rng),
        "class": lambda text: text.replace("imagegen_jax.", "no_such_package.", 1),
        "module": lambda text: text.replace("imagegen_jax.", "imagegen_jax.no_such.", 1),
        "gone": None,
    }
    for kind, spoil in spoilers.items():
        target = place / f"run_{kind}"
        shutil.copytree(run, target, copy_function=os.link)
        path = target / "experiment.json"
        text = path.read_text()
        path.unlink()
        if spoil is not None:
            path.write_text(spoil(text))
        made.append((target.name, target.name if kind in ("empty", "list", "null", "cut", "gone") else ""))
    return made


def _spoilt_number(text: str, rng: random.Random) -> str:
    tree = json.loads(text)
    tree["model"][rng.choice([key for key, value in tree["model"].items() if type(value) in (int, list)])] = math.nan
    return json.dumps(tree)


# --- generated calls -------------------------------------------------------------------------------------------------


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Command ("sample", "edit inpaint") -> its parser."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, name: str) -> None:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not inner:
            found[name] = parser
        for action in inner:
            for word, sub in action.choices.items():
                walk(sub, f"{name} {word}".strip())

    walk(main_parser(), "")
    return found


def base_of(command: str) -> list[str]:
    """A call of a command that is right but for what is wrong with it later."""
    words = command.split()
    if words[0] == "edit":
        latent = words[1] in ("mix", "truncate", "interpolate", "directions", "project")
        extra = {"inpaint": ["--mask", "image.png"], "deblur": ["--sigma", "1"]}.get(words[1], [])
        if words[1] == "reconstruct":
            return [*words, "vqvae", "image.png"]
        if words[1] in ("attention", "reword", "prompt-to-prompt"):
            return [*words, "ddpm", "--prompt", "a dog"]
        if words[1] in ("style", "texture"):
            weights = ["--style", "image.png", "--mobilenet", "images.npz"] if words[1] == "style" else []
            return [*words, "image.png", *weights]
        between = words[1] in ("reclass", "ddib")
        extra += ["--from", "1", "--to", "2"] if between else ["--labels", "1"] if not latent else []
        images = [] if latent and words[1] != "project" else ["image.png"] * (2 if words[1] == "morph" else 1)
        return [*words, "vae" if latent else "ddpm", *images, *extra]
    return {
        "sample": ["sample", "ddpm", "--n", "1", "--out", "out.png"],
        "evaluate": ["evaluate", "images.npz", "folder", "--extractor", "pixels", "--metrics", "fid"],
        "encode": ["encode", "vqvae", "images.npz", "--out", "codes.npz"],
        "judge": ["judge", "images.npz", "folder", "--out", "study"],
        "report": ["report", "ddpm"],
        "card": ["card", "ddpm"],
        "play": ["play", "ddpm", "--gallery", "file.txt/gallery"],  # refused last of all: else it would serve
        "info": ["info", "ddpm"],
        "list": ["list", "digits"],
        "import": ["import", "diffusers", "folder", "--out", "imported"],
        "export": ["export", "ddpm", "--to", "safetensors", "--out", "exported"],
        "data": ["data", "info", "digits"],
        "sweep": ["sweep", "fuzzed.py", "--smoke", "--workdir", "swept"],
        "compare": ["compare", "ddpm", "--out", "comparison.html"],
        "train": ["train", "fuzzed.py", "--smoke", "--workdir", "trained"],
        "provenance": ["provenance", "image.png"],
        "sign": ["sign", "image.png", "--certificate", "pem.txt", "--key", "pem.txt"],
        "watermark add": ["watermark", "add", "folder/0.png"],
        "watermark detect": ["watermark", "detect", "folder/0.png"],
    }[command]


def of_options(command: str, parser: argparse.ArgumentParser) -> Iterator[Call]:
    """Bad values of every option, by its type."""
    base = base_of(command)
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        option = action.option_strings[-1]
        kept = [word for i, word in enumerate(base) if option not in (word, base[i - 1] if i else "")]
        yield Call((*kept, option), option)  # no value
        if action.choices:
            yield Call((*kept, option, "no_such_choice"), "no_such_choice")
            continue
        kind = _kind_of(action)
        values = {"integer": NO_INTEGERS, "number": NO_NUMBERS}.get(kind, ())
        n = action.nargs if isinstance(action.nargs, int) else 1
        for value in values:
            yield Call((*kept, f"{option}={value}") if n == 1 else (*kept, option, *[value] * n), option)
        if option == "--module":
            for target in ("bad_module.py", "no_such_module", "no_such.py", "a b"):
                yield Call((*kept, option, target), target.removesuffix(".py"))
        if option in ("--mask", "--guide", "--source", "--held-out"):
            for path in _bad_paths("png" if option in ("--mask", "--source") else "npz"):
                yield Call((*kept, option, path), path)
        if option in ("--out", "--styles"):
            for path in ("file.txt/out.png", "/proc/no/out.png"):
                yield Call((*kept, option, path), path.split("/out")[0])


def _kind_of(action: argparse.Action) -> str:
    """What the type of an option takes: tried by whether it takes an integer and a fraction, and refuses words."""

    def takes(text: str) -> bool:
        try:
            action.type(text)
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            return False
        return True

    if action.type is None or action.type is pathlib.Path or takes("word"):
        return "text"
    if takes("0.5"):
        return "number"
    return "integer" if takes("3") and not takes("3,7") else "text"


def _bad_paths(suffix: str) -> list[str]:
    kinds = ("cut", "empty", "text", "noise", "pipe")
    return ["no_such_file." + suffix, *(f"bad_{kind}.{suffix}" for kind in kinds), "bad_folder"]


def of_places(command: str) -> Iterator[Call]:
    """Bad inputs in the place of every input of a command, and options that it does not have."""
    base = base_of(command)
    for unknown in ("--no-such-option", "--no.such.field=1"):
        yield Call((*base, unknown), unknown.split("=")[0])
    inputs = [
        i
        for i, word in enumerate(base)
        if word in ("ddpm", "vae", "vqvae", "image.png", "images.npz", "folder", "digits")
    ]
    for i in inputs:
        suffixes = {"image.png": ("png", "jpg"), "images.npz": ("npz", "zip"), "digits": ("npz", "zip")}
        for suffix in suffixes.get(base[i], ("npz",)):
            for path in _bad_paths(suffix):
                yield Call((*base[:i], path, *base[i + 1 :]), path)
        if base[i] in ("images.npz", "digits", "folder") and command != "import":
            for path in ("bad_floats.npz", "bad_objects.npz", "bad_none.npz", "bad_labels.npz", "bad_mixed"):
                yield Call((*base[:i], path, *base[i + 1 :]), path)
        yield Call((*base[:i], *base[i + 1 :]))  # without it
    if command in ("train", "info"):
        for target in ("bad_module.py", "bad_nothing.py", "no_such_module", "nothing.py", "bad_pipe.png", ""):
            yield Call((command, target), target.removesuffix(".py"))


def of_fields(experiment, command: tuple[str, ...], prefix: str = "") -> Iterator[Call]:
    """Bad values of every number of an experiment, and a word that no field has."""
    for path, value in _numbers(experiment):
        if not path.startswith(prefix):
            continue
        for bad in ("nan", "text", "-inf", "") + (("2.5",) if isinstance(value, int) else ()):
            yield Call((*command, f"--{path}={bad}"), path.split(".")[-1].replace("_", "-"))
        for odd in ODD_NUMBERS[:2] if command[0] == "info" else ():
            yield Call((*command, f"--{path}={odd}"))
        yield Call((*command, f"--{path}x=1"), f"--{path}x")


def _numbers(node, path: str = "") -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(node):
        for field in fields_of(node):
            yield from _numbers(getattr(node, field.name), f"{path}.{field.name}".lstrip("."))
    elif hasattr(node, "items"):
        for name, item in node.items():
            yield from _numbers(item, f"{path}.{name}".lstrip("."))
    elif type(node) in (int, float):
        yield path, node


def calls(experiment, runs: list[tuple[str, str]], seed: int, most: int) -> list[Call]:
    """`most` calls, drawn by a seed, and those of odd runs; the commands have about as many each."""
    rng = random.Random(seed)
    groups: dict[str, list[Call]] = {}
    for command, parser in parsers().items():
        made = [*of_options(command, parser), *of_places(command)]
        if command == "train":
            made += of_fields(experiment, tuple(base_of(command)))
        elif command == "info":
            made += of_fields(experiment, ("info", "fuzzed.py"))
        elif command == "sample":
            made += of_fields(experiment, tuple(base_of(command)), "model.")
        made = [
            call._replace(other=command in NOT_HAD or any(word.startswith(OF_FEW) for word in call.arguments))
            for call in made
        ]
        groups.setdefault(command.split()[0], []).extend(made)
    for group in groups.values():
        rng.shuffle(group)
    mixed = [call for row in itertools.zip_longest(*groups.values()) for call in row if call is not None]
    return [*(Call((command, name), word) for name, word in runs for command in ("info", "report")), *mixed[:most]]
