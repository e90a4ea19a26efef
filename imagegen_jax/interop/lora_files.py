"""Reads files of low-rank pairs in the words of peft, of diffusers before it, and of kohya's scripts.

    library                      a layer's pair                                              alpha
    peft, diffusers since 0.22   unet.LAYER.lora_A.weight, .lora_B.weight                    in the metadata
    diffusers before             unet.LAYER.processor.to_q_lora.down.weight, .up.weight      none
    kohya's scripts              lora_unet_LAYER_WITH_UNDERSCORES.lora_down.weight, .lora_up.weight, .alpha

Layers of a transformer begin with "transformer." in place of "unet."; those of text encoders with "text_encoder.",
"text_encoder_2." and so forth, or "lora_te_" or "lora_te1_", "lora_te2_" in place of "lora_unet_".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.run import Path

METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's settings, as JSON
_TEXTS = ("text", "text_2", "text_3")  # the encoders of a pipeline
_DOTTED = {"unet.": "network", "transformer.": "network", "base_model.model.": "network"} | {
    f"{name.replace('text', 'text_encoder')}.": name for name in _TEXTS
}
_FLAT = {"lora_unet_": "network", "lora_transformer_": "network", "lora_te_": "text"} | {
    f"lora_te{number}_": name for number, name in enumerate(_TEXTS, start=1)
}
_HALVES = {"lora_A": "A", "lora_B": "B", "lora_down": "A", "lora_up": "B", "down": "A", "up": "B", "alpha": "alpha"}
_ENDS = (
    r"(?P<layer>.+?)\.(?P<half>lora_A|lora_B|lora_down|lora_up)(?:\.default)?(?:\.weight)?",
    r"(?P<layer>.+?)\.(?:lora|lora_linear_layer)\.(?P<half>down|up)\.weight",
    r"(?P<layer>.+?)(?:\.processor)?\.(?P<projection>to_(?:q|k|v|out))_lora\.(?P<half>down|up)\.weight",
    r"(?P<layer>.+?)\.(?P<half>alpha)",
)
_KEY = tuple(map(re.compile, _ENDS))
_IN_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class Layer(NamedTuple):
    """A layer as a file calls it."""

    part: str  # of a pipeline: "network", "text", "text_2" or "text_3"
    name: str  # with dots, or where `flat` with underscores in their place
    flat: bool


class Pair(NamedTuple):
    """The pair of a layer, in torch's layout."""

    a: np.ndarray  # [r in ...]
    b: np.ndarray  # [out r ...]
    alpha: float  # the product counts alpha / r times


def read_pairs(path: Path) -> dict[Layer, Pair]:
    """Reads the pairs of a file by layer. Raises ValueError for anything else in it, and for half a pair."""
    file = read_weight_file(path)
    if file.arrays and not any("lora" in key for key in file.arrays):
        raise ValueError(
            f"{path} holds {next(iter(file.arrays))!r} and {len(file.arrays) - 1:,} more, which are no low-rank pairs "
            "(LAYER.lora_A.weight, LAYER.lora_B.weight): name a file of LoRA; whole weights are imported"
        )
    found: dict[Layer, dict[str, np.ndarray]] = {}
    for key, array in file.arrays.items():
        layer, half = _parsed(key, path)
        found.setdefault(layer, {})[half] = array
    if not found:
        raise ValueError(f"{path} holds no low-rank pairs: name another file")
    alphas = _alphas(file.metadata, path)
    return {layer: _pair(layer, halves, alphas, path) for layer, halves in found.items()}


def _pair(layer: Layer, halves: Mapping[str, np.ndarray], alphas: Callable[[Layer], float | None], path: Path) -> Pair:
    if not {"A", "B"} <= halves.keys():
        there = ", ".join(name if name == "alpha" else f"lora_{name}" for name in sorted(halves))
        raise ValueError(f"{path}: {layer.name} has {there}, but a pair is lora_A and lora_B")
    a, b = halves["A"], halves["B"]
    said = float(halves["alpha"]) if "alpha" in halves else alphas(layer)
    return Pair(a, b, float(len(a)) if said is None else said)


def _parsed(key: str, path: Path) -> tuple[Layer, str]:
    """Returns the layer that a tensor is of, and which half of its pair it is: "A", "B" or "alpha"."""
    match = next((found for pattern in _KEY if (found := pattern.fullmatch(key))), None)
    if match is None:
        raise ValueError(
            f"{path}: {key!r} is of no low-rank pair (LAYER.lora_A.weight, LAYER.lora_B.weight, LAYER.alpha): pairs of "
            "another kind have to be merged where they were made"
        )
    layer, half = match["layer"], _HALVES[match["half"]]
    for flat, prefixes in ((False, _DOTTED), (True, _FLAT)):
        for prefix, part in prefixes.items():
            if layer.startswith(prefix):
                name = layer.removeprefix(prefix) + _projection(match.groupdict().get("projection"), part)
                return Layer(part, name, flat), half
    return Layer("network", layer + _projection(match.groupdict().get("projection"), "network"), False), half


def _projection(word: str | None, part: str) -> str:
    """Returns the end of a layer's name that files before peft have behind "processor"."""
    if word is None:
        return ""
    name = _IN_TEXT[word] if part in _TEXTS else {"to_out": "to_out.0"}.get(word, word)
    return f".{name}"


def _alphas(metadata: Mapping[str, Any], path: Path) -> Callable[[Layer], float | None]:
    """Returns the function from a layer to its alpha by peft's settings; None where these do not say."""
    settings = _settings(metadata, path)
    if any(settings.get(prefix + name) for prefix in ("", *_DOTTED) for name in ("use_rslora", "use_dora")):
        raise ValueError(f"{path}: pairs by use_rslora or use_dora are not known here: merge them where they were made")

    def alpha(layer: Layer) -> float | None:
        prefixes = [prefix for prefix, part in _DOTTED.items() if part == layer.part]
        own = {**settings, **{name: value for prefix in prefixes for name, value in _below(settings, prefix).items()}}
        of = own.get("alpha_pattern") or {}
        found = next((of[key] for key in of if _names(key, layer.name, path)), own.get("lora_alpha"))
        return None if found is None else float(found)

    return alpha


def _names(pattern: str, layer: str, path: Path) -> bool:
    """Tells whether a key of alpha_pattern, a regular expression, is of a layer. Raises ValueError where it is none."""
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", layer) is not None
    except re.error as error:
        raise ValueError(
            f"{path}: alpha_pattern has {pattern!r}, which is no regular expression ({error}): fetch it again"
        ) from error


def _below(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}


def _settings(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Reads peft's settings. Raises ValueError where they are none."""
    try:
        found = json.loads(metadata.get(METADATA, "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: the metadata {METADATA!r} are no JSON ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the metadata {METADATA!r} hold no settings: fetch it again")
    return found
