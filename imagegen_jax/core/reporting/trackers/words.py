"""Trackers by the words of the command line: `--track wandb:my_project --track csv`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from imagegen_jax.core.reporting.trackers.dashboards import Trackio, WandB
from imagegen_jax.core.reporting.trackers.table import CSV
from imagegen_jax.core.reporting.trackers.tracker import Tracking

FORMS = "csv, wandb, wandb:PROJECT, wandb:TEAM/PROJECT, trackio, trackio:PROJECT"


def _wandb(project: str) -> WandB:
    team, _, name = project.rpartition("/")
    return WandB(name or WandB.project, team or None)


_KINDS: dict[str, Callable[[str], Tracking]] = {
    "csv": lambda name: CSV(name or CSV.name),
    "wandb": _wandb,
    "trackio": lambda project: Trackio(project or Trackio.project),
}


def tracking_of(words: Sequence[str | Tracking]) -> dict[str, Tracking]:
    """Returns trackers by their words; those that are values already as they are.

    Raises ValueError for another word, for one that is given twice, and for a tracker that cannot be used here.
    """
    found: dict[str, Tracking] = {}
    for word in words:
        name = word if isinstance(word, str) else type(word).__name__
        if name in found:
            raise ValueError(f"tracker {name!r} is given twice: name it once")
        found[name] = _of_word(word) if isinstance(word, str) else word
    for tracking in found.values():
        tracking.check()
    return found


def _of_word(word: str) -> Tracking:
    kind, _, rest = word.partition(":")
    if kind == "tensorboard":
        raise ValueError("tracker 'tensorboard': each run writes its events anyway: tensorboard --logdir RUN")
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        raise ValueError(f"there is no tracker {word!r}{f', did you mean {near[0]!r}?' if near else ''}: give {FORMS}")
    return _KINDS[kind](rest)
