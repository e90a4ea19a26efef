"""Checkpoints of CompVis/taming-transformers and CompVis/latent-diffusion: autoencoders, with codes or a posterior.

Lightning's .ckpt holds the network under "state_dict"; the perceptual distance that it was trained by is left out.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import numpy as np

from imagegen_jax.autoencoders.adversary import Adversary, Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.config.bounds import Range
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.core.model import Model
from imagegen_jax.interop.importing import Published, completed, shapes_of
from imagegen_jax.interop.name_map import Rule, Tensors, convolution, layer, norm, renamed, within
from imagegen_jax.interop.names.autoencoders import residual
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.patch import PatchDiscriminator

JUDGE = "loss.discriminator.main."


@dataclasses.dataclass(frozen=True)
class Options:
    """What a checkpoint of an autoencoder does not say."""

    size: Annotated[int, Range(8, 1 << 14)] = 256  # height and width of its images


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads an autoencoder, with or without the discriminator. Raises ValueError where it is none of ours."""
    tensors = {name.removeprefix("state_dict/"): x for name, x in file.arrays.items()}
    autoencoder = autoencoder_in(tensors)
    judge = {
        name.removeprefix(JUDGE): x
        for name, x in tensors.items()
        if name.startswith(JUDGE) and not name.endswith("num_batches_tracked")
    }
    model, network = model_of(autoencoder, judge, options.size)
    shapes = shapes_of(model)
    nets = {network: filled(autoencoder, shapes[network], RULES, place)}
    if judge:
        nets["discriminator"] = renamed(judge, shapes["discriminator"], judge_rules(judge), f"{place}, {JUDGE[:-1]}")
    return Published(model, completed(model, nets, shapes), {"options": dataclasses.asdict(options)})


def autoencoder_in(tensors: Tensors, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns the tensors of an autoencoder below `prefix`, without those of the loss that it was trained by."""
    found = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    return {name: x for name, x in found.items() if name.startswith(("encoder.", "decoder.", "qu", "post_"))}


def filled(tensors: Tensors, shapes: dict[str, Any], rules: list[Rule], place: str) -> dict[str, Any]:
    """Fills the parameters. When each code was last chosen no file says, and counting starts at 0."""
    counts = {
        name: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), x) for name, x in shapes.items() if name != "params"
    }
    return {"params": renamed(tensors, shapes["params"], rules, place), **counts}


def model_of(tensors: Tensors, judge: Tensors, size: int) -> tuple[Model, str]:
    """Finds the model from the shapes of its tensors, and the name of its network."""
    levels = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.down."))
    widths = [len(tensors[f"encoder.down.{level}.block.0.conv2.weight"]) for level in range(levels)]
    width = len(tensors["encoder.conv_in.weight"])
    blocks = len([name for name in tensors if name.startswith("encoder.down.0.block.") and name.endswith("conv1.bias")])
    attends = tuple(level for level in range(levels) if f"encoder.down.{level}.attn.0.q.weight" in tensors)
    shared: dict[str, Any] = {
        "width": width,
        "multipliers": tuple(w // width for w in widths),
        "blocks": blocks,
        "attention_levels": attends,
        "middle_attention": "encoder.mid.attn_1.q.weight" in tensors,
    }
    encoder = ConvEncoder(**shared, features=len(tensors["encoder.conv_out.weight"]))
    decoder = ConvDecoder(**shared)
    shape = (size, size, len(tensors["decoder.conv_out.weight"]))
    likeness, adversary = Likeness(perceptual=None), Adversary(discriminator_of(judge)) if judge else None
    if "quantize.embedding.weight" in tensors:
        codes, dim = tensors["quantize.embedding.weight"].shape
        post = len(tensors["post_quant_conv.weight"])
        network = Tokenizer(encoder, Codebook(codes, dim, swapped=True), decoder, post_features=post)
        return VQGAN(shape, network, likeness, adversary or Adversary()), "tokenizer"
    latents = tensors["post_quant_conv.weight"].shape[1]
    kl = KLNetwork(encoder, decoder, latents)
    return AutoencoderKL(shape, kl, likeness, adversary, learned_variance=False), "autoencoder"


def discriminator_of(judge: Tensors) -> PatchDiscriminator:
    """Finds a discriminator of patches from its tensors."""
    kernels = [x for x in judge.values() if x.ndim == 4]
    return PatchDiscriminator(len(kernels[0]), len(kernels) - 2)


RESIDUAL = residual("nin_shortcut")
ATTENTION = [
    *norm("norm", "norm"),
    *layer("q", "query"),
    *layer("k", "key"),
    *layer("v", "value"),
    *layer("proj_out", "out"),
]


def _rules() -> list[Rule]:
    """Returns the rules for an autoencoder of either kind."""
    rules = [Rule("quantize.embedding.weight", "quantiser/embedding")]
    rules += [*convolution("quant_conv", "pre"), *convolution("post_quant_conv", "post")]
    for half, way, change in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        theirs, ours = f"{half}.{way}.{{i}}.", f"{half}/{way}_{{i}}"
        rules += within({f"{theirs}block.{{j}}.": f"{ours}_{{j}}/"}, RESIDUAL)
        rules += within({f"{theirs}attn.{{j}}.": f"{ours}_{{j}}_attention/"}, ATTENTION)
        rules += convolution(f"{theirs}{change}.conv", ours)
        rules += within({f"{half}.mid.block_{i + 1}.": f"{half}/middle_{i}/" for i in range(2)}, RESIDUAL)
        rules += within({f"{half}.mid.attn_1.": f"{half}/middle_attention_0/"}, ATTENTION)
        ends = [*convolution("conv_in", "conv_in"), *norm("norm_out", "norm_out"), *convolution("conv_out", "conv_out")]
        rules += within({f"{half}.": f"{half}/"}, ends)
    return rules


RULES = _rules()


def judge_rules(judge: Tensors) -> list[Rule]:
    """Returns the rules for a discriminator, whose layers are counted in their order here."""
    rules: list[Rule] = []
    for at, name in enumerate(name.split(".")[0] for name, x in judge.items() if x.ndim == 4):
        rules += convolution(name, f"params/Conv_{at}")
        after, path = int(name) + 1, f"BatchNorm_{at - 1}/norm"
        rules += norm(str(after), f"params/{path}")
        rules += [Rule(f"{after}.running_{s}", f"batch_stats/{path}/{s}") for s in ("mean", "var")]
    return rules
