"""Names of the tensors of U-Nets as the library diffusers writes them, in files of all its versions.

It counts blocks on the way up from the lowest, and a change of resolution belongs to the block before it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from imagegen_jax.interop.name_map import Form, Rule, convolution, dense, layer, norm, pixelwise, sines_first, within
from imagegen_jax.nn.backbones.latent_unet import SIZE_FREQUENCIES

_RESIDUAL = [
    *norm("norm1", "norm_1"),
    *convolution("conv1", "conv_1"),
    *layer("time_emb_proj", "embed"),
    *norm("norm2", "norm_2"),
    *convolution("conv2", "conv_2"),
    *layer("conv_shortcut", "shortcut", pixelwise),
]
SELF_ATTENTION = [
    *norm("group_norm", "norm"),
    *(
        rule
        for ours, names in {
            "query": "to_q query",
            "key": "to_k key",
            "value": "to_v value",
            "out": "to_out.0 proj_attn",
        }.items()
        for name in names.split()
        for rule in layer(name, ours)
    ),
]
_TRANSFORMER_BLOCK = [
    *(rule for i in range(3) for rule in norm(f"norm{i + 1}", f"norm_{i}")),
    *(
        rule
        for name, ours in (("attn1", "self_attention"), ("attn2", "cross_attention"))
        for part, here in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "out"))
        for rule in layer(f"{name}.{part}", f"{ours}/{here}")
    ),
    *layer("ff.net.0.proj", "hidden"),
    *layer("ff.net.2", "out"),
]
TRANSFORMER = [
    *norm("norm", "norm"),
    *layer("proj_in", "in"),
    *layer("proj_out", "out"),
    *within({"transformer_blocks.{k}.": "block_{k}/"}, _TRANSFORMER_BLOCK),
]


_LABEL = [Rule("class_embedding.weight", "label/kernel")]  # a row for each class


def adm(levels: int) -> list[Rule]:
    """Returns the rules of `UNet2DModel`, such as LDM-4's, for an `ADM` of so many levels."""
    changes = {f"down_blocks.{level - 1}.downsamplers.0.": f"down_{level}/" for level in range(1, levels)}
    changes |= {f"up_blocks.{levels - 1 - level}.upsamplers.0.": f"up_{level}/" for level in range(1, levels)}
    return [*_unet(levels, SELF_ATTENTION, "/attention"), *within(changes, _RESIDUAL), *_LABEL]


def ddpm(levels: int) -> list[Rule]:
    """Returns the rules of `UNet2DModel` with DDPM's settings for a `UNet` of so many levels."""
    return [*_unet(levels, SELF_ATTENTION, "/attention", dense), *_LABEL]


def latent_unet(levels: int) -> list[Rule]:
    """Returns the rules of `UNet2DConditionModel`, Stable Diffusion's, for a `LatentUNet` of so many levels."""
    return [
        *_unet(levels, TRANSFORMER, "_transformer"),
        Rule("add_embedding.linear_1.weight", "added_0/kernel", _told, back=_untold),
        Rule("add_embedding.linear_1.bias", "added_0/bias"),
        *layer("add_embedding.linear_2", "added_1"),
    ]


def _unet(levels: int, attention: Iterable[Rule], suffix: str, times: Form = sines_first) -> list[Rule]:
    """Returns the rules of a U-Net whose attention is under the name of a block with that suffix.

    `times` is the layout of the layer that sees sines and cosines of times.
    """
    ways = {"down_blocks.{i}.": "down_{i}_", "mid_block.": "middle_"}
    ways |= {f"up_blocks.{levels - 1 - level}.": f"up_{level}_" for level in range(levels)}
    changes = {f"down_blocks.{level - 1}.downsamplers.0.conv": f"down_{level}" for level in range(1, levels)}
    changes |= {f"up_blocks.{levels - 1 - level}.upsamplers.0.conv": f"up_{level}" for level in range(1, levels)}
    return [
        Rule("time_embedding.linear_1.weight", "time_0/kernel", times),
        Rule("time_embedding.linear_1.bias", "time_0/bias"),
        *layer("time_embedding.linear_2", "time_1"),
        *convolution("conv_in", "conv_in"),
        *within({f"{way}resnets.{{j}}.": f"{ours}{{j}}/" for way, ours in ways.items()}, _RESIDUAL),
        *within({f"{way}attentions.{{j}}.": f"{ours}{{j}}{suffix}/" for way, ours in ways.items()}, attention),
        *(rule for name, ours in changes.items() for rule in convolution(name, ours)),
        *norm("conv_norm_out", "norm_out"),
        *convolution("conv_out", "conv_out"),
    ]


def _told(tensor: np.ndarray) -> np.ndarray:
    """Puts sines first for each of the six sizes, which come after the pooled text: [O I] -> [I O]."""
    kernel = dense(tensor)
    sizes = kernel[-6 * SIZE_FREQUENCIES :].reshape(6, 2, -1, kernel.shape[1])[:, ::-1]
    return np.concatenate([kernel[: -6 * SIZE_FREQUENCIES], sizes.reshape(-1, kernel.shape[1])])


def _untold(kernel: np.ndarray) -> np.ndarray:
    """Brings such a kernel back to the published layout: [I O] -> [O I]."""
    sizes = kernel[-6 * SIZE_FREQUENCIES :].reshape(6, 2, -1, kernel.shape[1])[:, ::-1]
    return np.concatenate([kernel[: -6 * SIZE_FREQUENCIES], sizes.reshape(-1, kernel.shape[1])]).T
