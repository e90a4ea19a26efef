"""What cannot be trained privately is refused before anything is compiled: losses that couple rows above all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.model import Batch, Entering, Inputs, Nets, PRNGKeys, Staged, starts_from_data
from imagegen_jax.core.privacy.poisson import Indexed
from imagegen_jax.core.privacy.private import DifferentialPrivacy

Shapes = Mapping[str, Any]  # of arrays, by name
Augmentation = Callable[[Batch, PRNGKeys], Batch]

ROWS = 4
_APART = 1e-3  # by how much, relatively, losses of rows alone and together may differ by rounding


def check_private(
    privacy: DifferentialPrivacy, model: Any, dataset: Any, batch_size: int, batch: Shapes, nets: Shapes
) -> None:
    """Raises ValueError, saying why, where a model cannot be trained privately on open data.

    `batch` are the shapes of ROWS rows as losses see them, `nets` those of the networks.
    """
    name = type(model).__name__
    phases = [] if isinstance(model, Staged | Entering) else model.phases(None)
    refused = {
        f"a {name} grows in stages": isinstance(model, Staged | Entering),
        f"a {name} has {len(phases)} phases ({', '.join(phase.name for phase in phases)})": len(phases) > 1,
        f"a {name} begins with a look at the data": starts_from_data(model),
        "these data cannot be read row by row": not isinstance(dataset, Indexed),
    }
    for why, holds in refused.items():
        if holds:
            raise ValueError(f"--private: {why}, but private training is of one phase that sees one row at a time")
    rows, delta = len(dataset), privacy.delta
    if batch_size >= rows:
        raise ValueError(f"--private: batch_size={batch_size} of {rows} images: rows are drawn, so give fewer")
    if delta >= 1 / rows:
        raise ValueError(
            f"--private.delta {delta}: with {rows:,} images it would allow to publish one of them whole: give "
            f"less than {1 / rows:.2g}"
        )
    try:
        dataset.rows_at(np.zeros(1, np.int64))
    except ValueError as error:
        raise ValueError(f"--private: {error}: give other data, or --private none") from None
    _check_rows_apart(model, batch, nets)


def check_augmentations(augment: Sequence[Augmentation], rows: Shapes) -> None:
    """Raises ValueError where what an augmentation makes of a row is of others too, such as a mixture of images.

    Such a row would carry an image into the gradients of others, where nothing clips it. `rows` are the shapes of ROWS
    rows as augmentations see them.
    """
    keys = jax.random.split(jax.random.key(0), ROWS)
    batch: Batch = {name: _drawn(leaf, i) for i, (name, leaf) in enumerate(rows.items())}
    for one in augment:
        run = jax.jit(lambda batch, keys, one=one: one(batch, keys))
        together = run(batch, keys)
        alone = [run(*jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (dict(batch), keys))) for i in range(ROWS)]
        apart = jax.tree.map(lambda *rows: jnp.concatenate(rows), *alone)
        for name, leaf in together.items():
            if not np.allclose(leaf, apart[name], rtol=_APART, atol=_APART, equal_nan=True):
                raise ValueError(
                    f"--private: augment, {type(one).__name__}, couples the rows of a batch: {name!r} of a row is not "
                    "what it is of that row alone. Leave it out, or leave out --private"
                )
        batch = together


def _check_rows_apart(model: Any, shapes: Shapes, networks: Shapes) -> None:
    """Raises ValueError where the loss of rows together is not the mean of their losses alone, at drawn weights."""
    phase = model.phases(None)[0]
    key = jax.random.key(0)
    batch = {name: _drawn(leaf, i) for i, (name, leaf) in enumerate(shapes.items())}
    nets = {
        name: jax.tree.map(lambda leaf: 0.1 * _drawn(leaf, 99), collections) for name, collections in networks.items()
    }
    keys = jax.random.split(key, ROWS)
    whole = jax.jit(lambda nets, batch, keys: _loss(phase, nets, batch, keys, keys[0]))
    together = float(whole(nets, batch, keys))
    alone = [float(whole(nets, *jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (batch, keys)))) for i in range(ROWS)]
    if not np.isclose(together, np.mean(alone), rtol=_APART, atol=1e-6, equal_nan=True):
        raise ValueError(
            f"--private: the loss {phase.name!r} of a {type(model).__name__} couples the rows of a batch: that of "
            f"{ROWS} rows is {together:.4g}, and the mean of those of each alone {np.mean(alone):.4g}. Change what "
            "looks at several rows, such as model.coupling, or leave out --private"
        )


def _loss(phase: Any, nets: Nets, batch: Batch, keys: Any, key: Any) -> Any:
    return phase.loss(nets, Inputs(batch, key, keys, jnp.int32(0), nets))[0]


def _drawn(leaf: jax.ShapeDtypeStruct, seed: int) -> Any:
    """Draws an array of a shape: numbers in [-1, 1], or of whole numbers zeros."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    return np.random.default_rng(seed).uniform(-1, 1, leaf.shape).astype(leaf.dtype)
