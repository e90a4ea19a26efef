"""Edits of drawn images by their prompts: the other prompt is drawn with the first one's maps of attention.

Prompt-to-prompt (Hertz et al. 2022, arXiv 2208.01626). Both prompts are drawn from the same noise, step by step. For a
share of the steps, from the first on, each place looks at a word of the second prompt as much as it looks at the same
word of the first, and at a word in another's place as at that one; so layout and shape stay. Words that are new look
where they will. For a share of the steps places look at each other as in the first drawing, too, which the paper's code
does for at most 32 x 32 places.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Batch, Image, Nets, PRNGKey
from imagegen_jax.diffusion.sampling.solver import Levels
from imagegen_jax.editing.attention import Word, words_of
from imagegen_jax.editing.restoration import Given
from imagegen_jax.editing.worded import drawn_by, worded_model
from imagegen_jax.nn.backbones.conditioning import TEXT, conditioning_of
from imagegen_jax.nn.multihead import Change

PLACES = 32 * 32  # of a layer of self-attention, up to which its weights are taken over
_PROMPTS = "prompts"  # the axis of the first and the second prompt
_SIGNS = ".,;:!?\"'()"


class Alignment(NamedTuple):
    """Where the tokens of a second prompt take their weights from."""

    taken: Float32[np.ndarray, "m m"]  # [a token of the first, one of the second]: the share of its weight
    own: Float32[np.ndarray, " m"]  # 1 for tokens of the second that keep their own, else 0
    strength: Float32[np.ndarray, " m"]  # factor of weights


def aligned(tokenizer: Tokenizer, first: str, second: str, strength: Mapping[str, float] | None = None) -> Alignment:
    """Aligns two prompts word by word, as a comparison of lines of a file does.

    Words that both have go with each other, and so do as many words as they replace; others are new. Where a word has
    more tokens or fewer than the one that it replaces, each token has an equal share of the weights. What begins and
    what fills up the rows go together. `strength` is of words of the second prompt: their weights are multiplied by it
    (the paper's c, from -2 to 2). Raises ValueError for a word that the prompt does not have.
    """
    words, m = [words_of(tokenizer, prompt) for prompt in (first, second)], tokenizer.context
    texts = [[word.text.casefold() for word in one] for one in words]
    taken, own = np.zeros((m, m), np.float32), np.zeros(m, np.float32)
    for kind, a, a_end, b, b_end in difflib.SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        if kind in ("equal", "replace") and a_end - a == b_end - b:
            for one, other in zip(words[0][a:a_end], words[1][b:b_end], strict=True):
                taken[one.tokens, other.tokens] = _shares(one, other)
        else:
            for word in words[1][b:b_end]:
                own[word.tokens] = 1
    starts, ends = zip(*(_bounds(one) for one in words), strict=True)
    taken[range(min(starts)), range(min(starts))] = 1
    rest = np.arange(ends[1], m)
    taken[np.minimum(rest - ends[1] + ends[0], m - 1), rest] = 1
    return Alignment(taken, own, _strengths(second, words[1], strength or {}, m))


def _shares(one: Word, other: Word) -> Float32[np.ndarray, "p q"]:
    """Returns which share of the weight of each token of a word those of the other one have."""
    lengths = one.tokens.stop - one.tokens.start, other.tokens.stop - other.tokens.start
    return np.eye(lengths[0], dtype=np.float32) if lengths[0] == lengths[1] else np.full(lengths, 1 / lengths[1], "f4")


def _bounds(words: list[Word]) -> tuple[int, int]:
    return (words[0].tokens.start, words[-1].tokens.stop) if words else (1, 1)


def _strengths(prompt: str, words: list[Word], strength: Mapping[str, float], m: int) -> Float32[np.ndarray, " m"]:
    found = np.ones(m, np.float32)
    for name, factor in strength.items():
        meant = [word for word in words if name.casefold() in (word.text.casefold(), _plain(word.text))]
        if not meant:
            remedy = f"name one of it, such as {words[-1].text!r}" if words else "it has none that could be reweighted"
            raise ValueError(f"{name!r} is no word of the prompt {prompt!r}: {remedy}")
        for word in meant:
            found[word.tokens] = factor
    return found


def _plain(word: str) -> str:
    return word.casefold().strip(_SIGNS)


def last_level(sigmas: Levels, share: float) -> np.float32:
    """Returns the level above which the first steps, a `share` of all, estimate. Raises ValueError outside [0, 1]."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share} of the steps: must be from 0, none, to 1, all of them")
    count = round(share * (len(sigmas) - 1))
    if count in (0, len(sigmas) - 1):
        return np.float32(0 if count else np.inf)
    return np.float32((sigmas[count - 1] * sigmas[count]) ** 0.5)


def reworded(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Float[Array, "b 2 h w c"]:
    """Draws images by "conditions", and beside each what becomes of it by the texts "to" which it is reworded.

    "taken" [B M M], "own" [B M] and "strength" [B M] are an `Alignment` of each row; "cross" and "self" are the
    `last_level` of weights of words and of places that are taken over. Raises ValueError for a model whose network does
    not look at tokens by cross-attention.
    """
    worded, asked = worded_model(model), list[bool]()

    def draw(texts: Batch) -> Image:
        conditions = {**given["conditions"], **texts}
        seen = conditioning_of(worded, conditions, nets)

        def change(sigma: Float[Array, " b"]) -> Change:
            return _taking_over(given, sigma, asked)

        return drawn_by(worded, nets, conditions, seen, key, change)

    both = {name: jnp.stack([given["conditions"][name], given["to"][name]]) for name in TEXT}
    images: Float[Array, "b 2 h w c"] = jax.vmap(draw, axis_name=_PROMPTS, out_axes=1)(both)
    if not any(asked):
        raise ValueError(
            f"the network of this {type(model).__name__} has no cross-attention, whose weights are taken over: use a "
            "run whose network has, such as one of the recipe shapes_text"
        )
    return images


def _taking_over(given: Given, sigma: Float[Array, " b"], asked: list[bool]) -> Change:
    """Returns what gives the second of the two prompts the weights of the first; `asked` fills with what is asked."""
    cross, self_ = ((sigma > given[name])[:, None, None, None] for name in ("cross", "self"))

    def change(weights: Float[Array, "b n q k"], to_tokens: bool) -> Float[Array, "b n q k"]:
        asked.append(to_tokens)
        first, found = jax.lax.all_gather(weights, _PROMPTS)[0], weights
        if to_tokens and weights.shape[-1] != given["own"].shape[-1]:
            raise ValueError(
                f"the network looks at {weights.shape[-1]} tokens, but texts have {given['own'].shape[-1]}: prompts "
                "are reworded by models with one text encoder, whose tokens the network sees one by one"
            )
        if to_tokens:
            own = given["own"][:, None, None]
            moved = jnp.einsum("bnqm,bmk->bnqk", first, given["taken"])
            found = jnp.where(cross, own * weights + (1 - own) * moved, weights) * given["strength"][:, None, None]
        elif weights.shape[-1] <= PLACES:
            found = jnp.where(self_, first, weights)
        return jnp.where(jax.lax.axis_index(_PROMPTS) > 0, found, weights)

    return change
