"""Old names of modules, classes and functions, so that what was written with them goes on: two tables, and who asks.

Stored experiments (`core.config.serial`), options (`core.config.old_names`) and imports (`OldModules`) ask here. Names
are data: this file imports nothing of the package.
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
    "imagegen_jax.autoencoders.code_use": "imagegen_jax.autoencoders.quantise.code_use",
    "imagegen_jax.autoregressive.distributions": "imagegen_jax.nn.distributions.pixel",
    "imagegen_jax.autoregressive.logistic_mixture": "imagegen_jax.nn.distributions.logistic_mixture",
    "imagegen_jax.core.bounds": "imagegen_jax.core.config.bounds",
    "imagegen_jax.core.checkpoint": "imagegen_jax.core.checkpoints.checkpoint",
    "imagegen_jax.core.claim": "imagegen_jax.core.files.claim",
    "imagegen_jax.core.draw": "imagegen_jax.core.drawing.draw",
    "imagegen_jax.core.files": "imagegen_jax.core.files.regular",
    "imagegen_jax.core.fingerprint": "imagegen_jax.core.checkpoints.fingerprint",
    "imagegen_jax.core.finite": "imagegen_jax.core.drawing.finite",
    "imagegen_jax.core.folder": "imagegen_jax.core.run_folder",
    "imagegen_jax.core.frozen": "imagegen_jax.core.config.frozen_map",
    "imagegen_jax.core.given": "imagegen_jax.core.config.given",
    "imagegen_jax.core.health": "imagegen_jax.core.reporting.health",
    "imagegen_jax.core.hush": "imagegen_jax.core.checkpoints.hush",
    "imagegen_jax.core.log": "imagegen_jax.core.reporting.log",
    "imagegen_jax.core.loops": "imagegen_jax.core.arrays.conv_layout",
    "imagegen_jax.core.metrics_log": "imagegen_jax.core.reporting.metrics_log",
    "imagegen_jax.core.override": "imagegen_jax.core.config.override",
    "imagegen_jax.core.pending": "imagegen_jax.core.reporting.pending",
    "imagegen_jax.core.serial": "imagegen_jax.core.config.serial",
    "imagegen_jax.core.shard": "imagegen_jax.core.arrays.shard",
    "imagegen_jax.core.signals": "imagegen_jax.core.platform.signals",
    "imagegen_jax.core.simulated": "imagegen_jax.core.platform.simulated",
    "imagegen_jax.core.stored": "imagegen_jax.core.checkpoints.stored",
    "imagegen_jax.core.summary": "imagegen_jax.core.reporting.summary",
    "imagegen_jax.core.weights": "imagegen_jax.core.checkpoints.weights",
    "imagegen_jax.data.archive": "imagegen_jax.core.files.archive",
    "imagegen_jax.data.arrays": "imagegen_jax.data.formats.arrays",
    "imagegen_jax.data.derived": "imagegen_jax.data.wrappers.derived",
    "imagegen_jax.data.describe": "imagegen_jax.data.pictures.describe",
    "imagegen_jax.data.digits": "imagegen_jax.data.formats.digits",
    "imagegen_jax.data.folder": "imagegen_jax.data.formats.image_folder",
    "imagegen_jax.data.formats.captioned": "imagegen_jax.data.wrappers.captioned",
    "imagegen_jax.data.formats.derived": "imagegen_jax.data.wrappers.derived",
    "imagegen_jax.data.formats.parse": "imagegen_jax.data.parse",
    "imagegen_jax.data.formats.part": "imagegen_jax.data.wrappers.part",
    "imagegen_jax.data.formats.slanted": "imagegen_jax.data.wrappers.slanted",
    "imagegen_jax.data.formats.stacked": "imagegen_jax.data.wrappers.stacked",
    "imagegen_jax.data.grid": "imagegen_jax.core.drawing.grid",
    "imagegen_jax.data.identity": "imagegen_jax.core.files.identity",
    "imagegen_jax.data.latents": "imagegen_jax.data.formats.latents",
    "imagegen_jax.data.npz": "imagegen_jax.core.files.npz",
    "imagegen_jax.data.paired": "imagegen_jax.data.formats.paired",
    "imagegen_jax.data.stacked": "imagegen_jax.data.wrappers.stacked",
    "imagegen_jax.data.tfds": "imagegen_jax.data.formats.tfds",
    "imagegen_jax.data.video": "imagegen_jax.data.pictures.video",
    "imagegen_jax.data_command": "imagegen_jax.cli.data",
    "imagegen_jax.diffusion.ancestral": "imagegen_jax.diffusion.sampling.ancestral",
    "imagegen_jax.diffusion.augment": "imagegen_jax.diffusion.models.edm_augment",
    "imagegen_jax.diffusion.consistency": "imagegen_jax.diffusion.models.consistency",
    "imagegen_jax.diffusion.coupling": "imagegen_jax.diffusion.process.coupling",
    "imagegen_jax.diffusion.ddpm": "imagegen_jax.diffusion.models.ddpm",
    "imagegen_jax.diffusion.denoiser": "imagegen_jax.diffusion.process.denoiser",
    "imagegen_jax.diffusion.diffusers_config": "imagegen_jax.interop.diffusers_config",
    "imagegen_jax.diffusion.diffusers_weights": "imagegen_jax.interop.name_map",
    "imagegen_jax.diffusion.diffusion": "imagegen_jax.diffusion.models.diffusion",
    "imagegen_jax.diffusion.editing": "imagegen_jax.editing.denoiser",
    "imagegen_jax.diffusion.exponential": "imagegen_jax.diffusion.sampling.exponential",
    "imagegen_jax.diffusion.guidance": "imagegen_jax.diffusion.guidance.functions",
    "imagegen_jax.diffusion.guidances": "imagegen_jax.diffusion.guidance.fields",
    "imagegen_jax.diffusion.guided": "imagegen_jax.diffusion.guidance.by_network",
    "imagegen_jax.diffusion.heun": "imagegen_jax.diffusion.sampling.heun",
    "imagegen_jax.diffusion.importance": "imagegen_jax.diffusion.process.importance",
    "imagegen_jax.diffusion.improved": "imagegen_jax.diffusion.models.improved_ddpm",
    "imagegen_jax.diffusion.inverse": "imagegen_jax.editing.inverse_problems",
    "imagegen_jax.diffusion.label_dropout": "imagegen_jax.diffusion.guidance.conditions",
    "imagegen_jax.diffusion.levels": "imagegen_jax.diffusion.sampling.levels",
    "imagegen_jax.diffusion.meanflow": "imagegen_jax.diffusion.models.meanflow",
    "imagegen_jax.diffusion.multistep": "imagegen_jax.diffusion.sampling.multistep",
    "imagegen_jax.diffusion.noisy_classifier": "imagegen_jax.diffusion.models.noisy_classifier",
    "imagegen_jax.diffusion.ode": "imagegen_jax.diffusion.sampling.ode",
    "imagegen_jax.diffusion.prediction": "imagegen_jax.diffusion.process.prediction",
    "imagegen_jax.diffusion.preserving": "imagegen_jax.diffusion.process.variance_preserving",
    "imagegen_jax.diffusion.process": "imagegen_jax.diffusion.process.process",
    "imagegen_jax.diffusion.process.discrete": "imagegen_jax.nn.distributions.noise_steps",
    "imagegen_jax.diffusion.progressive": "imagegen_jax.diffusion.models.progressive",
    "imagegen_jax.diffusion.restoration": "imagegen_jax.editing.restoration",
    "imagegen_jax.diffusion.sampler": "imagegen_jax.diffusion.sampling.discrete_time",
    "imagegen_jax.diffusion.schedule": "imagegen_jax.nn.distributions.noise_steps",
    "imagegen_jax.diffusion.scm": "imagegen_jax.diffusion.models.scm",
    "imagegen_jax.diffusion.solver": "imagegen_jax.diffusion.sampling.solver",
    "imagegen_jax.diffusion.solvers": "imagegen_jax.diffusion.sampling.solver",
    "imagegen_jax.diffusion.sources": "imagegen_jax.diffusion.guidance.conditions",
    "imagegen_jax.diffusion.teacher": "imagegen_jax.diffusion.models.teacher",
    "imagegen_jax.diffusion.times": "imagegen_jax.diffusion.process.times",
    "imagegen_jax.diffusion.vdm": "imagegen_jax.diffusion.models.vdm",
    "imagegen_jax.diffusion.weighting": "imagegen_jax.diffusion.process.weighting",
    "imagegen_jax.edit_options": "imagegen_jax.cli.edit.common",
    "imagegen_jax.edit_rows": "imagegen_jax.editing.rows",
    "imagegen_jax.editing": "imagegen_jax.cli.edit",
    "imagegen_jax.evaluation": "imagegen_jax.cli.evaluate",
    "imagegen_jax.evaluation_options": "imagegen_jax.cli.evaluate_options",
    "imagegen_jax.evaluation_sets": "imagegen_jax.metrics.named",
    "imagegen_jax.gan.biggan": "imagegen_jax.gan.residual.biggan",
    "imagegen_jax.gan.biggan_deep": "imagegen_jax.gan.residual.biggan_deep",
    "imagegen_jax.gan.biggan_networks": "imagegen_jax.gan.residual.biggan_networks",
    "imagegen_jax.gan.conditional": "imagegen_jax.gan.residual.conditional",
    "imagegen_jax.gan.cyclegan": "imagegen_jax.gan.translation.cyclegan",
    "imagegen_jax.gan.directions": "imagegen_jax.editing.directions",
    "imagegen_jax.gan.growing": "imagegen_jax.gan.style.growing",
    "imagegen_jax.gan.interpolation": "imagegen_jax.editing.interpolation",
    "imagegen_jax.gan.latents": "imagegen_jax.editing.latents",
    "imagegen_jax.gan.losses": "imagegen_jax.nn.objectives",
    "imagegen_jax.gan.pix2pix": "imagegen_jax.gan.translation.pix2pix",
    "imagegen_jax.gan.progan": "imagegen_jax.gan.style.progan",
    "imagegen_jax.gan.progan_networks": "imagegen_jax.gan.style.progan_networks",
    "imagegen_jax.gan.projection": "imagegen_jax.editing.projection",
    "imagegen_jax.gan.sngan": "imagegen_jax.gan.residual.sngan",
    "imagegen_jax.gan.stylegan": "imagegen_jax.gan.style.stylegan",
    "imagegen_jax.gan.stylegan2": "imagegen_jax.gan.style.stylegan2",
    "imagegen_jax.gan.stylegan2_networks": "imagegen_jax.gan.style.stylegan2_networks",
    "imagegen_jax.gan.stylegan_networks": "imagegen_jax.gan.style.stylegan_networks",
    "imagegen_jax.gan.styles": "imagegen_jax.gan.style.styles",
    "imagegen_jax.gan.translation.patch": "imagegen_jax.nn.backbones.patch",
    "imagegen_jax.importing": "imagegen_jax.interop.importing",
    "imagegen_jax.info": "imagegen_jax.cli.info",
    "imagegen_jax.main": "imagegen_jax.cli.train",
    "imagegen_jax.markup": "imagegen_jax.pages.markup",
    "imagegen_jax.metrics.blocks": "imagegen_jax.metrics.features.blocks",
    "imagegen_jax.metrics.choose": "imagegen_jax.metrics.features.choose",
    "imagegen_jax.metrics.classes": "imagegen_jax.metrics.scores.classes",
    "imagegen_jax.metrics.classifier": "imagegen_jax.metrics.features.classifier",
    "imagegen_jax.metrics.distances": "imagegen_jax.metrics.features.distances",
    "imagegen_jax.metrics.extractor": "imagegen_jax.metrics.features.extractor",
    "imagegen_jax.metrics.features": "imagegen_jax.metrics.extraction",
    "imagegen_jax.metrics.frechet": "imagegen_jax.metrics.scores.frechet",
    "imagegen_jax.metrics.inception": "imagegen_jax.metrics.features.inception",
    "imagegen_jax.metrics.inception_score": "imagegen_jax.metrics.scores.inception_score",
    "imagegen_jax.metrics.interval": "imagegen_jax.metrics.scores.interval",
    "imagegen_jax.metrics.kernel": "imagegen_jax.metrics.scores.kernel",
    "imagegen_jax.metrics.likelihood": "imagegen_jax.core.arrays.bits_per_dim",
    "imagegen_jax.metrics.lpips": "imagegen_jax.metrics.features.lpips",
    "imagegen_jax.metrics.manifold": "imagegen_jax.metrics.scores.manifold",
    "imagegen_jax.metrics.memorization": "imagegen_jax.metrics.scores.memorization",
    "imagegen_jax.metrics.mobilenet": "imagegen_jax.metrics.features.mobilenet",
    "imagegen_jax.metrics.modes": "imagegen_jax.metrics.scores.modes",
    "imagegen_jax.metrics.moments": "imagegen_jax.metrics.features.moments",
    "imagegen_jax.metrics.pair": "imagegen_jax.metrics.scores.pair",
    "imagegen_jax.metrics.path_length": "imagegen_jax.metrics.scores.path_length",
    "imagegen_jax.metrics.resize": "imagegen_jax.metrics.features.resize",
    "imagegen_jax.metrics.scores": "imagegen_jax.metrics.scores.of_pair",
    "imagegen_jax.metrics.similarity": "imagegen_jax.metrics.scores.similarity",
    "imagegen_jax.metrics.weights": "imagegen_jax.metrics.features.weights",
    "imagegen_jax.nn.adain": "imagegen_jax.gan.style.adain",
    "imagegen_jax.nn.adm": "imagegen_jax.nn.backbones.adm",
    "imagegen_jax.nn.denoising": "imagegen_jax.nn.backbones.denoising",
    "imagegen_jax.nn.deviation": "imagegen_jax.gan.style.deviation",
    "imagegen_jax.nn.dit": "imagegen_jax.nn.backbones.dit",
    "imagegen_jax.nn.edm2": "imagegen_jax.nn.backbones.edm2",
    "imagegen_jax.nn.equalized": "imagegen_jax.gan.style.equalized",
    "imagegen_jax.nn.grouped": "imagegen_jax.gan.grouped",
    "imagegen_jax.nn.modulated": "imagegen_jax.gan.style.modulated",
    "imagegen_jax.nn.patch": "imagegen_jax.nn.backbones.patch",
    "imagegen_jax.nn.song": "imagegen_jax.nn.backbones.ncsnpp",
    "imagegen_jax.nn.spectral": "imagegen_jax.gan.residual.spectral",
    "imagegen_jax.nn.unet": "imagegen_jax.nn.backbones.unet",
    "imagegen_jax.nn.vdm": "imagegen_jax.diffusion.models.vdm_networks",
    "imagegen_jax.options": "imagegen_jax.cli.common.options",
    "imagegen_jax.output": "imagegen_jax.data.pictures.output",
    "imagegen_jax.report": "imagegen_jax.pages.report",
    "imagegen_jax.restoring": "imagegen_jax.cli.edit.restoring",
    "imagegen_jax.run": "imagegen_jax.core.run",
    "imagegen_jax.run_options": "imagegen_jax.cli.common.runs",
    "imagegen_jax.sampling": "imagegen_jax.cli.sample",
    "imagegen_jax.streaming": "imagegen_jax.data.pictures.streaming",
    "imagegen_jax.targets": "imagegen_jax.cli.common.targets",
    "imagegen_jax.user_images": "imagegen_jax.data.pictures.user_images",
    "imagegen_jax.vae": "imagegen_jax.autoencoders",
    "imagegen_jax.vae.likelihood": "imagegen_jax.autoencoders.likelihood",
    "imagegen_jax.vae.networks": "imagegen_jax.autoencoders.networks",
    "imagegen_jax.vae.vae": "imagegen_jax.autoencoders.vae",
}

# "old.module:Name" -> "new.module:Name", of names that did not go where their module went, or that are other words now.
NAMES: dict[str, str] = {
    "imagegen_jax.metrics.lpips:Layer": "imagegen_jax.nn.backbones.lpips:Layer",
    "imagegen_jax.metrics.features.lpips:Layer": "imagegen_jax.nn.backbones.lpips:Layer",
    "imagegen_jax.core.log:Progress": "imagegen_jax.core.reporting.training_progress:TrainingProgress",
    "imagegen_jax.core.reporting.log:Progress": "imagegen_jax.core.reporting.training_progress:TrainingProgress",
    "imagegen_jax.core.reporting.log:duration": "imagegen_jax.core.reporting.durations:duration",
    "imagegen_jax.core.loop:LiveRun": "imagegen_jax.core.training.live_run:LiveRun",
    "imagegen_jax.core.loop:Run": "imagegen_jax.core.training.live_run:LiveRun",
    "imagegen_jax.core.optim:Cosine": "imagegen_jax.core.optim:CosineDecay",
    "imagegen_jax.core.override:parse_overrides": "imagegen_jax.core.config.command_line:parse_overrides",
    "imagegen_jax.data.image:images_to_float": "imagegen_jax.core.arrays.image:images_to_float",
    "imagegen_jax.data.image:is_image": "imagegen_jax.core.arrays.image:is_image",
    "imagegen_jax.data.image:to_float": "imagegen_jax.core.arrays.image:to_float",
    "imagegen_jax.data.image:to_uint8": "imagegen_jax.core.arrays.image:to_uint8",
    "imagegen_jax.diffusion.guidances:Interval": "imagegen_jax.diffusion.guidance.fields:GuidanceInterval",
    "imagegen_jax.diffusion.heun:Interval": "imagegen_jax.diffusion.sampling.heun:RestartInterval",
    "imagegen_jax.diffusion.sampling.heun:Interval": "imagegen_jax.diffusion.sampling.heun:RestartInterval",
    "imagegen_jax.diffusion.solvers:ConsistencyMultistep": "imagegen_jax.diffusion.sampling.ancestral:ConsistencyMultistep",  # noqa: E501
    "imagegen_jax.diffusion.solvers:DDPMAncestral": "imagegen_jax.diffusion.sampling.ancestral:DDPMAncestral",
    "imagegen_jax.diffusion.solvers:DEIS": "imagegen_jax.diffusion.sampling.multistep:DEIS",
    "imagegen_jax.diffusion.solvers:DPMSolver": "imagegen_jax.diffusion.sampling.exponential:DPMSolver",
    "imagegen_jax.diffusion.solvers:Euler": "imagegen_jax.diffusion.sampling.multistep:Euler",
    "imagegen_jax.diffusion.solvers:EulerAncestral": "imagegen_jax.diffusion.sampling.ancestral:EulerAncestral",
    "imagegen_jax.diffusion.solvers:Heun": "imagegen_jax.diffusion.sampling.heun:Heun",
    "imagegen_jax.diffusion.solvers:LMS": "imagegen_jax.diffusion.sampling.multistep:LMS",
    "imagegen_jax.diffusion.solvers:PNDM": "imagegen_jax.diffusion.sampling.multistep:PNDM",
    "imagegen_jax.diffusion.solvers:RK45": "imagegen_jax.diffusion.sampling.ode:RK45",
    "imagegen_jax.diffusion.solvers:Restart": "imagegen_jax.diffusion.sampling.heun:Restart",
    "imagegen_jax.diffusion.solvers:UniPC": "imagegen_jax.diffusion.sampling.exponential:UniPC",
    "imagegen_jax.diffusion.models.diffusion:check_range": "imagegen_jax.diffusion.process.times:check_range",
    "imagegen_jax.diffusion.models.diffusion:check_times": "imagegen_jax.diffusion.process.times:check_times",
    "imagegen_jax.diffusion.improved:Step": "imagegen_jax.nn.distributions.noise_steps:Step",
    "imagegen_jax.diffusion.models.improved_ddpm:Step": "imagegen_jax.nn.distributions.noise_steps:Step",
    "imagegen_jax.editing:Drawn": "imagegen_jax.cli.edit.styles:Drawn",
    "imagegen_jax.gan.latents:check_truncation": "imagegen_jax.gan.truncation:check_truncation",
    "imagegen_jax.importing:import_diffusers": "imagegen_jax.interop.diffusers_folder:import_diffusers",
    "imagegen_jax.interop.importing:import_diffusers": "imagegen_jax.interop.diffusers_folder:import_diffusers",
    "imagegen_jax.metrics.interval:Interval": "imagegen_jax.metrics.scores.interval:ConfidenceInterval",
    "imagegen_jax.run_options:rows_of_model": "imagegen_jax.core.experiment:model_row_shapes",
    "imagegen_jax.streaming:ArrayWriter": "imagegen_jax.data.pictures.writers:ArrayWriter",
    "imagegen_jax.streaming:FolderWriter": "imagegen_jax.data.pictures.writers:FolderWriter",
    "imagegen_jax.streaming:Writer": "imagegen_jax.data.pictures.writers:Writer",
    "imagegen_jax.text.tokenizer:Encoded": "imagegen_jax.core.arrays.texts:Encoded",
    "imagegen_jax.text.tokenizer:Tokenizer": "imagegen_jax.core.arrays.texts:Tokenizer",
    "imagegen_jax.text.tokenizer:say_cut": "imagegen_jax.core.arrays.texts:say_cut",
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


class OldModule(types.ModuleType):
    """A module under its old name: Python makes it the attribute of that name of its package.

    So `imagegen_jax.main`, a function, becomes this after `import imagegen_jax.main`, and must go on as a function.
    """

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Calls the function of its own name in it."""
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **settings)


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

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Returns a module that can take the place of the function of its name in the package above it."""
        return OldModule(spec.name)

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
