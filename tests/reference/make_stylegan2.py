"""Reference values from torch for `test_stylegan2.py`: small networks at random weights, in float64.

    .venv-torch/bin/python tests/reference/make_stylegan2.py     (the environment of make_torch.py)

Writes torch_stylegan2.npz beside this file: parameters by this package's names and in its layouts, and what the
networks and their two penalties give. Written from the papers, the slow way: weights modulated image by image, zeros
inserted and filtered before each convolution.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
BATCH, SIDE, LATENT, STYLE, CLASSES, GROUP = 4, 16, 5, 6, 3, 2
CHANNELS = {4: 7, 8: 6, 16: 3}
RATE = 0.01

Tensor = torch.Tensor
Param = Callable[..., Tensor]


def parameters(found: dict[str, Tensor]) -> Param:
    """A function that makes a parameter the first time that it is asked for it."""

    def param(name: str, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        if name not in found:
            found[name] = (mean + std * torch.randn(shape)).requires_grad_()
        return found[name]

    return param


def activate(x: Tensor) -> Tensor:
    """Leaky rectifier, scaled back to unit variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def dense(param: Param, name: str, x: Tensor, features: int, rate: float = 1.0, bias: float = 0.0) -> Tensor:
    """A dense layer with an equalised learning rate."""
    kernel = param(f"{name}/kernel", x.shape[1], features, std=1 / rate)
    offset = param(f"{name}/bias", features, std=0.3 / rate, mean=bias / rate)
    return x @ (kernel * rate / math.sqrt(x.shape[1])) + offset * rate


def mapping(param: Param, name: str, z: Tensor | None, labels: Tensor | None, features: int) -> Tensor:
    """Two layers on normalised latents and embeddings."""

    def unit(x: Tensor) -> Tensor:
        return x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-8)

    parts = [] if z is None else [unit(z)]
    if labels is not None:
        parts.append(unit(dense(param, f"{name}/embed", labels, features)))
    x = torch.cat(parts, 1)
    for i in range(2):
        x = activate(dense(param, f"{name}/dense_{i}", x, features, RATE))
    return x


def smooth(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    """Zeros around, then the filter 1 3 3 1 in both directions."""
    taps = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    x = F.pad(x, (before, after, before, after))
    square = (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, square, groups=x.shape[1])


def spread(x: Tensor) -> Tensor:
    """A zero after each pixel."""
    wide = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    wide[:, :, ::2, ::2] = x
    return wide


def modulated(x: Tensor, kernel: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Image by image. `kernel` is [k k I O]."""
    if up:
        x = smooth(spread(x), 3, 2, 4.0)
    padding = 0 if up else kernel.shape[0] // 2
    images = []
    for image, scale in zip(x, style, strict=True):
        weights = kernel.permute(3, 2, 0, 1) * scale[None, :, None, None]
        if demodulate:
            weights = weights / torch.sqrt((weights**2).sum((1, 2, 3), keepdim=True) + 1e-8)
        images.append(F.conv2d(image[None], weights, padding=padding))
    return torch.cat(images)


def synthesis(param: Param, w: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """[B L D] -> [B 3 H W], with one map of noise a layer."""
    x = param("synthesis/start", 4, 4, CHANNELS[4]).permute(2, 0, 1).expand(len(w), -1, -1, -1)
    image, layer = None, 0
    for level, (side, features) in enumerate(CHANNELS.items()):
        for up in (True, False) if level else (False,):
            name, inputs = f"synthesis/conv_{layer}", x.shape[1]
            style = dense(param, f"{name}/style", w[:, layer], inputs, bias=1.0)
            kernel = param(f"{name}/kernel", 3, 3, inputs, features) / math.sqrt(9 * inputs)
            x = modulated(x, kernel, style, True, up)
            x = x + param(f"{name}/noise_strength") * noise.setdefault(name, torch.randn(side, side))
            x = activate(x + param(f"{name}/bias", features, std=0.3)[:, None, None])
            layer += 1
        name = f"synthesis/image_{level}"
        style = dense(param, f"{name}/style", w[:, layer], features, bias=1.0)
        kernel = param(f"{name}/kernel", 1, 1, features, 3) / math.sqrt(features)
        made = modulated(x, kernel, style, False, False) + param(f"{name}/bias", 3, std=0.3)[:, None, None]
        image = made if image is None else smooth(spread(image), 2, 1, 4.0) + made
    return image


def discriminator(param: Param, x: Tensor, labels: Tensor | None, residual: bool) -> Tensor:
    """[B 3 H W] -> [B]"""

    def conv(name: str, x: Tensor, features: int, size: int, down: bool = False, plain: bool = False) -> Tensor:
        kernel = param(f"{name}/kernel", size, size, x.shape[1], features) / math.sqrt(size**2 * x.shape[1])
        half = size // 2
        x = smooth(x, half + 1, half + 1, 1.0) if down else F.pad(x, (half,) * 4)
        x = F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=2 if down else 1)
        return x if plain else activate(x + param(f"{name}/bias", features, std=0.3)[:, None, None])

    widths = list(CHANNELS.values())[::-1]
    x = conv("from_image", x, widths[0], 1)
    for level, (features, fewer) in enumerate(zip(widths, widths[1:], strict=False)):
        y = conv(f"halve_{level}", conv(f"conv_{level}", x, features, 3), fewer, 3, down=True)
        x = (y + conv(f"skip_{level}", x, fewer, 1, down=True, plain=True)) / math.sqrt(2) if residual else y
    groups = x.reshape(-1, GROUP, *x.shape[1:])
    deviation = torch.sqrt(groups.var(1, unbiased=False) + 1e-8).mean((1, 2, 3)).repeat_interleave(GROUP)
    x = torch.cat([x, deviation[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = conv("last_conv", x, widths[-1], 3).permute(0, 2, 3, 1).reshape(len(x), -1)
    x = activate(dense(param, "dense", x, widths[-1]))
    if labels is None:
        return dense(param, "logit", x, 1)[:, 0]
    embedded = mapping(param, "mapping", None, labels, widths[-1])
    return (dense(param, "logit", x, widths[-1]) * embedded).sum(1) / math.sqrt(widths[-1])


def gradients(loss: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of each parameter; zeros where it plays no part."""
    grads = torch.autograd.grad(loss, list(found.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(found.items(), grads, strict=True)}


def case(conditional: bool, residual: bool) -> dict[str, Tensor]:
    """Images, logits, and the gradients of both penalties."""
    torch.manual_seed(2 * conditional + residual)
    of_generator, of_discriminator, noise = {}, {}, {}
    labels = F.one_hot(torch.tensor([0, 2, 1, 2]), CLASSES).double() if conditional else None
    z, real = torch.randn(BATCH, LATENT), torch.rand(BATCH, 3, SIDE, SIDE) * 2 - 1
    y = torch.randn(BATCH, 3, SIDE, SIDE) / SIDE
    generator = parameters(of_generator)
    w = mapping(generator, "mapping", z, labels, STYLE)
    ws = w[:, None].expand(-1, 2 * len(CHANNELS), -1)
    fake = synthesis(generator, ws, noise)
    (slope,) = torch.autograd.grad((fake * y).sum(), ws, create_graph=True)
    path = ((torch.sqrt((slope**2).sum(2).mean(1)) - 0.3) ** 2).mean()
    real.requires_grad_()
    logits = discriminator(parameters(of_discriminator), real, labels, residual)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    r1 = (slope**2).sum((1, 2, 3)).mean()
    at = {"z": z, "real": real, "y": y * SIDE, "w": w, "fake": fake, "logits": logits, "path": path, "r1": r1}
    groups = {
        "generator": of_generator, "discriminator": of_discriminator, "noise": noise, "at": at,
        "path_gradient": gradients(path, of_generator), "r1_gradient": gradients(r1, of_discriminator),
    }  # fmt: skip
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def main() -> None:
    """Writes the file."""
    torch.set_default_dtype(torch.float64)
    cases = {"plain": case(False, True), "classes": case(True, False)}
    found = {f"{name}/{key}": tensor for name, tensors in cases.items() for key, tensor in tensors.items()}
    arrays = {name: tensor.detach().numpy().astype(np.float32) for name, tensor in found.items()}
    np.savez_compressed(FOLDER / "torch_stylegan2.npz", versions=f"torch {torch.__version__}", **arrays)


if __name__ == "__main__":
    main()
