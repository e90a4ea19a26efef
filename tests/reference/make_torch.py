"""Reference values from torch for tests of GANs and VAEs: small networks at random weights.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/python tests/reference/make_torch.py

Writes torch_dcgan_32.npz, torch_dcgan_21.npz and torch_losses.npz beside this file. Arrays keep torch's layouts
(images [B C H W], kernels [O I H W], transposed kernels [I O H W]); the tests convert. The networks are those of
pytorch/examples/dcgan for any size: a side halves, rounded up, down to 4..7, by zeros at the end where it is odd, and
the generator crops there.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
LATENT, WIDTH, CHANNELS, BATCH = 6, 3, 2, 4


def sizes(side: int) -> list[int]:
    """The side of the image, halved down to the base."""
    found = [side]
    while found[-1] > 7:
        found.append((found[-1] + 1) // 2)
    return found


class Generator(nn.Module):
    """Latents to images, in pytorch/examples' layout."""

    def __init__(self, side: int) -> None:
        super().__init__()
        *self.finer, base = sizes(side)
        features = [WIDTH * 2**i for i in range(len(self.finer))][::-1]
        self.project = nn.ConvTranspose2d(LATENT, features[0], base, 1, 0, bias=False)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False)
            for i, o in zip(features, [*features[1:], CHANNELS], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(f) for f in features)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B D] -> [B C H W]"""
        x = F.relu(self.norms[0](self.project(z[:, :, None, None])))
        for i, (up, size) in enumerate(zip(self.ups, self.finer[::-1], strict=True)):
            x = up(x)[:, :, :size, :size]
            x = F.relu(self.norms[i + 1](x)) if i + 1 < len(self.norms) else torch.tanh(x)
        return x


class Discriminator(nn.Module):
    """Images to logits, in pytorch/examples' layout."""

    def __init__(self, side: int) -> None:
        super().__init__()
        *finer, base = sizes(side)
        features = [CHANNELS, *(WIDTH * 2**i for i in range(len(finer)))]
        self.downs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, 1, bias=False) for i, o in zip(features[:-1], features[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(f) for f in features[2:])
        self.project = nn.Conv2d(features[-1], 1, base, 1, 0, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B C H W] -> [B]"""
        for i, down in enumerate(self.downs):
            x = down(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)))
            x = F.leaky_relu(self.norms[i - 1](x) if i else x, 0.2)
        return self.project(x)[:, 0, 0, 0]


def randomise(network: nn.Module) -> None:
    """Weights of a size at which every layer matters."""
    for name, parameter in network.named_parameters():
        centre, spread = (1.0, 0.3) if name.startswith("norms") and name.endswith("weight") else (0.0, 0.2)
        nn.init.normal_(parameter, centre, spread)


def arrays(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Named tensors as NumPy arrays; batch counters are left out."""
    return {f"{prefix}/{n}": t.detach().numpy().copy() for n, t in tensors.items() if t.ndim}


def gradients(network: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of `loss` by the name of the parameter."""
    named = dict(network.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True), strict=True))


def dcgan(side: int) -> dict[str, np.ndarray]:
    """Both losses at one set of weights, their gradients, and the running statistics after the passes they take."""
    torch.manual_seed(side)
    generator, discriminator = Generator(side), Discriminator(side)
    randomise(generator)
    randomise(discriminator)
    z, real = torch.randn(BATCH, LATENT), torch.rand(BATCH, CHANNELS, side, side) * 2 - 1
    found = arrays("generator", generator.state_dict()) | arrays("discriminator", discriminator.state_dict())
    fake = generator(z)
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    ones, bce = torch.ones(BATCH), F.binary_cross_entropy_with_logits
    losses = {"generator": bce(fake_logits, ones), "discriminator": bce(real_logits, ones) + bce(fake_logits, 0 * ones)}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        found |= arrays(f"{name}_after", dict(network.named_buffers()))
        found |= arrays(f"{name}_gradient", gradients(network, losses[name]))
        found[f"{name}_loss"] = losses[name].detach().numpy()
    tensors = {"z": z, "real": real, "fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
    return found | arrays("at", tensors | {"fake_by_running": generator.eval()(z)})


def losses() -> dict[str, np.ndarray]:
    """Values of torch's loss functions and distributions at random arguments."""
    torch.manual_seed(0)
    logits, target = 4 * torch.randn(6, 5), torch.rand(6, 5)
    mean, log_sigma, x = torch.randn(6, 5), torch.randn(6, 5), torch.randn(6, 5)
    normal = torch.distributions.Normal(mean, log_sigma.exp())
    prior = torch.distributions.Normal(torch.zeros(6, 5), torch.ones(6, 5))
    bce = F.binary_cross_entropy_with_logits
    found = {
        "logits": logits,
        "target": target,
        "bce_ones": bce(logits, torch.ones(6, 5))[None],
        "bce_zeros": bce(logits, torch.zeros(6, 5))[None],
        "bce_target": bce(logits, target, reduction="none"),
        "mean": mean,
        "log_sigma": log_sigma,
        "x": x,
        "normal_log_prob": normal.log_prob(x),
        "kl": torch.distributions.kl_divergence(normal, prior),
    }
    return arrays("at", found)


def main() -> None:
    """Writes the three files."""
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    made = {"torch_dcgan_32": dcgan(32), "torch_dcgan_21": dcgan(21), "torch_losses": losses()}
    for name, found in made.items():
        np.savez_compressed(FOLDER / f"{name}.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
