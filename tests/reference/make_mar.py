"""Makes official_mar.npz: what MAR's own code computes at random weights, for tests/official/test_official_mar.py.

    git clone https://github.com/LTH14/mar ../mar
    .venv-torch/bin/pip install --no-deps timm
    .venv-torch/bin/python tests/reference/make_mar.py ../mar

In float64: the transformer for given masks, the diffusion loss at given times and noises, a guided run of sampling of
the small network with given noises, and the loop over passes, in a given order, with a rule in place of that network.
Times begin at 1: at 0 their code approximates the normal distribution's cumulative function, to about 1e-3.
Weights follow from their names (tests/drawn_weights.py).
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import pathlib
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

CLASSES, SIDE, CHANNELS, WIDTH = 3, 3, 4, 24
LENGTH, NOISES, STEPS, PASSES = SIDE**2, 2, 5, 4
CFG, TEMPERATURE = 2.5, 0.8
LARGE = 1e5  # factor of noises on the way: as large as what random weights make of the first step, or none would show
UNUSED = (
    "torchvision", "torchvision.ops", "torchvision.ops.misc", "torchvision.models",
    "torchvision.models.feature_extraction", "torchvision.transforms", "torchvision.transforms.functional",
    "torchvision.datasets", "scipy", "scipy.stats", "tqdm", "tqdm.auto",
)  # fmt: skip


def absent(name: str) -> None:
    """Puts a mock in the place of a package that timm and their code import, but what is called here does not need."""
    module = mock.MagicMock(__path__=[], __name__=name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module


def fill(module: nn.Module) -> list[str]:
    """Draws every weight, and says which there are: "name|shape|scale"."""
    lines = []
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 and shape[0] > 1 else 0.5
        parameter.data.copy_(torch.as_tensor(drawn_weights.weight(name, shape, scale)))
        lines.append(f"{name}|{','.join(map(str, shape))}|{scale!r}")
    return lines


def drawn(name: str, *shape: int) -> Tensor:
    """Draws an input, by its name."""
    return torch.as_tensor(drawn_weights.normal(f"input {name}", shape))


def transformer(network: Any) -> dict[str, Any]:
    """For three masks with as many known tokens each; the last row is without a class."""
    masked = np.ones((3, LENGTH))
    for row in masked:
        row[np.random.RandomState(int(row.sum() + masked.sum())).permutation(LENGTH)[:4]] = 0
    masked, tokens = torch.as_tensor(masked), drawn("tokens", 3, LENGTH, CHANNELS)
    classes = torch.cat([network.class_emb(torch.tensor([2, 0])), network.fake_latent])
    z = network.forward_mae_decoder(network.forward_mae_encoder(tokens, masked, classes), masked)
    return {"masked": masked.bool().numpy(), "z": z.numpy()}


def diffusion(network: Any) -> dict[str, Any]:
    """The two terms of each token's loss: [rows, noises, tokens]."""
    shape = (3, NOISES, LENGTH)
    t = torch.as_tensor(1 + np.random.RandomState(0).randint(999, size=shape))
    tokens, z = drawn("tokens", 3, LENGTH, CHANNELS), drawn("z", 3, LENGTH, WIDTH)
    x_0, c = (a[:, None].expand(-1, NOISES, -1, -1).reshape(-1, a.shape[-1]) for a in (tokens, z))
    noise = drawn("epsilon", *shape, CHANNELS).reshape(-1, CHANNELS)
    loss = network.diffloss
    found = loss.train_diffusion.training_losses(loss.net, x_0, t.reshape(-1), {"c": c}, noise)
    return {"t": t.numpy(), "mse": found["mse"].reshape(shape).numpy(), "vb": found["vb"].reshape(shape).numpy()}


def sampling(network: Any) -> dict[str, Any]:
    """Tokens of two rows, guided, by noises for each step that are the same for both halves."""
    z, noises = drawn("z of sampling", 4, LENGTH, WIDTH).reshape(-1, WIDTH), drawn("noises", STEPS + 1, 2, LENGTH, 4)
    noises = noises.reshape(STEPS + 1, -1, CHANNELS)
    noises[:-1] *= LARGE
    waiting = iter([torch.cat([a, a]) for a in noises.flip(0)[1:]])
    with (
        mock.patch.object(torch, "randn", lambda *shape: noises[-1]),
        mock.patch.object(torch, "randn_like", lambda x: next(waiting)),
    ):
        found = network.diffloss.sample(z, TEMPERATURE, CFG)
    return {"sampled": found[: len(found) // 2].reshape(2, LENGTH, CHANNELS).numpy()}


def passes(network: Any) -> dict[str, Any]:
    """Tokens of two rows in a given order; each is the first values of its z, conditional and not, by its guidance."""
    order = np.stack([np.random.RandomState(seed).permutation(LENGTH) for seed in (3, 4)])

    def rule(z: Tensor, temperature: float, cfg: Tensor) -> Tensor:
        conditional, free = z[..., :CHANNELS].chunk(2)
        made = free + cfg * (conditional - free)
        return torch.cat([made, made])

    with (
        mock.patch.object(network, "sample_orders", lambda n: torch.as_tensor(order)),
        mock.patch.object(network.diffloss, "sample", rule),
    ):
        found = network.sample_tokens(2, PASSES, CFG, "linear", torch.tensor([1, 2]))
    return {"order": order, "passed": found.numpy()}


def main(folder: pathlib.Path) -> None:
    """Writes the file; `folder` is the clone."""
    sys.path.insert(0, str(folder))
    for name in UNUSED:
        absent(name)
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    torch.Tensor.cuda = lambda self: self
    network = importlib.import_module("models.mar").MAR(
        SIDE, 1, 1, WIDTH, 2, 3, WIDTH, 2, 3, norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        vae_embed_dim=CHANNELS, class_num=CLASSES, buffer_size=4, diffloss_d=2, diffloss_w=20,
        num_sampling_steps=str(STEPS),
    ).eval()  # fmt: skip
    with torch.no_grad():
        found: dict[str, Any] = {
            "weights": fill(network),
            "cfg": CFG,
            "temperature": TEMPERATURE,
            "large": LARGE,
            "steps": PASSES,
        }
        for part in (transformer, diffusion, sampling, passes):
            found |= part(network)
    found = {n: a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a for n, a in found.items()}
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "torch": torch.__version__, "timm": importlib.import_module("timm").__version__}
    np.savez_compressed(FOLDER / "official_mar.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
