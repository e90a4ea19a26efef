"""Weights of a `UNet2DModel` of the library diffusers as parameters of `UNet`: files, names and layouts."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax.core.files.regular import check_regular
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.files.wrong_files import INDEX, parts_of

Tensors = Mapping[str, np.ndarray]

FILE = "diffusion_pytorch_model.safetensors"

# A parameter's module here -> its name in diffusers. Published files still have earlier names of attention's layers.
OUTER = {
    "conv_in": "conv_in", "time_0": "time_embedding.linear_1", "time_1": "time_embedding.linear_2",
    "norm_out": "conv_norm_out", "conv_out": "conv_out",
}  # fmt: skip
RESIDUAL = {
    "norm_1": "norm1", "conv_1": "conv1", "embed": "time_emb_proj", "norm_2": "norm2", "conv_2": "conv2",
    "shortcut": "conv_shortcut",
}  # fmt: skip
ATTENTION = {
    "norm": ("group_norm",), "query": ("to_q", "query"), "key": ("to_k", "key"), "value": ("to_v", "value"),
    "out": ("to_out.0", "proj_attn"),
}  # fmt: skip


def find_weights(folder: pathlib.Path) -> pathlib.Path:
    """Finds the file of weights in the folder of a network: a .safetensors, an index of parts, or else a .bin.

    Raises ValueError where there is not exactly one.
    """
    for name in (FILE, f"{FILE}{INDEX}", "diffusion_pytorch_model.bin", f"diffusion_pytorch_model.bin{INDEX}"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if len(found) == 1 or (found and len(parts_of(found[0])) == len(found)):
        return found[0]
    if found:
        raise ValueError(
            f"{folder} has {', '.join(path.name for path in found)}, but no {FILE}: rename the one to be read to that"
        )
    raise ValueError(f"{folder} has no {FILE}: copy it there from where the model is published")


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a file of weights, or of all parts of one, of any float type, as float32.

    Raises ValueError for another file, and where a part is missing.
    """
    check_regular(path)
    parts_of(path)
    try:
        arrays = read_weight_file(path).arrays
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no {path.suffix} file ({error.__cause__}): fetch it again") from error
    return {name: _values(tensor, name, path) for name, tensor in arrays.items()}


def _values(tensor: np.ndarray, name: str, path: pathlib.Path) -> np.ndarray:
    if not jax.numpy.issubdtype(tensor.dtype, np.floating):
        raise ValueError(f"{path}: the tensor {name!r} is of {tensor.dtype}, not of floats: fetch it again")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        values = tensor.astype(np.float32)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(
            f"{path}: the tensor {name!r} has {count:,} values that are NaN or infinite, of {values.size:,}: a network "
            "with them draws nothing; fetch it again"
        )
    return values


def parameters_of(tensors: Tensors, like: Any, place: str) -> Any:
    """Fills the tree `like`, shapes of a `UNet`'s parameters, with `tensors`, which were read at `place`.

    Each tensor is used once. Raises ValueError where tensors are missing, too many, or of another shape, and names the
    first of them.
    """
    left, missing = dict(tensors), []
    levels = 1 + max(int(name.split("_")[1]) for name in like if re.fullmatch(r"down_\d+_0", name))

    def taken(path: Any, leaf: Any) -> np.ndarray | None:
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        names = tensor_names(where, levels)
        name = next((name for name in names if name in left), None)
        if name is None:
            missing.append(f"{' or '.join(map(repr, names))} for {where}")
            return None
        return _converted(left.pop(name), leaf.shape, name, place)

    filled = jax.tree_util.tree_map_with_path(taken, like)
    if missing:
        raise ValueError(
            f"{place} has no tensor {missing[0]}, and lacks {len(missing)} in all: it is not whole, or belongs to "
            "another configuration; fetch both files again"
        )
    if left:
        raise ValueError(
            f"{place} has the tensor {min(left)!r}, and {len(left)} in all that have no place in the network: the "
            "configuration beside it is another's; fetch both files again"
        )
    return filled


def tensor_names(path: str, levels: int) -> tuple[str, ...]:
    """Returns the names that a parameter's tensor may have, the present one first, in a network of `levels` levels.

    diffusers counts blocks on the way up from the lowest, and a change of resolution belongs to the block before it.
    """
    first, *inner, leaf = path.split("/")
    kind = "bias" if leaf == "bias" else "weight"
    if first == "label":
        return ("class_embedding.weight",)
    if not inner:
        return (f"{_outer(first, levels)}.{kind}",)
    if inner[0] == "attention":
        return tuple(f"{_block(first, levels, 'attentions')}.{name}.{kind}" for name in ATTENTION[inner[1]])
    return (f"{_block(first, levels, 'resnets')}.{RESIDUAL[inner[0]]}.{kind}",)


def _outer(module: str, levels: int) -> str:
    way, _, level = module.partition("_")
    if way == "down":
        return f"down_blocks.{int(level) - 1}.downsamplers.0.conv"
    return f"up_blocks.{levels - 1 - int(level)}.upsamplers.0.conv" if way == "up" else OUTER[module]


def _block(module: str, levels: int, kind: str) -> str:
    way, first, *second = module.split("_")
    if way == "middle":
        return f"mid_block.{kind}.{first}"
    return f"{way}_blocks.{first if way == 'down' else levels - 1 - int(first)}.{kind}.{second[0]}"


def _converted(tensor: np.ndarray, shape: tuple[int, ...], name: str, place: str) -> np.ndarray:
    """Brings [out in height width] and [out in] to linen's order, where 1x1 convolutions are dense layers.

    Raises ValueError for another shape than `shape` asks for.
    """
    if name == "class_embedding.weight":  # a table, with a row for each class
        tensor = tensor.T if tensor.ndim == 2 else tensor
    wanted = (*shape[:1:-1], *shape[:-2]) if len(shape) == 4 else shape[::-1]
    wanted += (1, 1) if "conv_shortcut.weight" in name else ()
    if tensor.shape != wanted:
        raise ValueError(
            f"{place}: the tensor {name!r} has the shape {tensor.shape}, but the configuration beside it wants "
            f"{wanted}: one of both is another network's; fetch both files again"
        )
    return tensor.transpose(2, 3, 1, 0) if len(shape) == 4 else tensor.reshape(shape[::-1]).T
