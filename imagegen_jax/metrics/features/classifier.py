"""A small classifier of the data set at hand: its features make Fréchet distances that need no downloaded weights.

It is trained once, with a fixed seed, by the loop that trains every model here, and kept in the cache. Distances of its
features are named FD-classifier: they compare models of the same data, and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.arrays.shard import MeshShape, replicated
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.compile import jit
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.experiment import Experiment, row_shapes
from imagegen_jax.core.files.claim import LiveRunError
from imagegen_jax.core.files.regular import cache_root
from imagegen_jax.core.loop import train
from imagegen_jax.core.model import Aux, Batch, Inputs, Nets, Phase, PRNGKey, Scalar, check_labels
from imagegen_jax.core.model import check_images as check_shapes
from imagegen_jax.core.optim import AdamW, CosineDecay
from imagegen_jax.core.program import abstract_state
from imagegen_jax.core.state import networks
from imagegen_jax.data.source import Dataset, Source
from imagegen_jax.metrics.features.blocks import local_mesh
from imagegen_jax.metrics.features.extractor import Features, Images, check_images, hash_tree, split_rows
from imagegen_jax.nn.precision import Dtype, compute_dtype

TRAINING_IMAGES = 200_000  # seen in all, repetitions included
BATCH = 128
SCALING_IMAGES = 2_000  # to measure the size of the features
WAIT_S = 1.0  # between two looks at a classifier that another process trains


class ClassifierNet(nn.Module):
    """Two 3x3 convolutions at each size, halved by max pooling to 4..7 pixels, then a hidden layer of features."""

    width: int = 16  # channels at the first size; they double with every halving
    features: int = 128
    dtype: Dtype = "float32"  # on every machine: a distance must not depend on the device's compute dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], num_classes: int) -> dict[str, Float[Array, "b d"]]:
        """Maps images [B H W C] to "features" [B features], not negative, and "logits" [B num_classes]."""
        dtype, width = compute_dtype(self.dtype), self.width
        while True:
            for _ in range(2):
                x = nn.relu(nn.Conv(width, (3, 3), dtype=dtype)(x))
            if min(x.shape[1:3]) < 8:
                break
            x, width = nn.max_pool(x, (2, 2), (2, 2)), 2 * width
        x = nn.relu(nn.Dense(self.features, dtype=dtype)(x.reshape(x.shape[0], -1))).astype(jnp.float32)
        return {"features": x, "logits": nn.Dense(num_classes)(x)}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classifier under the contract of every model; it draws nothing."""

    image_shape: tuple[int, int, int]
    num_classes: int
    network: ClassifierNet = ClassifierNet()

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where the images have another shape, or there are no labels."""
        check_shapes(self, batch)
        check_labels(self, batch)
        return {"network": self.network.init(key, batch["image"], self.num_classes)}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step."""
        return (Phase(("network",), self.loss, "classify"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the cross entropy in nats; the metric `accuracy` is a share of the batch."""
        logits, label = self.apply(nets, inputs.batch["image"])["logits"], inputs.batch["label"]
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))
        return loss, Aux({"accuracy": jnp.mean(jnp.argmax(logits, axis=1) == label)})

    def classify(self, nets: Nets, image: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Returns the log-probability of each class for images in [-1, 1]."""
        return jax.nn.log_softmax(self.apply(nets, image)["logits"])

    def apply(self, nets: Nets, image: Float[Array, "b h w c"]) -> dict[str, Float[Array, "b d"]]:
        """Returns the "features" and "logits" of images in [-1, 1]."""
        return self.network.apply(nets["network"], image, self.num_classes)


def classifier_experiment(source: Source, dataset: Dataset) -> Experiment:
    """Makes the experiment that trains the classifier of a source. Raises ValueError where the source has no labels."""
    if not dataset.num_classes:
        raise ValueError(f"{source} has no labels to train a classifier on: choose another extractor, such as pixels")
    return Experiment(
        name="classifier",
        model=Classifier(dataset.image_shape, dataset.num_classes),
        data=source,
        optim={"network": AdamW(CosineDecay(1e-3), weight_decay=1e-2)},
        batch_size=BATCH,
        steps=-(-TRAINING_IMAGES // BATCH),
        log_every=100,
        checkpoint_every=500,
        keep_checkpoints=1,
    )


def trained_classifier(source: Source, quiet: bool = False) -> ClassifierFeatures:
    """Returns the classifier of a source as extractor; trains it where the cache has none, or resumes its training.

    Where another process trains it now, this one waits. Raises ValueError where the source has no labels.
    """
    dataset = source.open()
    experiment = classifier_experiment(source, dataset)
    folder = _folder(experiment, dataset)
    while (nets := _fitted(experiment, dataset, folder, quiet)) is None:
        time.sleep(WAIT_S)
    unscaled = ClassifierFeatures(experiment.model, jax.device_get(nets))
    features = np.asarray(unscaled(dataset.batch(0, SCALING_IMAGES)["image"])["features"])
    square = float(np.mean(features**2))
    if not 0 < square < np.inf:
        raise ValueError(
            f"the classifier of {source} gives features whose mean square is {square}: are its images all alike? "
            "Choose another extractor, such as pixels"
        )
    return dataclasses.replace(unscaled, scale=float(1 / np.sqrt(square)))


def _fitted(experiment: Experiment, dataset: Dataset, folder: pathlib.Path, quiet: bool) -> Nets | None:
    """Returns the finished networks, read or trained now; None while another process trains them."""
    stored, last = Stored(folder / "checkpoints"), experiment.steps
    if last in stored.steps():
        rows, mesh = row_shapes(dataset), MeshShape().build()
        restored = stored.restore(lambda step: abstract_state(experiment, rows, mesh, step), steps=[last])
        return None if restored is None else networks(restored.tree)
    try:
        return networks(train(experiment, folder, quiet=quiet)[1])
    except LiveRunError:
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """The extractor of a trained classifier: "features" [N 128] and "logits" [N classes], for images of its own shape.

    `scale` brings the features to a mean square of 1 on the training images, since a kernel distance such as KID
    depends on their size, which in turn depends on how long the classifier was trained.
    """

    model: Classifier
    nets: Nets
    scale: float = 1.0
    name: str = "FD-classifier"
    resize: str = "none"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hashes the weights and the shape of the images."""
        return hash_tree(self.nets, hashlib.sha256(f"{self.name} {self.model} {self.scale}".encode()))

    def __call__(self, images: Images) -> Features:
        """Extracts features of uint8 [N H W C] in 0..255. Raises ValueError for images of another kind or shape."""
        check_images(images)
        if tuple(images.shape[1:]) != tuple(self.model.image_shape):
            raise ValueError(
                f"images of {tuple(images.shape[1:])}, but the classifier was trained on {self.model.image_shape} "
                "(height, width, channels): compare images of one shape, or choose another extractor"
            )
        return self._compiled(self._on_devices, split_rows(images))

    def classify(self, images: Images) -> Float[np.ndarray, "n k"]:
        """Returns the log-probability of each class for uint8 [N H W C] in 0..255. Raises as a call does."""
        return np.asarray(jax.nn.log_softmax(self(images)["logits"]))

    @functools.cached_property
    def _on_devices(self) -> Nets:
        return jax.device_put(self.nets, replicated(local_mesh()))

    @functools.cached_property
    def _compiled(self) -> Callable[[Nets, Images], Features]:
        def features(nets: Nets, images: Array) -> Features:
            found = self.model.apply(nets, to_float(images))
            return {**found, "features": self.scale * found["features"]}

        return jit(features)


def _folder(experiment: Experiment, dataset: Dataset) -> pathlib.Path:
    """Returns the folder for this recipe and this content of the data."""
    names = ("model", "data", "optim", "batch_size", "steps", "seed")  # that determine its weights
    recipe = to_dict({name: getattr(experiment, name) for name in names})
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for array in (dataset.images, dataset.labels):
        digest.update(np.ascontiguousarray(array).data)
    return cache_root() / "classifiers" / digest.hexdigest()[:20]
