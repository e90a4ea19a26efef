"""What is said of checkpoints that cannot be used, and of other libraries' errors in a line."""

from __future__ import annotations

import re

_LONG = 300  # characters of a reason


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be used, or none can be written."""


def in_short(error: BaseException) -> str:
    """Returns the first line of what an error says, cut in the middle where it is long; without words, its kind."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = re.split(r" \[[\w ]+(?:\[\d+\])?=", line)[0]  # TensorStore adds all its settings
    return line if len(line) <= _LONG else f"{line[: _LONG // 3]} ... {line[-2 * _LONG // 3 :]}"
