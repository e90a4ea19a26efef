"""The command `imagegen`: one file a command, each with a request and a function that Python can call too."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that `arguments` name; None: the arguments of the process."""
    from imagegen_jax.cli import commands  # what commands import is not needed to import the package

    commands.main(arguments)
