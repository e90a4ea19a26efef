"""Makes text_to_image.npz: what networks of diffusers that draw by a text put out at random weights.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/pip install diffusers==0.42.1 transformers==5.24.0
    .venv-torch/bin/python tests/reference/make_text_to_image.py

Networks are tiny and compute in float64, with the number of groups that our norms have in layers so narrow; their
weights follow from their published names (tests/drawn_weights.py), of which the file has each with its shape. Beside
them: how many parameters the published networks have.
"""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import PixArtTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, UNet2DModel
from make_official import FOLDER, drawn_weights
from make_text_encoders import draw, rounded
from torch import Tensor, nn

ATTENDS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
T = torch.tensor([3.0, 40.0])  # angles are float32 there, whose rounding grows with the time
MASK = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]])
SIZES = torch.tensor([[512.0, 640, 0, 16, 256, 384], [1024, 1024, 8, 0, 1024, 768]])


def normal(name: str, *shape: int) -> Tensor:
    """Inputs follow from their names too."""
    return rounded(drawn_weights.normal(f"input {name}", shape))


def blocks(kinds: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Kinds of blocks on the way down and up."""
    down = tuple(kind.format("Down") for kind in kinds)
    return {"down_block_types": down, "up_block_types": tuple(kind.format("Up") for kind in reversed(kinds))}


def conditional(kinds: tuple[str, ...], tokens: int, **options: Any) -> UNet2DConditionModel:
    """Stable Diffusion's U-Net."""
    return UNet2DConditionModel(cross_attention_dim=tokens, **blocks(kinds), **options)


def unets() -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Two levels of one block."""
    small = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
    inputs = {"x": normal("x", 2, 4, 8, 8), "t": T, "tokens": normal("tokens", 2, 4, 6)}
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
    added |= {"projection_class_embeddings_input_dim": 6 * 256 + 5}
    linear = {"use_linear_projection": True}
    return {
        "sd1": (conditional((ATTENDS, PLAIN), 6, attention_head_dim=2, **small), inputs),
        "sd2": (conditional((ATTENDS, ATTENDS), 6, attention_head_dim=(2, 4), **linear, **small), inputs),
        "sdxl": (
            conditional(
                (PLAIN, ATTENDS),
                6,
                attention_head_dim=(2, 4),
                transformer_layers_per_block=(1, 2),
                **linear,
                **added,
                **small,
            ),
            {**inputs, "pooled": normal("pooled", 2, 5), "sizes": SIZES},
        ),
        "ldm4": (
            UNet2DModel(
                in_channels=4, out_channels=4, attention_head_dim=8, **blocks((PLAIN, "Attn{}Block2D")), **small
            ),
            {"x": inputs["x"], "t": T},
        ),
    }


def transformers() -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Two blocks, over 4 x 6 patches; what they were made for has 4 x 4."""
    inputs = {"x": normal("x", 2, 4, 8, 12), "t": T, "tokens": normal("tokens", 2, 4, 6)}
    pooled, masked = {"pooled": normal("pooled", 2, 5)}, {"token_mask": MASK.bool()}
    return {
        "pixart": (pixart(2, 2, 12, 8, 6, False), inputs | masked),
        "pixart_sizes": (pixart(2, 2, 12, 8, 6, True, interpolation_scale=2), inputs | {"sizes": SIZES[:, 4:]}),
        "sd3": (mmdit(2, 2, 8, 6, 5, 12, 8, in_channels=4, out_channels=4), inputs | pooled),
        "sd35": (
            mmdit(2, 2, 8, 6, 5, 12, 8, in_channels=4, out_channels=4, qk_norm="rms_norm", dual_attention_layers=(0,)),
            inputs | pooled,
        ),
    }


def pixart(depth: int, heads: int, head: int, side: int, tokens: int, sizes: bool, **options: Any) -> nn.Module:
    """PixArt-alpha's transformer."""
    options |= {"cross_attention_dim": heads * head, "caption_channels": tokens, "use_additional_conditions": sizes}
    return PixArtTransformer2DModel(heads, head, num_layers=depth, sample_size=side, **options)


def mmdit(
    depth: int, heads: int, head: int, tokens: int, pooled: int, largest: int, side: int, **options: Any
) -> nn.Module:
    """Stable Diffusion 3's transformer."""
    options |= {"num_layers": depth, "num_attention_heads": heads, "attention_head_dim": head, "sample_size": side}
    options |= {"joint_attention_dim": tokens, "caption_projection_dim": heads * head, "pooled_projection_dim": pooled}
    return SD3Transformer2DModel(pos_embed_max_size=largest, **options)


def answer(network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor | None = None, **told: Tensor) -> Tensor:
    """What a network puts out."""
    if isinstance(network, UNet2DModel):
        return network(x, t).sample
    if isinstance(network, SD3Transformer2DModel):
        return network(x, tokens, told["pooled"], t).sample
    if isinstance(network, PixArtTransformer2DModel):
        sizes = told.get("sizes")
        added = {} if sizes is None else {"resolution": sizes, "aspect_ratio": sizes[:, :1] / sizes[:, 1:]}
        return network(x, tokens, t, added, encoder_attention_mask=told.get("token_mask")).sample
    added = {"text_embeds": told["pooled"], "time_ids": told["sizes"]} if told else None
    return network(x, t, tokens, added_cond_kwargs=added).sample


def published() -> dict[str, Any]:
    """Makers of the published networks."""
    four = (ATTENDS, ATTENDS, ATTENDS, PLAIN)
    xl = {"block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "use_linear_projection": True}
    xl |= {"transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time"}
    xl |= {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}
    newer = {"qk_norm": "rms_norm"}
    return {
        "sd1": lambda: conditional(four, 768),
        "sd2": lambda: conditional(four, 1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
        "sdxl": lambda: conditional((PLAIN, ATTENDS, ATTENDS), 2048, **xl),
        "ldm4": UNet2DModel,
        "pixart": lambda: pixart(28, 16, 72, 64, 4096, False),
        "pixart_sizes": lambda: pixart(28, 16, 72, 128, 4096, True),
        "sd3": lambda: mmdit(24, 24, 64, 4096, 2048, 192, 128),
        "sd35_medium": lambda: mmdit(24, 24, 64, 4096, 2048, 384, 128, **newer, dual_attention_layers=tuple(range(13))),
        "sd35_large": lambda: mmdit(38, 38, 64, 4096, 2048, 192, 128, **newer),
    }


def stored(case: str, network: nn.Module, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The names, shapes and scales of a network's weights, which are drawn, its inputs, and what it puts out."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = max(1, min(32, module.num_channels // 4))
    lines, y = draw(network), answer(network, **inputs)
    arrays = {f"input/{name}": tensor.numpy() for name, tensor in inputs.items()} | {"output/y": y.numpy()}
    return {f"{case}/weights": lines} | {f"{case}/{k}": np.float32(v) for k, v in arrays.items()}


def main() -> None:
    """Writes the file."""
    found: dict[str, Any] = {}
    for name, (network, inputs) in (unets() | transformers()).items():
        found |= stored(name, network, inputs)
    with torch.device("meta"):
        for name, make in published().items():
            found[f"count/{name}"] = np.array(sum(p.numel() for p in make().parameters()))
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "text_to_image.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
