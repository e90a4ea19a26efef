"""Makes priors.npz: what the official GPTs over codes compute at random weights, for tests/nn/backbones/test_gpt.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    git clone https://github.com/CompVis/taming-transformers ../taming-transformers
    git clone https://github.com/FoundationVision/LlamaGen ../LlamaGen
    .venv-torch/bin/python tests/reference/make_priors.py ../taming-transformers ../LlamaGen

The classes are imported as they are, and compute in float64, LlamaGen's rotations in float32 as its code does. Of each
the file has the logits of a whole pass; of a loop with a cache those of each place, and the codes that it takes, which
are the likeliest ones; and of the mean cross entropy the component of the gradient along a random direction in each
weight. Weights and directions follow from their names (tests/drawn_weights.py).
"""

from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

ROWS, SIDE, CODES, CLASSES, WIDTH, HEADS, DEPTH = 3, 3, 13, 5, 24, 3, 2
LENGTH = SIDE * SIDE
BEFORE = torch.as_tensor(np.random.RandomState(0).randint(0, CODES, (ROWS, LENGTH)))
LABELS = torch.tensor([4, 0, 2])


def taming() -> tuple[nn.Module, Callable[[], Tensor], Callable[[], tuple[Tensor, Tensor]]]:
    """The GPT, a whole pass, and its loop with a cache; the class comes first, as the code of its number."""
    with mock.patch.dict(sys.modules, {"transformers": mock.MagicMock()}):  # of its filter of logits alone
        module = importlib.import_module("taming.modules.transformer.mingpt")
    network = module.GPT(CODES, LENGTH, DEPTH, HEADS, WIDTH).eval()

    def whole() -> Tensor:
        return network(torch.cat([LABELS[:, None], BEFORE[:, :-1]], dim=1))[0]

    def cached() -> tuple[Tensor, Tensor]:
        logits, past, x = [], [], LABELS[:, None]
        for place in range(LENGTH):
            found, _, present = network.forward_with_past(x, past=past or None, past_length=place)
            past.append(present)
            logits.append(found[:, -1])
            x = found[:, -1].argmax(dim=1, keepdim=True)
        return torch.stack(logits, dim=1), torch.stack(logits, dim=1).argmax(dim=2)

    return network, whole, cached


def llamagen() -> tuple[nn.Module, Callable[[], Tensor], Callable[[], tuple[Tensor, Tensor]]]:
    """The transformer, a whole pass, and its loop with a cache; the last row's label is dropped."""
    gpt = importlib.import_module("autoregressive.models.gpt")
    options = gpt.ModelArgs(
        dim=WIDTH, n_layer=DEPTH, n_head=HEADS, num_classes=CLASSES, vocab_size=CODES, block_size=LENGTH, multiple_of=8
    )
    network = gpt.Transformer(options).eval()
    labels = LABELS.clone()
    labels[-1] = CLASSES

    def whole() -> Tensor:
        places = torch.arange(LENGTH)
        return network(BEFORE[:, :-1], labels, input_pos=places)[0]

    def cached() -> tuple[Tensor, Tensor]:
        network.setup_caches(ROWS, LENGTH, torch.float64)
        logits, x = [network(None, labels, torch.arange(1))[0][:, -1]], None
        for place in range(1, LENGTH):
            x = logits[-1].argmax(dim=1, keepdim=True)
            logits.append(network(x, None, torch.tensor([place]))[0][:, -1])
        return torch.stack(logits, dim=1), torch.stack(logits, dim=1).argmax(dim=2)

    return network, whole, cached


def scale_of(name: str, shape: tuple[int, ...]) -> float:
    """Keeps the size of what passes through; embeddings are of the size of 1."""
    return 1.0 if "emb" in name else 0.5 if len(shape) < 2 else 1.5 * shape[-1] ** -0.5


def computed(make: Callable[[], Any]) -> dict[str, Any]:
    """All that is stored of a network."""
    network, whole, cached = make()
    lines = []
    for name, weight in network.named_parameters():
        shape = tuple(weight.shape)
        lines.append(f"{name}|{','.join(map(str, shape))}|{scale_of(name, shape)!r}")
        weight.data.copy_(torch.as_tensor(drawn_weights.weight(name, shape, scale_of(name, shape))))
    logits = whole()
    loss = F.cross_entropy(logits.flatten(0, 1), BEFORE.flatten())
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    along = [
        (g * torch.as_tensor(drawn_weights.direction(n, tuple(g.shape)))).sum()
        for (n, _), g in zip(network.named_parameters(), gradients, strict=True)
    ]
    lengths = torch.stack([g.norm() for g in gradients])
    with torch.no_grad():
        drawn_logits, drawn = cached()
    return {
        "weights": lines, "logits": logits, "loss": loss, "along": torch.stack(along), "lengths": lengths,
        "cached_logits": drawn_logits, "cached_codes": drawn,
    }  # fmt: skip


def main(*folders: pathlib.Path) -> None:
    """Writes the file; the folders are clones of taming-transformers and of LlamaGen."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    arrays: dict[str, Any] = {"codes": BEFORE.numpy(), "labels": LABELS.numpy()}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    for make, folder in zip((taming, llamagen), folders, strict=True):
        sys.path.insert(0, str(folder))
        for name, value in computed(make).items():
            value = value.detach().numpy() if isinstance(value, Tensor) else np.array(value)
            arrays[f"{make.__name__}/{name}"] = value
        commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
        versions[make.__name__] = commit
    np.savez_compressed(FOLDER / "priors.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
