"""The side of PyTorch in `diffusion.py`: the U-Net, schedules and pipeline of diffusers, and DiT as a plain module."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch
from diffusion import Setup
from sides import Step, respond, tell
from steps_torch import convolution, wait
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

CLASSES, FREQUENCIES = 1000, 128


def unet(width: int, multipliers: Sequence[int], blocks: int) -> nn.Module:
    """DDPM's network; the defaults of `diffusion.py` make it google/ddpm-cifar10-32's."""
    from diffusers import UNet2DModel  # a DiT does without it

    attention = ["Attn" if 32 >> level == 16 else "" for level in range(len(multipliers))]
    return UNet2DModel(
        sample_size=32,
        block_out_channels=tuple(width * multiplier for multiplier in multipliers),
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in attention),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(attention)),
        layers_per_block=blocks,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
        dropout=0.1,
    )


class Block(nn.Module):
    """Attention and a perceptron with adaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """[B L D], [B D] -> [B L D]."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(c)[:, None].chunk(6, dim=-1)
        qkv = self.qkv(modulated(x, shift_1, scale_1)).unflatten(-1, (3, self.heads, -1))
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))  # each [B heads L D/heads]
        x = x + gate_1 * self.out(mixed.transpose(1, 2).flatten(2))
        return x + gate_2 * self.mlp(modulated(x, shift_2, scale_2))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """A layer norm without weights, then the condition's scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class DiT(nn.Module):
    """The network of latents [B 4 H W] with patches of 2x2, which predicts the noise in the first of its channels."""

    def __init__(self, depth: int, width: int, heads: int, out_channels: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(4, width, 2, stride=2)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(CLASSES + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, 4 * out_channels)
        # Random ones do as well: they take the time of sines and cosines, and are not trained either.
        self.register_buffer("positions", torch.randn(256, width))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """[B 4 32 32], [B], [B] -> [B out_channels 32 32]."""
        angle = t[:, None] / 10_000 ** (torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES)
        c = self.time(torch.cat([angle.cos(), angle.sin()], dim=1)) + self.label(labels)
        h = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            h = block(h, c)
        h = self.out(modulated(h, *self.modulation(c)[:, None].chunk(2, dim=-1)))
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (16, 16)), 2)


class Torch:
    """What PyTorch does each part with."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        torch.backends.cuda.matmul.allow_tf32 = True  # as jax does in float32
        self.setup, self.device = setup, "cuda" if setup.device == "gpu" else "cpu"
        self.dtype = getattr(torch, setup.dtype)
        network: nn.Module = DiT(**setup.network) if setup.is_dit else self._unet()
        layout = torch.channels_last if self.device == "cuda" else torch.contiguous_format
        self.network = network.to(self.device, memory_format=layout)

    def _unet(self) -> nn.Module:
        """Of the weights that lie in the folder of the setup; fresh where it names none that is there."""
        if not os.path.isdir(self.setup.weights):
            return unet(**self.setup.network)
        from diffusers import UNet2DModel

        return UNet2DModel.from_pretrained(self.setup.weights)

    def about(self) -> dict[str, Any]:
        """Versions, and how many parameters the network has."""
        others = () if self.setup.is_dit else ("diffusers",)
        return {
            "torch": torch.__version__,
            **{name: importlib.metadata.version(name) for name in others},
            "python": platform.python_version(),
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }

    def ready(self, case: str) -> Step:
        """A function that does what the case names."""
        if self.setup.part == "convolutions":
            part, *layer = json.loads(case)
            return convolution(part, layer, self.setup.batch, self.device, self.dtype)
        return self.run() if case == "run" else self._step()

    def _step(self) -> Step:
        """A training step on images that are given."""
        network, n = self.network.train(), self.setup.batch
        weights = list(network.parameters())
        adam = torch.optim.Adam(weights, lr=2e-4, fused=True)
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9999))
        kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, device=self.device), 0)[:, None, None, None]
        images = torch.rand(n, 4 if self.setup.is_dit else 3, 32, 32, device=self.device) * 2 - 1

        def one() -> None:
            noise, t = torch.randn_like(images), torch.randint(0, 1000, (n,), device=self.device)
            with self._precision():
                x = kept[t].sqrt() * images + (1 - kept[t]).sqrt() * noise
                loss = F.mse_loss(self._predicted(x, t)[:, : images.shape[1]], noise)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            adam.step()
            average.update_parameters(network)
            wait(self.device)

        return one

    def _predicted(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise; a tenth of the labels is dropped."""
        if not self.setup.is_dit:
            return self.network(x, t).sample
        return self.network(x, t, torch.where(torch.rand_like(t.float()) < 0.1, CLASSES, 0))

    def run(self) -> Step:
        """Images by `DDIMPipeline`."""
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(self.network.eval(), DDIMScheduler()).to(self.device)
        pipeline.set_progress_bar_config(disable=True)

        def one() -> Any:
            with self._precision():
                return pipeline(self.setup.batch, num_inference_steps=self.setup.evaluations, output_type="np")

        return one

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def main() -> None:
    """Does what `diffusion.py` asks."""
    setup = Setup(**json.loads(sys.argv[1]))
    if setup.part == "first_image":
        tell("imports")
        side = Torch(setup)
        if not os.path.isdir(setup.weights):
            side.network.save_pretrained(setup.weights)
            tell("written")
            return
        run = side.run()
        tell("network")
        run()
        tell("image")
    else:
        torch_side = Torch(setup)
        respond(torch_side.about(), torch_side.ready)


if __name__ == "__main__":
    main()
