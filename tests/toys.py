"""Tiny models and data for tests of the core: each feature of the contract is used by one of them."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.model import Aux, Batch, Entry, Image, Inputs, Nets, Phase, check_images


@dataclasses.dataclass(frozen=True)
class ToyData:
    """Pixels drawn once from a known normal distribution, with labels."""

    size: int = 64
    side: int = 2
    classes: int = 3
    scale: float = 0.5

    def open(self) -> ToySet:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, self.classes, self.size).astype(np.int32)
        images = 0.2 + self.scale * rng.standard_normal((self.size, self.side, self.side, 1)).astype(np.float32)
        return ToySet(images, labels)


@dataclasses.dataclass(frozen=True)
class ToySet:
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ("a", "b", "c")

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> dict[str, np.ndarray]:
        at = (np.arange(step * n, (step + 1) * n) * 7 + seed) % len(self.images)
        at = at[rows] if rows is not None else at
        return {"image": self.images[at], "label": self.labels[at]}


class Affine(nn.Module):
    """One dense layer on flattened rows."""

    features: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.features)(x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class Regression:
    """Predicts noisy pixels from pixels: one phase, noise from the keys of the rows; a closed-form optimum."""

    network: Affine = Affine(4)
    image_shape: tuple[int, int, int] = (2, 2, 1)
    noise: float = 0.1

    def init(self, key: jax.Array, batch: Batch) -> Nets:
        check_images(self, batch)
        return {"network": self.network.init(key, batch["image"])}

    def phases(self, stage: None) -> tuple[Phase, ...]:
        return (Phase(("network",), self.loss, "regress"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[jax.Array, Aux]:
        x = inputs.batch["image"].reshape(len(inputs.keys), -1)
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(inputs.keys)
        target = 2 * x + self.noise * noise
        loss = jnp.mean((self.network.apply(nets["network"], x) - target) ** 2)
        return loss, Aux({"target": jnp.mean(target)})

    def sample(self, nets: Nets, key: jax.Array, n: int, conditions: Batch) -> Image:
        x = jax.random.normal(key, (n, 4))
        return jnp.tanh(self.network.apply(nets["network"], x)).reshape(n, *self.image_shape)


@dataclasses.dataclass(frozen=True)
class Game:
    """Two networks, four phases of which two are lazy, a counter carried in statistics, and a frozen third network."""

    image_shape: tuple[int, int, int] = (2, 2, 1)
    penalty_every: int = 4

    def init(self, key: jax.Array, batch: Batch) -> Nets:
        keys = jax.random.split(key, 3)
        x = batch["image"]
        critic = dict(Affine(1).init(keys[1], x)) | {"pool": {"count": jnp.int32(0)}}
        return {
            "generator": Affine(4).init(keys[0], x),
            "critic": critic,
            "frozen": Affine(2).init(keys[2], x),
        }

    def phases(self, stage: None) -> tuple[Phase, ...]:
        return (
            Phase(("critic",), self.critic_loss, "critic"),
            Phase(("critic",), self.penalty, "penalty", every=self.penalty_every),
            Phase(("generator",), self.generator_loss, "generator", every=2),
        )

    def _score(self, nets: Nets, x: jax.Array) -> jax.Array:
        return Affine(1).apply({"params": nets["critic"]["params"]}, x)

    def _fake(self, nets: Nets, inputs: Inputs) -> jax.Array:
        z = jax.vmap(lambda key: jax.random.normal(key, (4,)))(inputs.keys)
        return Affine(4).apply(nets["generator"], z)

    def critic_loss(self, nets: Nets, inputs: Inputs) -> tuple[jax.Array, Aux]:
        real, fake = self._score(nets, inputs.batch["image"]), self._score(nets, self._fake(nets, inputs))
        loss = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
        return loss, Aux({}, {"critic": {"pool": {"count": nets["critic"]["pool"]["count"] + 1}}})

    def penalty(self, nets: Nets, inputs: Inputs) -> tuple[jax.Array, Aux]:
        grad = jax.grad(lambda x: jnp.sum(self._score(nets, x)))(inputs.batch["image"])
        return jnp.mean(jnp.sum(grad**2, axis=(1, 2, 3))), Aux({})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[jax.Array, Aux]:
        return jnp.mean(jax.nn.softplus(-self._score(nets, self._fake(nets, inputs)))), Aux({})

    def sample(self, nets: Nets, key: jax.Array, n: int, conditions: Batch) -> Image:
        return jnp.tanh(Affine(4).apply(nets["generator"], jax.random.normal(key, (n, 4)))).reshape(n, 2, 2, 1)


@dataclasses.dataclass(frozen=True)
class Growing(Regression):
    """A regression that gains a second network at step 4, whose optimizer starts then."""

    def stage(self, step: int) -> str:
        return "one" if step < 4 else "two"

    def enter(self, stage: str, nets: Nets) -> Entry:
        if stage == "one":
            return Entry(nets)
        grown = jax.tree.map(lambda x: 0.5 * x, nets["network"])
        return Entry({"network": grown}, ("network",), ("network",))
