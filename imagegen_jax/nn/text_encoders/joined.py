"""Several text encoders as one, as in SDXL (arXiv 2307.01952, section 2.1) and Stable Diffusion 3 (arXiv 2403.03206).

    SDXL                    JoinedText((CLIPText(layer="penultimate", last_norm=False), bigG)): 2048 features a token,
                            1280 of the whole text
    Stable Diffusion 3      JoinedText((ViT-L with its projection, bigG), T5Encoder(context=256, masked=False),
                                width=4096, pooled="all"): 77 + 256 tokens, 2048 features of the whole text

bigG is the encoder of that name in `clip.py`.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.encoding import AnyTextEncoder, TextEncoding


class JoinedText(nn.Module):
    """Encoders whose features lie side by side, token by token, and one whose tokens come after those.

    A row is the rows of all of them, one after another (`text.joined.JoinedRows`).
    """

    encoders: tuple[AnyTextEncoder, ...] = (CLIPText(),)
    after: AnyTextEncoder | None = None
    blank: Natural = 0  # how many tokens of zeros come after where `after` is None
    width: Count | None = None  # of all tokens, which are filled up with zeros; None: that of those side by side
    pooled: Literal["last", "all"] = "last"  # whose vector of the whole text this has, of those side by side

    def __post_init__(self) -> None:
        """Gives each encoder weights of its own: linen shares those of one object that is there twice."""
        if len({id(encoder) for encoder in self.encoders}) < len(self.encoders):
            of_their_own = [encoder.clone() for encoder in self.encoders]  # type: ignore[attr-defined]
            self.encoders = tuple(of_their_own)
        super().__post_init__()

    @property
    def context(self) -> int:
        """The length of all rows together."""
        return sum(encoder.context for encoder in self._all)

    @property
    def vocabulary_size(self) -> int:
        """That of the encoder with most tokens."""
        return max(encoder.vocabulary_size for encoder in self._all)

    @property
    def _all(self) -> tuple[AnyTextEncoder, ...]:
        return self.encoders if self.after is None else (*self.encoders, self.after)

    @nn.compact
    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> TextEncoding:
        """Encodes texts, of which `mask` is False where a token only fills its row up: [B M], [B M] -> [B N D], [B P]

        Raises ValueError where tokens have more than `width` features.
        """
        found, at = [], 0
        for encoder in self._all:
            own = slice(at, at + encoder.context)
            found.append(encoder(text[:, own], mask[:, own], keys))
            at += encoder.context
        beside = found[: len(self.encoders)]
        tokens = self._filled(jnp.concatenate([one.tokens for one in beside], axis=-1))
        seen = [jnp.ones(tokens.shape[:2], bool)]
        if self.after is not None:
            tokens = jnp.concatenate([tokens, self._filled(found[-1].tokens)], axis=1)
            seen += [found[-1].mask] if found[-1].mask is not None else []
        elif self.blank:
            tokens = jnp.pad(tokens, ((0, 0), (0, self.blank), (0, 0)))
        pooled = [one.pooled for one in (beside if self.pooled == "all" else beside[-1:])]
        return TextEncoding(tokens, jnp.concatenate(seen, 1) if len(seen) > 1 else None, jnp.concatenate(pooled, -1))

    def _filled(self, tokens: Float[Array, "b m d"]) -> Float[Array, "b m e"]:
        width = self.width or tokens.shape[-1]
        if tokens.shape[-1] > width:
            raise ValueError(f"tokens of {tokens.shape[-1]} features, but text.width={width}: make it that or more")
        return jnp.pad(tokens, ((0, 0), (0, 0), (0, width - tokens.shape[-1])))
