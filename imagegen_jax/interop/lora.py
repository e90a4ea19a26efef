"""Files of low-rank pairs as diffusers and peft write and read them, out of a run and into one.

For each layer there are `unet.LAYER.lora_A.weight` [r in] and `lora_B.weight` [out r], of convolutions [r in h w] and
[out r 1 1], and in the metadata alpha, as `save_lora_weights` of diffusers 0.42 has it. Layers of DDPM's U-Net and of
Stable Diffusion's have their names in diffusers; those of other networks the names here, with dots, which no other
library knows. Around transformers `proj_in` and `proj_out` are written as dense layers, as Stable Diffusion 2 has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.lora import SCALE, adapted_kernel, has_pairs, kernels_of
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.run import Path, Run
from imagegen_jax.core.state import create, unmerged
from imagegen_jax.interop.name_map import names_of
from imagegen_jax.interop.names.unets import ddpm, latent_unet
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.unet import UNet

METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's settings, as JSON
_PREFIX = "unet."
_KEY = re.compile(r"(?:unet\.|base_model\.model\.)?(.+?)\.(lora_A|lora_B|lora_down|lora_up|alpha)(?:\.weight)?")

Names = Callable[[tuple[str, ...]], tuple[str, ...]]  # a kernel's path -> what its layer may be called, the first now
Module = dict[str, np.ndarray]  # "lora_A", "lora_B" and perhaps "alpha" of one layer


def export_lora(run: Run, path: Path, network: str = "network") -> None:
    """Writes the pairs of a network, as sampling sees them, to a .safetensors file.

    Raises ValueError where the run has trained no pairs of it, and where a layer has no name in diffusers.
    """
    from safetensors.numpy import save_file

    nets = unmerged(run.state, run.experiment.step_spec.average)
    if network not in nets or not has_pairs(nets[network]):
        pairs = [name for name, variables in nets.items() if has_pairs(variables)]
        raise ValueError(f"{run.workdir} has no low-rank pairs of {network!r}, but of {pairs}: train with --lora.rank")
    names, tensors, layers = _names(run, network), dict[str, np.ndarray](), []
    for at, pair in _pairs(jax.device_get(nets[network]["params"])):
        layer = names(at)[0]
        layers.append(layer)
        for part, kernel in pair.items():
            tensors[f"{_PREFIX}{layer}.lora_{part}.weight"] = _out(kernel, layer, convolution=pair["A"].ndim == 4)
    rank = next(iter(tensors.values())).shape[0]
    settings = {"r": rank, "lora_alpha": rank * float(nets[network][SCALE]["scale"]), "target_modules": layers}
    said = {_PREFIX + name: value for name, value in settings.items()}
    save_file(tensors, path, {"format": "pt", METADATA: json.dumps(said, indent=2, sort_keys=True)})


def with_lora(run: Run, path: Path, scale: float = 1.0, network: str = "network") -> Run:
    """Returns a run that samples and edits with the pairs of a file in a network's weights, `scale` times.

    It is for sampling: its weights are those that sampling of `run` sees, without optimizers and averages. Raises
    ValueError for a file that is not of such pairs, or of another network's.
    """
    nets, names = {**run.nets}, _names(run, network)
    weights = jax.tree.map(lambda x: x, dict(nets[network]["params"]))
    layers = {name: at for at in kernels_of(weights) for name in _known(names, at)}
    found = _modules(path)
    for layer, module in found.items():
        if layer not in layers:
            near = difflib.get_close_matches(layer, layers, n=1, cutoff=0.0)[0]
            raise ValueError(f"{path}: this network has no layer {layer!r}; the nearest is {near!r}: name another file")
        *parents, leaf = layers[layer]
        node = weights
        for name in parents:
            node = node[name]
        node[leaf] = _sum(node[leaf], module, scale, f"{path}: {layer}")
    nets[network] = {**nets[network], "params": weights}
    experiment = dataclasses.replace(run.experiment, optim={}, averages=FrozenMap(), lora=None)
    state = create(nets, {}, {}).replace(step=run.state.step)
    return dataclasses.replace(run, experiment=experiment, state=state)


def _sum(kernel: Any, module: Module, scale: float, place: str) -> jax.Array:
    a, b = _in(module["lora_A"], kernel.ndim), _in(module["lora_B"], 2)
    wanted = (*kernel.shape[:-1], b.shape[0]), (a.shape[-1], kernel.shape[-1])
    if (a.shape, b.shape) != wanted:
        raise ValueError(
            f"{place} has pairs of {a.shape} and {b.shape}, but a kernel of {tuple(kernel.shape)}: they are another "
            "network's"
        )
    alpha = float(module["alpha"]) if "alpha" in module else float(a.shape[-1])
    return adapted_kernel(kernel, jnp.asarray(a), jnp.asarray(b), jnp.float32(scale * alpha / a.shape[-1]))


def _modules(path: Path) -> dict[str, Module]:
    """Reads the pairs of a file by layer. Raises ValueError for anything else in it, and for half a pair."""
    file = read_weight_file(path)
    found: dict[str, Module] = {}
    for key, array in file.arrays.items():
        match = _KEY.fullmatch(key.replace(".lora.down.", ".lora_down.").replace(".lora.up.", ".lora_up."))
        if match is None:
            raise ValueError(f"{path}: {key!r} is of no low-rank pair (LAYER.lora_A.weight, LAYER.lora_B.weight)")
        part = {"lora_down": "lora_A", "lora_up": "lora_B"}.get(match[2], match[2])
        found.setdefault(match[1], {})[part] = array
    alphas = _alphas(file.metadata)
    for layer, module in found.items():
        if not {"lora_A", "lora_B"} <= module.keys():
            raise ValueError(f"{path}: {layer} has {', '.join(sorted(module))}, but a pair is lora_A and lora_B")
        if "alpha" not in module and (alpha := alphas(layer)) is not None:
            module["alpha"] = np.asarray(alpha, np.float32)
    return found


def _alphas(metadata: Mapping[str, Any]) -> Callable[[str], float | None]:
    """Returns the function from a layer to its alpha by peft's settings; None where these do not say."""
    settings = json.loads(metadata[METADATA]) if METADATA in metadata else {}
    settings = {name.removeprefix(_PREFIX): value for name, value in settings.items()}
    if settings.get("use_rslora") or settings.get("use_dora"):
        raise ValueError("pairs by use_rslora or use_dora are not known here: merge them where they were made")

    def alpha(layer: str) -> float | None:
        of = settings.get("alpha_pattern", {})
        return next((of[key] for key in of if re.fullmatch(rf"(.*\.)?({key})", layer)), settings.get("lora_alpha"))

    return alpha


# --- names and layouts -----------------------------------------------------------------------------------------------


def _names(run: Run, network: str) -> Names:
    """Returns how the layers of a network are called in files."""
    module = getattr(run.experiment.model, network, None)
    if isinstance(module, UNet):
        return functools.partial(_of_diffusers, functools.partial(names_of, rules=ddpm(len(module.multipliers))))
    if isinstance(module, LatentUNet):
        return functools.partial(_of_diffusers, functools.partial(names_of, rules=latent_unet(len(module.multipliers))))
    return lambda at: (".".join(at[:-1]),)


def _of_diffusers(published: Callable[[str], tuple[str, ...]], at: tuple[str, ...]) -> tuple[str, ...]:
    with contextlib.suppress(KeyError):
        if names := published("/".join(at)):
            return tuple(name.removesuffix(".weight") for name in names)
    raise ValueError(
        f"the layer {'/'.join(at[:-1])} has no name, or another layout, in diffusers: train with pairs of others "
        "(--lora.kernels)"
    )


def _known(names: Names, at: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return names(at)
    except ValueError:
        return ()


def _pairs(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
    """Lists the path of each kernel that has a pair, and the pair."""
    if "A" in tree and not isinstance(tree["A"], Mapping):
        return [(above, dict(tree))]
    return [found for name, node in tree.items() for found in _pairs(node, (*above, name))]


def _out(kernel: np.ndarray, layer: str, convolution: bool) -> np.ndarray:
    """Brings half a pair to torch's layout, as that of a convolution where the layer is one there."""
    one = convolution or layer.endswith("conv_shortcut")
    kernel = kernel.reshape(1, 1, *kernel.shape) if one and kernel.ndim == 2 else kernel
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)


def _in(tensor: np.ndarray, dimensions: int) -> np.ndarray:
    """Brings half a pair from torch's layout to that of a kernel of so many dimensions; 1x1 becomes dense."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and dimensions == 2:
        tensor = tensor[:, :, 0, 0]
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
