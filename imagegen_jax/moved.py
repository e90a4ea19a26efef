"""Old names of modules, classes and functions, so that what was written with them goes on: two tables, and who asks.

Stored experiments (`core.serial`), options (`core.old_names`) and imports (`OldModules`) ask here. Names are data: this
file imports nothing of the package.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

# Old module -> the one that holds its names now. Each module has a line of its own, with the packages above it where
# these are gone. A package may have taken the place of an old module: a line "a.b": "a.b.c" says so.
MODULES: dict[str, str] = {
    "imagegen_jax.data.archive": "imagegen_jax.core.archive",
    "imagegen_jax.data.grid": "imagegen_jax.core.grid",
    "imagegen_jax.data.identity": "imagegen_jax.core.identity",
    "imagegen_jax.data.npz": "imagegen_jax.core.npz",
    "imagegen_jax.data_command": "imagegen_jax.cli.data",
    "imagegen_jax.diffusion.label_dropout": "imagegen_jax.diffusion.conditions",
    "imagegen_jax.diffusion.solvers": "imagegen_jax.diffusion.solver",
    "imagegen_jax.diffusion.sources": "imagegen_jax.diffusion.conditions",
    "imagegen_jax.edit_options": "imagegen_jax.cli.edit.common",
    "imagegen_jax.edit_rows": "imagegen_jax.editing.rows",
    "imagegen_jax.editing": "imagegen_jax.cli.edit",
    "imagegen_jax.evaluation": "imagegen_jax.cli.evaluate",
    "imagegen_jax.evaluation_options": "imagegen_jax.cli.evaluate_options",
    "imagegen_jax.evaluation_sets": "imagegen_jax.metrics.named",
    "imagegen_jax.info": "imagegen_jax.cli.info",
    "imagegen_jax.main": "imagegen_jax.cli.train",
    "imagegen_jax.metrics.likelihood": "imagegen_jax.core.likelihood",
    "imagegen_jax.options": "imagegen_jax.cli.options",
    "imagegen_jax.output": "imagegen_jax.data.output",
    "imagegen_jax.restoring": "imagegen_jax.cli.edit.restoring",
    "imagegen_jax.run_options": "imagegen_jax.cli.runs",
    "imagegen_jax.sampling": "imagegen_jax.cli.sample",
    "imagegen_jax.streaming": "imagegen_jax.data.streaming",
    "imagegen_jax.targets": "imagegen_jax.cli.targets",
    "imagegen_jax.user_images": "imagegen_jax.data.user_images",
}

# "old.module:Name" -> "new.module:Name", of names that did not go where their module went, or that are other words now.
NAMES: dict[str, str] = {
    "imagegen_jax.diffusion.guidances:Interval": "imagegen_jax.diffusion.guidances:GuidanceInterval",
    "imagegen_jax.core.optim:Cosine": "imagegen_jax.core.optim:CosineDecay",
    "imagegen_jax.data.image:images_to_float": "imagegen_jax.core.image:images_to_float",
    "imagegen_jax.data.image:is_image": "imagegen_jax.core.image:is_image",
    "imagegen_jax.data.image:to_float": "imagegen_jax.core.image:to_float",
    "imagegen_jax.data.image:to_uint8": "imagegen_jax.core.image:to_uint8",
    "imagegen_jax.diffusion.solvers:ConsistencyMultistep": "imagegen_jax.diffusion.ancestral:ConsistencyMultistep",
    "imagegen_jax.diffusion.solvers:DDPMAncestral": "imagegen_jax.diffusion.ancestral:DDPMAncestral",
    "imagegen_jax.diffusion.solvers:DEIS": "imagegen_jax.diffusion.multistep:DEIS",
    "imagegen_jax.diffusion.solvers:DPMSolver": "imagegen_jax.diffusion.exponential:DPMSolver",
    "imagegen_jax.diffusion.solvers:Euler": "imagegen_jax.diffusion.multistep:Euler",
    "imagegen_jax.diffusion.solvers:EulerAncestral": "imagegen_jax.diffusion.ancestral:EulerAncestral",
    "imagegen_jax.diffusion.solvers:Heun": "imagegen_jax.diffusion.heun:Heun",
    "imagegen_jax.diffusion.solvers:LMS": "imagegen_jax.diffusion.multistep:LMS",
    "imagegen_jax.diffusion.solvers:PNDM": "imagegen_jax.diffusion.multistep:PNDM",
    "imagegen_jax.diffusion.solvers:RK45": "imagegen_jax.diffusion.ode:RK45",
    "imagegen_jax.diffusion.solvers:Restart": "imagegen_jax.diffusion.heun:Restart",
    "imagegen_jax.diffusion.solvers:UniPC": "imagegen_jax.diffusion.exponential:UniPC",
    "imagegen_jax.gan.latents:check_truncation": "imagegen_jax.gan.truncation:check_truncation",
    "imagegen_jax.metrics.interval:Interval": "imagegen_jax.metrics.interval:ConfidenceInterval",
    "imagegen_jax.run_options:rows_of_model": "imagegen_jax.core.experiment:model_row_shapes",
}


def current_module(name: str) -> str:
    """Returns where the names of a module are today."""
    return MODULES.get(name, name)


def current_name(tag: str) -> str:
    """Returns "module:Name" as it is today of one that may be old. A name with dots is found by its first part."""
    module, _, name = tag.partition(":")
    first, dot, rest = name.partition(".")
    return NAMES.get(f"{module}:{first}", f"{current_module(module)}:{first}") + dot + rest


def newer_words(word: str) -> set[str]:
    """Returns today's names, in lower case, of all that once had the name `word`, in any module and case."""
    names = [(tag.partition(":")[2].lower(), now.partition(":")[2].lower()) for tag, now in NAMES.items()]
    return {now for old, now in names if old == word.lower()}


def attributes(module: str) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a module that has lost names: `__getattr__ = moved.attributes(__name__)`.

    It finds what `NAMES` says of them, and where the module is a package in the place of an old module, all of its.
    """

    def find(name: str) -> Any:
        tag = f"{module}:{name}"
        now = current_name(tag)
        if now == tag or name.startswith("__") or _is_module_of(module, name):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = _found(now)
        _warn(f"{module}.{name} is {now.replace(':', '.')} now")
        return found

    return find


def _is_module_of(package: str, name: str) -> bool:
    """Whether a name is that of a module in a package, which is what is meant then."""
    return hasattr(sys.modules[package], "__path__") and importlib.util.find_spec(f"{package}.{name}") is not None


def _found(tag: str) -> Any:
    module, _, name = tag.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise AttributeError(f"module {module!r} has no attribute {name!r}") from error


def _warn(text: str) -> None:
    """Warns at the line that asked, beyond this file and Python's own import."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_machinery(frame):
        frame = frame.f_back
    module, registry = frame.f_globals.get("__name__"), frame.f_globals.setdefault("__warningregistry__", {})
    place = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(text, DeprecationWarning, *place, module=module, registry=registry)


def _is_machinery(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename == __file__ or "importlib" in frame.f_code.co_filename


class OldModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules under their old names, after all others have looked: a module that imports its names lazily."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns how to load an old module, or a package that only old modules were in; None for any other."""
        if name in MODULES:
            return ModuleSpec(name, self, is_package=True)
        inner = any(old.startswith(f"{name}.") for old in MODULES)
        return ModuleSpec(name, self, is_package=True) if inner else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """Leaves it to Python."""
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        """Warns, and lets the module find its names where they are today."""
        name = module.__name__
        if name in MODULES:
            _warn(f"the module {name} is {MODULES[name]} now")
            now = importlib.import_module(MODULES[name])
            module.__doc__ = now.__doc__
            module.__dict__["__all__"] = [word for word in vars(now) if not word.startswith("_")]
            module.__dict__["__getattr__"] = self._attributes(name)

    def _attributes(self, module: str) -> Callable[[str], Any]:
        def find(name: str) -> Any:  # the import has warned: its names do not again
            return _found(current_name(f"{module}:{name}"))

        return find
