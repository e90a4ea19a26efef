"""Encoders and decoders: a pair of multilayer perceptrons and a pair of convolutional networks.

Weights and biases start as torch's defaults, uniform within 1 / sqrt(fan in) of 0, as in the reproduction whose
likelihoods are the reference (pythae); the paper draws all from N(0, 0.01).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Protocol

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.nn.init import fan_in_uniform
from imagegen_jax.nn.module import Module
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import Double, Halve, pyramid

Activation = Literal["relu", "tanh"]


class Encoder(Module, Protocol):
    """Maps observations to the moments of a normal posterior."""

    def __call__(self, x: Float[Array, "b h w c"], latent_dim: int) -> tuple[Array, Array]:
        """Encodes observations: [B H W C] -> mean and log-variance, each [B latent_dim]"""
        ...


class Decoder(Module, Protocol):
    """Maps latents to a likelihood's parameters."""

    def __call__(self, z: Float[Array, "b d"], shape: tuple[int, int, int]) -> Float[Array, "b h w c"]:
        """Decodes latents: [B D] -> [B *shape]"""
        ...


AnyEncoder = Annotated[Encoder, Choices("imagegen_jax.autoencoders.networks:MLPEncoder, ConvEncoder")]
AnyDecoder = Annotated[Decoder, Choices("imagegen_jax.autoencoders.networks:MLPDecoder, ConvDecoder")]


def dense(features: int, x: Array, dtype: Dtype, **settings: Any) -> Array:
    """Applies a dense layer that starts as torch's: [B D] -> [B features]"""
    return nn.Dense(features, dtype=compute_dtype(dtype), **fan_in_uniform(x.shape[-1]), **settings)(x)


class MLPEncoder(nn.Module):
    """Maps observations to the posterior's moments, through `hidden` layers (Kingma & Welling 2013, appendix C.2)."""

    hidden: tuple[Count, ...] = (400,)
    activation: Activation = "relu"  # the paper: tanh
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], latent_dim: int) -> tuple[Array, Array]:
        """Encodes observations: [B H W C] -> mean and log-variance, each [B latent_dim]"""
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = getattr(nn, self.activation)(dense(features, x, self.dtype))
        return moments(x, latent_dim, self.dtype)


class MLPDecoder(nn.Module):
    """Maps latents to the parameters of the pixels' distributions."""

    hidden: tuple[Count, ...] = (400,)
    activation: Activation = "relu"  # the paper: tanh
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], shape: tuple[int, int, int]) -> Float[Array, "b h w c"]:
        """Decodes latents: [B D] -> [B *shape]"""
        for features in self.hidden:
            z = getattr(nn, self.activation)(dense(features, z, self.dtype))
        return dense(math.prod(shape), z, self.dtype).reshape(-1, *shape).astype(jnp.float32)


class ConvEncoder(nn.Module):
    """Convolutions that halve the image to a base of 4 to 7 pixels, as in DCGAN, without batch norm."""

    width: Count = 64  # channels of the first layer; they double with every halving of the size
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], latent_dim: int) -> tuple[Array, Array]:
        """Encodes observations: [B H W C] -> mean and log-variance, each [B latent_dim]"""
        for i in range(len(pyramid(*x.shape[1:3])) - 1):
            x = nn.relu(Halve(self.width * 2**i, dtype=self.dtype, **fan_in_uniform(16 * x.shape[-1]))(x))
        return moments(x.reshape(x.shape[0], -1), latent_dim, self.dtype)


class ConvDecoder(nn.Module):
    """The encoder's mirror image: a projection to the base, then transposed convolutions."""

    width: Count = 64  # channels before the last layer; they double with every halving of the size
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], shape: tuple[int, int, int]) -> Float[Array, "b h w c"]:
        """Decodes latents: [B D] -> [B *shape]"""
        *finer, base = pyramid(*shape[:2])
        features = self.width * 2 ** (len(finer) - 1)
        x = nn.relu(dense(math.prod(base) * features, z, self.dtype)).reshape(-1, *base, features)
        for size in finer[:0:-1]:
            features //= 2
            x = nn.relu(Double(features, dtype=self.dtype, **fan_in_uniform(4 * x.shape[-1]))(x, size))
        x = Double(shape[2], dtype=self.dtype, **fan_in_uniform(4 * x.shape[-1]))(x, finer[0])
        return x.astype(jnp.float32)


def moments(x: Float[Array, "b d"], latent_dim: int, dtype: Dtype) -> tuple[Array, Array]:
    """Returns mu and log sigma^2 of q(z|x), in float32."""
    mean = dense(latent_dim, x, dtype, name="mean")
    log_var = dense(latent_dim, x, dtype, name="log_var")
    return mean.astype(jnp.float32), log_var.astype(jnp.float32)
