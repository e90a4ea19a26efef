"""Options of a model or an experiment that nothing would read: found by a look at the program without each."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.model import Model


class Variant(NamedTuple):
    """The model as it would be without some of the command line's words."""

    words: str
    model: Model


def groups_of(overrides: Sequence[str]) -> list[list[str]]:
    """Returns the options among the words of a command line, each with its values."""
    groups: list[list[str]] = []
    for word in overrides:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def without_each(
    parse: Callable[[list[str]], Experiment], changed: Experiment, overrides: Sequence[str]
) -> list[tuple[str, Experiment]]:
    """Returns each option that matters for the `changed` experiment, and the experiment without this option.

    Options that others build on, so that `parse` refuses the others alone, are left out: they are read.
    """
    groups, found = groups_of(overrides), []
    for i, words in enumerate(groups):
        rest = [word for j, others in enumerate(groups) if j != i for word in others]
        with contextlib.suppress(ValueError, TypeError, SystemExit), contextlib.redirect_stderr(io.StringIO()):
            experiment = parse(rest)
            if experiment != changed:
                found.append((" ".join(words), experiment))
    return found


def check_used(variants: Sequence[Variant], model: Model, text_of: Callable[[Any], str]) -> None:
    """Raises ValueError for an option of the model without which the program, `text_of(model)`, is the same."""
    if not variants:
        return
    text = text_of(model)
    idle = next((words for words, other in variants if _same(text, text_of, other)), None)
    if idle:
        raise ValueError(f"{idle}: changes nothing of what is drawn here: leave it out")


def _same(text: str, text_of: Callable[[Any], str], other: Model) -> bool:
    try:
        return text_of(other) == text
    except (ValueError, TypeError):  # the other model cannot be drawn from so: the option does change something
        return False
