"""State dicts of ajbrock/BigGAN-PyTorch: a generator, G_ema.pth or G.pth; its shapes say all.

The statistics of its batch norms are the running ones. Of the vectors of spectral norms theirs has one, and makes half
an iteration from it before each use: here both vectors are what it then has.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.residual.biggan_networks import Discriminator, Generator
from imagegen_jax.interop.importing import Published, completed, shapes_of
from imagegen_jax.interop.name_map import Layout, Rule, Tensors, dense, kernel, layer, renamed

HEAD = 4  # height of the base


def read(file: WeightFile, place: str) -> Published:
    """Reads a generator; the discriminator is a fresh one. Raises ValueError where it is none of ours."""
    tensors = {
        name: x for name, x in file.arrays.items() if not re.search(r"(\.sv0|_counter|num_batches_tracked)$", name)
    }
    generator, latent = generator_of(tensors)
    blocks, (first, *rest) = len(generator.multipliers) - 1, generator.multipliers
    model = BigGAN(
        image_shape=(HEAD << blocks, HEAD << blocks, len(tensors["output_layer.2.weight"])),
        generator=generator,
        discriminator=Discriminator(generator.width, (*rest[::-1], first), blocks, generator.attention),
        latent_dim=latent,
        num_classes=len(tensors["shared.weight"]),
    )
    shapes = shapes_of(model)
    wanted = shapes["generator"] | {"spectral": _without_v(shapes["generator"]["spectral"])}
    found = renamed(tensors, wanted, rules_of(), place)
    found["spectral"] = iterated(found["spectral"], found["params"])
    return Published(model, completed(model, {"generator": found}, shapes), {})


def generator_of(tensors: Tensors) -> tuple[Generator, int]:
    """Finds a generator, and the length of its latents, from the shapes of its tensors."""
    count = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    channels = [len(tensors["linear.weight"]) // HEAD**2]
    channels += [len(tensors[f"blocks.{i}.0.conv1.weight"]) for i in range(count)]
    width, shared = math.gcd(*channels), tensors["shared.weight"].shape[1]
    part = tensors["linear.weight"].shape[1]
    hierarchical = tensors["blocks.0.0.bn1.gain.weight"].shape[1] > shared
    attention = next((HEAD << (i + 1) for i in range(count) if f"blocks.{i}.1.gamma" in tensors), 0)
    generator = Generator(width, tuple(c // width for c in channels), shared, hierarchical, attention)
    return generator, part * (count + 1 if hierarchical else 1)


def pixels_first(tensor: np.ndarray) -> np.ndarray:
    """Reorders the outputs that make the base: [C 4 4 ...] -> [4 4 C ...], flat as they were."""
    inside = tensor.shape[1:]
    return np.moveaxis(tensor.reshape(-1, HEAD, HEAD, *inside), 0, 2).reshape(tensor.shape)


def _without_v(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_v(x) if isinstance(x, dict) else x for name, x in tree.items() if name != "v"}


def iterated(spectral: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Returns both vectors of each spectral norm: v = W^T u / |W^T u|, then u = W v / |W v|."""
    if "u" not in spectral:
        return {name: iterated(spectral[name], params[name]) for name in spectral}
    matrix = params["kernel"].reshape(-1, params["kernel"].shape[-1]).T
    v = spectral["u"] @ matrix
    v /= np.linalg.norm(v)
    u = matrix @ v
    return {"u": u / np.linalg.norm(u), "v": v}


def _normed(name: str, path: str, form: Layout = kernel) -> list[Rule]:
    """Returns the rules of a layer with a spectral norm."""
    vector = Rule(f"{name}.u0", f"spectral/{path}/u", lambda u: u[0])
    return [*layer(name, f"params/{path}", form), vector]


def _statistics(name: str, path: str) -> list[Rule]:
    return [Rule(f"{name}.bn.stored_{s}", f"batch_stats/{path}/{s}") for s in ("mean", "var")]


def rules_of() -> list[Rule]:
    """Returns the rules for a generator."""
    rules = [Rule("shared.weight", "params/shared/embedding"), Rule("blocks.{i}.1.gamma", "params/attention/gamma")]
    for i in (1, 2):
        norm, ours = f"blocks.{{i}}.0.bn{i}", f"block_{{i}}/norm_{i}"
        rules += [*_normed(f"blocks.{{i}}.0.conv{i}", f"block_{{i}}/conv_{i}"), *_statistics(norm, f"{ours}/norm")]
        rules += [*_normed(f"{norm}.gain", f"{ours}/scale", dense), *_normed(f"{norm}.bias", f"{ours}/bias", dense)]
    rules += _normed("blocks.{i}.0.conv_sc", "block_{i}/shortcut")
    for theirs, ours in {"theta": "query", "phi": "key", "g": "value", "o": "out"}.items():
        rules += _normed(f"blocks.{{i}}.1.{theirs}", f"attention/{ours}")
    rules += [
        Rule("linear.weight", "params/project/kernel", lambda tensor: dense(pixels_first(tensor))),
        Rule("linear.bias", "params/project/bias", pixels_first),
        Rule("linear.u0", "spectral/project/u", lambda u: pixels_first(u[0])),
        Rule("output_layer.0.gain", "params/norm_out/scale"),
        Rule("output_layer.0.bias", "params/norm_out/bias"),
    ]
    return [*rules, *_statistics("output_layer.0", "norm_out"), *_normed("output_layer.2", "conv_out")]
