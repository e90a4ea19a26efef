"""The networks of variational diffusion models (Kingma et al. 2021, arXiv 2107.00630): score and noise schedule."""

from __future__ import annotations

import functools
from typing import Annotated, Protocol

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count, Natural
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.attention import SelfAttention
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import sinusoidal
from imagegen_jax.nn.module import Module
from imagegen_jax.nn.multihead import Implementation
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype

ZEROS = nn.initializers.zeros_init()


class NoiseNetwork(Module, Protocol):
    """What a variational diffusion model asks of the network that predicts the noise."""

    def __call__(
        self, x: Float[Array, "b h w c"], gamma: Float[Array, " b"], conditioning: Conditioning
    ) -> Float[Array, "b h w c"]:
        """Predicts the noise in z_t = `x`: [B H W C], [B] -> [B H W C]; gamma is minus its log signal-to-noise ratio"""
        ...


class GammaNetwork(Module, Protocol):
    """What a variational diffusion model asks of its noise schedule: gamma(t), increasing."""

    @property
    def gamma_min(self) -> float:
        """The approximate value of gamma(0)."""
        ...

    @property
    def gamma_max(self) -> float:
        """The approximate value of gamma(1)."""
        ...

    def __call__(self, t: Num[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns gamma at times in [0, 1], of any shape."""
        ...


AnyNoiseNetwork = Annotated[NoiseNetwork, Choices("imagegen_jax.diffusion.models.vdm_networks:VDMUNet")]
AnyGamma = Annotated[GammaNetwork, Choices("imagegen_jax.diffusion.models.vdm_networks:LearnedGamma")]


class VDMBlock(nn.Module):
    """Two 3x3 convolutions, each after group norm and swish, the embedding added between them."""

    channels: int
    dropout: float = 0.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], keys: PRNGKeys | None
    ) -> Float[Array, "b h w d"]:
        dtype = compute_dtype(self.dtype)
        conv = functools.partial(nn.Conv, self.channels, (3, 3), dtype=dtype)
        dense = functools.partial(nn.Dense, self.channels, dtype=dtype)
        h = conv(name="conv_1")(nn.swish(group_norm(x.shape[-1], dtype, name="norm_1")(x)))
        h = h + dense(use_bias=False, kernel_init=ZEROS, name="embed")(embedding)[:, None, None]
        h = nn.swish(group_norm(self.channels, dtype, name="norm_2")(h))
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = conv(kernel_init=ZEROS, name="conv_2")(h)
        return h + (x if x.shape[-1] == self.channels else dense(name="shortcut")(x))


class VDMUNet(nn.Module):
    """A U-Net that stays at full resolution, for likelihood (appendix B); the defaults are the paper's for CIFAR-10.

    It has `layers` blocks, two in the middle with attention between them, and `layers` + 1 that also see the outputs of
    the first ones, the last of these first. Beside the image it sees the Fourier features of section 3.4,
    sin(2^n 2 pi z) and cos(2^n 2 pi z), which tell neighbouring values of 8 bits apart.
    """

    width: Count = 128
    layers: Count = 32
    frequencies: tuple[Natural, ...] = (6, 7)  # n of the Fourier features
    gamma_min: float = -13.3  # at t = 0, and
    gamma_max: float = 5.0  # at t = 1, where training starts; they only set the scale of `gamma`
    dropout: BelowOne = 0.1
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], gamma: Float[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts the noise, in float32, from z_t = `x` and minus its log signal-to-noise ratio `gamma`.

        Before training the prediction is `x` itself. Raises ValueError for conditions other than labels.
        """
        check_seen(self, conditioning, "labels")
        dtype, keys = compute_dtype(self.dtype), conditioning.keys
        embedding = self._embed(gamma, conditioning.labels)
        block = functools.partial(VDMBlock, self.width, self.dropout, self.dtype)
        h = nn.Conv(self.width, (3, 3), dtype=dtype, name="conv_in")(self._with_features(x))
        states = [h]
        for i in range(self.layers):
            h = block(name=f"down_{i}")(h, embedding, keys)
            states.append(h)
        h = block(name="middle_0")(h, embedding, keys)
        start = {"kernel_init": nn.initializers.lecun_normal(), "out_init": ZEROS}
        h = SelfAttention(self.dtype, **start, implementation=self.attention, name="attention")(h)
        h = block(name="middle_1")(h, embedding, keys)
        for i in range(self.layers + 1):
            h = block(name=f"up_{i}")(jnp.concatenate([h, states.pop()], axis=-1), embedding, keys)
        h = nn.swish(group_norm(h.shape[-1], dtype, name="norm_out")(h))
        h = nn.Conv(x.shape[-1], (3, 3), dtype=dtype, kernel_init=ZEROS, name="conv_out")(h)
        return x + h.astype(jnp.float32)

    def _with_features(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Adds Fourier features to the channels, all in float32: at 2^7 periods a bfloat16 would lose the phase."""
        angles = jnp.concatenate([2.0**n * 2 * jnp.pi * x for n in self.frequencies], axis=-1)
        return jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1)

    def _embed(self, gamma: Float[Array, " b"], labels: Float[Array, "b k"] | None) -> Float[Array, "b e"]:
        dense = functools.partial(nn.Dense, 4 * self.width, dtype=compute_dtype(self.dtype))
        t = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        # The paper's code has one more input, a condition that is 0 without one: it counts as a parameter.
        condition = jnp.zeros((*gamma.shape, 1)) if labels is None else labels
        h = jnp.concatenate([sinusoidal(1000 * t, self.width), condition], axis=-1)
        return nn.swish(dense(name="time_1")(nn.swish(dense(name="time_0")(h))))


class LearnedGamma(nn.Module):
    """gamma(t) = b + |w| t: a noise schedule with learned ends, increasing in t (appendix H).

    In continuous time the loss depends on the ends alone (section 5.1), so that a line is as good as any shape.
    """

    gamma_min: float = -13.3  # where gamma(0) and
    gamma_max: float = 5.0  # gamma(1) start

    @nn.compact
    def __call__(self, t: Num[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns gamma at times in [0, 1], of any shape."""
        b = self.param("b", nn.initializers.constant(self.gamma_min), ())
        w = self.param("w", nn.initializers.constant(self.gamma_max - self.gamma_min), ())
        return b + jnp.abs(w) * t
