"""Quantisers: what turns each vector of an encoder's output into a code, one out of a book. All have one protocol."""

from imagegen_jax.autoencoders.quantise.averaged import EMACodebook
from imagegen_jax.autoencoders.quantise.learned import Codebook, GumbelCodebook
from imagegen_jax.autoencoders.quantise.lookup_free import FSQ, LFQ
from imagegen_jax.autoencoders.quantise.multiscale import MultiScaleCodebook
from imagegen_jax.autoencoders.quantise.quantiser import (
    AnyQuantiser,
    ByScale,
    Codes,
    Quantised,
    Quantiser,
    ShapesCodes,
    Vectors,
    another,
    books_of,
    code_shape_of,
    nearest,
    straight_through,
)
from imagegen_jax.autoencoders.quantise.residual import Residual

__all__ = [
    "FSQ",
    "LFQ",
    "AnyQuantiser",
    "ByScale",
    "Codebook",
    "Codes",
    "EMACodebook",
    "GumbelCodebook",
    "MultiScaleCodebook",
    "Quantised",
    "Quantiser",
    "Residual",
    "ShapesCodes",
    "Vectors",
    "another",
    "books_of",
    "code_shape_of",
    "nearest",
    "straight_through",
]
