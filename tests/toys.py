"""Tiny models and data for tests: each feature of the contract is used by one of them."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import imagegen_jax as ig
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.model import Aux, Batch, Entry, Image, Inputs, Nets, Phase, Variables, check_images
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import store_rows
from imagegen_jax.core.state import create
from imagegen_jax.data import from_arrays
from imagegen_jax.nn.backbones.dit import image as image_of
from imagegen_jax.nn.resample import patches


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


# --- tokenizers, an autoencoder and a prior of which all is known ---

TOKENS = (2, 3, 1)  # the shape of their images


@dataclasses.dataclass(frozen=True)
class Levels:
    """Each pixel's code is the nearest of some levels of grey, equally spaced from -1 to 1 while it is untrained."""

    image_shape: tuple[int, int, int] = TOKENS
    codebook_size: int = 4

    @property
    def code_shape(self) -> tuple[int, int]:
        return self.image_shape[:2]

    @property
    def condition_rows(self):
        return {"image": jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    def init(self, key, batch: Batch) -> Nets:
        check_images(self, batch)
        return {"tokenizer": self.init_tokenizer(key)}

    def init_tokenizer(self, key) -> Variables:
        return {"params": {"levels": jnp.linspace(-1.0, 1.0, self.codebook_size)}}

    def phases(self, stage) -> tuple[Phase, ...]:
        return (Phase(("tokenizer",), self.loss, "tokenizer"),)

    def loss(self, nets: Nets, inputs: Inputs):
        x = inputs.batch["image"]
        return jnp.mean((self.decode(nets, self.encode(nets, x)) - x) ** 2), Aux({})

    def encode(self, nets: Nets, image: Image):
        return jnp.argmin(jnp.abs(image - nets["tokenizer"]["params"]["levels"]), axis=-1)

    def decode(self, nets: Nets, codes) -> Image:
        return nets["tokenizer"]["params"]["levels"][codes][..., None]

    def sample(self, nets: Nets, key, n: int, conditions: Batch) -> Image:
        return self.decode(nets, self.encode(nets, conditions["image"]))


@dataclasses.dataclass(frozen=True)
class Halved:
    """An autoencoder whose latents are half of each pixel, with a deviation that is the square of that."""

    image_shape: tuple[int, int, int] = TOKENS
    latent_shape: tuple[int, int, int] = TOKENS

    def init(self, key, batch: Batch) -> Nets:
        return {"autoencoder": self.init_autoencoder(key)}

    def init_autoencoder(self, key) -> Variables:
        return {"params": {"scale": jnp.float32(0.5)}}

    def phases(self, stage) -> tuple[Phase, ...]:
        return (Phase(("autoencoder",), lambda nets, inputs: (nets["autoencoder"]["params"]["scale"], Aux({})), "a"),)

    def encode(self, nets: Nets, image: Image) -> Moments:
        mean = nets["autoencoder"]["params"]["scale"] * image
        return Moments(mean, mean**2)

    def decode(self, nets: Nets, latents) -> Image:
        return latents / nets["autoencoder"]["params"]["scale"]


@dataclasses.dataclass(frozen=True)
class Quarters:
    """An autoencoder whose latents are twice the four pixels of each square; nothing trains it."""

    image_shape: tuple[int, int, int] = (8, 8, 1)
    deviation: float = 0.0

    @property
    def latent_shape(self):
        return self.image_shape[0] // 2, self.image_shape[1] // 2, 4

    def init_autoencoder(self, key):
        return {"params": {"scale": jnp.float32(2)}}

    def encode(self, nets, image):
        found = patches(image, 2).reshape(-1, *self.latent_shape) * nets["autoencoder"]["params"]["scale"]
        return Moments(found, jnp.full(found.shape, self.deviation))

    def decode(self, nets, latents):
        rows, columns, values = self.latent_shape
        flat = latents.reshape(-1, rows * columns, values) / nets["autoencoder"]["params"]["scale"]
        return jnp.clip(image_of(flat, rows, columns, 2), -1, 1)


@dataclasses.dataclass(frozen=True)
class Independent:
    """A prior in which each code is drawn by itself, with the probabilities of its place."""

    tokenizer: Levels = Levels()
    frozen: tuple[str, ...] = ("tokenizer",)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.tokenizer.image_shape

    def init(self, key, batch: Batch) -> Nets:
        logits = jnp.zeros((*self.tokenizer.code_shape, self.tokenizer.codebook_size))
        return {"tokenizer": self.tokenizer.init_tokenizer(key), "prior": {"params": {"logits": logits}}}

    def phases(self, stage) -> tuple[Phase, ...]:
        return (Phase(("prior",), self.loss, "nll"),)

    def loss(self, nets: Nets, inputs: Inputs):
        codes = inputs.batch["codes"] if "codes" in inputs.batch else self.tokenizer.encode(nets, inputs.batch["image"])
        log_p = jax.nn.log_softmax(nets["prior"]["params"]["logits"])
        nll = -jnp.mean(jnp.sum(log_p * jax.nn.one_hot(codes, self.tokenizer.codebook_size), axis=-1))
        return nll, Aux({}, images=self.tokenizer.decode(nets, codes))

    def sample(self, nets: Nets, key, n: int, conditions: Batch) -> Image:
        logits = nets["prior"]["params"]["logits"]
        return self.tokenizer.decode(nets, jax.random.categorical(key, logits, shape=(n, *logits.shape[:-1])))


def pictures(n: int = 10) -> np.ndarray:
    """Grey images of noise, no pixel of which is half-way between two of four levels."""
    values = np.random.default_rng(0).integers(0, 256, (n, *TOKENS), dtype=np.uint8)
    return np.where(np.isin(values, (42, 43, 127, 128, 212, 213)), 100, values).astype(np.uint8)


def source(n: int = 10):
    """Those images as a source, of the classes even and odd."""
    return from_arrays(pictures(n), np.arange(n) % 2, class_names=("even", "odd"))


def codes_of(images: np.ndarray) -> np.ndarray:
    """The codes of the untrained tokenizer, whose levels are 0, 85, 170 and 255."""
    return np.rint(images[..., 0] / 85).astype(np.int64)


def tokenizer_run(folder, model=Levels()) -> Run:  # noqa: B008
    """An untrained run of the tokenizer, or of the autoencoder, without checkpoints."""
    (network,) = model.init(jax.random.key(0), {"image": np.zeros((1, *TOKENS))})
    experiment = ig.Experiment("toy", model, source(), {network: Adam(1e-2)}, batch_size=8, steps=2)
    batch = {"image": jax.ShapeDtypeStruct((2, *TOKENS), np.float32)}
    store_rows(folder, {"image": jax.ShapeDtypeStruct(TOKENS, np.uint8)}, ("even", "odd"))
    return Run(experiment, create(model.init(jax.random.key(0), batch), experiment.optim, {}), folder)
