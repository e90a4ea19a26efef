"""Makes vqgan.npz: what the authors' classes of VQGAN and latent diffusion, and diffusers', compute at random weights.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy scipy einops diffusers==0.42.1
    git clone https://github.com/CompVis/taming-transformers ../taming-transformers
    git clone https://github.com/CompVis/latent-diffusion ../latent-diffusion
    .venv-torch/bin/python tests/reference/make_vqgan.py ../taming-transformers ../latent-diffusion

Cases are stored as in official_*.npz, see make_official.py. The classes compute in float64, with the number of groups
that our norms have in layers so narrow, and with a mean square in the place of LPIPS, whose file is not at hand. The
output of "vqgan" and "kl" is the loss of the autoencoder, with the adaptive weight as the authors compute it, which is
stored beside it, a step after the discriminator's start.
"""

from __future__ import annotations

import pathlib
import sys
import types
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from make_official import FOLDER, Case, Cases, by_fan_in, computed
from torch import Tensor, nn

WIDTH, MULTIPLIERS, SIDE, ROWS, CODES, DIM, Z = 16, (1, 2), 8, 3, 8, 4, 6
SHAPE = {"ch": WIDTH, "out_ch": 3, "ch_mult": MULTIPLIERS, "num_res_blocks": 1, "in_channels": 3, "resolution": SIDE}
BETA, START = 0.25, 5
NOISE = torch.as_tensor(np.random.RandomState(1).standard_normal((ROWS, DIM, SIDE // 2, SIDE // 2)))


class Square(nn.Module):
    """In the place of LPIPS: a number a row, [B 1 1 1]."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((x - y) ** 2).mean((1, 2, 3), keepdim=True)


def narrow_norm(channels: int) -> nn.GroupNorm:
    """32 groups where there are 128 channels or more, and 4 channels in a group below."""
    return nn.GroupNorm(max(1, min(32, channels // 4)), channels, eps=1e-6)


class Whole(nn.Module):
    """The networks of taming's VQModel, or of latent diffusion's AutoencoderKL, which need Lightning."""

    def __init__(self, model: Any, loss: nn.Module, features: int, into: int, out_of: int, quantize: Any = None):
        super().__init__()
        same = {**SHAPE, "attn_resolutions": [SIDE // 2], "double_z": False}
        self.encoder = model.Encoder(**same, z_channels=features)
        self.decoder = model.Decoder(**same, z_channels=Z)
        self.quant_conv = nn.Conv2d(features, into, 1)
        self.post_quant_conv = nn.Conv2d(out_of, Z, 1)
        self.loss = loss
        self.loss.discriminator.requires_grad_(False)
        if quantize is not None:
            self.quantize = quantize
        self.weight = torch.zeros(())

    def judged(self, x: Tensor, y: Tensor, third: Any) -> Tensor:
        """The loss of the autoencoder, [1]; the adaptive weight is kept."""
        last = self.decoder.conv_out.weight
        loss, log = self.loss(*third(x, y), 0, START + 1, last_layer=last)
        self.weight = log["train/d_weight"]
        return loss.reshape(1)


def vqgan(swapped: bool) -> Case:
    """Taming's, with beta on either side."""
    from taming.modules.diffusionmodules import model
    from taming.modules.losses.vqperceptual import VQLPIPSWithDiscriminator
    from taming.modules.vqvae.quantize import VectorQuantizer2

    with mock.patch.object(model, "Normalize", narrow_norm):
        loss = VQLPIPSWithDiscriminator(START, disc_num_layers=1, disc_ndf=8, disc_weight=0.8)
        whole = Whole(model, loss, Z, DIM, DIM, VectorQuantizer2(CODES, DIM, BETA, legacy=swapped))

    def run(x: Tensor) -> Tensor:
        vectors, book, _ = whole.quantize(whole.quant_conv(whole.encoder(x)))
        y = whole.decoder(whole.post_quant_conv(vectors))
        return whole.judged(x, y, lambda x, y: (book, x, y))

    return Case(whole, {"x": torch.empty(ROWS, 3, SIDE, SIDE)}, run, by_fan_in)


def kl() -> Case:
    """Latent diffusion's, with a draw of the latents that is given."""
    from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
    from ldm.modules.losses.contperceptual import LPIPSWithDiscriminator
    from taming.modules.diffusionmodules import model

    with mock.patch.object(model, "Normalize", narrow_norm):
        loss = LPIPSWithDiscriminator(START, kl_weight=0.01, disc_num_layers=1, disc_weight=0.5)
        whole = Whole(model, loss, 2 * Z, 2 * DIM, DIM)

    def run(x: Tensor, noise: Tensor) -> Tensor:
        posterior = DiagonalGaussianDistribution(whole.quant_conv(whole.encoder(x)))
        y = whole.decoder(whole.post_quant_conv(posterior.mean + posterior.std * noise))
        return whole.judged(x, y, lambda x, y: (x, y, posterior))

    return Case(whole, {"x": torch.empty(ROWS, 3, SIDE, SIDE), "noise": NOISE}, run, by_fan_in)


def discriminator() -> Case:
    """Taming's discriminator of three layers, and its loss."""
    from taming.modules.discriminator.model import NLayerDiscriminator
    from taming.modules.losses.vqperceptual import hinge_d_loss

    network = NLayerDiscriminator(ndf=8, n_layers=3)
    x = torch.as_tensor(np.random.RandomState(2).uniform(-1, 1, (ROWS, 3, 32, 32)))
    inputs = {"fake": torch.empty(ROWS, 3, 32, 32), "real": x}
    return Case(network, inputs, lambda fake, real: hinge_d_loss(network(real), network(fake)).reshape(1), by_fan_in)


def of_diffusers() -> Cases:
    """VQModel, and AutoencoderKL with and without its 1x1 convolutions."""
    levels = {"block_out_channels": (WIDTH, WIDTH), "norm_num_groups": WIDTH // 4, "layers_per_block": 1}
    levels |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vq = diffusers.VQModel(**levels, latent_channels=Z, num_vq_embeddings=CODES, vq_embed_dim=DIM)
    vq.quantize.embedding.requires_grad_(False)  # the reconstruction has no gradient to it
    kl = diffusers.AutoencoderKL(**levels, latent_channels=DIM)
    bare = diffusers.AutoencoderKL(**levels, latent_channels=DIM, use_quant_conv=False, use_post_quant_conv=False)

    def drawn(network: nn.Module) -> Any:
        def run(x: Tensor, noise: Tensor) -> Tensor:
            posterior = network.encode(x).latent_dist
            return network.decode(posterior.mean + posterior.std * noise).sample

        return run

    image = {"x": torch.empty(ROWS, 3, SIDE, SIDE)}
    return {
        "diffusers_vq": Case(vq, image, lambda x: vq.decode(vq.encode(x).latents).sample, by_fan_in),
        "diffusers_kl": Case(kl, image | {"noise": NOISE}, drawn(kl), by_fan_in),
        "diffusers_bare_kl": Case(bare, image | {"noise": NOISE}, drawn(bare), by_fan_in),
    }


def main(taming: pathlib.Path, ldm: pathlib.Path) -> None:
    """Writes the file."""
    sys.path[:0] = [str(taming), str(ldm)]
    module: Any = types.ModuleType("taming.modules.losses.lpips")
    module.LPIPS = Square
    sys.modules["taming.modules.losses.lpips"] = module
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    torch.manual_seed(0)
    cases = {"vqgan": vqgan(False), "vqgan_swapped": vqgan(True), "kl": kl(), "discriminator": discriminator()}
    found: dict[str, Any] = {}
    for name, case in (cases | of_diffusers()).items():
        stored = computed(case) | {"start/weights": [], "start/statistics": np.zeros((0, 3))}
        if isinstance(case.network, Whole):
            stored["after/adaptive_weight"] = case.network.weight
        found |= {f"{name}/{key}": value for key, value in stored.items()}
    arrays = {n: value.detach().numpy() if isinstance(value, Tensor) else np.array(value) for n, value in found.items()}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "numpy": np.__version__}
    versions |= {
        "taming-transformers": "3ba01b241669f5ade541ce990f7650a3b8f65318",
        "latent-diffusion": "a506df5756472e2ebaf9078affdde2c4f1502cd4",
    }
    np.savez_compressed(FOLDER / "vqgan.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
