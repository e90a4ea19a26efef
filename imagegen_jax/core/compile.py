"""Compilation: the one place that knows compiler options, the persistent cache and the cache of compiled steps."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import Mesh

from imagegen_jax.core.arrays.shard import batch_sharding, replicated, state_sharding
from imagegen_jax.core.files.regular import cache_root
from imagegen_jax.core.platform.target import cached_by_platform, devices, platform
from imagegen_jax.core.step import StepSpec, train_step, train_steps

# Convolutions and their gradients take half the time on the CPU backend with the first (measured on jax 0.10.2 and
# 0.12); with the second as well, the whole step of a U-Net or a GAN another 3 to 20 % less (jax 0.12).
_FUSIONS = ("LIBRARY_FUSION_TYPE_DOT", "LIBRARY_FUSION_TYPE_REDUCE")
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ",".join(_FUSIONS)}
# Weights that are split over devices are gathered whole, not piece by piece: a TPU's compiler takes products with large
# arrays apart otherwise, reads the array again for each piece, and a convolution's image too (docs/measured.md).
TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": str(1 << 20)}
OPTIONS = {"cpu": CPU_OPTIONS, "tpu": TPU_OPTIONS}

_steps: dict[Hashable, Future[Any]] = {}  # compiled steps of this process
# The first program is needed first: two at a time only where they do not take each other's cores.
_compiler = ThreadPoolExecutor(2 if (os.cpu_count() or 1) >= 8 else 1, thread_name_prefix="compile")

During = Callable[[str], AbstractContextManager[None]]  # shows what is being done: "tracing" or "compiling"


def silently(verb: str) -> AbstractContextManager[None]:
    """Shows nothing."""
    return contextlib.nullcontext()


def use_persistent_cache() -> None:
    """Keeps compiled programs on disk, unless the user has switched that off or chosen JAX_COMPILATION_CACHE_DIR."""
    settings: Any = jax.config  # its attributes are made at run time
    if settings.jax_compilation_cache_dir is None and settings.jax_enable_compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@cached_by_platform
def compiler_options() -> dict[str, str]:
    """Returns the options for compiling every program: those that help on its platform and that this jax knows.

    GPU and TPU compilers overlap communication with computation unasked: in a step of DiT-B/4 with two blocks and
    fsdp 8, compiled for eight H200 by jax 0.12, work lies between the start and end of all 24 collectives, and for
    eight TPU v5e the flags that others set change nothing (docs/measured.md).
    """
    wanted = OPTIONS.get(platform(), {})
    own = [one for one in devices() if one.process_index == jax.process_index() and one.platform == platform()]
    if not wanted or not own:  # made for devices that are nowhere: nothing can be tried
        return wanted
    place = jax.sharding.SingleDeviceSharding(own[0])
    try:
        x = jax.ShapeDtypeStruct((), "float32", sharding=place)
        jax.jit(lambda x: x, compiler_options=wanted).lower(x).compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" in str(error):
            return {}
        raise
    return wanted


def jit(function: Callable[..., Any], **settings: Any) -> Any:
    """Compiles a function by `jax.jit` with `compiler_options()`."""
    return jax.jit(function, compiler_options=compiler_options(), **settings)


def compiled_step(
    spec: StepSpec,
    mesh: Mesh,
    stage: Hashable,
    due: tuple[str, ...],
    state: Any,
    batch: Any,
    run: Any,
    during: During = silently,
) -> Future[Callable[[Any, Any, Any], Any]]:
    """Compiles the training step of one (stage, due phases): (state, batch, run) -> (state, metrics).

    The state, an array tree or its shapes, is donated. The step is compiled ahead of its call, so that an argument of
    another shape, dtype or sharding is an error and not a silent recompilation. One compilation serves every run in
    this process with an equal `spec`. It is traced here, where the caller's jax settings hold, and compiled on another
    thread, while the caller goes on.
    """
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((state, batch)))
    key = (platform(), spec, mesh, stage, due, shapes, jax.tree.structure((state, batch)))
    if key not in _steps:
        with during("tracing"):
            lowered = traced_step(spec, mesh, stage, due, state, batch, run).lower()
        _steps[key] = _compiler.submit(_compile, lowered, during)
    return _steps[key]


def traced_step(
    spec: StepSpec, mesh: Mesh, stage: Hashable, due: tuple[str, ...], state: Any, batch: Any, run: Any
) -> Any:
    """Returns the training step of `compiled_step`, traced: it has `jaxpr` and `lower()`.

    State, batch and run may be shapes. Where `batch` and `run` are lists, the step is one of several runs at once.
    """
    sharding = state_sharding(mesh, state)
    step = jit(
        functools.partial(train_steps if isinstance(batch, list) else train_step, spec, stage, due),
        donate_argnums=0,
        in_shardings=(sharding, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(sharding, replicated(mesh)),
    )
    return step.trace(state, batch, run)


def _compile(lowered: Any, during: During) -> Any:
    with during("compiling"):
        return lowered.compile()


def busy() -> bool:
    """Tells whether a training step is being compiled: the process cannot end by itself before that has ended."""
    return not all(future.done() for future in _steps.values())


def drop_waiting() -> None:
    """Drops the compilations that have not begun yet."""
    for key, future in list(_steps.items()):
        if future.cancel():
            del _steps[key]


def compilations() -> int:
    """Returns how many training steps this process has compiled and not forgotten."""
    return len(_steps)


def forget() -> None:
    """Drops every compiled program of this process and its memory; a persistent cache keeps them on disk.

    For a process that trains many models one after the other: on CPUs each program takes some of a limited number of
    memory mappings.
    """
    _steps.clear()
    jax.clear_caches()
