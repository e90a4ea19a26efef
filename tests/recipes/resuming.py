"""A process that goes on with runs: the folder of one a line on standard input, what came of it on standard output.

One process for all of them, since it takes longer to start than to go on. It is none of those that began the runs.
Whether its programs are compiled as hastily as those of a test so marked follows the folder, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import sys
import traceback

import jax
import pytest
from in_range import refuse_beyond

from imagegen_jax import fit
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.run_folder import load_experiment


def go_on(folder: pathlib.Path) -> str:
    """Goes on with a run to its end; returns what it said, or how it failed."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            fit(load_experiment(folder), folder)
        except Exception:
            traceback.print_exc()
    compiling.forget()
    return said.getvalue()


if __name__ == "__main__":
    refuse_beyond(pytest.MonkeyPatch())  # as the runs were drawn, so that their samplers are compiled already
    for line in sys.stdin:
        folder, hasty = json.loads(line)
        jax.config.update("jax_disable_most_optimizations", hasty)
        print(json.dumps(go_on(pathlib.Path(folder))), flush=True)
