"""Finding the run that a picture names: where it says, around the picture itself, or among the runs at hand."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from imagegen_jax.core.provenance.origin import Origin, digest_of

ABOVE = 3  # folders above a picture that may be its run's: samples/ lies in one
RUNS = "runs"


class Found(NamedTuple):
    """A run folder that may have made a picture."""

    folder: pathlib.Path
    same: bool  # whether its experiment is the one that the picture names

    @property
    def note(self) -> str:
        """Says how far it is known to be the same."""
        return ", the same experiment" if self.same else ", but its experiment.json is another than the picture's"


def find_run(origin: Origin, picture: pathlib.Path, named: str | pathlib.Path | None = None) -> Found | None:
    """Returns the folder of the run that made a picture, by the digest of its experiment; None where none is at hand.

    Where no experiment is the same, it is the first folder of that name. With `named` it is that folder: raises
    ValueError where it is none of a run.
    """
    if named is not None:
        folder = pathlib.Path(named).expanduser()
        if not (digest := digest_of(folder)):
            raise ValueError(f"--run {named}: no run folder, it has no experiment.json that can be read: give another")
        return Found(folder, digest == origin.digest)
    by_name = None
    for folder in _candidates(origin, picture):
        if not (digest := digest_of(folder)):
            continue
        if digest == origin.digest:
            return Found(folder, True)
        if by_name is None and origin.run and folder.resolve().name == pathlib.Path(origin.run).name:
            by_name = Found(folder, False)
    return by_name


def _candidates(origin: Origin, picture: pathlib.Path) -> Iterator[pathlib.Path]:
    if origin.run:
        yield pathlib.Path(origin.run)
    yield from picture.absolute().parents[:ABOVE]
    with contextlib.suppress(OSError):
        yield from sorted(path for path in pathlib.Path(RUNS).iterdir() if path.is_dir())
    from imagegen_jax.pages.play.places import DIGITS

    yield DIGITS
