"""Sets of images that an evaluation compares: of data or an array, or drawn from a run, always in the same order."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from imagegen_jax.core.arrays.space import sample_shape, space_of
from imagegen_jax.core.config.given import check_integer, check_seed
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.model import Nets, condition_rows
from imagegen_jax.core.run_folder import load_class_names
from imagegen_jax.data.pictures.streaming import with_progress
from imagegen_jax.data.remedy import Remedy, SettingError
from imagegen_jax.data.source import Dataset, Source
from imagegen_jax.metrics.features.extractor import hash_tree


class ImageSet(Protocol):
    """Images of one shape, with a name; the `fingerprint` comes from their content, or from whatever makes them."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def labels(self) -> np.ndarray | None: ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels; () where they have none."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        ...

    def __len__(self) -> int: ...

    def batches(self, n: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yields images from row `start` on, uint8 [n h w c], the last batch shorter; `start` is a multiple of n."""
        ...


class TrainedRun(Protocol):
    """A run at some step, to be measured; `run.Run` is one."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def workdir(self) -> pathlib.Path:
        """The folder where scores are kept."""
        ...

    @property
    def step(self) -> int:
        """The number of completed training steps."""
        ...

    @property
    def nets(self) -> Nets:
        """The networks that samples are drawn from."""
        ...

    def sample_chunks(
        self, n: int, labels: Any, seed: int, chunk: int, start: int, **conditions: Any
    ) -> Iterator[np.ndarray]:
        """Draws `n` images from row `start` on, `chunk` at a time."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySet:
    """Images uint8 [n h w c] of an array, such as a memory map, with their labels [n] if they have any."""

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    keep: bool = True  # whether its features are kept on the disk; not those of images that are measured once
    class_names: tuple[str, ...] = ()  # the name of each label, where they have names

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            hint = "; latents are decoded first" if np.issubdtype(self.images.dtype, np.floating) else ""
            raise ValueError(
                f"{self.name}: images of shape {self.images.shape} and type {self.images.dtype}: wanted [n h w c] of "
                f"uint8, with values from 0 to 255{hint}"
            )
        if not len(self.images):
            raise ValueError(f"{self.name} has no images")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(f"{self.name}: {len(self.labels)} labels for {len(self.images)} images: give each one")

    @functools.cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.images.shape).encode())
        for start in range(0, len(self.images), 1000):
            digest.update(np.ascontiguousarray(self.images[start : start + 1000]).data)
        return digest.hexdigest()[:16]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, n: int, start: int = 0) -> Iterator[np.ndarray]:
        for at in range(start, len(self), n):
            yield np.asarray(self.images[at : at + n])

    def first(self, n: int) -> ArraySet:
        """Returns the set of the first `n` images, or this one where it has no more."""
        if n >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:n]
        name = f"the first {n:,} of {self.name}"
        return dataclasses.replace(self, name=name, images=self.images[:n], labels=labels)


def source_set(source: Source, most: int | None = None) -> ArraySet:
    """Opens the images of a source, or the first `most` in its seeded order (seed 0, epoch 0)."""
    most = None if most is None else check_integer(most, "most")
    dataset = source.open()
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{source} has no images to compare with: name them, as the second argument of `imagegen evaluate`; while "
            "a run trains on it, leave its evaluation out"
        )
    names = dataset.class_names
    if most is None or most >= len(dataset):
        return ArraySet(str(source), dataset.images, dataset.labels, class_names=names)
    batch = dataset.batch(0, most)
    name = f"{source}, {most:,} of {len(dataset):,}"
    return ArraySet(name, batch["image"], batch.get("label"), class_names=names)


def balanced_labels(n: int, classes: int, seed: int) -> np.ndarray:
    """Returns labels, as many of each of `classes`, int32 [n], in turn; the classes of an incomplete round are drawn.

    Fewer labels than classes are therefore not only those of the first classes.
    """
    whole = n // classes * classes
    last = np.random.default_rng(seed).permutation(classes)[: n - whole]
    return np.concatenate([np.arange(whole) % classes, np.sort(last)]).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class SampleSet:
    """`n` images drawn from a run, as many of each class where it has classes."""

    run: TrainedRun
    n: int
    seed: int = 0
    chunk: int = 256  # images drawn at a time; the images depend on it
    classes: tuple[int, ...] = ()  # those that are drawn; (): all

    def __post_init__(self) -> None:
        check_integer(self.n, "n")
        check_seed(self.seed)
        check_integer(self.chunk, "chunk")
        if not space_of(self.run.experiment.model).draws_images:
            raise ValueError(
                f"{self.run.workdir} draws latents, and metrics are of images: draw them into an .npz (imagegen sample "
                "--out), decode them, and evaluate what comes out"
            )

    @property
    def name(self) -> str:
        return f"{self.run.workdir} at step {self.run.step:,}"

    @property
    def labels(self) -> np.ndarray | None:
        classes = np.asarray(self.classes or range(self.run.experiment.num_classes), np.int32)
        return classes[balanced_labels(self.n, len(classes), self.seed)] if len(classes) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the data that the run was trained on."""
        return load_class_names(self.run.workdir)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return sample_shape(self.run.experiment.model)

    @functools.cached_property
    def fingerprint(self) -> str:
        asked = {"model": to_dict(self.run.experiment)["model"], "n": self.n, "seed": self.seed, "chunk": self.chunk}
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        if self.labels is not None:
            digest.update(self.labels.data)
        return hash_tree(self.run.nets, digest)

    def __len__(self) -> int:
        return self.n

    def batches(self, n: int, start: int = 0) -> Iterator[np.ndarray]:
        """Draws the images from row `start` on, `n` at a time; `n` must be `chunk`."""
        if n != self.chunk:
            raise ValueError(f"batches of {n}: this set is drawn {self.chunk} at a time")
        return self.run.sample_chunks(self.n, self.labels, self.seed, n, start)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """All images, in memory: for metrics that learn from the images themselves."""
        return np.concatenate(list(with_progress(self.batches(self.chunk), self.n)))


def reconstructs(model: Any) -> bool:
    """Tells whether what a model draws are the data's own images, encoded and decoded, as a tokenizer's are."""
    return "image" in condition_rows(model)


@dataclasses.dataclass(frozen=True, eq=False)
class ReconstructionSet:
    """What a tokenizer's run makes of images: of those `given`, or of its training data; of at most the first `n`."""

    run: TrainedRun
    n: int
    given: ArraySet | None = None
    chunk: int = 256  # images reconstructed at a time

    @functools.cached_property
    def originals(self) -> ArraySet:
        """The images that are reconstructed. Raises SettingError where they have another shape than the model's."""
        found = source_set(self.run.experiment.data, self.n) if self.given is None else self.given.first(self.n)
        if found.image_shape != self.image_shape:
            height, width, channels = self.image_shape
            settings = {"size": height} if height == width else {}
            problem = f"{found.name}: images of {found.image_shape}, but {self.run.workdir} reconstructs those of "
            remedies = [Remedy("have them brought to it with {}", settings | {"channels": channels})]
            raise SettingError(None, f"{problem}{self.image_shape} (height, width, channels): ", remedies)
        return found

    @property
    def name(self) -> str:
        return f"{self.run.workdir} at step {self.run.step:,}, reconstructions of {self.originals.name}"

    @property
    def labels(self) -> np.ndarray | None:
        return self.originals.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.originals.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return sample_shape(self.run.experiment.model)

    @functools.cached_property
    def fingerprint(self) -> str:
        model = json.dumps(to_dict(self.run.experiment)["model"], sort_keys=True)
        return hash_tree(self.run.nets, hashlib.sha256(f"{model} {self.originals.fingerprint}".encode()))

    @functools.cached_property
    def images(self) -> np.ndarray:
        """All reconstructions, in memory: for metrics that compare image by image."""
        return np.concatenate(list(self.batches(self.chunk)))

    def __len__(self) -> int:
        return len(self.originals)

    def batches(self, n: int, start: int = 0) -> Iterator[np.ndarray]:
        """Reconstructs the images from row `start` on, `n` at a time."""
        return self.run.sample_chunks(len(self), None, 0, n, start, image=self.originals.images)
