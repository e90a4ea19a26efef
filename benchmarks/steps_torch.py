"""What is timed on the side of PyTorch: single convolutions with their gradients; `steps.py` is the other side."""

from __future__ import annotations

import torch
from sides import Step
from torch.nn import functional as F


def convolution(part: str, layer: tuple[int, ...], batch: int, device: str, dtype: torch.dtype) -> Step:
    """A function that takes one of `sides.PARTS`; a layer is the side of its features, channels, kernel and stride."""
    side, inputs, outputs, kernel, stride = layer
    x = torch.randn(batch, inputs, side, side, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, kernel, kernel, device=device, dtype=dtype)
    settings = {"stride": stride, "padding": (kernel - 1) // 2}
    slope = torch.randn_like(F.conv2d(x, weight, **settings))
    computed = {
        "forward": lambda: F.conv2d(x, weight, **settings),
        "input gradient": lambda: torch.nn.grad.conv2d_input(x.shape, weight, slope, **settings),
        "weight gradient": lambda: torch.nn.grad.conv2d_weight(x, weight.shape, slope, **settings),
    }[part]

    def one() -> None:
        computed()
        wait(device)

    return one


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
