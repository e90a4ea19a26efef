"""Reference values from torch for `test_wgan.py`: WGAN-GP's residual networks, its losses and their gradients.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/python tests/reference/make_gan.py

Writes torch_wgan.npz beside this file, in torch's layouts (images [B C H W], kernels [O I H W]). The networks are those
of igul222/improved_wgan_training's gan_cifar_resnet.py, narrowed, for images of 16x16; resampling comes where that code
has it. The penalty is taken at one and the same point between every real and generated image.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
LATENT, WIDTH, CHANNELS, SIDE, BATCH = 5, 4, 2, 16, 3
EPSILON = 0.3  # x_hat = EPSILON real + (1 - EPSILON) fake


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Stride 1, the size kept."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def up(x: torch.Tensor) -> torch.Tensor:
    """Nearest neighbours."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def down(x: torch.Tensor) -> torch.Tensor:
    """Means of 2x2 squares."""
    return F.avg_pool2d(x, 2)


class UpBlock(nn.Module):
    """Doubles the image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)
        self.conv_1, self.conv_2, self.shortcut = conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B C H W] -> [B C 2H 2W]"""
        h = self.conv_1(up(F.relu(self.norm_1(x))))
        return self.shortcut(up(x)) + self.conv_2(F.relu(self.norm_2(h)))


class DownBlock(nn.Module):
    """Halves the image, or leaves its size; the first one is of an image."""

    def __init__(self, first: bool, halves: bool) -> None:
        super().__init__()
        inputs = CHANNELS if first else WIDTH
        self.first, self.halves = first, halves
        self.conv_1, self.conv_2 = conv(inputs, WIDTH, 3), conv(WIDTH, WIDTH, 3)
        if halves:
            self.shortcut = conv(inputs, WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B C H W] -> [B C H/2 W/2] or [B C H W]"""
        h = self.conv_2(F.relu(self.conv_1(x if self.first else F.relu(x))))
        if not self.halves:
            return x + h
        return down(h) + (self.shortcut(down(x)) if self.first else down(self.shortcut(x)))


class Generator(nn.Module):
    """Latents to images: from 4x4 by two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(LATENT, 16 * WIDTH)
        self.block_0, self.block_1 = UpBlock(), UpBlock()
        self.norm_out, self.conv_out = nn.BatchNorm2d(WIDTH), conv(WIDTH, CHANNELS, 3)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B D] -> [B C H W]"""
        x = self.block_1(self.block_0(self.project(z).reshape(-1, WIDTH, 4, 4)))
        return torch.tanh(self.conv_out(F.relu(self.norm_out(x))))


class Critic(nn.Module):
    """Images to logits: two blocks that halve and two that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.block_0, self.block_1 = DownBlock(True, True), DownBlock(False, True)
        self.block_2, self.block_3 = DownBlock(False, False), DownBlock(False, False)
        self.project = nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B C H W] -> [B]"""
        x = self.block_3(self.block_2(self.block_1(self.block_0(x))))
        return self.project(F.relu(x).mean((2, 3)))[:, 0]


def arrays(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Named tensors as NumPy arrays; batch counters are left out."""
    return {f"{prefix}/{n}": t.detach().numpy().copy() for n, t in tensors.items() if not n.endswith("tracked")}


def gradients(network: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of `loss` by the name of the parameter; none is zero."""
    named = dict(network.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {n: torch.zeros_like(named[n]) if g is None else g for n, g in zip(named, found, strict=True)}


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    generator, critic = Generator(), Critic()
    for network in (generator, critic):
        for name, parameter in network.named_parameters():
            scale = "norm" in name and name.endswith("weight")
            nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.3)
    found = arrays("generator", generator.state_dict()) | arrays("critic", critic.state_dict())
    z, real = torch.randn(BATCH, LATENT), torch.rand(BATCH, CHANNELS, SIDE, SIDE) * 2 - 1
    fake = generator(z)
    real_logits, fake_logits = critic(real), critic(fake)
    between = (EPSILON * real + (1 - EPSILON) * fake.detach()).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = 10 * ((slopes.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    losses = {"generator": -fake_logits.mean(), "critic": fake_logits.mean() - real_logits.mean() + penalty}
    for name, network in (("generator", generator), ("critic", critic)):
        found |= arrays(f"{name}_gradient", gradients(network, losses[name]))
        found[f"{name}_loss"] = losses[name].detach().numpy()
    tensors = {"z": z, "real": real, "fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
    found |= arrays("at", tensors | {"penalty": penalty})
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "torch_wgan.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
