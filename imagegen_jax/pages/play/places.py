"""Where a playground's models come from: folders of runs, and the small model of digits that the package holds."""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import jax

from imagegen_jax.core import run_folder
from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.checkpoints.weights import FromFile
from imagegen_jax.core.config.given import check_integer
from imagegen_jax.core.model import Nets
from imagegen_jax.core.provenance.origin import Origin, origin_of
from imagegen_jax.core.run import load

DIGITS = pathlib.Path(__file__).parent / "digits"
DRAWN = ("draw", "between", "mix", "walk")  # kinds of pictures that begin with no other one
OPEN = 3  # checkpoints of a run that stay in memory


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A model with its networks: what is drawn from."""

    model: Any
    nets: Nets
    step: int
    tokenizer: Tokenizer | None = None


class Place(Protocol):
    """A model that can be opened at one of its checkpoints; the model itself is known before."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> pathlib.Path | None:
        """The run's folder; None where it is no run."""
        ...

    @property
    def model(self) -> Any: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints, rising."""
        ...

    def open(self, step: int | None = None) -> Opened:
        """Opens a checkpoint; None: the newest. Raises ValueError where there is none of that step."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class RunPlace:
    """A run's folder. Opened checkpoints are kept, and a run that is still training is read anew as it goes on."""

    path: pathlib.Path
    modules: tuple[str, ...] = ()
    _kept: collections.OrderedDict[int, Opened] = dataclasses.field(default_factory=collections.OrderedDict)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def folder(self) -> pathlib.Path | None:
        """The folder itself."""
        return self.path

    @functools.cached_property
    def experiment(self) -> Any:
        """The run's experiment. Raises RunFolderError where the folder is none of a run."""
        return run_folder.load_experiment(self.path, self.modules)

    @property
    def model(self) -> Any:
        """The model of the experiment."""
        return self.experiment.model

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes of the run's data."""
        return run_folder.load_class_names(self.path)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints that the folder has now."""
        return tuple(sorted(Stored(self.path / "checkpoints").steps()))

    def open(self, step: int | None = None) -> Opened:
        """Opens a checkpoint."""
        there = self.steps
        if not there:
            raise CheckpointError(f"{self.path} has no checkpoint yet: wait for its first")
        if step is not None and step not in there:
            raise ValueError(f"step {step}: {self.name} has checkpoints of {', '.join(map(str, there))}")
        with self._lock:
            chosen = there[-1] if step is None else step
            if chosen not in self._kept:
                run = load(self.path, self.modules, self.experiment, chosen)
                text = run.tokenizer if reads_text(self.model) is not None else None
                self._kept[chosen] = Opened(self.model, run.nets, run.step, text)
            self._kept.move_to_end(chosen)
            while len(self._kept) > OPEN:
                self._kept.popitem(last=False)
            return self._kept[chosen]


@dataclasses.dataclass(frozen=True, eq=False)
class DigitsPlace:
    """The model of handwritten digits that the package holds, so that the first picture needs no training.

    `digits/README.md` is its card, and says which commands made it.
    """

    name: str = "digits"
    folder: pathlib.Path | None = None

    @functools.cached_property
    def experiment(self) -> Any:
        """The recipe that it was trained by."""
        return run_folder.load_experiment(DIGITS)

    @property
    def model(self) -> Any:
        """The model of the recipe."""
        return self.experiment.model

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The digits themselves."""
        return run_folder.load_class_names(DIGITS)

    @property
    def steps(self) -> tuple[int, ...]:
        """The step of its only checkpoint."""
        return (self.experiment.steps,)

    def open(self, step: int | None = None) -> Opened:
        """Reads the weights."""
        if step not in (None, *self.steps):
            raise ValueError(f"step {step}: the digits of the package are of step {self.steps[0]}")
        return self._opened

    @functools.cached_property
    def _opened(self) -> Opened:
        found = FromFile(str(DIGITS / "weights.safetensors"), "network").read("network")
        return Opened(self.model, {"network": jax.device_put(found)}, self.steps[0])


def places_of(runs: Sequence[pathlib.Path], modules: tuple[str, ...] = ()) -> tuple[Place, ...]:
    """Returns a place for each run; without runs, the digits of the package.

    Raises RunFolderError where a folder is none of a run.
    """
    places = [RunPlace(path, modules) for path in runs]
    for place in places:
        _ = place.experiment, place.class_names  # read now, so that what is wrong is said before anything is served
    return tuple(places) or (DigitsPlace(),)


def origin_at(place: Place, opened: Opened, kind: str) -> Origin:
    """Returns the origin of pictures of a `kind`: "draw", a way such as "walk", or the name of an edit."""
    folder, edited = place.folder or DIGITS, kind not in DRAWN
    found = origin_of(folder, place.name, opened.step, command="imagegen play", edited=edited)
    return found if place.folder else dataclasses.replace(found, run="")  # the package's is wherever it is installed


def place_at(places: Sequence[Place], number: Any) -> Place:
    """Returns the place of a number, as pages send it. Raises ValueError where there is none."""
    return places[check_integer(number, "run", 0, len(places) - 1)]
