"""Files of one network's weights as torch and safetensors save them, for `test_weight_files.py`.

    python3.11 -m venv .venv-weights
    .venv-weights/bin/pip install torch==2.13.0 safetensors==0.8.0 numpy
    .venv-weights/bin/python tests/reference/make_weight_files.py

Writes weight_files.npz beside this file: each file's bytes, and the values that torch has of each tensor.
"""

from __future__ import annotations

import io
import pathlib
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save

FILE = pathlib.Path(__file__).parent / "weight_files.npz"


def state() -> OrderedDict[str, torch.Tensor]:
    """A network's tensors, of every type that weights have; one is a transposed view, and two share a storage."""
    torch.manual_seed(0)
    kernel = torch.randn(4, 3)
    half = torch.tensor([65504.0, 6e-8, -0.1, 1.0], dtype=torch.float16)
    brain = torch.tensor([3e38, 1e-40, -0.1, 1.0], dtype=torch.bfloat16)
    return OrderedDict(
        {
            "params.Dense_0.kernel": kernel.T,
            "params.Dense_0.bias": kernel[:, 0],
            "params.Norm_0.scale": half,
            "params.Norm_0.bias": brain,
            "batch_stats.Norm_0.mean": torch.randn(4, dtype=torch.float64),
            "batch_stats.Norm_0.count": torch.tensor(7),
            "batch_stats.Norm_0.steps": torch.tensor([1, -2], dtype=torch.int32),
            "batch_stats.Norm_0.seen": torch.tensor([True, False]),
        }
    )


def saved(value: object, **options: bool) -> np.ndarray:
    """What torch.save writes, as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def main() -> None:
    """Writes the file."""
    tensors = state()
    training = {"step": 12, "state_dict": tensors, "config": {"name": "a", "lr": 0.1, "sizes": [1, 2]}}
    parameters = OrderedDict(
        (name, torch.nn.Parameter(x) if x.is_floating_point() else x) for name, x in tensors.items()
    )
    whole = {name: x.contiguous().clone() for name, x in tensors.items()}
    files = {
        "state.pth": saved(tensors),
        "older.pt": saved(tensors, _use_new_zipfile_serialization=False),
        "parameters.bin": saved(parameters),
        "training.ckpt": saved(training),
        "state.safetensors": np.frombuffer(save(whole, {"format": "pt"}), np.uint8),
    }
    half = (torch.float16, torch.bfloat16)
    values = {f"value/{name}": (x.float() if x.dtype in half else x).numpy() for name, x in tensors.items()}
    np.savez_compressed(FILE, **{f"file/{name}": x for name, x in files.items()}, **values)


if __name__ == "__main__":
    main()
