"""Where in an image the words of its prompt are looked at (after Tang et al. 2022, DAAM, arXiv 2210.04885)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.arrays.autoencoding import into_space
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.arrays.texts import SideBySide, Tokenizer
from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Nets, PRNGKey
from imagegen_jax.editing.restoration import Given
from imagegen_jax.nn.multihead import Weights, keeping_attention

LEVELS = 8  # of noise that a map is the mean of
HEAT = (255, 60, 0)  # the colour of where a word is looked at


class Word(NamedTuple):
    """A word of a prompt, and its tokens' places in the row."""

    text: str
    tokens: slice


def row_seen(tokenizer: Tokenizer, tokens: int) -> Tokenizer:
    """Returns the tokenizer whose rows a network sees that looks at so many tokens; of several side by side the first.

    Raises ValueError where those are of another length, so that it is not known which word a token is of.
    """
    first = tokenizer.parts[0] if isinstance(tokenizer, SideBySide) else tokenizer
    if first.context != tokens:
        raise ValueError(
            f"the network looks at {tokens} tokens, but the rows of its {type(first).__name__} have {first.context}: "
            "words are found for models that see the tokens of one row"
        )
    return first


def words_of(tokenizer: Tokenizer, prompt: str) -> list[Word]:
    """Finds the tokens of each word of a prompt, without those that are cut off.

    They are what a longer beginning of the prompt has more of; the last token of a row, its end, is no word's.
    """
    words = prompt.split()
    beginnings = [" ".join(words[:count]) for count in range(len(words) + 1)]
    ends = tokenizer.encode(beginnings).mask.sum(axis=1) - 1
    found = [Word(word, slice(*map(int, ends[i : i + 2]))) for i, word in enumerate(words)]
    return [word for word in found if word.tokens.start < word.tokens.stop]


def attended(
    model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, levels: int = LEVELS
) -> Float[Array, "b h w m"]:
    """Returns which share of its attention each place of an image gives each token of the text: [B H W M].

    A share is the mean over heads, over layers, whose maps are enlarged, and over some of the model's levels of noise,
    which is added to the finished image. (DAAM adds up the maps of the steps by which the image was drawn.) Raises
    ValueError for a model whose network does not look at tokens by cross-attention.
    """
    denoise, x_0 = model.denoiser(nets, given["conditions"]), into_space(model, nets, given["image"])
    noise = jax.random.normal(key, x_0.shape)
    sigmas = model.path.sigmas[np.linspace(0, len(model.path.sigmas) - 2, levels).round().astype(int)]
    height, width, _ = sample_shape(model)
    large = functools.partial(_map_of, (x_0.shape[1], x_0.shape[2]), (height, width))

    def at(sigma: Float[Array, ""]) -> Float[Array, "b h w m"]:
        with keeping_attention() as kept:
            denoise(x_0 + sigma * noise, jnp.full(len(x_0), sigma))
        if not kept:
            raise ValueError(
                f"the network of this {type(model).__name__} has no cross-attention whose maps could be shown: use a "
                "run whose network has, such as one of the recipe shapes_text"
            )
        return sum(map(large, kept), jnp.zeros(())) / len(kept)

    return jnp.mean(jax.lax.map(at, jnp.asarray(sigmas, jnp.float32)), axis=0)


def _map_of(inside: tuple[int, int], outside: tuple[int, int], weights: Weights) -> Float[Array, "b h w m"]:
    """Returns the weights of one layer as a map of the image's height and width; the layer has fewer places."""
    batch, places, tokens = weights.shape
    factor = round((inside[0] * inside[1] / places) ** 0.5)
    small = weights.reshape(batch, inside[0] // factor, inside[1] // factor, tokens)
    return jax.image.resize(small, (batch, *outside, tokens), "bilinear")


def heated(image: UInt8[np.ndarray, "h w c"], share: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Paints shares over a grey picture of an image: by how much each is above the least, as a part of the largest.

    A word that is looked at everywhere alike so paints nothing.
    """
    grey = np.asarray(image, np.float32).mean(axis=-1, keepdims=True)
    heat = ((share - share.min()) / max(float(share.max()), 1e-9))[..., None]
    return np.round((1 - heat) * (0.5 * grey + 100) + heat * np.asarray(HEAT)).astype(np.uint8)
