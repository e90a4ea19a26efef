"""TPUs that are not here: where their library is installed all the same, it looks for none and logs nothing of that."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import MutableMapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_ALONE = {  # a host of its own with one chip: else the library asks the network, or complains that it may not
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_HOST_BOUNDS": "1,1,1",
    "TPU_CHIPS_PER_HOST_BOUNDS": "1,1,1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_LOG_DIR": "disabled",  # else files in /tmp
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # other processes may have the library's lock: there is no chip to share
}


def hush_absent_tpus(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has the TPUs' library say nothing where jax, once imported, has found no TPU; to be called before it starts.

    jax tells libraries by TPU_SKIP_MDS_QUERY that there is none. What is set already stays.
    """
    if environment.get("TPU_SKIP_MDS_QUERY") == "1":
        look_for_no_tpus(environment)


def look_for_no_tpus(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has the TPUs' library, which is to compile only, look for none. What is set already stays."""
    for name, value in _ALONE.items():
        environment.setdefault(name, value)


def hush_absent_tpus_with_jax() -> None:
    """Calls `hush_absent_tpus` as soon as jax has been imported, by whomever: at once where it has been already."""
    if "jax" in sys.modules:
        hush_absent_tpus()
    else:
        sys.meta_path.insert(0, _WithJax())


class _WithJax(importlib.abc.MetaPathFinder):
    """Finds jax alone, once, as it would be found without this, and has absent TPUs hushed after its import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns what the other finders do, with a loader that calls back."""
        if fullname != "jax":
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(fullname)
        if found is not None and found.loader is not None:
            execute = found.loader.exec_module

            def execute_and_hush(module: ModuleType) -> None:
                execute(module)
                hush_absent_tpus()

            found.loader.exec_module = execute_and_hush  # type: ignore[method-assign]
        return found
