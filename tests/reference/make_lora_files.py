"""Makes lora_files.npz: what diffusers computes with files of low-rank pairs in the words of three libraries.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/pip install diffusers==0.42.1 transformers==5.24.0 peft==0.21.2
    .venv-torch/bin/python tests/reference/make_lora_files.py

The U-Net and the text encoder are those of text_to_image.npz and text_encoders.npz, "sd1" and "quick_gelu". Of each
file there are names and shapes of its tensors, which are drawn by their names as weights are, and what both networks
put out after the pipeline's `load_lora_weights`, with pairs at 0.8 of their strength.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import diffusers
import numpy as np
import peft
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from make_official import FOLDER, by_fan_in, drawn_weights
from make_text_encoders import PADDED, clip, draw
from make_text_to_image import unets
from safetensors.torch import save_file
from torch import Tensor, nn

RANK, ALPHA, SCALE = 3, 1.5, 0.8
IN_UNET = ("attn1.to_q", "attn1.to_out.0", "attn2.to_k", "attn2.to_v", "ff.net.0.proj", "ff.net.2")
IN_RESIDUAL = ("conv1", "conv_shortcut", "time_emb_proj")  # of convolutions, as LyCORIS and peft have pairs too
IN_TEXT = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
OLD_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}

Shapes = dict[str, tuple[int, ...]]


def pipeline() -> StableDiffusionPipeline:
    """The two networks, with an autoencoder that nothing reads."""
    unet, text = unets()["sd1"][0], clip("quick_gelu", None)[0]
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = max(1, min(32, module.num_channels // 4))
    draw(unet), draw(text)
    stage = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)
    return StableDiffusionPipeline(stage, text, None, unet, DDIMScheduler(), None, None, requires_safety_checker=False)


def halves(weight: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of A and B of a layer; B is a convolution of single pixels where the layer is a convolution."""
    out, *inside = weight.shape
    return (RANK, *inside), (out, RANK, *(1 for _ in inside[1:]))


def chosen(network: nn.Module, ends: tuple[str, ...]) -> dict[str, Tensor]:
    """Layers by their names, with their weights."""
    found = {name.removesuffix(".weight"): p for name, p in network.named_parameters() if name.endswith(".weight")}
    return {name: p for name, p in found.items() if name.endswith(tuple(f".{end}" for end in ends))}


def text_name(name: str) -> str:
    """Files name layers of the text encoder as older versions of transformers did."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def kohya(pipe: StableDiffusionPipeline) -> Shapes:
    """Underscores, and alphas as tensors."""
    found: Shapes = {}
    attention = chosen(pipe.unet, (*IN_UNET, "proj_in", *IN_RESIDUAL))
    layers = {f"lora_unet_{name.replace('.', '_')}": p for name, p in attention.items()}
    layers |= {
        f"lora_te_{text_name(name).replace('.', '_')}": p for name, p in chosen(pipe.text_encoder, IN_TEXT).items()
    }
    for name, weight in layers.items():
        a, b = halves(weight)
        found |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": ()}
    return found


def of_peft(pipe: StableDiffusionPipeline) -> Shapes:
    """As `save_lora_weights` writes them."""
    layers = {f"unet.{name}": p for name, p in chosen(pipe.unet, (*IN_UNET, *IN_RESIDUAL)).items()}
    layers |= {f"text_encoder.{text_name(name)}": p for name, p in chosen(pipe.text_encoder, IN_TEXT).items()}
    return {
        f"{n}.lora_{half}.weight": shape for n, p in layers.items() for half, shape in zip("AB", halves(p), strict=True)
    }


def older(pipe: StableDiffusionPipeline) -> Shapes:
    """As diffusers wrote attention's pairs before it had peft, without alphas."""
    layers = {}
    for name, p in chosen(pipe.unet, IN_UNET[:4]).items():
        layer, word = name.removesuffix(".0").rsplit(".", 1)
        layers[f"unet.{layer}.processor.{word}_lora"] = p
    for name, p in chosen(pipe.text_encoder, IN_TEXT[:3]).items():
        layer, word = text_name(name).rsplit(".", 1)
        layers[f"text_encoder.{layer}.{OLD_TEXT[word]}_lora"] = p
    words = ("down", "up")
    return {
        f"{n}.{word}.weight": shape for n, p in layers.items() for word, shape in zip(words, halves(p), strict=True)
    }


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """A half of a pair by its name, or an alpha."""
    if not shape:
        return torch.tensor(ALPHA)
    return torch.as_tensor(drawn_weights.weight(name, shape, by_fan_in(name, shape)), dtype=torch.float32)


def outputs(shapes: Shapes) -> dict[str, Any]:
    """What the networks put out, with the pairs of a file and without."""
    pipe, inputs = pipeline(), unets()["sd1"][1]

    def both() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            tokens = pipe.text_encoder(PADDED).last_hidden_state
            return pipe.unet(inputs["x"], inputs["t"], inputs["tokens"]).sample, tokens

    before = both()
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / "pairs.safetensors"
        save_file({name: drawn(name, shape) for name, shape in shapes.items()}, path)
        pipe.load_lora_weights(path, adapter_name="pairs")
    pipe.set_adapters(["pairs"], [SCALE])
    after = both()
    moved = [float((new - old).abs().max() / old.abs().max()) for new, old in zip(after, before, strict=True)]
    assert min(moved) > 0.01, moved
    return {"y": np.float32(after[0]), "tokens": np.float32(after[1])}


def main() -> None:
    """Writes the file."""
    found: dict[str, Any] = {"alpha": np.array(ALPHA), "scale": np.array(SCALE)}
    for name, make in {"kohya": kohya, "peft": of_peft, "older": older}.items():
        shapes = make(pipeline())
        lines = [f"{key}|{','.join(map(str, shape))}|{by_fan_in(key, shape)!r}" for key, shape in shapes.items()]
        found |= {f"{name}/weights": np.array(lines)} | {f"{name}/{k}": v for k, v in outputs(shapes).items()}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "peft": peft.__version__}
    np.savez_compressed(FOLDER / "lora_files.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
