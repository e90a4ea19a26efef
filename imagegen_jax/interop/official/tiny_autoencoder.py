"""TAESD's files: the pair of madebyollin/taesd, encoder and decoder, and the one that diffusers' AutoencoderTiny saves.

Layers are numbered as in a list of them, in which what has no weights counts too: a relu and each enlarging, and in the
authors' decoder a first layer that bends large latents.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from imagegen_jax.autoencoders.first_stages.tiny import TinyAutoencoder, TinyNetwork
from imagegen_jax.core.config.bounds import Range
from imagegen_jax.core.files.weight_files import WeightFile, read_weight_file
from imagegen_jax.interop.importing import Published, sha256, shapes_of
from imagegen_jax.interop.name_map import Rule, Tensors, convolution, kernel, renamed, within
from imagegen_jax.nn.backbones.tiny_autoencoder import TinyDecoder, TinyEncoder

_LAYER = re.compile(r"(\d+)\.(?:conv\.\d+\.)?(?:weight|bias)")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a file does not say."""

    size: Annotated[int, Range(8, 1 << 14)] = 512  # height and width of its images


@dataclasses.dataclass(frozen=True)
class PairOptions(Options):
    """What an encoder's file does not say."""

    decoder: str | None = None  # the decoder's file; None: that of the encoder's name, with "decoder" in it


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads an AutoencoderTiny. Raises ValueError where it is of another size or design."""
    halves = {half: _below(file.arrays, f"{half}.layers.") for half in ("encoder", "decoder")}
    return _read(halves["encoder"], halves["decoder"], place, options.size)


def read_pair(file: WeightFile, place: str, options: PairOptions = PairOptions()) -> Published:  # noqa: B008
    """Reads an encoder's file and its decoder's. Raises ValueError where either is none, or of another design."""
    encoder = pathlib.Path(place)
    decoder = pathlib.Path(
        options.decoder or encoder.with_name(encoder.name.replace("encoder", "decoder"))
    ).expanduser()
    if not decoder.is_file() or decoder == encoder:
        raise ValueError(f"{place} is an encoder alone, and {decoder} is no decoder: give its file, --set decoder=FILE")
    moved = {f"{int(at) - 1}.{rest}": array for at, rest, array in _numbered(read_weight_file(decoder).arrays, decoder)}
    found = _read(file.arrays, moved, f"{place} and {decoder}", options.size)
    origin = {**found.origin, "decoder": {"file": decoder.name, "sha256": sha256(decoder)}}
    return dataclasses.replace(found, origin=origin)


def _numbered(arrays: Tensors, place: pathlib.Path) -> Iterator[tuple[str, str, np.ndarray]]:
    for name, array in arrays.items():
        at, _, rest = name.partition(".")
        if not _LAYER.fullmatch(name) or not int(at):  # the first layer has no weights
            raise ValueError(f"{place}: {name!r} is no layer of TAESD's decoder: give taesd_decoder.pth")
        yield at, rest, array


def _below(arrays: Tensors, begin: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(begin): array for name, array in arrays.items() if name.startswith(begin)}


def _read(encoder: Tensors, decoder: Tensors, place: str, size: int) -> Published:
    blocks, ups = _blocks(encoder, place), _blocks(decoder, place)[::-1]
    width, features = encoder["0.weight"].shape[0], encoder[f"{_last(encoder)}.weight"].shape[0]
    network = TinyNetwork(TinyEncoder(width, blocks, features), TinyDecoder(decoder["0.weight"].shape[0], ups))
    model = TinyAutoencoder((size, size, encoder["0.weight"].shape[1]), network)
    tensors = {f"encoder.{name}": array for name, array in encoder.items()}
    tensors |= {f"decoder.{name}": array for name, array in decoder.items()}
    wanted = shapes_of(model)["autoencoder"]["params"]
    params = renamed(tensors, wanted, [*_encoder_rules(blocks), *_decoder_rules(ups)], place)
    return Published(model, {"autoencoder": {"params": params}}, {"options": {"size": size}})


def _last(half: Tensors) -> int:
    return max(int(name.split(".")[0]) for name in half)


def _blocks(half: Tensors, place: str) -> tuple[int, ...]:
    """Returns the residual blocks between the convolutions that change the resolution, in the file's order."""
    if wrong := [name for name in half if not _LAYER.fullmatch(name)]:
        raise ValueError(f"{place}: {wrong[0]!r} is no layer of TAESD's: give its file as it was published")
    kinds = {int(name.split(".")[0]): ".conv." in name for name in half}
    found = [0]
    for at in sorted(kinds)[1:-1]:
        if kinds[at]:
            found[-1] += 1
        else:
            found.append(0)
    return tuple(found)


def _block(at: int, path: str) -> list[Rule]:
    layers = [rule for i in range(3) for rule in convolution(f"conv.{2 * i}", f"conv_{i}")]
    return within({f"{at}.": f"{path}/"}, layers)


def _encoder_rules(blocks: tuple[int, ...]) -> list[Rule]:
    rules: list[Rule] = []
    at = 0
    for level, count in enumerate(blocks):
        rules += convolution(str(at), f"down_{level}")
        rules += [rule for i in range(count) for rule in _block(at + 1 + i, f"down_{level}_{i}")]
        at += 1 + count
    return within({"encoder.": "encoder/"}, [*rules, *convolution(str(at), "conv_out")])


def _decoder_rules(blocks: tuple[int, ...]) -> list[Rule]:
    rules: list[Rule] = [*convolution("0", "conv_in")]
    at = 2  # after a relu
    for level, count in reversed(tuple(enumerate(blocks))):
        rules += [rule for i in range(count) for rule in _block(at + i, f"up_{level}_{i}")]
        at += count
        if level:
            rules.append(Rule(f"{at + 1}.weight", f"up_{level}/kernel", kernel))  # after enlarging
            at += 2
    return within({"decoder.": "decoder/"}, [*rules, *convolution(str(at), "conv_out")])
