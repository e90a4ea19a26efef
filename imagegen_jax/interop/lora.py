"""Files of low-rank pairs as diffusers and peft write and read them, out of a run and into one.

For each layer there are `unet.LAYER.lora_A.weight` [r in] and `lora_B.weight` [out r], of convolutions [r in h w] and
[out r 1 1], and in the metadata alpha, as `save_lora_weights` of diffusers 0.42 has it. Layers of DDPM's U-Net, of the
networks of Stable Diffusion 1, 2, XL and 3 and PixArt, and of their text encoders, have their names in diffusers; those
of other networks the names here, with dots, which no other library knows. Around transformers `proj_in` and `proj_out`
are written as dense layers, as Stable Diffusion 2 has them. What is read may have the words of other libraries too: see
`lora_files`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.lora import SCALE, adapted_kernel, has_pairs, kernels_of
from imagegen_jax.core.capabilities import OfOneNetwork, reads_text
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.model import Model
from imagegen_jax.core.run import Path, Run
from imagegen_jax.core.state import create, unmerged
from imagegen_jax.interop.lora_files import METADATA, Layer, Pair, read_pairs
from imagegen_jax.interop.name_map import kernel_names
from imagegen_jax.interop.names.text_encoders import CLIP, T5
from imagegen_jax.interop.names.transformers import mmdit, pixart
from imagegen_jax.interop.names.unets import ddpm, latent_unet
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

# A kernel's path -> what its layer may be called, as written now first.
Names = Callable[[tuple[str, ...]], tuple[Layer, ...]]


def export_lora(run: Run, path: Path, network: str | None = None) -> None:
    """Writes the pairs of a network, as sampling sees them, to a .safetensors file; None: of all that have some.

    Raises ValueError where the run has trained no pairs of it, and where a layer has no name in diffusers.
    """
    from safetensors.numpy import save_file

    nets = unmerged(run.state, run.experiment.step_spec.average)
    pairs = [name for name, variables in nets.items() if has_pairs(variables)]
    wanted = pairs if network is None else [network]
    if not wanted or not set(wanted) <= set(pairs):
        of = "" if network is None else f" of {network!r}, but of {', '.join(pairs) or 'no network'}"
        raise ValueError(f"{run.workdir} has no low-rank pairs{of}: train with --lora.rank")
    tensors: dict[str, np.ndarray] = {}
    settings: dict[str, Any] = {}
    for name in wanted:
        model = run.experiment.model
        found, said = _written(nets[name], _prefix(model, name), _names(model, name))
        tensors, settings = tensors | found, settings | said
    save_file(tensors, path, {"format": "pt", METADATA: json.dumps(settings, indent=2, sort_keys=True)})


def named_in_diffusers(model: Model) -> bool:
    """Tells whether a pipeline of diffusers loads the pairs of a model: Stable Diffusion's, with its names."""
    return isinstance(model, OfOneNetwork) and isinstance(model.network, LatentUNet | MMDiT)


def _written(variables: Mapping[str, Any], prefix: str, names: Names) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the tensors of a network's pairs by their names in diffusers, and peft's settings; `prefix` is its own.

    Text encoders have prefixes of their parts.
    """
    tensors: dict[str, np.ndarray] = {}
    layers: dict[str, list[str]] = {}
    for at, pair in _pairs(jax.device_get(variables["params"])):
        part, layer, _ = names(at)[0]
        begin = f"{_folder(part)}." if part.startswith("text") else prefix
        # Which transformers has up to version 4 alone; ends match too.
        layers.setdefault(begin, []).append(layer.removeprefix("text_model."))
        for half, kernel in pair.items():
            tensors[f"{begin}{layer}.lora_{half}.weight"] = _out(kernel, layer, convolution=pair["A"].ndim == 4)
    rank = next(iter(tensors.values())).shape[0]
    shared = {"r": rank, "lora_alpha": rank * float(variables[SCALE]["scale"])}
    found = {begin: shared | {"target_modules": names} for begin, names in layers.items()}
    return tensors, {begin + name: value for begin, said in found.items() for name, value in said.items()}


def with_lora(run: Run, path: Path, scale: float = 1.0) -> Run:
    """Returns a run that samples and edits with the pairs of a file in its networks' weights, `scale` times.

    It is for sampling: its weights are those that sampling of `run` sees, without optimizers and averages. Raises
    ValueError for a file that is not of such pairs, or of another network's.
    """
    nets = {**run.nets}
    for network, pairs in _by_network(read_pairs(path)).items():
        if network not in nets:
            raise ValueError(
                f"{path} has pairs of {_folder(next(iter(pairs)).part)}, but this run has no network {network!r}, only "
                f"{', '.join(nets)}: name a file that was made for such a model"
            )
        weights = jax.tree.map(lambda x: x, dict(nets[network]["params"]))
        _add(weights, pairs, scale, _names(run.experiment.model, network), path)
        nets[network] = {**nets[network], "params": weights}
    experiment = dataclasses.replace(run.experiment, optim={}, averages=FrozenMap(), lora=None)
    state = create(nets, {}, {}).replace(step=run.state.step)
    return dataclasses.replace(run, experiment=experiment, state=state)


def _by_network(pairs: Mapping[Layer, Pair]) -> dict[str, dict[Layer, Pair]]:
    found: dict[str, dict[Layer, Pair]] = {}
    for layer, pair in pairs.items():
        found.setdefault("text" if layer.part.startswith("text") else layer.part, {})[layer] = pair
    return found


def _add(weights: dict[str, Any], pairs: Mapping[Layer, Pair], scale: float, names: Names, path: Path) -> None:
    """Adds pairs to a tree of weights. Raises ValueError, and names them, for layers that the network does not have."""
    layers = {layer: at for at in kernels_of(weights) for layer in _known(names, at)}
    layers |= {Layer(layer.part, layer.name.replace(".", "_"), True): at for layer, at in layers.items()}
    places = {layer: layers.get(layer) for layer in pairs}
    if unknown := [layer for layer, at in places.items() if at is None]:
        part, name, flat = unknown[0]
        there = [layer.name for layer in layers if (layer.part, layer.flat) == (part, flat)]
        if not there:
            known = ", ".join(sorted({_folder(layer.part) for layer in layers}))
            raise ValueError(f"{path} has pairs of {_folder(part)}, but this run has {known} alone: name another file")
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
        more = f" ({len(unknown)} of its {len(pairs)} layers do not fit)" if len(unknown) > 1 else ""
        raise ValueError(
            f"{path}: this network has no layer {name!r}; the nearest is {near[0]!r}{more}: name another file"
        )
    for layer, at in places.items():
        *parents, leaf = at or ()
        node = functools.reduce(dict.__getitem__, parents, weights)
        node[leaf] = _sum(node[leaf], pairs[layer], scale, f"{path}: {layer.name}")


def _sum(kernel: Any, pair: Pair, scale: float, place: str) -> jax.Array:
    if not {pair.a.ndim, pair.b.ndim} <= {2, 4}:
        raise ValueError(
            f"{place} has pairs of {pair.a.shape} and {pair.b.shape}, which are no matrices: fetch it again"
        )
    a, b = _in(pair.a, kernel.ndim), _in(pair.b, 2)
    wanted = (*kernel.shape[:-1], b.shape[0]), (a.shape[-1], kernel.shape[-1])
    if (a.shape, b.shape) != wanted:
        raise ValueError(
            f"{place} has pairs of {a.shape} and {b.shape}, but a kernel of {tuple(kernel.shape)}: they are another "
            "network's"
        )
    scale = scale * pair.alpha / a.shape[-1]
    return adapted_kernel(kernel, *(jnp.asarray(half, jnp.float32) for half in (a, b)), jnp.float32(scale))


# --- names and layouts -----------------------------------------------------------------------------------------------


def _folder(part: str) -> str:
    """Returns how a pipeline's folder calls a part."""
    return part.replace("text", "text_encoder")


def _prefix(model: Model, network: str) -> str:
    """Returns how the names of a network's layers begin in files."""
    if network != "network":
        return f"{network}."
    transformer = isinstance(model, OfOneNetwork) and isinstance(model.network, MMDiT | PixArt)
    return "transformer." if transformer else "unet."


def _names(model: Model, network: str) -> Names:
    """Returns how the layers of a network are called in files."""
    if network == "network" and isinstance(model, OfOneNetwork):
        return _of_module(model.network, network)
    text = reads_text(model) if network == "text" else None
    if not isinstance(text, JoinedText):
        return _of_module(text, network)
    named = {f"encoders_{i}": encoder for i, encoder in enumerate(text.encoders)} | {"after": text.after}
    of = {
        name: _of_module(encoder, f"text_{number}" if number > 1 else "text")
        for number, (name, encoder) in enumerate(named.items(), start=1)
    }
    return lambda at: of[at[0]](at[1:])


def _of_module(module: Any, part: str) -> Names:
    """Returns how the layers of a module are called, which is a part of a pipeline."""
    rules = None
    if isinstance(module, UNet):
        rules = ddpm(len(module.multipliers))
    elif isinstance(module, LatentUNet):
        rules = latent_unet(len(module.multipliers))
    elif isinstance(module, MMDiT):
        rules = mmdit(module.depth, module.patch)
    elif isinstance(module, PixArt):
        rules = pixart(module.patch)
    elif isinstance(module, CLIPText | T5Encoder):
        rules = CLIP if isinstance(module, CLIPText) else T5
    if rules is None:
        return lambda at: (Layer(part, ".".join(at[:-1]), False),)
    return functools.partial(_of_diffusers, kernel_names(rules), part)


def _of_diffusers(published: Callable[[str], tuple[str, ...]], part: str, at: tuple[str, ...]) -> tuple[Layer, ...]:
    with contextlib.suppress(KeyError):
        if names := published("/".join(at)):
            return tuple(Layer(part, name.removesuffix(".weight"), False) for name in names)
    raise ValueError(
        f"the layer {'/'.join(at[:-1])} has no name, or another layout, in diffusers: train with pairs of others "
        "(--lora.kernels)"
    )


def _known(names: Names, at: tuple[str, ...]) -> tuple[Layer, ...]:
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
