"""Makes pipelines.npz: folders of Stable Diffusion and latent diffusion as diffusers saves them, and what they draw.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.24.0
    .venv-torch/bin/python tests/reference/make_pipelines.py

All networks are as small as 32 groups of channels allow. Of files of weights only what is before these is kept: the
weights are drawn from their names, and the tests draw them again. The tokenizer's files are those of text.npz, without
what else transformers writes. Images are of 10 steps of DDIM from given latents.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    LDMPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from make_diffusers_folder import FOLDER, weights
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PROMPTS, NEGATIVE = ["a red circle", "two blue squares on the left"], "grey"
CONTEXT, SIDE = 16, 4
GROUPED = {"block_out_channels": (128, 128), "layers_per_block": 1}  # fewer channels would have fewer groups here
ENDS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
NOISE = {"beta_schedule": "scaled_linear", "clip_sample": False}
STABLE = NOISE | {"beta_start": 0.00085, "beta_end": 0.012, "set_alpha_to_one": False, "steps_offset": 1}


def tokenizer(padding: str) -> CLIPTokenizer:
    """CLIP's first pieces."""
    with tempfile.TemporaryDirectory() as place, np.load(FOLDER / "text.npz") as stored:
        for name in ("vocab.json", "merges.txt"):
            (pathlib.Path(place) / name).write_bytes(stored[name].tobytes())
        return CLIPTokenizer.from_pretrained(place, model_max_length=CONTEXT, pad_token=padding)


def stable_diffusion(version: int) -> StableDiffusionPipeline:
    """Stable Diffusion 1 predicts the noise, 2 predicts v and has other padding, projections and activations."""
    first = version == 1
    kinds = ("CrossAttn{}Block2D", "{}Block2D") if first else ("CrossAttn{}Block2D",) * 2
    words = tokenizer("<|endoftext|>" if first else "!")
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT, hidden_act="quick_gelu" if first else "gelu",
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    network = UNet2DConditionModel(
        sample_size=SIDE,
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        cross_attention_dim=32,
        attention_head_dim=4 if first else (4, 4),
        use_linear_projection=not first,
        **GROUPED,
    )
    return StableDiffusionPipeline(
        vae=AutoencoderKL(**GROUPED, **ENDS, sample_size=2 * SIDE),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=network,
        scheduler=DDIMScheduler(prediction_type="epsilon" if first else "v_prediction", **STABLE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def latent_diffusion() -> LDMPipeline:
    """Latent diffusion without a text: the lower level attends."""
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    network = UNet2DModel(sample_size=SIDE, down_block_types=down, up_block_types=up, attention_head_dim=32, **GROUPED)
    stage = VQModel(**GROUPED, **ENDS, latent_channels=3, num_vq_embeddings=64, sample_size=2 * SIDE)
    return LDMPipeline(stage, network, DDIMScheduler(beta_start=0.0015, beta_end=0.0195, **NOISE))


def draw_weights(pipe: DiffusionPipeline) -> None:
    """Gives each network weights that follow from their names."""
    for network in pipe.components.values():
        if isinstance(network, torch.nn.Module):
            network.eval()
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameter.copy_(torch.from_numpy(weights(name, tuple(parameter.shape))))


def saved(pipe: DiffusionPipeline) -> dict[str, np.ndarray]:
    """The folder's configurations by name, and the heads of its weights."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        pipe.save_pretrained(folder)
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            if path.suffix == ".safetensors":
                content = path.read_bytes()
                found[name] = np.frombuffer(content[: 8 + int.from_bytes(content[:8], "little")], np.uint8)
            elif path.is_file() and path.name not in ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model"):
                found[name] = np.array(path.read_text())
    return found


def drawn(pipe: DiffusionPipeline) -> dict[str, np.ndarray]:
    """Latents, and the images in [0, 1] that they become."""
    pipe.set_progress_bar_config(disable=True)
    z = torch.randn((2, pipe.unet.config.in_channels, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"num_inference_steps": 10, "output_type": "np"}
    if isinstance(pipe, LDMPipeline):  # it draws the latents itself
        images = pipe(batch_size=2, generator=torch.Generator().manual_seed(0), **options).images
        return {"latents": z.numpy(), "images": images}
    options |= {"latents": z, "guidance_scale": 7.5}
    against = pipe(PROMPTS, negative_prompt=[NEGATIVE] * 2, **options).images
    found = {"images": pipe(PROMPTS, **options).images, "images_by_negative": against}
    return {"latents": z.numpy(), "prompts": np.array(PROMPTS), "negative": np.array(NEGATIVE), **found}


def main() -> None:
    """Writes the file."""
    pipes = {"sd1": stable_diffusion(1), "sd2": stable_diffusion(2), "ldm": latent_diffusion()}
    arrays = {}
    for case, pipe in pipes.items():
        draw_weights(pipe)
        arrays |= {f"{case}/folder/{name}": value for name, value in saved(pipe).items()}
        arrays |= {f"{case}/{name}": value for name, value in drawn(pipe).items()}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    versions["transformers"] = transformers.__version__
    np.savez_compressed(FOLDER / "pipelines.npz", versions=np.array(str(versions)), **arrays)


if __name__ == "__main__":
    main()
