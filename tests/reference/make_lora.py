"""Makes lora.npz: what `peft` computes with low-rank pairs in a U-Net of `diffusers`, for tests/interop/.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 peft==0.21.2
    .venv-torch/bin/python tests/reference/make_lora.py

The weights and the pairs are drawn by their names, and again by the tests.
With the name of a file that `export_lora` wrote, given as an argument, it loads that as diffusers does, and says
whether any of it was missing or left over.
"""

import json
import sys

import diffusers
import numpy as np
import peft
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from make_diffusers import FOLDER, weights
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "time_emb_proj", "conv_shortcut", "downsamplers.0.conv"]
RANK, ALPHA = 3, 6.0


def network() -> diffusers.UNet2DModel:
    """A U-Net like that of `make_diffusers.unet`, of one width."""
    made = diffusers.UNet2DModel(
        block_out_channels=(128, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    )
    fill(dict(made.named_parameters()))
    return made


def fill(tensors: dict[str, torch.Tensor]) -> None:
    """Draws each tensor by its name."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(weights(name, tuple(tensor.shape))))


def reference() -> dict[str, np.ndarray]:
    """Input and output with pairs, and names and shapes of both."""
    made = network()
    names = [f"{name} {','.join(map(str, p.shape))}" for name, p in made.named_parameters()]
    x, t = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700])
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS), made)
    pairs = {f"unet.{name}": torch.zeros(p.shape) for name, p in get_peft_model_state_dict(made).items()}
    fill(pairs)
    found = set_peft_model_state_dict(made, {name.removeprefix("unet."): p for name, p in pairs.items()})
    assert not found.unexpected_keys
    with torch.no_grad():
        y = made(x, t).sample
    shapes = [f"{name} {','.join(map(str, p.shape))}" for name, p in pairs.items()]
    return {
        "x": x.numpy(), "t": t.numpy(), "y": y.numpy(), "names": np.array(names), "pairs": np.array(shapes),
        "alpha": np.array(ALPHA), "rank": np.array(RANK),
    }  # fmt: skip


def check(path: str) -> None:
    """Loads a file into the U-Net by what diffusers does in `load_lora_adapter`."""
    with safe_open(path, "pt") as file:
        tensors = {name.removeprefix("unet."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        settings = json.loads(file.metadata()[LORA_ADAPTER_METADATA_KEY])
    made = network()
    config = LoraConfig(**{name.removeprefix("unet."): value for name, value in settings.items()})
    inject_adapter_in_model(config, made, state_dict=tensors)
    found = set_peft_model_state_dict(made, tensors)
    missing = [name for name in found.missing_keys if "lora" in name]
    x, t = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700])
    with torch.no_grad():
        gap = float((made(x, t).sample - torch.from_numpy(np.load(FOLDER / "lora.npz")["y"])).abs().max())
    print(f"{len(tensors)} tensors, missing {missing}, left over {found.unexpected_keys}, largest difference {gap:.2g}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        check(sys.argv[1])
    else:
        versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "peft": peft.__version__}
        np.savez_compressed(FOLDER / "lora.npz", **reference(), **{name: np.array(v) for name, v in versions.items()})
