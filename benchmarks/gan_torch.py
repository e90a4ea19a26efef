"""The side of PyTorch in `gan.py`: DCGAN and SNGAN as plain modules, and the phases of all models as they are here.

Each phase draws latents of its own and differentiates with respect to what it trains alone, as this project does.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from gan_torch_stylegan2 import Discriminator, Generator
from steps_torch import convolution, wait
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Loss = Callable[[Tensor], Tensor]  # of real images [B 3 H W]


class Game(NamedTuple):
    """Two networks, and by phase which one it trains and its loss."""

    networks: dict[str, nn.Module]
    phases: dict[str, tuple[str, Loss]]


# --- DCGAN, in pytorch/examples' layout ------------------------------------------------------------------------------


def dcgan(latent: int = 100, width: int = 64) -> Game:
    """Images of 64x64; logits of real and generated images are taken apart."""
    widths = [8 * width, 4 * width, 2 * width, width]
    ups = [nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False) for i, o in zip(widths, [*widths[1:], 3], strict=True)]
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], 4, 1, 0, bias=False)]
    for features, up in zip(widths, ups, strict=True):
        layers += [nn.BatchNorm2d(features), nn.ReLU(), up]
    generator = nn.Sequential(nn.Unflatten(1, (latent, 1, 1)), *layers, nn.Tanh())
    layers = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True):
        layers += [nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*layers, nn.Conv2d(widths[0], 1, 4, 1, 0, bias=False), nn.Flatten(0))

    def discriminator_loss(real: Tensor) -> Tensor:
        with torch.no_grad():
            fake = generator(latents(real, latent))
        return F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()

    def generator_loss(real: Tensor) -> Tensor:
        return F.softplus(-discriminator(generator(latents(real, latent)))).mean()

    return two_phases(generator, discriminator, generator_loss, discriminator_loss)


def latents(real: Tensor, width: int) -> Tensor:
    """As many rows as there are real images."""
    return torch.randn(len(real), width, device=real.device)


def two_phases(generator: nn.Module, discriminator: nn.Module, of_generator: Loss, of_discriminator: Loss) -> Game:
    """The discriminator, then the generator."""
    phases = {"discriminator": ("discriminator", of_discriminator), "generator": ("generator", of_generator)}
    return Game({"generator": generator, "discriminator": discriminator}, phases)


# --- SNGAN for CIFAR-10, Table 4 of its paper ------------------------------------------------------------------------


class UpBlock(nn.Module):
    """Doubles the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv_1, self.conv_2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B C H W] -> [B C 2H 2W]"""
        h = self.conv_1(F.interpolate(F.relu(self.norm_1(x)), scale_factor=2))
        return self.conv_2(F.relu(self.norm_2(h))) + self.shortcut(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    """Halves the image, or leaves its size; the first one is of an image."""

    def __init__(self, inputs: int, width: int, halves: bool) -> None:
        super().__init__()
        self.first, self.halves = inputs != width, halves
        self.conv_1 = spectral_norm(nn.Conv2d(inputs, width, 3, padding=1))
        self.conv_2 = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(inputs, width, 1)) if halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B I H W] -> [B C H/2 W/2] or [B C H W]"""
        h = self.conv_2(F.relu(self.conv_1(x if self.first else F.relu(x)))) + self.shortcut(x)
        return F.avg_pool2d(h, 2) if self.halves else h


class Critic(nn.Module):
    """Two blocks that halve, two that do not, the sum over pixels and a projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        halving = DownBlock(3, width, True), DownBlock(width, width, True)
        self.blocks = nn.Sequential(*halving, DownBlock(width, width, False), DownBlock(width, width, False))
        self.project = spectral_norm(nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B 3 H W] -> [B]"""
        return self.project(F.relu(self.blocks(x)).sum((2, 3)))[:, 0]


def sngan(latent: int = 128, width: int = 256, critic_width: int = 128) -> Game:
    """Images of 32x32; one power iteration a step, for which real and generated images are judged together."""
    start = [nn.Linear(latent, 16 * width), nn.Unflatten(1, (width, 4, 4))]
    end = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()]
    generator = nn.Sequential(*start, UpBlock(width), UpBlock(width), UpBlock(width), *end)
    discriminator = Critic(critic_width)

    def discriminator_loss(real: Tensor) -> Tensor:
        with torch.no_grad():
            fake = generator(latents(real, latent))
        of_real, of_fake = discriminator.train()(torch.cat([real, fake])).chunk(2)
        return F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()

    def generator_loss(real: Tensor) -> Tensor:
        return -discriminator.eval()(generator(latents(real, latent))).mean()

    return two_phases(generator, discriminator, generator_loss, discriminator_loss)


# --- StyleGAN2 -------------------------------------------------------------------------------------------------------


def stylegan2(channel_base: int, channel_max: int, grouped: bool, latent: int = 512, side: int = 64) -> Game:
    """With style mixing, path lengths of half the rows, and R1; weights and intervals are the paper's."""

    def channels(size: int) -> int:
        return min(channel_base // size, channel_max)

    generator, discriminator = Generator(side, channels, grouped), Discriminator(side, channels)
    mean_length = torch.zeros(())

    def styles(real: Tensor) -> Tensor:
        first, second = (generator.styles(latents(real, latent)) for _ in range(2))
        cut = torch.randint(1, generator.layers, (len(real), 1), device=real.device)
        swapped = torch.arange(generator.layers, device=real.device) >= cut
        swapped &= torch.rand(len(real), 1, device=real.device) < 0.9
        return torch.where(swapped[:, :, None], second[:, None], first[:, None])

    def generator_loss(real: Tensor) -> Tensor:
        return F.softplus(-discriminator(generator(styles(real)))).mean()

    def path_loss(real: Tensor) -> Tensor:
        nonlocal mean_length
        w = styles(real[::2])
        image = generator(w)
        (slope,) = torch.autograd.grad((image * torch.randn_like(image) / side).sum(), w, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        mean_length = torch.lerp(mean_length.to(lengths.device), lengths.detach().mean(), 0.01)
        return 4 * 2.0 * (lengths - mean_length).square().mean()

    def discriminator_loss(real: Tensor) -> Tensor:
        with torch.no_grad():
            fake = generator(styles(real))
        return F.softplus(discriminator(fake)).mean() + F.softplus(-discriminator(real)).mean()

    def r1_loss(real: Tensor) -> Tensor:
        real = real.clone().requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
        return 16 * 5.0 * slope.square().sum((1, 2, 3)).mean()

    of_both = two_phases(generator, discriminator, generator_loss, discriminator_loss)
    lazy = {"path": ("generator", path_loss), "r1": ("discriminator", r1_loss)}
    return of_both._replace(phases=of_both.phases | lazy)


# --- steps -----------------------------------------------------------------------------------------------------------


class Torch:
    """What PyTorch takes its steps with."""

    def __init__(
        self, batch: int, threads: int, device: str, stylegan2_channels: dict[str, int], grouped: bool
    ) -> None:
        torch.set_num_threads(threads)
        self.batch, self.device = batch, "cuda" if device == "gpu" else "cpu"
        self.games = {
            "dcgan_64": dcgan(),
            "sngan_32": sngan(),
            "stylegan2_64": stylegan2(**stylegan2_channels, grouped=grouped),
        }

    def about(self) -> dict[str, Any]:
        """Versions, and how many parameters the networks have."""
        parameters = {
            model: {name: sum(p.numel() for p in network.parameters()) for name, network in game.networks.items()}
            for model, game in self.games.items()
        }
        return {"torch": torch.__version__, "python": platform.python_version(), "parameters": parameters}

    def step(self, model: str, side: int, due: tuple[str, ...]) -> Callable[[], None]:
        """A function that takes one training step of these phases, on images that are given."""
        game = self.games[model]
        weights = {name: list(network.to(self.device).parameters()) for name, network in game.networks.items()}
        adams = {name: torch.optim.Adam(parameters, lr=2e-4, betas=(0.0, 0.99)) for name, parameters in weights.items()}
        real = torch.rand(self.batch, 3, side, side, device=self.device) * 2 - 1

        def one() -> None:
            for phase in due:
                trained, loss = game.phases[phase]
                with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                    value = loss(real)
                found = torch.autograd.grad(value, weights[trained], allow_unused=True)
                for weight, gradient in zip(weights[trained], found, strict=True):
                    weight.grad = gradient
                adams[trained].step()
            wait(self.device)

        return one

    def convolution(self, part: str, layer: tuple[int, ...]) -> Callable[[], None]:
        """A function that takes one convolution, or one of its gradients."""
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        return convolution(part, layer, self.batch, self.device, dtype)
