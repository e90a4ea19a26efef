"""Makes more_pipelines.npz: folders of SDXL and later pipelines as diffusers saves them, and what they draw.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 sentencepiece==0.2.3
    .venv-torch/bin/python tests/reference/make_more_pipelines.py [CASE ...]

As make_pipelines.py has it: networks are tiny, and their weights are drawn from their names.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.schedulers import scheduling_consistency_models
from make_diffusers_folder import FOLDER
from make_pipelines import CONTEXT, ENDS, GROUPED, NEGATIVE, PROMPTS, SIDE, draw_weights, saved, tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

STEPS = 20
WIDTHS = (16, 24)  # of the two encoders of CLIP's kind
SMALL = (8, 16)  # of those beside T5
Drawn = dict[str, np.ndarray]


def clip(width: int, words: Any, projected: bool, activation: str) -> CLIPTextModel | CLIPTextModelWithProjection:
    """An encoder of CLIP's kind, with or without a projection of what is pooled."""
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CONTEXT, hidden_act=activation, projection_dim=width + 4,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def normal(*shape: int) -> torch.Tensor:
    """Latents to begin with."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def by_texts(pipe: DiffusionPipeline, channels: int, **options: Any) -> Drawn:
    """Latents, and the guided images in [0, 1] that they become, away from no text and from a negative prompt."""
    z = normal(2, channels, SIDE, SIDE)
    pipe.set_progress_bar_config(disable=True)
    options |= {"num_inference_steps": STEPS, "output_type": "np", "guidance_scale": 7.5}
    plain = pipe(PROMPTS, latents=z.clone(), **options).images
    against = pipe(PROMPTS, negative_prompt=[NEGATIVE] * 2, latents=z.clone(), **options).images
    return {"latents": z.numpy(), "prompts": np.array(PROMPTS), "images": plain, "images_by_negative": against}


def sdxl() -> tuple[DiffusionPipeline, Drawn]:
    """Stable Diffusion XL: the upper level does not see the text."""
    first, second = tokenizer("<|endoftext|>"), tokenizer("!")
    network = UNet2DConditionModel(
        sample_size=SIDE, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=sum(WIDTHS), attention_head_dim=(2, 2),
        use_linear_projection=True, transformer_layers_per_block=(1, 2), addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=6 * 256 + WIDTHS[1] + 4, **GROUPED,
    )  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        vae=AutoencoderKL(**GROUPED, **ENDS, sample_size=2 * SIDE, scaling_factor=0.13025),
        text_encoder=clip(WIDTHS[0], first, projected=False, activation="quick_gelu"),
        text_encoder_2=clip(WIDTHS[1], second, projected=True, activation="gelu"),
        tokenizer=first, tokenizer_2=second, unet=network, add_watermarker=False,
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading",
            steps_offset=1,
        ),
    )  # fmt: skip
    draw_weights(pipe)
    return pipe, by_texts(pipe, 4)


def autoencoder() -> AutoencoderKL:
    """Latents of four channels."""
    return AutoencoderKL(**GROUPED, **ENDS, sample_size=2 * SIDE)


def dit() -> tuple[DiffusionPipeline, Drawn]:
    """DiT, whose blocks have the embeddings of times and classes each for itself: the same ones, in published files."""
    network = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=SIDE,
    )  # fmt: skip
    scheduler = DDIMScheduler(clip_sample=False)
    pipe = DiTPipeline(network, autoencoder(), scheduler)
    draw_weights(pipe)
    for block in network.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(network.transformer_blocks[0].norm1.emb.state_dict())
    pipe.set_progress_bar_config(disable=True)
    labels = [3, 998]
    options = {"guidance_scale": 4.0, "num_inference_steps": 10, "output_type": "np"}
    images = pipe(labels, generator=torch.Generator().manual_seed(0), **options).images
    return pipe, {"latents": normal(2, 4, SIDE, SIDE).numpy(), "labels": np.array(labels), "images": images}


def t5(words: T5Tokenizer) -> T5EncoderModel:
    """An encoder of T5's kind."""
    size = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 2, "vocab_size": len(words)}
    return T5EncoderModel(T5Config(**size, feed_forward_proj="gated-gelu"))


def sentence_pieces() -> T5Tokenizer:
    """A small tokenizer of T5's kind."""
    with tempfile.TemporaryDirectory() as place, np.load(FOLDER / "sentence_pieces.npz") as stored:
        (pathlib.Path(place) / "spiece.model").write_bytes(stored["model"].tobytes())
        return T5Tokenizer.from_pretrained(place)


def pixart() -> tuple[DiffusionPipeline, Drawn]:
    """PixArt-alpha, by DPM-Solver++."""
    words = sentence_pieces()
    network = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, cross_attention_dim=32, sample_size=SIDE,
        caption_channels=24,
    )  # fmt: skip
    pipe = PixArtAlphaPipeline(words, t5(words), autoencoder(), network, DPMSolverMultistepScheduler())
    draw_weights(pipe)
    return pipe, by_texts(pipe, 4, clean_caption=False, use_resolution_binning=False)


def consistency() -> tuple[DiffusionPipeline, Drawn]:
    """A consistency model by classes, in one step and in three."""
    network = UNet2DModel(
        sample_size=8, block_out_channels=(128, 128), layers_per_block=1, num_class_embeds=10, attention_head_dim=64,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), downsample_type="resnet",
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"), upsample_type="resnet",
        resnet_time_scale_shift="scale_shift", attn_norm_num_groups=32,
    )  # fmt: skip
    pipe = ConsistencyModelPipeline(network, CMStochasticIterativeScheduler())
    draw_weights(pipe)
    pipe.set_progress_bar_config(disable=True)
    z, labels = normal(2, 3, 8, 8), [3, 7]
    options = {"batch_size": 2, "class_labels": labels, "latents": z, "output_type": "np"}
    noises = [torch.randn(z.shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    found = {"images": pipe(num_inference_steps=1, **options).images}
    left = iter([*noises, torch.zeros_like(z)])
    scheduling_consistency_models.randn_tensor = lambda *_, **__: next(left)
    found["images_of_three"] = pipe(num_inference_steps=None, timesteps=[30, 15, 0], **options).images
    levels = pipe.scheduler.sigmas[:3].numpy()
    noise = torch.stack(noises).numpy()
    return pipe, {"latents": z.numpy(), "labels": np.array(labels), "levels": levels, "noise": noise, **found}


def sd3(with_t5: bool) -> tuple[DiffusionPipeline, Drawn]:
    """Stable Diffusion 3, with its third encoder or without it."""
    first, second, third = tokenizer("<|endoftext|>"), tokenizer("!"), sentence_pieces() if with_t5 else None
    network = SD3Transformer2DModel(
        sample_size=SIDE, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24 if with_t5 else 48, caption_projection_dim=32, pos_embed_max_size=6,
        pooled_projection_dim=sum(SMALL) + 8, qk_norm=None if with_t5 else "rms_norm",
        dual_attention_layers=() if with_t5 else (0,),
    )  # fmt: skip
    pipe = StableDiffusion3Pipeline(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(
            **GROUPED, **ENDS, sample_size=2 * SIDE, latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        text_encoder=clip(SMALL[0], first, projected=True, activation="quick_gelu"), tokenizer=first,
        text_encoder_2=clip(SMALL[1], second, projected=True, activation="gelu"), tokenizer_2=second,
        text_encoder_3=t5(third) if third else None, tokenizer_3=third,
    )  # fmt: skip
    draw_weights(pipe)
    return pipe, by_texts(pipe, 16)


CASES: dict[str, Callable[[], tuple[DiffusionPipeline, Drawn]]] = {
    "sdxl": sdxl,
    "dit": dit,
    "pixart": pixart,
    "consistency": consistency,
    "sd3": lambda: sd3(with_t5=True),
    "sd3_without_t5": lambda: sd3(with_t5=False),
}


def main() -> None:
    """Writes the file."""
    path = FOLDER / "more_pipelines.npz"
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    versions["transformers"] = transformers.__version__
    for case in sys.argv[1:] or CASES:
        arrays: Drawn = {}
        if path.exists():
            with np.load(path) as stored:
                arrays = {name: value for name, value in stored.items() if name.split("/")[0] != case}
        pipe, drawn = CASES[case]()
        arrays |= {f"{case}/folder/{name}": value for name, value in saved(pipe).items()}
        arrays |= {f"{case}/{name}": value for name, value in drawn.items()}
        np.savez_compressed(path, **arrays | {"versions": np.array(str(versions))})


if __name__ == "__main__":
    main()
