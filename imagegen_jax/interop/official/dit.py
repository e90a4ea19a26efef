"""State dicts of facebookresearch/DiT: the network; what the file does not say comes from its shapes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.config.bounds import Natural
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import Rule, layer, patches, renamed, sines_first, within
from imagegen_jax.nn.backbones.dit import SIZES, DiT
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

SCALE = 0.18215  # brings the latents of Stable Diffusion's autoencoder to a deviation of 1


@dataclasses.dataclass(frozen=True)
class Options:
    """What a state dict of DiT does not say."""

    heads: Natural = 0  # 0: those of the paper's network of this width


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads a network of any size, averaged where the file has both. Raises ValueError where it is none of ours."""
    tensors = averaged(file)
    patch, positions = tensors["x_embedder.proj.weight"], tensors["pos_embed"]
    width, channels, side = patch.shape[:3]
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    known = {size[1]: size[2] for size in SIZES.values()}
    if not (heads := options.heads or known.get(width, 0)):
        raise ValueError(
            f"{place}: a DiT of width {width} is none of the paper's: say how many heads it has: --set heads=8"
        )
    out = len(tensors["final_layer.linear.weight"]) // side**2
    if out != 2 * channels:
        raise ValueError(
            f"{place}: {out} channels are put out for {channels}: only networks that predict noise and variance can be "
            "imported"
        )
    pixels = side * math.isqrt(positions.shape[1])
    model = ImprovedDDPM(
        network=DiT(side, depth, width, heads, out_channels=out),
        schedule=LinearSchedule(1000),
        image_shape=(pixels, pixels, channels),
        num_classes=len(tensors["y_embedder.embedding_table.weight"]) - 1,  # the last stands for none
        sampling_steps=250,
        label_dropout=0.1,
        space=Latents(SCALE),
    )
    nets = {"network": {"params": renamed(tensors, shapes_of(model)["network"]["params"], RULES, place)}}
    return Published(model, nets, dataclasses.asdict(options))


def averaged(file: WeightFile) -> dict[str, np.ndarray]:
    """Returns the averaged tensors of a training's file, or all tensors of a file of one network."""
    for part in ("ema/", "model/"):
        found = {name.removeprefix(part): x for name, x in file.arrays.items() if name.startswith(part)}
        if found:
            return found
    return dict(file.arrays)


BLOCK = [
    *layer("attn.qkv", "self_attention/qkv"),
    *layer("attn.proj", "self_attention/out"),
    *layer("mlp.fc1", "mlp_0"),
    *layer("mlp.fc2", "mlp_1"),
    *layer("adaLN_modulation.1", "modulation"),
]
RULES = [
    *layer("x_embedder.proj", "patch", patches),
    *layer("t_embedder.mlp.0", "time_0", sines_first),
    *layer("t_embedder.mlp.2", "time_1"),
    Rule("y_embedder.embedding_table.weight", "label/kernel"),
    *within({"blocks.{i}.": "block_{i}/"}, BLOCK),
    *layer("final_layer.adaLN_modulation.1", "modulation"),
    *layer("final_layer.linear", "out"),
    Rule("pos_embed", ()),  # computed
]
