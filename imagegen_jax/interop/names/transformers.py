"""Names of the tensors of denoising transformers as the library diffusers writes them.

Tables of places are in the files, but computed here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from imagegen_jax.interop.name_map import Form, Rule, dense, in_patches, layer, patches, sines_first, within


def _shifts_first(tensor: np.ndarray) -> np.ndarray:
    """Puts shifts before scales, which come first in the files."""
    return np.roll(tensor, len(tensor) // 2, axis=0)


def _two_layers(name: str, path: str, first: Form = dense) -> list[Rule]:
    """Returns the rules of two layers, of which the first may see sines and cosines."""
    return [*layer(f"{name}.linear_1", f"{path}_0", first), *layer(f"{name}.linear_2", f"{path}_1")]


def _ends(patch: int) -> list[Rule]:
    """Returns the rules of the first and the last layer of a transformer of patches of so many pixels a side."""
    return [
        *layer("pos_embed.proj", "patch", patches, in_patches(patch)),
        Rule(PLACES, ()),
        *layer("proj_out", "out"),
    ]


PLACES = "pos_embed.pos_embed"
_MLP = [*layer("net.0.proj", "hidden"), *layer("net.2", "out")]

_PIXART = [
    *_two_layers("adaln_single.emb.timestep_embedder", "time", sines_first),
    *_two_layers("adaln_single.emb.resolution_embedder", "side", sines_first),
    *_two_layers("adaln_single.emb.aspect_ratio_embedder", "ratio", sines_first),
    *layer("adaln_single.linear", "modulation"),
    *_two_layers("caption_projection", "caption"),
    Rule("scale_shift_table", "table"),
    *within(
        {"transformer_blocks.{i}.": "block_{i}/"},
        [
            Rule("scale_shift_table", "table"),
            *(
                rule
                for name, ours in (("attn1", "self_attention"), ("attn2", "cross_attention"))
                for part, here in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "out"))
                for rule in layer(f"{name}.{part}", f"{ours}/{here}")
            ),
            *within({"ff.": "mlp/"}, _MLP),
        ],
    ),
]


_COPIES = [  # each block has what here is there once
    *_two_layers("timestep_embedder", "time", sines_first),
    Rule("class_embedder.embedding_table.weight", "label/kernel"),
]
DIT = [
    *_ends(2),
    *within(
        {"transformer_blocks.{i}.": "block_{i}/"},
        [
            *(
                dataclasses.replace(rule, part=(at, 3))
                for at, name in enumerate("qkv")
                for rule in layer(f"attn1.to_{name}", "self_attention/qkv")
            ),
            *layer("attn1.to_out.0", "self_attention/out"),
            *layer("norm1.linear", "modulation"),
            *layer("ff.net.0.proj", "mlp_0"),
            *layer("ff.net.2", "mlp_1"),
        ],
    ),
    *(dataclasses.replace(rule, copied=True) for rule in within({"transformer_blocks.{i}.norm1.emb.": ""}, _COPIES)),
    *layer("proj_out_1", "modulation"),
    *layer("proj_out_2", "out"),
]


def pixart(patch: int) -> list[Rule]:
    """Returns the rules of `PixArtTransformer2DModel` for a `PixArt` of patches of so many pixels a side."""
    return [*_ends(patch), *_PIXART]


def mmdit(depth: int, patch: int = 2) -> list[Rule]:
    """Returns the rules of `SD3Transformer2DModel` for an `MMDiT` of so many blocks, as `pixart` does."""
    projections = [
        ("attn", "image", "to_{}", "norm_{}"),
        ("attn2", "image_2", "to_{}", "norm_{}"),
        ("attn", "text", "add_{}_proj", "norm_added_{}"),
    ]
    block = [
        *(
            rule
            for name, stream, projection, norm in projections
            for part in ("query", "key", "value")
            for rule in (
                *layer(f"{name}.{projection.format(part[0])}", f"{stream}/{part}"),
                Rule(f"{name}.{norm.format(part[0])}.weight", f"{stream}/{part}_norm/scale"),
            )
        ),
        *layer("attn.to_out.0", "image_out"),
        *layer("attn.to_add_out", "text_out"),
        *layer("attn2.to_out.0", "image_2_out"),
        *layer("norm1.linear", "image_modulation"),
        *layer("norm1_context.linear", "text_modulation"),
        *within({"ff.": "image_mlp/", "ff_context.": "text_mlp/"}, _MLP),
    ]
    return [
        *_ends(patch),
        *_two_layers("time_text_embed.timestep_embedder", "time", sines_first),
        *_two_layers("time_text_embed.text_embedder", "pooled"),
        *layer("context_embedder", "text"),
        *_scaled(f"transformer_blocks.{depth - 1}.norm1_context.linear", f"block_{depth - 1}/text_modulation"),
        *within({"transformer_blocks.{i}.": "block_{i}/"}, block),
        *_scaled("norm_out.linear", "modulation"),
    ]


def _scaled(name: str, path: str) -> list[Rule]:
    """Returns the rules of a layer that puts out scales and shifts."""
    return [
        Rule(f"{name}.weight", f"{path}/kernel", lambda tensor: dense(_shifts_first(tensor)), back=_scales_first),
        Rule(f"{name}.bias", f"{path}/bias", _shifts_first, back=_scales_first),
    ]


def _scales_first(array: np.ndarray) -> np.ndarray:
    """Brings such a layer back to the published layout."""
    return np.roll(array, array.shape[-1] // 2, axis=-1).T
