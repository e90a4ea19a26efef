"""The side of PyTorch in `autoregressive.py`: a port of PixelCNN++ by its own classes and its own loss."""

from __future__ import annotations

import json
import math
import pathlib
import platform
import sys
import types
from typing import Any

import torch
from autoregressive import Setup
from sides import Step, respond
from torch.optim.swa_utils import get_ema_multi_avg_fn


def port(folder: str) -> types.ModuleType:
    """The module `model` of the clone; a statement of Python 2 and moves to a GPU are taken out of its files."""
    for name in ("utils", "layers", "model"):
        source = (pathlib.Path(folder) / f"{name}.py").read_text()
        source = source.replace("print e", "print(e)").replace(".cuda()", "").replace("import pdb", "")
        sys.modules[name] = types.ModuleType(name)
        exec(compile(source, name, "exec"), sys.modules[name].__dict__)
    return sys.modules["model"]


class There:
    """What PyTorch does each part with."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self.setup, self.module = setup, port(setup.port)
        blocks, width = setup.network["blocks"], setup.network["width"]
        self.network = self.module.PixelCNN(nr_resnet=blocks, nr_filters=width, nr_logistic_mix=10).train()

    def about(self) -> dict[str, Any]:
        """Versions, and how many parameters the network has."""
        return {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }

    def ready(self, case: str) -> Step:
        """A function that takes a training step."""
        network, batch = self.network, self.setup.batch
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        average = get_ema_multi_avg_fn(0.9995)  # by itself: AveragedModel copies no network with weight_norm
        parameters = list(network.parameters())
        averaged = [parameter.detach().clone() for parameter in parameters]
        x = torch.randint(0, 256, (batch, 3, 32, 32)) / 127.5 - 1

        def one() -> None:
            optimizer.zero_grad()
            loss = self.module.discretized_mix_logistic_loss(x, network(x)) / (x.numel() * math.log(2))
            loss.backward()
            optimizer.step()
            average(averaged, parameters, None)

        return one


def main() -> None:
    """Does what `autoregressive.py` asks."""
    there = There(Setup(**json.loads(sys.argv[1])))
    respond(there.about(), there.ready)


if __name__ == "__main__":
    main()
