"""Which packages are installed."""

from __future__ import annotations

import importlib.metadata


def version(package: str) -> str | None:
    """Returns the installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
