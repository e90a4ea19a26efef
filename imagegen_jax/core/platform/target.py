"""What programs are made for: this machine's devices, or others that need not be there.

What is fast, and what a compiler takes, differs between CPUs, GPUs and TPUs, so that attention, convolutions, loops,
dtypes and compiler options ask here. A program that is made for a TPU is then the same on every machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax

PLATFORMS = ("cpu", "gpu", "tpu")
Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


class _Target(NamedTuple):
    platform: str
    devices: tuple[Any, ...]  # (): this machine's


# jax keeps its traces, lowerings and compiled programs by the value of this context too: none is used for another.
# Each thread has its own value, so that what other threads trace meanwhile is made for this machine.
_target: Any = jax.make_user_context(None)


def platform_here() -> str:
    """Returns the platform of this machine's devices, on which programs run: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()


def platform() -> str:
    """Returns the platform that programs are made for: this machine's, unless `made_for` says another."""
    return platform_here() if _target.value is None else _target.value.platform


def devices() -> list[Any]:
    """Returns the devices that programs are made for, of all processes."""
    return list(_target.value.devices) if _target.value and _target.value.devices else jax.devices()


def made_for(platform: str, devices: Sequence[Any] = ()) -> AbstractContextManager[None]:
    """Makes what is traced and lowered under it on this thread for another platform, whose devices need not be there.

    Meshes are built over `devices`, such as those of a topology that jax describes; over this machine's without them.
    Raises ValueError for an unknown platform, or devices of another.
    """
    if platform not in PLATFORMS:
        raise ValueError(f"platform {platform!r}: programs are made for one of {', '.join(PLATFORMS)}")
    if others := {device.platform for device in devices} - {platform}:
        raise ValueError(f"devices of {', '.join(sorted(others))} for a program of {platform}: name their platform")
    context: AbstractContextManager[None] = _target(_Target(platform, tuple(devices)))
    return context


def cached_by_platform(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Keeps what a function makes, as `functools.lru_cache` does, for each platform by itself."""
    made: Any = functools.lru_cache(maxsize=32)(lambda platform, *arguments, **named: make(*arguments, **named))

    @functools.wraps(make)
    def kept(*arguments: Arguments.args, **named: Arguments.kwargs) -> Made:
        found: Made = made(platform(), *arguments, **named)
        return found

    kept.cache_info = made.cache_info  # type: ignore[attr-defined]
    return kept
