"""Reference values from torch for `test_spectral.py`: spectrally normalised layers through three training steps.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/python tests/reference/make_spectral.py

Writes torch_spectral.npz beside this file. Arrays keep torch's layouts (images [B C H W], kernels [O I H W]).
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

FOLDER = pathlib.Path(__file__).parent
STEPS, RATE = 3, 0.3


def trained(name: str, layer: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Weights, vectors, outputs and gradients of `layer` before and after each step of gradient descent."""
    layer = spectral_norm(layer, eps=1e-6)
    norm, weight = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    found = {"x": x, "target": torch.randn_like(layer(x)), "bias": getattr(layer, "bias", None)}
    found |= {"weight_0": weight, "u_0": norm._u, "v_0": norm._v}
    found = {key: tensor.detach().clone() for key, tensor in found.items() if tensor is not None}
    for step in range(1, STEPS + 1):
        out = layer.train()(x)
        (gradient,) = torch.autograd.grad(torch.sum(out * found["target"]), weight)
        found |= {f"out_{step}": out, f"gradient_{step}": gradient}
        found |= {f"u_{step}": norm._u.clone(), f"v_{step}": norm._v.clone()}
        with torch.no_grad():
            weight -= RATE * gradient
        found |= {f"weight_{step}": weight.clone(), f"evaluated_{step}": layer.eval()(x)}
    return {f"{name}/{key}": tensor.detach().numpy() for key, tensor in found.items()}


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    layers = {
        "conv": (nn.Conv2d(3, 5, 3, padding=1), torch.randn(2, 3, 6, 5)),
        "dense": (nn.Linear(7, 4), torch.randn(3, 7)),
        "embed": (nn.Embedding(6, 4), torch.tensor([1, 5, 0, 5])),
    }
    found: dict[str, np.ndarray] = {}
    for name, (layer, x) in layers.items():
        found |= trained(name, layer, x)
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "torch_spectral.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
