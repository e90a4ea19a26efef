"""Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957): layers whose kernel's largest singular value is 1.

W_SN = W / sigma(W)   (Eq. 8), with sigma = u^T W v. Each training step makes one power iteration, starting from the
vectors u and v of the step before (Algorithm 1), in the order of torch's `parametrizations.spectral_norm`. A kernel
[... inputs outputs] is the matrix W [outputs, all the rest]. Gradients go through W in sigma, not through u and v.

The vectors are a linen collection of their own, "spectral". A call makes an iteration where that collection
is mutable, and only there, so that a loss says by `mutable` whether it trains this network:

    logits, stats = network.apply(variables, images, mutable=["spectral"])    # iterates; carry stats
    logits = network.apply(variables, images)                                 # divides by u^T W v

One call a step is one iteration: judge real and generated images together. Gradient accumulation iterates once for each
part. Moving averages leave the vectors out: averaged kernels are divided by a sigma of their own, u^T W v of the
averaged W and the current u and v, without an iteration.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Initializer
from jax import lax
from jaxtyping import Array, Float, Int

from imagegen_jax.core.model import Scalar
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.precision import Dtype, compute_dtype

COLLECTION = "spectral"
WARM_UP = 15  # iterations at the start, as in torch: after a single one, the first steps would divide by too little

Vector = Float[Array, " n"]


def unit(x: Vector, epsilon: float) -> Vector:
    """x / max(|x|, epsilon)"""
    return x / jnp.maximum(jnp.linalg.norm(x), epsilon)


def power_iteration(matrix: Float[Array, "o i"], v: Vector, epsilon: float) -> tuple[Vector, Vector]:
    """u <- W v / |W v|, then v <- W^T u / |W^T u|   (Algorithm 1)"""
    u = unit(jnp.matmul(matrix, v, precision=lax.Precision.HIGHEST), epsilon)
    return u, unit(jnp.matmul(u, matrix, precision=lax.Precision.HIGHEST), epsilon)


def spectral_norm(layer: nn.Module, matrix: Float[Array, "o i"], epsilon: float) -> Scalar:
    """Returns sigma(W) = u^T W v by the vectors that `layer` keeps, after an iteration where they are mutable."""
    held = lax.stop_gradient(matrix.astype(jnp.float32))

    # A random kernel favours no direction, so the vectors may start from one that takes no time to compile.
    u, v = (layer.variable(COLLECTION, name, _constant, size) for name, size in zip("uv", matrix.shape, strict=True))
    if layer.is_mutable_collection(COLLECTION):
        times = WARM_UP if layer.is_initializing() else 1
        u.value, v.value = lax.fori_loop(
            0, times, lambda _, vectors: power_iteration(held, vectors[1], epsilon), (u.value, v.value)
        )
    return jnp.vdot(u.value, jnp.matmul(matrix, v.value, precision=lax.Precision.HIGHEST))


def _constant(size: int) -> Vector:
    return jnp.full((size,), size**-0.5)


def normalised(layer: nn.Module, kernel: Float[Array, "... o"], epsilon: float) -> Float[Array, "... o"]:
    """Returns W / sigma(W)   (Eq. 8)"""
    return kernel / spectral_norm(layer, kernel.reshape(-1, kernel.shape[-1]).T, epsilon)


class SpectralConv(nn.Module):
    """A convolution that keeps the size of the image."""

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    kernel_init: Initializer = fan_avg_uniform()
    epsilon: float = 1e-12  # smallest norm that divides a vector
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Convolves, and keeps the size: [B H W C] -> [B H W features]"""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = normalised(self, self.param("kernel", self.kernel_init, shape), self.epsilon)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=compute_dtype(self.dtype))
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x if bias is None else x + bias


class SpectralDense(nn.Module):
    """A linear map of the last axis."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = fan_avg_uniform()
    epsilon: float = 1e-12  # as SpectralConv's
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
        """Maps rows linearly: [B C] -> [B features]"""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        kernel = normalised(self, kernel, self.epsilon)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=compute_dtype(self.dtype))
        return x @ kernel if bias is None else x @ kernel + bias


class SpectralEmbed(nn.Module):
    """A table with a row for each of `num_embeddings` values; in float32."""

    num_embeddings: int
    features: int
    embedding_init: Initializer = fan_avg_uniform()
    epsilon: float = 1e-12  # as SpectralConv's

    @nn.compact
    def __call__(self, labels: Int[Array, " b"]) -> Float[Array, "b d"]:
        """Looks up a row for each label: [B] -> [B features]"""
        table = self.param("embedding", self.embedding_init, (self.num_embeddings, self.features))
        return (table / spectral_norm(self, table, self.epsilon))[labels]


def spectral_convolutions(
    dtype: Dtype, epsilon: float, init: Callable[[float], Initializer] = fan_avg_uniform
) -> Callable[[int, int, float, str], SpectralConv]:
    """Returns how residual blocks make their convolutions: (features, kernel size, scale of `init`, name) -> layer."""

    def convolution(features: int, kernel_size: int, scale: float, name: str) -> SpectralConv:
        return SpectralConv(features, kernel_size, kernel_init=init(scale), epsilon=epsilon, dtype=dtype, name=name)

    return convolution
