"""TPUs that are not here: where their library is installed all the same, it looks for none and logs nothing of that."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

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
