"""Makes official_*.npz: what the authors' own classes compute at random weights, for tests/official/.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy scipy requests "setuptools<81"
    .venv-torch/bin/pip install --no-deps timm==0.9.16
    git clone https://github.com/brownvc/R3GAN ../R3GAN
    .venv-torch/bin/python tests/reference/make_official.py r3gan ../R3GAN

One family a call, and the folder of its clone:

    stylegan2   NVlabs/stylegan2-ada-pytorch         edm   NVlabs/edm
    r3gan       brownvc/R3GAN                        adm   openai/guided-diffusion
    biggan      ajbrock/BigGAN-PyTorch               dit   facebookresearch/DiT
    var         FoundationVision/VAR

The classes are imported as they are, but compute in float64, also where their code names float32. Of each small network
the file has the output and, of the gradient of half its squared sum to the first input and to each weight, the
component along a random direction and the length; of each wide one the statistics of its weights at the start.
Weights, first inputs and directions follow from their names (tests/drawn_weights.py).
"""

from __future__ import annotations

import functools
import importlib
import math
import pathlib
import re
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

FIXED = re.compile(
    r"resample_filter|Kernel$|\.sv0$|accumulation_counter|pos_embed|lvl_1L|attn_bias|zero_k_bias"
)  # buffers that are kept as they are
ROWS, SIDE, CLASSES = 4, 16, 3
LABELS = torch.tensor([2, 0, 1, 1])  # of as many rows as there are, the first ones


class Case(NamedTuple):
    """A network, and a call of it."""

    network: nn.Module
    inputs: dict[str, Tensor]  # of `run`; of the first only the shape counts, and the gradient is taken of it
    run: Callable[..., Tensor]
    scale: Callable[[str, tuple[int, ...]], float]  # of the weight of a name and shape


Cases = dict[str, Case]


def by_fan_in(name: str, shape: tuple[int, ...]) -> float:
    """Keeps the size of what passes through; half of it for biases, norms and statistics."""
    return 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.5


def one_hot(rows: int = ROWS) -> Tensor:
    """[B K]"""
    return nn.functional.one_hot(LABELS[:rows], CLASSES).to(torch.float64)


# --- families ---------------------------------------------------------------------------------------------------------
# Each is a function of whether its networks are wide; of wide ones only the weights at the start are of interest.


def stylegan2(wide: bool) -> Cases:
    """The generator at a truncation and with the stored noise, and discriminators with and without residuals."""
    networks = importlib.import_module("training.networks")
    latent, style, width = (16, 48, 64) if wide else (5, 7, 8)
    shape = {"channel_base": 12 * width, "channel_max": width}
    layers = {"num_layers": 2}

    def scale(name: str, shape: tuple[int, ...]) -> float:
        rate = 0.01 if "mapping.fc" in name else 1.0  # learning rates are equalised
        return (1.0 if len(shape) != 1 or "w_avg" in name else 0.3) / rate

    def discriminator(classes: int, architecture: str) -> Case:
        options = {"mapping_kwargs": layers, "epilogue_kwargs": {"mbstd_group_size": 2}}
        network = networks.Discriminator(classes, SIDE, 3, architecture, **shape, **options)
        inputs = {"x": torch.empty(ROWS, 3, SIDE, SIDE)} | ({"labels": one_hot()} if classes else {})
        return Case(network, inputs, lambda x, labels=None: network(x, labels)[:, 0], scale)

    generator = networks.Generator(latent, CLASSES, style, SIDE, 3, layers, shape).eval()
    made = functools.partial(generator, truncation_psi=0.6, noise_mode="const")
    return {
        "generator": Case(generator, {"z": torch.empty(ROWS, latent), "c": one_hot()}, made, scale),
        "discriminator": discriminator(CLASSES, "resnet"),
        "discriminator_plain": discriminator(0, "orig"),
    }


def r3gan(wide: bool) -> Cases:
    """Two stages of different widths, with labels."""
    networks = importlib.import_module("R3GAN.Networks")
    widths, groups, blocks = ((96, 48) if wide else (12, 8)), (3, 2), (2, 1)
    latent, embedding = (32, 64) if wide else (5, 4)
    classes = {"ConditionDimension": CLASSES, "ConditionEmbeddingDimension": embedding}
    generator = networks.Generator(latent, widths, groups, blocks, 2, **classes)
    discriminator = networks.Discriminator(widths[::-1], groups[::-1], blocks[::-1], 2, **classes)
    return {
        "generator": Case(generator, {"x": torch.empty(ROWS, latent), "y": one_hot()}, generator, by_fan_in),
        "discriminator": Case(
            discriminator, {"x": torch.empty(ROWS, 3, 8, 8), "y": one_hot()}, discriminator, by_fan_in
        ),
    }


def biggan(wide: bool) -> Cases:
    """BigGAN, with a shared embedding and a latent in parts or without, and BigGAN-deep.

    The discriminator is one for 64x64: for 32x32 the table of sizes says 16 throughout, and so has attention
    in every block. In training spectral norms start from the singular vectors themselves; batch norms are the code's
    own ("mybn"), whose arithmetic is that of its cross-replica ones.
    """
    plain, deep = importlib.import_module("BigGAN"), importlib.import_module("BigGANdeep")
    layers = importlib.import_module("layers")
    parts = {"dim_z": 8, "G_shared": True, "shared_dim": 5, "hier": True, "mybn": True, "SN_eps": 1e-6}
    tables = {"dim_z": 8, "G_shared": False, "mybn": True, "SN_eps": 1e-6}

    def of(module: Any, part: str, side: int, attention: str, train: bool = False, **options: Any) -> Case:
        letter, channels = part[0], {32: 8, 64: 4}[side] * (1 + 3 * wide)
        options |= {f"{letter}_ch": channels, f"{letter}_attn": attention, "resolution": side, "n_classes": CLASSES}
        network = getattr(module, {"G": "Generator", "D": "Discriminator"}[letter])(**options).train(train)
        first = torch.empty(2, *((8,) if letter == "G" else (3, side, side)))

        def run(x: Tensor, y: Tensor) -> Tensor:
            return network(x, network.shared(y)) if letter == "G" else network(x, y)[:, 0]

        return Case(network, {"x": first, "y": LABELS[:2]}, run, by_fan_in)

    def trained(case: Case) -> Case:
        def run(x: Tensor, y: Tensor) -> Tensor:
            for module in case.network.modules():
                if isinstance(module, layers.SN):
                    module.u0[:] = torch.linalg.svd(module.weight.flatten(1))[0][:, 0]
            return case.run(x, y)

        return case._replace(run=run)

    return {
        "generator": of(plain, "G", 32, "16", **parts),
        "generator_train": trained(of(plain, "G", 32, "16", True, **parts)),
        "generator_tables": of(plain, "G", 32, "0", **tables),
        "discriminator": of(plain, "D", 64, "16", SN_eps=1e-6),
        "discriminator_train": trained(of(plain, "D", 64, "16", True, SN_eps=1e-6)),
        "deep_generator": of(deep, "G", 64, "16", **parts),
        "deep_discriminator": of(deep, "D", 64, "16", SN_eps=1e-6),
    }


def edm(wide: bool) -> Cases:
    """DDPM++, NCSN++ and EDM's ADM, in EDM's preconditioning."""
    networks = importlib.import_module("training.networks")
    width = 64 if wide else 16
    levels = {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.0}
    song = {"model_type": "SongUNet", "model_channels": width, "augment_dim": 9, **levels}
    ncsnpp = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
    kinds = {
        "ddpmpp": song,
        "ncsnpp": {**song, **ncsnpp, "resample_filter": [1, 3, 3, 1]},
        "adm": {"model_type": "DhariwalUNet", "model_channels": 32, **levels, "channel_mult": [1, 4]},
    }
    cases = {}
    for name, kind in kinds.items():
        network = networks.EDMPrecond(8, 3, CLASSES, **kind).eval()
        inputs = {"x": torch.empty(2, 3, 8, 8), "sigma": torch.tensor([0.25, 3.0]), "class_labels": one_hot(2)}
        if "augment_dim" in kind:
            inputs["augment_labels"] = torch.randn(2, 9)
        cases[name] = Case(network, inputs, network, by_fan_in)
    return cases


def adm(wide: bool) -> Cases:
    """The U-Net with classes and a learned variance, its classifier, and improved DDPM's.

    The 32 groups of its norms are those of ours from a width of 128 on.
    """
    unet = importlib.import_module("guided_diffusion.unet")
    levels = {"num_res_blocks": 1, "attention_resolutions": [2], "channel_mult": (1, 1.5)}
    blocks = {"num_head_channels": 64, "use_scale_shift_norm": True, "resblock_updown": True}
    network = unet.UNetModel(8, 3, 128, 6, **levels, **blocks, num_classes=CLASSES)
    improved = unet.UNetModel(8, 3, 128, 6, **levels, num_heads=2)
    classifier = unet.EncoderUNetModel(8, 3, 128, 5, **levels, **blocks, pool="attention")
    inputs = {"x": torch.empty(2, 3, 8, 8), "timesteps": torch.tensor([3.0, 40.0])}
    return {
        "unet": Case(network, {**inputs, "y": LABELS[:2]}, network, by_fan_in),
        "improved": Case(improved, inputs, improved, by_fan_in),
        "classifier": Case(classifier, inputs, classifier, by_fan_in),
    }


def dit(wide: bool) -> Cases:
    """Two blocks; the last label is the one of dropped labels."""
    for name in ("torchvision.ops.misc", "torchvision.models.feature_extraction", "timm.data"):
        sys.modules[name] = mock.MagicMock()  # timm asks for them, DiT does not
    width = 96 if wide else 24
    network = importlib.import_module("models").DiT(8, 2, 4, width, depth=2, num_heads=3, num_classes=CLASSES).eval()
    inputs = {"x": torch.empty(3, 4, 8, 8), "t": torch.tensor([0.25, 40.0, 7.0]), "y": torch.tensor([1, 2, CLASSES])}
    return {"dit": Case(network, inputs, network, by_fan_in)}


def var(wide: bool) -> Cases:
    """Two blocks over three scales, as in training and with caches; the last label is the one of dropped labels."""
    sys.modules["huggingface_hub"] = mock.MagicMock(PyTorchModelHubMixin=object)
    width, depth = (96 if wide else 24), 2
    tokenizer = types.SimpleNamespace(Cvae=5, vocab_size=7, quantize=None)
    options = {"norm_eps": 1e-6, "attn_l2_norm": True, "cond_drop_rate": 0.0, "patch_nums": (1, 2, 3)}
    network = importlib.import_module("models.var").VAR(tokenizer, CLASSES, depth, width, 3, **options).eval()
    network.init_weights(init_adaln=0.5, init_adaln_gamma=1e-5, init_head=0.02, init_std=-1)

    def whole(x: Tensor, y: Tensor) -> Tensor:
        return network(y, x)

    def cached(x: Tensor, y: Tensor) -> Tensor:
        c, found, places = network.class_emb(y), [], network.lvl_embed(network.lvl_1L) + network.pos_1LC
        for block in network.blocks:
            block.attn.kv_caching(True)
        for begin, end in network.begin_ends:
            h = network.word_embed(x[:, begin - 1 : end - 1]) if begin else c[:, None] + network.pos_start
            h = h + places[:, begin:end]
            for block in network.blocks:
                h = block(x=h, cond_BD=c, attn_bias=None)
            found.append(network.get_logits(h, c))
        return torch.cat(found, dim=1)

    inputs = {"x": torch.empty(3, 13, 5), "y": torch.tensor([1, 2, CLASSES])}
    return {name: Case(network, inputs, run, by_fan_in) for name, run in (("whole", whole), ("cached", cached))}


# --- what is stored ---------------------------------------------------------------------------------------------------


def fill(case: Case) -> list[str]:
    """Draws every weight and statistic, and says which there are: "name|shape|scale"."""
    lines = []
    for name, tensor in case.network.state_dict().items():
        if not FIXED.search(name):
            scale = case.scale(name, tuple(tensor.shape))
            tensor.copy_(torch.as_tensor(drawn_weights.weight(name, tuple(tensor.shape), scale)))
            lines.append(f"{name}|{','.join(map(str, tensor.shape))}|{scale!r}")
    return lines


def computed(case: Case) -> dict[str, Any]:
    """The weights' names, the inputs, the output, and gradients."""
    lines = fill(case)
    before = {name: buffer.clone() for name, buffer in case.network.named_buffers()}
    (name, first), *others = case.inputs.items()
    first = torch.as_tensor(drawn_weights.normal(f"input {name}", tuple(first.shape))).requires_grad_()
    out = case.run(**{name: first}, **dict(others))
    of = {f"input {name}": first} | {n: p for n, p in case.network.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad((out**2).sum() / 2, list(of.values()))
    along = [
        (g * torch.as_tensor(drawn_weights.direction(n, tuple(g.shape)))).sum()
        for n, g in zip(of, gradients, strict=True)
    ]
    found = {"weights": lines, "first": f"{name}|{','.join(map(str, first.shape))}|1.0", "output": out}
    found |= {"gradients": list(of), "along": torch.stack(along), "lengths": torch.stack([g.norm() for g in gradients])}
    found |= {f"input/{n}": tensor for n, tensor in others}
    after = {n: buffer for n, buffer in case.network.named_buffers() if n.endswith(("_mean", "_var"))}
    return found | {f"after/{n}": buffer for n, buffer in after.items() if not buffer.equal(before[n])}


def start(network: nn.Module) -> dict[str, Any]:
    """Of each weight at the start its name and shape, mean, deviation and mean size."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    values = torch.stack([torch.stack([p.mean(), p.std(unbiased=False), p.abs().mean()]) for p in named.values()])
    lines = [f"{name}|{','.join(map(str, p.shape))}" for name, p in named.items()]
    return {"start/weights": lines, "start/statistics": values}


def main(family: str, folder: pathlib.Path) -> None:
    """Writes the file of a family, whose clone is `folder`."""
    sys.path.insert(0, str(folder))
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    make = globals()[family]
    cases, wide = make(wide=False), make(wide=True)
    for name, case in cases.items():
        found |= {f"{name}/{key}": value for key, value in (computed(case) | start(wide[name].network)).items()}
    arrays = {}
    for name, value in found.items():
        value = value.detach().numpy() if isinstance(value, Tensor) else np.array(value)
        arrays[name] = value.astype(np.float32) if value.dtype == np.float64 else value
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "torch": torch.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / f"official_{family}.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
