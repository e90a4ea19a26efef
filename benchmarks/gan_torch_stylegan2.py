"""StyleGAN2's networks in plain PyTorch, for `gan.py`: configuration F for square images, as `stylegan2_networks`.

No package has them for a CPU: stylegan2-torch 1.3.0 knows grey images alone and builds CUDA code when it is imported,
and stylegan2-pytorch 1.9.0 has other networks. Filters are depthwise convolutions. A modulated convolution scales what
comes in and out, as NVlabs/stylegan2-ada-pytorch does in training, or, `grouped`, has weights of its own for each image
in one grouped convolution, as rosinality/stylegan2-pytorch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def activated(x: Tensor) -> Tensor:
    """Leaky rectifier, scaled back to unit variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def filter_of(x: Tensor, gain: float) -> Tensor:
    """1 3 3 1 in both directions, of the sum `gain`, for each channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)


def blur(x: Tensor, pad: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """The filter after zeros around."""
    return F.conv2d(x, filter_of(x, gain), padding=pad, stride=stride, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Twice the size."""
    return F.conv_transpose2d(x, filter_of(x, 4.0), stride=2, padding=1, groups=x.shape[1])


class Dense(nn.Module):
    """With an equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0, activate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate, self.activate = rate, activate

    def forward(self, x: Tensor) -> Tensor:
        """[B I] -> [B O]"""
        x = F.linear(x, self.weight * (self.rate / math.sqrt(x.shape[1])), self.bias * self.rate)
        return activated(x) if self.activate else x


class Conv(nn.Module):
    """With an equalised learning rate; if need be to half the size."""

    def __init__(self, inputs: int, outputs: int, size: int, down: bool = False, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.size, self.down = size, down

    def forward(self, x: Tensor) -> Tensor:
        """[B I H W] -> [B O H W], or [B O H/2 W/2]"""
        weight = self.weight / math.sqrt(self.weight[0].numel())
        if not self.down:
            x = F.conv2d(x, weight, padding=self.size // 2)
        elif self.size == 1:
            x = F.conv2d(blur(x, 1, stride=2), weight)
        else:
            x = F.conv2d(blur(x, 2), weight, stride=2)
        return x if self.bias is None else activated(x + self.bias[:, None, None])


def convolve(x: Tensor, weight: Tensor, up: bool, groups: int) -> Tensor:
    """With weights [groups O I k k], to twice the size with `up`."""
    if not up:
        return F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=groups)
    x = F.conv_transpose2d(x, weight.flip((3, 4)).transpose(1, 2).flatten(0, 1), stride=2, groups=groups)
    return blur(x, 1, gain=4.0)


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool, grouped: bool) -> Tensor:
    """The convolution of each image [B I H W] with weights [O I k k], scaled by its style [B I]."""
    if grouped:
        weights = weight * style[:, None, :, None, None]
        if demodulate:
            weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        y = convolve(x.reshape(1, -1, *x.shape[2:]), weights, up, len(x))
        return y.reshape(len(x), -1, *y.shape[2:])
    y = convolve(x * style[:, :, None, None], weight[None], up, 1)
    if not demodulate:
        return y
    squares = style.square() @ weight.square().sum((2, 3)).T
    return y * torch.rsqrt(squares + 1e-8)[:, :, None, None]


class Layer(nn.Module):
    """A 3x3 modulated convolution, noise, bias and activation; or a 1x1 one to an image."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, up: bool, image: bool, grouped: bool) -> None:
        super().__init__()
        size = 1 if image else 3
        self.style = Dense(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = None if image else nn.Parameter(torch.zeros(()))
        self.up, self.grouped = up, grouped

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B I H W], [B D] -> [B O H W], or with `up` [B O 2H 2W]"""
        weight, image = self.weight / math.sqrt(self.weight[0].numel()), self.noise_strength is None
        x = modulated(x, weight, self.style(w), not image, self.up, self.grouped)
        if image:
            return x + self.bias[:, None, None]
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
        return activated(x + self.noise_strength * noise + self.bias[:, None, None])


class Generator(nn.Module):
    """Latents to styles, and styles to images."""

    def __init__(
        self, side: int, channels: Callable[[int], int], grouped: bool, dim: int = 512, depth: int = 8
    ) -> None:
        super().__init__()
        self.mapping = nn.Sequential(*(Dense(dim, dim, rate=0.01, activate=True) for _ in range(depth)))
        self.start = nn.Parameter(torch.randn(channels(4), 4, 4))
        self.convs, self.images = nn.ModuleList(), nn.ModuleList()
        for size in sizes(side):
            if size > 4:
                self.convs.append(Layer(channels(size // 2), channels(size), dim, True, False, grouped))
            self.convs.append(Layer(channels(size), channels(size), dim, False, False, grouped))
            self.images.append(Layer(channels(size), 3, dim, False, True, grouped))
        self.layers = 2 * len(self.images)

    def styles(self, z: Tensor) -> Tensor:
        """[B Z] -> [B D]"""
        return self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))

    def forward(self, w: Tensor) -> Tensor:
        """[B L D] -> [B 3 H W]"""
        x, image, layers = self.start.expand(len(w), -1, -1, -1), None, iter(self.convs)
        for level, to_image in enumerate(self.images):
            for at in (2 * level - 1, 2 * level) if level else (0,):
                x = next(layers)(x, w[:, at])
            made = to_image(x, w[:, 2 * level + 1])
            image = made if image is None else upsample(image) + made
        return image


def sizes(side: int) -> Iterator[int]:
    """4, 8, 16 ... to the side of the image."""
    return (2**i for i in range(2, side.bit_length()))


class Block(nn.Module):
    """Two convolutions to half the size, and beside them one of single pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.halve = Conv(inputs, inputs, 3), Conv(inputs, outputs, 3, down=True)
        self.skip = Conv(inputs, outputs, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B I H W] -> [B O H/2 W/2]"""
        return (self.halve(self.conv(x)) + self.skip(x)) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images to logits."""

    def __init__(self, side: int, channels: Callable[[int], int], group: int = 4) -> None:
        super().__init__()
        blocks = [Block(channels(size), channels(size // 2)) for size in sizes(side) if size > 4][::-1]
        self.blocks, last = nn.Sequential(Conv(3, channels(side), 1), *blocks), channels(4)
        self.last_conv, self.group = Conv(last + 1, last, 3), group
        self.dense, self.logit = Dense(16 * last, last, activate=True), Dense(last, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B 3 H W] -> [B]"""
        x = self.blocks(x)
        deviation = torch.sqrt(x.unflatten(0, (-1, self.group)).var(1, unbiased=False) + 1e-8).mean((1, 2, 3))
        deviation = deviation.repeat_interleave(self.group)[:, None, None, None].expand(-1, 1, 4, 4)
        x = self.last_conv(torch.cat([x, deviation], 1))
        return self.logit(self.dense(x.flatten(1)))[:, 0]
