"""Checkpoints of CompVis/taming-transformers' second stage: a GPT over the codes of the VQGAN in the same file.

Only sequences that begin with one code are read: a class, as on ImageNet, or code 0 where there is no condition.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.config.bounds import Natural, Range
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import Rule, dense, layer, norm, renamed, within
from imagegen_jax.interop.official import first_stage
from imagegen_jax.nn.backbones.transformers.gpt import GPT

TRANSFORMER, STAGE = "transformer.", "first_stage_model."
PARTS = ("query", "key", "value")
HEADS = {1024: 16, 1536: 24, 1664: 16}  # of the published networks, by their width
IMAGENET = (1536, 16_384)  # width and codes of the published network by a class


@dataclasses.dataclass(frozen=True)
class Options:
    """What a checkpoint of the second stage does not say; the defaults are those of the published networks."""

    size: Annotated[int, Range(2, 1 << 14)] = 256  # height and width of its images
    heads: Natural = 0  # 0: those of the published network of this width
    classes: Natural | None = None  # None: 1000 for the size of ImageNet's network, 0 for any other


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads a prior with its tokenizer. Raises ValueError where it is none of ours."""
    tensors = {name.removeprefix("state_dict/"): x for name, x in file.arrays.items()}
    if others := [name for name in tensors if name.startswith("cond_stage_model.")]:
        raise ValueError(
            f"{place} has {others[0]}: only second stages by a class or without a condition can be imported, not by "
            "another image"
        )
    stage, given = first_stage.autoencoder_in(tensors, STAGE), joined(tensors)
    tokenizer, _ = first_stage.model_of(stage, {}, options.size)
    if not isinstance(tokenizer, VQGAN):
        raise ValueError(f"{place}: its first stage has no codes: this is no second stage of VQGAN")
    model = model_of(given, tokenizer, options, place)
    shapes = shapes_of(model)
    nets = {"prior": {"params": renamed(given, shapes["prior"]["params"], RULES, place)}}
    nets["tokenizer"] = first_stage.filled(stage, shapes["tokenizer"], first_stage.RULES, place)
    return Published(model, nets, {"options": dataclasses.asdict(options)})


def joined(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of the transformer, with queries, keys and values as one layer; masks are left out."""
    found = {name.removeprefix(TRANSFORMER): x for name, x in tensors.items() if name.startswith(TRANSFORMER)}
    found = {name: x for name, x in found.items() if not name.endswith("attn.mask")}
    for name in [name for name in found if ".attn.query." in name]:
        found[name.replace("query", "qkv")] = np.concatenate([found.pop(name.replace("query", part)) for part in PARTS])
    return found


def model_of(given: dict[str, np.ndarray], tokenizer: VQGAN, options: Options, place: str) -> CodePrior:
    """Finds the prior of a transformer's tensors. Raises ValueError for sequences that have more than a code first."""
    codes, width = given["tok_emb.weight"].shape
    depth = len({name.split(".")[1] for name in given if name.startswith("blocks.")})
    places, length = given["pos_emb"].shape[1], int(np.prod(tokenizer.code_shape))
    if places != length or codes != tokenizer.codebook_size:
        raise ValueError(
            f"{place}: sequences of {places} codes out of {codes}, but an image of {options.size} pixels a side has "
            f"{length} out of {tokenizer.codebook_size}: only those by a class or without a condition can be imported; "
            "for images of another size, --set size=..."
        )
    classes = options.classes
    if classes is None:
        classes = 1000 if (width, codes) == IMAGENET else 0
    network = GPT(depth, width, options.heads or heads_of(width, place), start="code")
    return CodePrior(tokenizer, network, classes)


def heads_of(width: int, place: str) -> int:
    """Returns how many heads the published network of a width has. Raises ValueError where there is none."""
    if width not in HEADS:
        raise ValueError(
            f"{place}: a transformer of width {width} is none of the published ones, which are of "
            f"{', '.join(map(str, HEADS))}: say how many heads it has (n_head): --set heads=16"
        )
    return HEADS[width]


BLOCK = [
    *norm("ln1", "norm_0"),
    *norm("ln2", "norm_1"),
    *layer("attn.qkv", "attention/qkv"),
    *layer("attn.proj", "attention/out"),
    *layer("mlp.0", "mlp/hidden"),
    *layer("mlp.2", "mlp/out"),
]
RULES = [
    Rule("tok_emb.weight", "code/embedding"),
    Rule("pos_emb", "position", lambda tensor: tensor[0]),
    *within({"blocks.{i}.": "transformer/block_{i}/"}, BLOCK),
    *norm("ln_f", "transformer/norm"),
    Rule("head.weight", "head/kernel", dense),
]
