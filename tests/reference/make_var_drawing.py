"""Makes var_drawing.npz: the codes that the authors' VAR draws, for tests/official/test_official_var.py.

    git clone https://github.com/FoundationVision/VAR ../VAR
    .venv-torch/bin/python tests/reference/make_var_drawing.py ../VAR

Their loop over scales with caches and guidance runs with their quantiser, in float64; of each code the likeliest is
taken, `top_k` 1. Weights follow from their names (tests/drawn_weights.py).
"""

from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys
import types
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

SIZES, VOCABULARY, DIM, CLASSES = (1, 2, 3), 7, 5, 3
LABELS, CFG = torch.tensor([0, 1, 2, 2]), 1.5


def fill(module: nn.Module) -> list[str]:
    """Draws every weight, and says which there are: "name|shape|scale"."""
    lines = []
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.5
        parameter.data.copy_(torch.as_tensor(drawn_weights.weight(name, shape, scale)))
        lines.append(f"{name}|{','.join(map(str, shape))}|{scale!r}")
    return lines


def main(folder: pathlib.Path) -> None:
    """Writes the file; `folder` is the clone."""
    sys.path.insert(0, str(folder))
    sys.modules["huggingface_hub"] = mock.MagicMock(PyTorchModelHubMixin=object)
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    var, quant = importlib.import_module("models.var"), importlib.import_module("models.quant")
    quantiser = quant.VectorQuantizer2(VOCABULARY, DIM, False, v_patch_nums=SIZES)
    tokenizer = types.SimpleNamespace(
        Cvae=DIM, vocab_size=VOCABULARY, quantize=quantiser, fhat_to_img=lambda vectors: vectors.clone()
    )
    options = {"norm_eps": 1e-6, "attn_l2_norm": True, "patch_nums": SIZES}
    network = var.VAR(tokenizer, CLASSES, 2, 24, 3, **options).eval()
    found: dict[str, Any] = {"network": fill(network), "quantiser": fill(quantiser)}
    drawn, theirs = [], var.sample_with_top_k_top_p_

    def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
        drawn.append(theirs(*args, **kwargs))
        return drawn[-1]

    var.sample_with_top_k_top_p_ = recorded
    vectors = network.autoregressive_infer_cfg(len(LABELS), LABELS, g_seed=0, cfg=CFG, top_k=1)
    found |= {"labels": LABELS.numpy(), "cfg": CFG, "codes": torch.cat(drawn, dim=1)[..., 0].numpy()}
    found["vectors"] = (2 * vectors - 1).numpy().astype(np.float32)  # as their loop brings images to [0, 1]
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "torch": torch.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "var_drawing.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
