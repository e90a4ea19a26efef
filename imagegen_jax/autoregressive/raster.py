"""Drawing images pixel by pixel, row after row: by passes over whole images, or by what the network remembers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.autoregressive.causal import At
from imagegen_jax.core.model import Image, Variables

Place = tuple[Int[Array, ""], Int[Array, ""]]  # row and column


class Canvas(NamedTuple):
    """Images that are given in part: what is not known is drawn."""

    image: Image
    known: Bool[Array, "b h w 1"]


class Drawing(NamedTuple):
    """All that drawing follows."""

    network: Any
    variables: Variables
    labels: Float[Array, "b k"] | None
    outputs: int  # of the network, for a pixel
    draw: Callable[[Float[Array, "b o"], Place], Float[Array, "b c"]]  # a pixel


def by_whole_passes(of: Drawing, canvas: Canvas) -> Image:
    """Draws images by one pass of the network over whole images for each pixel."""
    height, width = canvas.image.shape[1:3]

    def step(image: Image, index: Int[Array, ""]) -> tuple[Image, None]:
        row, column = place = index // width, index % width
        output = of.network.apply(of.variables, image, of.outputs, of.labels)
        pixel = of.draw(output[:, row, column], place)
        kept = canvas.known[:, row, column]
        return image.at[:, row, column].set(jnp.where(kept, canvas.image[:, row, column], pixel)), None

    blank = jnp.zeros_like(canvas.image)
    return lax.scan(step, blank, jnp.arange(height * width))[0]


def by_caches(of: Drawing, canvas: Canvas) -> Image:
    """Draws images by computing, row by row and pixel by pixel, only what is new.

    Each row is given the row above it, and each pixel the one to the left of it. Memory does not grow with the height.
    """
    b, height, width, c = canvas.image.shape
    pixel_before = functools.partial(jnp.zeros, (b, 1, 1, c))
    fixed, cache = _prepared(of, jnp.zeros((b, 1, width, c)), pixel_before())
    call = functools.partial(of.network.apply, mutable=["cache"])

    def one_row(carry: tuple[Any, Any], row: Int[Array, ""]) -> tuple[tuple[Any, Any], Array]:
        above, cache = carry
        at = At(row, None, width)
        rows, made = call({**fixed, **cache}, above, of.labels, None, at, method="vertical")
        image, known = (lax.dynamic_index_in_dim(part, row, axis=1, keepdims=False) for part in canvas)

        def one_pixel(carry: tuple[Any, Any], column: Int[Array, ""]) -> tuple[tuple[Any, Any], Array]:
            before, cache = carry
            here = at._replace(column=column)
            variables = {**fixed, **cache}
            output, made = call(variables, before, rows, of.outputs, of.labels, None, here, method="horizontal")
            pixel = of.draw(output[:, 0, 0], (row, column))
            pixel = jnp.where(known[:, column], image[:, column], pixel)
            return (pixel[:, None, None], made), pixel

        (_, cache), pixels = lax.scan(one_pixel, (pixel_before(), made), jnp.arange(width))
        found = jnp.moveaxis(pixels, 0, 1)[:, None]
        return (found, cache), found[:, 0]

    _, rows = lax.scan(one_row, (jnp.zeros((b, 1, width, c)), cache), jnp.arange(height))
    return jnp.moveaxis(rows, 0, 1)


def _prepared(of: Drawing, row: Array, pixel: Array) -> tuple[Variables, Variables]:
    """Makes normalised kernels, with the weights, and empty caches."""
    call = functools.partial(of.network.apply, mutable=["cache", "kernels"])
    at = At(jnp.int32(0), None, row.shape[2])
    above, made = call(of.variables, row, of.labels, None, at, method="vertical")
    variables, here = {**of.variables, **made}, at._replace(column=jnp.int32(0))
    _, made = call(variables, pixel, above, of.outputs, of.labels, None, here, method="horizontal")
    fixed = {**of.variables, "kernels": made.get("kernels", {})}
    return fixed, {"cache": jax.tree.map(jnp.zeros_like, made["cache"])}
