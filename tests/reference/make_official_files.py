"""Makes official_files.npz: small checkpoints in the form of the authors' files, and what their classes make of them.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy scipy requests "setuptools<81"
    git clone https://github.com/NVlabs/stylegan2-ada-pytorch ../stylegan2
    git clone https://github.com/NVlabs/edm ../edm && git clone https://github.com/NVlabs/edm2 ../edm2
    .venv-torch/bin/python tests/reference/make_official_files.py ../stylegan2 ../edm ../edm2

The networks are pickled as their training loops do, in float32 or as published in float16. Weights are drawn from
two values, so that the file is small. In place of a class's source, which is the authors', a file has a line that
would end the process.
"""

from __future__ import annotations

import importlib
import pathlib
import pickle
import sys
from typing import Any

import numpy as np
import torch
from make_published_files import without_source
from torch import Tensor, nn

FILE = pathlib.Path(__file__).parent / "official_files.npz"
CLASSES = 3
LABELS = torch.tensor([2, 0])


def drawn(module: nn.Module, scale: float | None = None) -> nn.Module:
    """Draws all parameters as -1 or 1, times the deviation that their fan in asks for, or `scale`."""
    with torch.no_grad():
        for value in module.parameters():
            size = 1.0 if value.ndim < 2 else value[0].numel() ** -0.5
            value.copy_((2 * torch.randint(0, 2, value.shape) - 1) * (scale or size))
    return module.eval().requires_grad_(False)


def one_hot(classes: int) -> Tensor | None:
    """Returns [2 K]; None without classes."""
    return nn.functional.one_hot(LABELS, CLASSES).float() if classes else None


def stylegan2(networks: Any) -> dict[str, Any]:
    """Generators, their averages and discriminators, with classes and without."""
    found = {}
    for name, classes, architecture in (("classes", CLASSES, "resnet"), ("plain", 0, "orig")):
        shape = {"channel_base": 64, "channel_max": 8}
        common = {"c_dim": classes, "img_resolution": 16, "img_channels": 3}
        made = networks.Generator(
            z_dim=5, w_dim=6, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={**shape, "num_fp16_res": 4}, **common
        )
        judge = networks.Discriminator(
            architecture=architecture, epilogue_kwargs={"mbstd_group_size": 2}, **shape, num_fp16_res=4, **common
        )
        for module in (made, judge):
            drawn(module, 1.0)
        for part, value in made.mapping.named_parameters():
            value.mul_(100.0 if part.startswith("fc") else 1.0)  # whose rate is 0.01
        made.mapping.w_avg.normal_()
        z, images = torch.randn(2, 5), torch.randn(2, 3, 16, 16)
        out = made(z, one_hot(classes), truncation_psi=0.7, noise_mode="const", force_fp32=True)
        file = {"G": None, "D": judge, "G_ema": made, "training_set_kwargs": {"resolution": 16}}
        arrays = {"z": z, "images": out, "judged": images, "logits": judge(images, one_hot(classes), force_fp32=True)}
        found[name] = (file, arrays)
    return found


def edm(networks: Any) -> dict[str, Any]:
    """The three networks: with classes and labels of augmentation, with neither, and with classes."""
    levels = {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
    song = {"model_type": "SongUNet", "model_channels": 8, **levels}
    waves = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
    kinds = {
        "ddpmpp": (CLASSES, {**song, "augment_dim": 9}),
        "ncsnpp": (0, {**song, **waves, "resample_filter": [1, 3, 3, 1]}),
        "adm": (CLASSES, {"model_type": "DhariwalUNet", **levels, "model_channels": 16, "channel_mult": [1, 4]}),
    }
    found = {}
    for name, (classes, kind) in kinds.items():
        made = drawn(networks.EDMPrecond(img_resolution=8, img_channels=3, label_dim=classes, **kind))
        x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.25, 3.0])
        file = {"ema": made, "loss_fn": None, "augment_pipe": None, "dataset_kwargs": {"resolution": 8}}
        found[name] = (file, {"x": x, "sigma": sigma, "denoised": made(x, sigma, one_hot(classes))})
    return found


def edm2(networks: Any) -> dict[str, Any]:
    """Of pixels without classes, and of latents with them, in float16 as published."""
    found = {}
    for name, classes, channels in (("pixels", 0, 3), ("latents", CLASSES, 4)):
        shape = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
        made = networks.Precond(
            img_resolution=8, img_channels=channels, label_dim=classes, channels_per_head=8, logvar_channels=4, **shape
        )
        made = drawn(made).to(torch.float16)
        x, sigma = torch.randn(2, channels, 8, 8), torch.tensor([0.25, 3.0])
        out, logvar = in_float32(made)(x, sigma, one_hot(classes), return_logvar=True)
        file = {"ema": made, "encoder": None, "dataset_kwargs": {"resolution": 8}}
        found[name] = (file, {"x": x, "sigma": sigma, "denoised": out, "logvar": logvar.flatten()})
    return found


def in_float32(module: nn.Module) -> nn.Module:
    """Returns a copy that computes in float32."""
    return pickle.loads(pickle.dumps(module)).to(torch.float32)


def main(folders: list[str]) -> None:
    """Writes the file."""
    torch.manual_seed(0)
    arrays = {}
    for family, folder in zip((stylegan2, edm, edm2), folders, strict=True):
        sys.path.insert(0, folder)
        without_source(importlib.import_module("torch_utils.persistence"))
        networks = importlib.import_module("training.networks_edm2" if family is edm2 else "training.networks")
        for case, (file, values) in family(networks).items():
            name = f"{family.__name__}_{case}"
            arrays[f"{name}/file"] = np.frombuffer(pickle.dumps(file), np.uint8)
            arrays |= {f"{name}/{key}": value.numpy() for key, value in values.items()}
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.split(".")[0] in ("training", "torch_utils", "dnnlib")]:
            del sys.modules[name]
    np.savez_compressed(FILE, torch=torch.__version__, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
