"""What a tracker is: it follows the metrics and pictures of a run, beside the files that the run itself writes."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.files.claim import RunFolderError


class Followed(NamedTuple):
    """A run as a tracker gets to know it."""

    folder: pathlib.Path
    step: int  # that it goes on from
    lines: Sequence[Mapping[str, Any]]  # of metrics up to that step, each with its "step"
    config: Mapping[str, Any]  # the experiment, as experiment.json has it


class Tracker(Protocol):
    """An open tracker of one run."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes metrics by name; a step may come twice, with others the second time."""
        ...

    def image(self, step: int, picture: UInt8[np.ndarray, "H W c"]) -> None:
        """Takes a picture of samples."""
        ...

    def close(self) -> None:
        """Hands on what is left and ends."""
        ...


class Tracking(Protocol):
    """The settings of a tracker: a frozen dataclass."""

    def check(self) -> None:
        """Raises ValueError, before time is spent, where it cannot be used here, such as for want of a package."""
        ...

    def open(self, run: Followed) -> Tracker:
        """Begins to follow a run, or goes on with one that was stopped under the name that it had."""
        ...


class Guarded:
    """A tracker that may fail: the first error is said, and then it is left out, since the training is worth more."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._tracker: Tracker | None = None

    def open(self, tracking: Tracking, run: Followed) -> None:
        """Opens it."""

        def begin() -> None:
            self._tracker = tracking.open(run)

        self._tried(begin)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hands on metrics."""
        if tracker := self._tracker:
            self._tried(lambda: tracker.write(step, metrics))

    def image(self, step: int, picture: np.ndarray) -> None:
        """Hands on a picture."""
        if tracker := self._tracker:
            self._tried(lambda: tracker.image(step, picture))

    def close(self) -> None:
        """Closes it."""
        if tracker := self._tracker:
            self._tried(tracker.close)

    def _tried(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # trackers reach over the network, and each raises its own
            self._tracker = None
            self._say(
                f"warning: the tracker {self._name} is left out from here on ({type(error).__name__}: {error}); the "
                "run's own files have everything"
            )


def check_package(package: str, extra: str) -> None:
    """Raises ValueError, with the command that installs it, where a package is not here."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed: pip install 'imagegen_jax[{extra}]', or leave this tracker out")


def kept_id(folder: pathlib.Path, name: str, new: Callable[[], str]) -> str:
    """Returns the name under which a run is known to a tracker: kept in its folder, so that a resumed run goes on."""
    path = folder / f"{name}_id.txt"
    if path.is_file():
        found = path.read_text("utf-8").strip()
        if not found:
            raise RunFolderError(f"{path} is empty: write the run's id into it, or delete it to begin a new one")
        return found
    found = new()
    path.write_text(found + "\n", "utf-8")
    return found
