"""Modules of a user's own, as the command line names them: by dotted name, or by the path of a .py file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
import sys
import sysconfig
import traceback
from types import ModuleType

PACKAGE = pathlib.Path(__file__).resolve().parents[2]


def import_target(target: str, remedy: str = "give a dotted name or the path of a .py file") -> ModuleType:
    """Imports the module of a dotted name or of the path of a .py file.

    Raises ValueError where there is none, with `remedy` for a dotted name, and where it fails as it is imported, with
    file, line and reason.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    path = pathlib.Path(target)
    if path.suffix == ".py" and not path.is_file():
        raise ValueError(f"{target}: no such file")
    if path.suffix != ".py" and not all(part.isidentifier() for part in target.split(".")):
        raise ValueError(f"{target!r} is neither a folder of a run, a dotted name nor the path of a .py file")
    try:
        return importlib.import_module(target) if path.suffix != ".py" else _import_file(path)
    except ModuleNotFoundError as error:
        if path.suffix != ".py" and error.name and f"{target}.".startswith(f"{error.name}."):
            raise ValueError(f"no module {target!r} here: {remedy}") from error
        raise _import_error(target, error) from error
    except (Exception, SystemExit) as error:  # whatever a user's file does
        raise _import_error(target, error) from error


def _import_file(path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.path.remove(str(path.parent.resolve()))
        del sys.modules[path.stem]
        if before is not None:
            sys.modules[path.stem] = before
        raise
    return module


def _import_error(target: str, error: BaseException) -> ValueError:
    """Makes an error that says what went wrong in a module, and in which line of its own, not of a library's."""
    if isinstance(error, SyntaxError):
        return ValueError(f"{error.filename or target}, line {error.lineno}: {type(error).__name__}: {error.msg}")
    paths = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(PACKAGE))
    libraries = ("<frozen", "<string>", *paths)  # "<string>": the methods that dataclasses make
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(libraries)]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else target
    text = " ".join(str(error).split())[:500]
    return ValueError(f"{place}: {type(error).__name__}{': ' + text if text else ''}: {target} cannot be imported")
