"""Makes latent_diffusion.npz: what the authors' classes of first stages and of latent diffusion's U-Net compute.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy einops diffusers==0.42.1
    git clone https://github.com/CompVis/taming-transformers ../taming-transformers
    git clone https://github.com/CompVis/latent-diffusion ../latent-diffusion
    .venv-torch/bin/python tests/reference/make_latent_diffusion.py ../taming-transformers ../latent-diffusion

First stages are those of vqgan.npz, and their output is what they encode and decode. U-Nets are as narrow as 32 groups
of channels allow: by a class, whose embedding is the only token, and without a condition. Of both there are the images
that the authors' DDIM and first stages make of given latents in 5 steps, guided away from the last class; and of
taming's GPT of priors.npz those of the likeliest codes. All compute in float64.
Names, shapes and scales of weights are kept, which are drawn by their names (tests/drawn_weights.py).
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import types
from typing import Any
from unittest import mock

import numpy as np
import torch
from make_official import FOLDER, by_fan_in, drawn_weights
from torch import Tensor, nn

ROWS, CHANNELS, SIDE, CLASSES, FEATURES = 2, 4, 4, 5, 12
STEPS, GUIDANCE, SCALE, OF_IMAGES = 5, 3.0, 0.5, torch.tensor([3, 1])
T, LABELS = torch.tensor([3.0, 40.0]), torch.tensor([4, 1])
SMALL = {"in_channels": CHANNELS, "out_channels": CHANNELS, "model_channels": 128, "channel_mult": (1, 2)}
SMALL |= {"image_size": SIDE, "num_res_blocks": 1, "attention_resolutions": (2,), "use_checkpoint": False}


def normal(name: str, *shape: int) -> Tensor:
    """Inputs follow from their names too."""
    return torch.as_tensor(drawn_weights.normal(f"input {name}", shape))


def draw(network: nn.Module) -> np.ndarray:
    """Draws a network's weights, and says which there are: "name|shape|scale"."""
    lines = []
    for name, parameter in network.eval().requires_grad_(False).named_parameters():
        shape = tuple(parameter.shape)
        parameter.copy_(torch.as_tensor(drawn_weights.weight(name, shape, by_fan_in(name, shape))))
        lines.append(f"{name}|{','.join(map(str, shape))}|{by_fan_in(name, shape)!r}")
    return np.array(lines)


def unets() -> dict[str, Any]:
    """Both U-Nets: the weights that they have, what they put out, and the images that are drawn by them."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    attends = {"use_spatial_transformer": True, "transformer_depth": 1, "context_dim": FEATURES}
    by_class = nn.ModuleDict({"unet": UNetModel(**SMALL, num_heads=2, **attends)})
    by_class["embedding"] = nn.Embedding(CLASSES, FEATURES)
    plain = nn.ModuleDict({"unet": UNetModel(**SMALL, num_head_channels=32)})
    found, x = {}, normal("latents", ROWS, CHANNELS, SIDE, SIDE)
    for name, network in {"by_class": by_class, "plain": plain}.items():
        found[f"{name}/weights"] = draw(network)
        network["unet"].dtype = torch.float64
        told = {"context": network["embedding"](LABELS)[:, None]} if "embedding" in network else {}
        found[f"{name}/y"] = np.float32(network["unet"](x, T, **told))
        found[f"{name}/images"] = np.float32(images(network, x))
    return found


def images(network: Any, x: Tensor) -> Tensor:
    """What the authors' sampler and decoder make of latents."""
    from ldm.models.diffusion.ddim import DDIMSampler

    class Sampler(DDIMSampler):
        """Where there is no GPU."""

        def register_buffer(self, name: str, attr: Any) -> None:
            setattr(self, name, attr)

    class Model:
        """What the sampler asks a model for."""

        num_timesteps, device = 1000, torch.device("cpu")
        betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        alphas_cumprod_prev = torch.cat([torch.ones(1), alphas_cumprod[:-1]])

        def apply_model(self, x: Tensor, t: Tensor, c: Any) -> Tensor:
            return network["unet"](x, t, **({} if c is None else {"context": c}))

    guided = {}
    if "embedding" in network:
        classes, none = (
            network["embedding"](labels)[:, None] for labels in (OF_IMAGES, torch.full((ROWS,), CLASSES - 1))
        )
        guided = {"conditioning": classes, "unconditional_conditioning": none, "unconditional_guidance_scale": GUIDANCE}
    sampler: Any = Sampler(Model())
    z = sampler.sample(STEPS, ROWS, x.shape[1:], x_T=x, verbose=False, **guided)[0] / SCALE
    return decoded("vqgan" if guided else "kl", z)


def decoded(name: str, z: Tensor) -> Tensor:
    """What a first stage makes of latents, which one with codes quantises first."""
    import make_vqgan

    whole: Any = (make_vqgan.vqgan(True) if name == "vqgan" else make_vqgan.kl()).network
    draw(whole)
    return whole.decoder(whole.post_quant_conv(whole.quantize(z)[0] if name == "vqgan" else z))


def first_stages() -> dict[str, Any]:
    """Latents before they are quantised or drawn, and images of given latents."""
    import make_vqgan

    found, x = {}, normal("x", make_vqgan.ROWS, 3, make_vqgan.SIDE, make_vqgan.SIDE)
    z = normal("z", make_vqgan.ROWS, make_vqgan.DIM, make_vqgan.SIDE // 2, make_vqgan.SIDE // 2)
    for name, case in {"vqgan": make_vqgan.vqgan(True), "kl": make_vqgan.kl()}.items():
        whole: Any = case.network
        draw(whole)
        found[f"{name}/encoded"] = np.float32(whole.quant_conv(whole.encoder(x)))
        found[f"{name}/decoded"] = np.float32(decoded(name, z))
    return found


def second_stage() -> dict[str, Any]:
    """The likeliest codes of taming's GPT by a class, by the authors' loop, and their images."""
    import make_priors
    import make_vqgan
    from taming.modules.vqvae.quantize import VectorQuantizer2

    network = make_priors.taming()[0].requires_grad_(False)
    for name, weight in network.named_parameters():
        scale = make_priors.scale_of(name, tuple(weight.shape))
        weight.copy_(torch.as_tensor(drawn_weights.weight(name, tuple(weight.shape), scale)))
    with mock.patch.dict(sys.modules, {"transformers": mock.MagicMock()}):  # of its filter of logits alone
        loop = importlib.import_module("taming.modules.transformer.mingpt").sample_with_past
    codes = loop(make_priors.LABELS[:, None], network, make_priors.LENGTH, sample_logits=False)
    whole: Any = make_vqgan.vqgan(False).network
    whole.quantize = VectorQuantizer2(make_priors.CODES, make_vqgan.DIM, 0.25)
    draw(whole)
    shape = (make_priors.ROWS, make_priors.SIDE, make_priors.SIDE, make_vqgan.DIM)
    vectors = whole.quantize.get_codebook_entry(codes.reshape(-1), shape=shape)
    images = whole.decoder(whole.post_quant_conv(vectors))
    return {"taming/codes": codes.numpy(), "taming/images": np.float32(images)}


def main(taming: pathlib.Path, ldm: pathlib.Path) -> None:
    """Writes the file."""
    sys.path[:0] = [str(taming), str(ldm)]
    lpips: Any = types.ModuleType("taming.modules.losses.lpips")
    lpips.LPIPS = nn.Identity  # its file is not at hand, and nothing here reads it
    sys.modules["taming.modules.losses.lpips"] = lpips
    lists: Any = types.ModuleType("omegaconf.listconfig")
    lists.ListConfig = list  # of configurations, whose type alone is asked for
    sys.modules |= {"omegaconf": types.ModuleType("omegaconf"), "omegaconf.listconfig": lists}
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    versions = {"torch": torch.__version__, "latent-diffusion": "a506df5756472e2ebaf9078affdde2c4f1502cd4"}
    versions["taming-transformers"] = "3ba01b241669f5ade541ce990f7650a3b8f65318"
    np.savez_compressed(
        FOLDER / "latent_diffusion.npz", versions=str(versions), **unets(), **first_stages(), **second_stage()
    )


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
