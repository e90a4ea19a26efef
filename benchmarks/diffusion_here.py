"""This project's side of `diffusion.py`."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import sys
from collections import Counter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from diffusion import Setup
from sides import Step, respond, tell
from steps import compiled_step, convolution, training_step

from imagegen_jax.core.checkpoints.network_files import load_network, save_network
from imagegen_jax.core.compile import compiler_options, use_persistent_cache
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.model import Model
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.step import StepSpec
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.unet import UNet

MEMORY_BATCH = 32


class Here:
    """What this project does each part with."""

    def __init__(self, setup: Setup) -> None:
        if setup.device == "cpu":
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup.threads])  # XLA has a thread for each
        self.setup = setup
        self.options = compiler_options() if setup.options else {}

    def model(self, remat: bool = False) -> Model:
        """Of the part."""
        if not self.setup.is_dit:
            return DDPM(self._unet, sampler=DDIM(self.setup.evaluations))
        return Diffusion(
            DiT(**self.setup.network, remat=remat, dtype=self.setup.dtype),
            prediction="epsilon",
            process=Discrete(),
            times=WholeTimes(),
            image_shape=(32, 32, 4),
            num_classes=1000,
            label_dropout=0.1,
        )

    @property
    def _unet(self) -> UNet:
        fields = self.setup.network | {"multipliers": tuple(self.setup.network["multipliers"])}
        return UNet(**fields, dtype=self.setup.dtype)

    def about(self) -> dict[str, Any]:
        """Versions, how many parameters the network has, and what else the part wants to know."""
        nets = jax.eval_shape(self.model().init, jax.random.key(0), self._batch(1))
        about = {
            "jax": jax.__version__,
            "python": platform.python_version(),
            "compiler_options": self.options,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(nets)),
        }
        if self.setup.part == "convolutions":
            about["convolutions"] = convolutions_of(self._unet)
        if self.setup.part == "remat":
            about["memory"] = {"kept": self._memory(False), "computed again": self._memory(True)}
        return about

    def ready(self, case: str) -> Step:
        """A function that does what the case names."""
        if self.setup.part == "convolutions":
            part, *layer = json.loads(case)
            return convolution(part, layer, self.setup.batch, self.setup.dtype, self.options)
        if case.startswith("run"):
            return self._run() if case == "run" else self._run_step_by_step()
        spec = self._spec(remat=case == "computed again")
        return training_step(spec, ("denoise",), self._batch(self.setup.batch), self.options)

    def _spec(self, remat: bool) -> StepSpec:
        averages = FrozenMap({"ema": FixedDecay(0.9999)})
        return StepSpec(self.model(remat), FrozenMap({"network": Adam(2e-4)}), averages, clip_norm=1.0)

    def _batch(self, n: int) -> dict[str, Any]:
        """Images, and labels where the model has classes."""
        model = self.model()
        batch = {"image": jax.random.uniform(jax.random.key(1), (n, *model.image_shape), minval=-1.0)}
        return batch | ({"label": jnp.zeros(n, jnp.int32)} if model.num_classes else {})

    def _memory(self, remat: bool) -> dict[str, int]:
        """Bytes beside the state that the compiled step needs for `MEMORY_BATCH` images, which is not run."""
        compiled = compiled_step(self._spec(remat), ("denoise",), self._batch(MEMORY_BATCH), self.options)
        found = compiled.memory_analysis()
        return {
            "batch": MEMORY_BATCH,
            "temporary_bytes": found.temp_size_in_bytes,
            "state_and_batch_bytes": found.argument_size_in_bytes,
        }

    # --- sampling -----------------------------------------------------------------------------------------------------

    def _nets(self) -> Any:
        init = jax.jit(self.model().init, compiler_options=self.options)
        return jax.block_until_ready(init(jax.random.key(0), self._batch(1)))

    def _compiled_run(self, nets: Any) -> Any:
        """All evaluations as one call: (networks, key) -> images."""

        def run(nets: Any, key: Any) -> Any:
            return self.model().sample(nets, key, self.setup.batch, {})

        return jax.jit(run, compiler_options=self.options).lower(nets, jax.random.key(0)).compile()

    def _run(self) -> Step:
        nets = self._nets()
        compiled = self._compiled_run(nets)
        return lambda: np.asarray(compiled(nets, jax.random.key(1)))

    def _run_step_by_step(self) -> Step:
        """The same with a call of a compiled program for each evaluation."""
        model, nets = self.model(), self._nets()
        solver, sigmas = model.path
        table = solver.table(sigmas)
        rows = np.column_stack([table.sigma, table.of_x, table.of_estimates]).astype(np.float32)
        shape = (self.setup.batch, *model.image_shape)

        def step(nets: Any, x: Any, row: Any) -> Any:
            sigma, of_x, of_estimate = row
            return of_x * x + of_estimate * model.denoiser(nets, {})(x, jnp.full(len(x), sigma))

        start = jax.jit(lambda key: jax.random.normal(key, shape) * (1 + sigmas[0] ** 2) ** 0.5)
        compiled = jax.jit(step, compiler_options=self.options, donate_argnums=1)

        def run() -> Any:
            x = start(jax.random.split(jax.random.key(1))[0])
            for row in rows:
                x = compiled(nets, x, row)
            return np.clip(np.asarray(x), -1.0, 1.0)

        return run

    def first_image(self) -> None:
        """Says when each thing that an image needs is there."""
        use_persistent_cache()
        file = pathlib.Path(self.setup.weights) / "network.safetensors"
        if not file.exists():
            file.parent.mkdir()
            save_network(file, self._nets()["network"])
            tell("written")
            return
        nets = {"network": jax.device_put(dict(load_network(file, "network")))}
        tell("network")
        compiled = self._compiled_run(nets)
        tell("compiled")
        np.asarray(compiled(nets, jax.random.key(1)))
        tell("image")


def convolutions_of(network: UNet) -> dict[str, int]:
    """How often the network has each convolution, by its layer as JSON: side, channels in and out, kernel, stride."""
    found: Counter[str] = Counter()

    def count(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        conv = context.module
        if isinstance(conv, nn.Conv):
            x = arguments[0]
            found[json.dumps([x.shape[1], x.shape[-1], conv.features, conv.kernel_size[0], conv.strides[0]])] += 1
        return call(*arguments, **options)

    with nn.intercept_methods(count):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))
    return found


def main() -> None:
    """Does what `diffusion.py` asks."""
    setup = Setup(**json.loads(sys.argv[1]))
    if setup.part == "first_image":
        tell("imports")
        Here(setup).first_image()
    else:
        here = Here(setup)
        respond(here.about(), here.ready)


if __name__ == "__main__":
    main()
