"""A tokenizer whose codes are known, and a prior over codes whose optimum is known, for tests around both."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import imagegen_jax as ig
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.model import Aux, Batch, Image, Inputs, Nets, Phase, Variables, check_images
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import store_rows
from imagegen_jax.core.state import create
from imagegen_jax.data import from_arrays

SHAPE = (2, 3, 1)


@dataclasses.dataclass(frozen=True)
class Levels:
    """Each pixel's code is the nearest of some levels of grey, equally spaced from -1 to 1 while it is untrained."""

    image_shape: tuple[int, int, int] = SHAPE
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

    image_shape: tuple[int, int, int] = SHAPE
    latent_shape: tuple[int, int, int] = SHAPE

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
    values = np.random.default_rng(0).integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    return np.where(np.isin(values, (42, 43, 127, 128, 212, 213)), 100, values).astype(np.uint8)


def source(n: int = 10):
    """Those images as a source, of the classes even and odd."""
    return from_arrays(pictures(n), np.arange(n) % 2, class_names=("even", "odd"))


def codes_of(images: np.ndarray) -> np.ndarray:
    """The codes of the untrained tokenizer, whose levels are 0, 85, 170 and 255."""
    return np.rint(images[..., 0] / 85).astype(np.int64)


def tokenizer_run(folder, model=Levels()) -> Run:  # noqa: B008
    """An untrained run of the tokenizer, or of the autoencoder, without checkpoints."""
    (network,) = model.init(jax.random.key(0), {"image": np.zeros((1, *SHAPE))})
    experiment = ig.Experiment("toy", model, source(), {network: Adam(1e-2)}, batch_size=8, steps=2)
    batch = {"image": jax.ShapeDtypeStruct((2, *SHAPE), np.float32)}
    store_rows(folder, {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}, ("even", "odd"))
    return Run(experiment, create(model.init(jax.random.key(0), batch), experiment.optim, {}), folder)
