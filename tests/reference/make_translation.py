"""Reference values from torch for `test_pix2pix.py` and `test_cyclegan.py`: small networks at random weights.

    .venv-torch/bin/python tests/reference/make_translation.py        (see make_torch.py)

Writes torch_translation.npz beside this file, in torch's layouts ([B C H W], kernels [O I H W], transposed ones
[I O H W]). The networks are those of junyanz/pytorch-CycleGAN-and-pix2pix, written anew: its U-Net without dropout and
its residual generator, and its discriminator with both norms. Layers are listed in the order in which they are applied.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
WIDTH, SIDE, BATCH, LEVELS, BLOCKS = 2, 32, 2, 5, 2


class UNet(nn.Module):
    """Images of 2 channels to 3."""

    def __init__(self) -> None:
        super().__init__()
        features = [WIDTH * min(2**i, 8) for i in range(LEVELS)]
        inputs = [2, *features[:-1]]
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1, bias=False) for i, o in zip(inputs, features, strict=True))
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(f) for f in features[1:-1])
        ups = [(features[level] * (1 if level == LEVELS - 1 else 2), features[level - 1]) for level in range(LEVELS)]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False) for i, o in ups[:0:-1])
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in ups[:0:-1])
        self.last = nn.ConvTranspose2d(2 * features[0], 3, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B 2 H W] -> [B 3 H W]"""
        kept = []
        for level, down in enumerate(self.downs):
            x = down(F.leaky_relu(x, 0.2) if level else x)
            x = self.down_norms[level - 1](x) if 0 < level < LEVELS - 1 else x
            kept.append(x)
        x = kept.pop()
        for up, norm in zip(self.ups, self.up_norms, strict=True):
            x = torch.cat([kept.pop(), norm(up(F.relu(x)))], 1)
        return torch.tanh(self.last(F.relu(x)))


class ResNet(nn.Module):
    """Images of 3 channels to 3."""

    def __init__(self) -> None:
        super().__init__()
        w = WIDTH
        ends = [nn.Conv2d(3, w, 7), nn.Conv2d(w, 2 * w, 3, 2, 1), nn.Conv2d(2 * w, 4 * w, 3, 2, 1)]
        blocks = [nn.Conv2d(4 * w, 4 * w, 3) for _ in range(2 * BLOCKS)]
        self.convs = nn.ModuleList([*ends, *blocks, nn.Conv2d(w, 3, 7)])
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 3, 2, padding=1, output_padding=1) for i, o in ((4 * w, 2 * w), (2 * w, w))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B 3 H W] -> [B 3 H W]"""
        norm = F.instance_norm
        first, *downs = self.convs[:3]
        x = F.relu(norm(first(F.pad(x, (3, 3, 3, 3), mode="reflect"))))
        for down in downs:
            x = F.relu(norm(down(x)))
        blocks = self.convs[3:-1]
        for one, two in zip(blocks[::2], blocks[1::2], strict=True):
            h = F.relu(norm(one(F.pad(x, (1, 1, 1, 1), mode="reflect"))))
            x = x + norm(two(F.pad(h, (1, 1, 1, 1), mode="reflect")))
        for up in self.ups:
            x = F.relu(norm(up(x)))
        return torch.tanh(self.convs[-1](F.pad(x, (3, 3, 3, 3), mode="reflect")))


class Patch(nn.Module):
    """Images of 3 channels to logits of patches."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        features = [3, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2 if layer < 3 else 1, 1, bias=layer == 0 or not batch_norm)
            for layer, (i, o) in enumerate(zip(features[:-1], features[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(f) for f in features[2:] if batch_norm)
        self.last = nn.Conv2d(features[-1], 1, 4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B 3 H W] -> [B H' W']"""
        for layer, convolve in enumerate(self.convs):
            x = convolve(x)
            if layer:
                x = self.norms[layer - 1](x) if len(self.norms) else F.instance_norm(x)
            x = F.leaky_relu(x, 0.2)
        return self.last(x)[:, 0]


def main() -> None:
    """Writes the file: of each network its parameters, an input, the output, and the input's gradient of its square."""
    torch.manual_seed(0)
    networks = {"unet": UNet(), "resnet": ResNet(), "patch_batch": Patch(True), "patch_instance": Patch(False)}
    found: dict[str, np.ndarray] = {}
    for name, network in networks.items():
        for path, parameter in network.named_parameters():
            centre = 1.0 if "norm" in path and path.endswith("weight") else 0.0
            nn.init.normal_(parameter, centre, 0.2)
            found[f"{name}/{path}"] = parameter.detach().numpy()
        x = torch.rand(BATCH, 2 if name == "unet" else 3, SIDE, SIDE, requires_grad=True)
        y = network(2 * x - 1)
        (gradient,) = torch.autograd.grad((y**2).sum(), x)
        values = {"in": 2 * x - 1, "out": y, "gradient": gradient / 2}
        found |= {f"at/{name}_{key}": value.detach().numpy() for key, value in values.items()}
    np.savez_compressed(FOLDER / "torch_translation.npz", versions=f"torch {torch.__version__}", **found)


if __name__ == "__main__":
    main()
