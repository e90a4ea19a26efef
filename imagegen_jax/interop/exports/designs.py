"""The pipelines of diffusers that a model by texts can be written as: what each has, and its configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.exports.configurations import (
    clip_class,
    clip_text_of,
    mmdit_of,
    pixart_of,
    t5_of,
    unet_of,
    vae_of,
)
from imagegen_jax.interop.pipelines import pixart, stable_diffusion, stable_diffusion_3, stable_diffusion_xl
from imagegen_jax.interop.pipelines.parts import Part
from imagegen_jax.interop.settings import Config
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder
from imagegen_jax.text.byte_pairs import BytePairs
from imagegen_jax.text.sentence_pieces import SentencePieces

EMPTY = [None, None]  # a part that is not there
MAY_BE_MISSING = ("text_encoder_3", "tokenizer_3")
TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclasses.dataclass(frozen=True)
class Design:
    """A pipeline of diffusers.

    Functions are given a model whose network is a `network`, whose text encoders are of the kinds `texts`, and whose
    space has a KL autoencoder.
    """

    pipeline: str
    network: type
    texts: Sequence[type]  # of the encoders; the last may be missing where it is `optional`
    main: Callable[[Any], Config]  # the configuration of the network
    model_of: Callable[[Mapping[str, tuple[Config, str]], Tokenizer, Config], Diffusion]
    parts_of: Callable[[Any], Mapping[str, Part]]
    index: Callable[[Any], Config]  # what its model_index.json has beside the parts
    folder: str = "transformer"  # of the network
    optional: bool = False
    shifted: bool = False  # whether it shifts its latents
    t5_context: int = 0  # of the rows of T5, which no file has
    lower: bool = False  # whether T5 reads small letters

    def fits(self, model: Diffusion) -> bool:
        """Tells whether the network and the text encoders of a model are of the kinds that the pipeline has."""
        kinds, joined = [type(text) for text in encoders_of(model.text)], len(self.texts) > 1
        several = isinstance(model.text, JoinedText) == joined
        known = kinds == list(self.texts) or (self.optional and kinds == list(self.texts[:-1]))
        return isinstance(model.network, self.network) and several and known

    @property
    def words(self) -> str:
        """What the pipeline has."""
        texts = " and ".join(kind.__name__ for kind in self.texts)
        return f"{self.pipeline} has a {self.network.__name__} and {texts}"

    def networks(self, model: Any, tokenizers: Sequence[Any]) -> dict[str, Config]:
        """Returns the configurations of all networks, by their folders."""
        shift = model.space.shift if self.shifted else 0.0
        texts = dict(zip(TEXTS, encoders_of(model.text), strict=False))
        words = dict(zip(TEXTS, tokenizers, strict=False))
        encoders = {
            part: t5_of(text) if isinstance(text, T5Encoder) else clip_text_of(text, words[part])
            for part, text in texts.items()
        }
        return {self.folder: self.main(model), "vae": vae_of(model.space.autoencoder, model.space.scale, shift)} | (
            encoders
        )

    def model_index(self, model: Any, scheduler: str, network: str) -> Config:
        """Returns what model_index.json has."""
        texts: dict[str, Any] = {}
        for number, text in enumerate(encoders_of(model.text)):
            end, t5 = f"_{number + 1}" * (number > 0), isinstance(text, T5Encoder)
            texts[f"text_encoder{end}"] = ["transformers", "T5EncoderModel" if t5 else clip_class(text)]
            texts[f"tokenizer{end}"] = ["transformers", "T5Tokenizer" if t5 else "CLIPTokenizer"]
        parts = {self.folder: ["diffusers", network], "vae": ["diffusers", "AutoencoderKL"]}
        return {
            "_class_name": self.pipeline, **self.index(model), "scheduler": ["diffusers", scheduler], **texts, **parts,
        }  # fmt: skip

    def tokenizer_fault(self, tokenizers: Sequence[Tokenizer]) -> str | None:
        """Says what the pipeline's tokenizers, one for each encoder, cannot be; None where they are its own."""
        for kind, tokenizer in zip(self.texts, tokenizers, strict=False):
            if kind is CLIPText and (not isinstance(tokenizer, BytePairs) or tokenizer.entities or tokenizer.ftfy):
                return f"{type(tokenizer).__name__}, is not CLIP's as transformers has it, without entities and ftfy"
            if kind is T5Encoder:
                model = tokenizer.model if isinstance(tokenizer, SentencePieces) else b""
                there = SentencePieces(model, self.t5_context, lower=self.lower)
                if tokenizer != there:
                    said = f"context={self.t5_context}, extra_ids={there.extra_ids}, lower={self.lower}"
                    return f"{type(tokenizer).__name__}, is not T5's with {said}"
        return None


def encoders_of(text: Any) -> tuple[Any, ...]:
    """Returns the encoders that a text encoder consists of."""
    if not isinstance(text, JoinedText):
        return (text,)
    return text.encoders if text.after is None else (*text.encoders, text.after)


def _unet(model: Any) -> Config:
    return unet_of(model.network, model.image_shape, model.text.width)


def _unet_xl(model: Any) -> Config:
    clips = model.text.encoders
    pooled = clips[-1].projection or clips[-1].width
    return unet_of(model.network, model.image_shape, sum(clip.width for clip in clips), pooled)


def _pixart(model: Any) -> Config:
    return pixart_of(model.network, model.image_shape, model.text.width)


def _mmdit(model: Any) -> Config:
    clips = model.text.encoders
    width = model.text.width or sum(clip.width for clip in clips)
    return mmdit_of(model.network, model.image_shape, width, sum(clip.projection or clip.width for clip in clips))


_UNSAFE = {"requires_safety_checker": False, "safety_checker": EMPTY}
_NO_T5 = dict.fromkeys(MAY_BE_MISSING, EMPTY)
_NO_IMAGES = {"feature_extractor": EMPTY, "image_encoder": EMPTY}

DESIGNS = (
    Design(
        "StableDiffusionPipeline", LatentUNet, (CLIPText,), _unet, stable_diffusion.model_of, stable_diffusion.parts_of,
        lambda model: _NO_IMAGES | _UNSAFE, "unet",
    ),
    Design(
        "StableDiffusionXLPipeline", LatentUNet, (CLIPText, CLIPText), _unet_xl, stable_diffusion_xl.model_of,
        stable_diffusion_xl.parts_of,
        lambda model: _NO_IMAGES | {stable_diffusion_xl.LEFT_TO_ZEROS: model.empty_text is None}, "unet",
    ),
    Design(
        "StableDiffusion3Pipeline", MMDiT, (CLIPText, CLIPText, T5Encoder), _mmdit, stable_diffusion_3.model_of,
        stable_diffusion_3.parts_of,
        lambda model: _NO_IMAGES | ({} if model.text.after else _NO_T5),
        optional=True, shifted=True, t5_context=stable_diffusion_3.T5_CONTEXT,
    ),
    Design(
        "PixArtAlphaPipeline", PixArt, (T5Encoder,), _pixart, pixart.model_of, pixart.parts_of, lambda model: {},
        t5_context=pixart.CONTEXT, lower=True,
    ),
)  # fmt: skip
