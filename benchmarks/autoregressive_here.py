"""This project's side of `autoregressive.py`."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

import jax
from autoregressive import Setup
from sides import Step, respond
from steps import training_step

from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.autoregressive.residual import ResidualPixelCNN
from imagegen_jax.core.compile import compiler_options
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.step import StepSpec
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture


class Here:
    """What this project does each part with."""

    def __init__(self, setup: Setup) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup.threads])  # XLA has a thread for each
        self.setup = setup
        self.options = compiler_options() if setup.options else {}
        self.model = PixelCNN((32, 32, 3), ResidualPixelCNN(**setup.network), LogisticMixture(10))

    def about(self) -> dict[str, Any]:
        """Versions, and how many parameters the network has."""
        nets = jax.eval_shape(self.model.init, jax.random.key(0), self._batch(1))
        return {
            "jax": jax.__version__,
            "python": platform.python_version(),
            "compiler_options": self.options,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(nets)),
        }

    def ready(self, case: str) -> Step:
        """A function that takes a training step."""
        spec = StepSpec(self.model, FrozenMap({"network": Adam(1e-3)}), FrozenMap({"ema": FixedDecay(0.9995)}))
        return training_step(spec, ("likelihood",), self._batch(self.setup.batch), self.options)

    def _batch(self, n: int) -> dict[str, Any]:
        return {"image": jax.random.randint(jax.random.key(1), (n, *self.model.image_shape), 0, 256) / 127.5 - 1}


def main() -> None:
    """Does what `autoregressive.py` asks."""
    here = Here(Setup(**json.loads(sys.argv[1])))
    respond(here.about(), here.ready)


if __name__ == "__main__":
    main()
