"""The part of a linen module's interface that models ask of any network, whoever wrote it."""

from __future__ import annotations

from typing import Any, Protocol


class Module(Protocol):
    """A network whose weights are given with each call. A linen module with a `__call__` is one."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Makes fresh weights, with the arguments of a call."""
        ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the network with these weights."""
        ...
