"""Runs as a library sees them: train one (`fit`), open one (`load`), draw from one (`Run.sample`)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.arrays.shard import mesh_of, state_sharding
from imagegen_jax.core.arrays.texts import Tokenizer, check_one_tokenizer, check_prompts, conditions_of
from imagegen_jax.core.capabilities import Guidable, reads_text
from imagegen_jax.core.checkpoints.codes import check_one_autoencoder
from imagegen_jax.core.checkpoints.fingerprint import check_finite
from imagegen_jax.core.checkpoints.network_files import load_network as load_network
from imagegen_jax.core.checkpoints.network_files import save_network as save_network
from imagegen_jax.core.checkpoints.reconstruction import reconstructed
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.given import check_integer, check_labels, check_seed
from imagegen_jax.core.drawing import draw, rejection
from imagegen_jax.core.drawing.rejection import Rejection
from imagegen_jax.core.drawing.showing import as_html, as_text, picture_of_samples
from imagegen_jax.core.experiment import Experiment, power_averages
from imagegen_jax.core.loop import train
from imagegen_jax.core.opening import stored_state
from imagegen_jax.core.reporting.curves import Curves, read_curves
from imagegen_jax.core.reporting.trackers.tracker import Tracking
from imagegen_jax.core.state import State, networks, split

Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """An experiment that was trained for some steps: what it is, its state, and its folder."""

    experiment: Experiment
    state: State
    workdir: pathlib.Path

    @property
    def step(self) -> int:
        """The number of training steps behind the state."""
        return int(self.state.step)

    @property
    def metrics(self) -> Curves:
        """What was measured as it trained, by name: `run.metrics["loss"]` has `steps` and `values`, read anew."""
        return read_curves(self.workdir)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def show(self, n: int = 16, **conditions: Any) -> Any:
        """Draws `n` images as one picture, a PIL image, which notebooks show; `conditions` as `sample` takes them."""
        return picture_of_samples(self, n, conditions)

    def report(self, out: Path | None = None) -> pathlib.Path:
        """Writes the page of this run, report.html in its folder or at `out`, and returns its path."""
        return _above("imagegen_jax.pages.report:write_report")(
            self.workdir, None if out is None else pathlib.Path(out)
        )

    def evaluate(
        self,
        *metrics: str,
        n: int = 10_000,
        against: Any = None,
        extractor: Any = "auto",
        resize: str | None = None,
        seed: int = 0,
        quiet: bool = False,
    ) -> Any:
        """Measures `n` images that it draws: returns cards of scores, and keeps them in the run's folder.

        `metrics` are those of `imagegen evaluate`, "fid" and "kid" where none is given; `against` is a source of images
        or its word, None the data that it was trained on. Raises ValueError for what cannot be measured, before any
        image is drawn.
        """
        measure = _above("imagegen_jax.metrics.of_run:evaluate_run")
        return measure(self, metrics or ("fid", "kid"), n, against, extractor, resize, seed, quiet)

    @functools.cached_property
    def nets(self) -> dict[str, dict[str, Any]]:
        """The networks as sampling sees them: by the first moving average where there is one.

        Raises NonFiniteError, naming network and array, where one holds NaN or infinities.
        """
        nets = networks(self.state, self.experiment.step_spec.average)
        steps = ", ".join(map(str, Stored(self.workdir / "checkpoints").steps())) or "none"
        check_finite(
            nets,
            f"the networks of {self.workdir} at step {self.step:,}",
            f"Choose another average (--average) or checkpoint (--step; there are {steps}), or train anew",
        )
        return nets

    def sample(
        self,
        n: int | None = None,
        labels: Sequence[int | str] | np.ndarray | None = None,
        seed: int = 0,
        chunk: int = 256,
        reject: Rejection | None = None,
        **conditions: Any,
    ) -> np.ndarray:
        """Draws `n` images, uint8 [n h w c]; the same for the same seed, n and chunk.

        A model that reads text wants `prompts`, one an image or one for all; without `n` there is an image for each.
        Guidance leads away from `negative_prompts`, likewise, where these are given.

        A model of latents draws latents, float32, as its data are, and not clipped (`core.arrays.space.Latents`).
        A class-conditional model wants one label an image, by number or by name (`class_names`). Further conditions,
        such as a guidance scale, are arrays with `n` rows or scalars. A model that makes images from others wants them
        (`source`, uint8 [n h w c]); where they are not given, they are the first `n` of the data that it was trained
        on, in the order of `seed`. With `reject` more are drawn, the likeliest of each class kept. Raises ValueError
        for labels that the model does not know, or that are missing, for numbers out of range, and for samples that no
        classifier can choose among, and NonFiniteError where values of an image are not finite.
        """
        if "prompts" in conditions:
            conditions = self.prompted(n, **conditions)
            n = len(conditions["text"])
        if n is None:
            raise ValueError("how many images? Give n, or a list of prompts")
        return np.concatenate(list(self.sample_chunks(n, labels, seed, chunk, reject=reject, **conditions)))

    def prompted(
        self, n: int | None, prompts: Sequence[str], negative_prompts: Sequence[str] = (), **conditions: Any
    ) -> dict[str, Any]:
        """Returns conditions with the texts of prompts written by the run's tokenizer, one for each of `n` images.

        What is cut, and words that are not known, are said. Raises ValueError where the model reads no text, and for
        prompts that are not one an image, or empty.
        """
        texts = check_prompts(self.experiment.model, prompts, negative_prompts, n)
        return {**conditions, **conditions_of(self.tokenizer, *texts)}

    def sample_chunks(
        self,
        n: int,
        labels: Sequence[int | str] | np.ndarray | None = None,
        seed: int = 0,
        chunk: int = 256,
        start: int = 0,
        reject: Rejection | None = None,
        **conditions: Any,
    ) -> Iterator[np.ndarray]:
        """Draws the images of `sample` from row `start` on, `chunk` at a time; `start` is a whole number of chunks.

        With `reject` at least a class at a time, and `start` may be any row.
        """
        if reject is not None:
            return self._kept(reject, n, labels, seed, chunk, start, conditions)
        model, seed = self.experiment.model, check_seed(seed)
        given: dict[str, Any] = {name: np.asarray(value) for name, value in conditions.items()}
        if labels is not None:
            given["label"] = check_labels(labels, self.experiment.num_classes, self.class_names)
        filled = draw.filled_from_data(given, model, self.experiment.data.open, check_integer(n, "n"), seed)
        return draw.sample_chunks(model, self.nets, n, seed, filled, chunk, start)

    def _kept(
        self, reject: Rejection, n: int, labels: Any, seed: int, chunk: int, start: int, conditions: dict[str, Any]
    ) -> Iterator[np.ndarray]:
        rejection.check_rejectable(self.experiment.model, conditions)
        classes = check_labels(() if labels is None else labels, self.experiment.num_classes, self.class_names)
        if classes.shape != (check_integer(n, "n"),):
            raise ValueError(f"{classes.size} labels for {n} images that a classifier chooses: give one label an image")
        size = draw.chunk_on(mesh_of(self.nets), reject.total(classes), chunk)
        return reject.chunks(
            classes, size, lambda of, row: self.sample_chunks(len(of), of, seed, size, row, **conditions), start
        )

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Returns the log-probability of each class for images uint8 [n h w c]: float32 [n k], of a classifier's run.

        Raises TypeError for a run of another model, and ValueError for images of another shape.
        """
        return rejection.classify(self.experiment.model, self.nets, images)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the texts that the model reads. Raises RunFolderError where the run keeps none."""
        return folder.load_tokenizer(self.workdir, self.experiment.data)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class of the data; () where they are not known."""
        return folder.load_class_names(self.workdir)

    def with_average(self, name: str | None) -> Run:
        """Returns this run with another average for sampling to read; "none": the last step's weights; None: itself.

        Raises ValueError where it keeps no such average.
        """
        averages = self.experiment.averages
        if name is None:
            return self
        if name != "none" and name not in averages:
            raise ValueError(f"average {name!r}: this run keeps {', '.join(averages) or 'none'}; or say 'none'")
        ordered = {} if name == "none" else {name: averages[name], **averages}
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, averages=FrozenMap(ordered)))

    def guided_by(self, guide: Run) -> Run:
        """Returns this run with its samples guided by another run's networks: `sample(n, labels, guidance=2.0)`.

        `guide` is a run of a classifier of noisy images, or of a denoiser that is weaker than this one, such as a
        smaller one that was trained less; see `diffusion.guidance.by_network.Guided` for what guidance of 0 and 1 are.
        This model's field `guidance`, if it has one, says what the scale does; else it is classifier-free guidance. Of
        the guide, the average is taken that its own sampling reads. Raises ValueError where the two do not go together,
        such as runs with different tokenizers or autoencoders.
        """
        own = self.experiment.model
        if not isinstance(own, Guidable):
            raise ValueError(
                f"a {type(own).__name__} has no denoiser that could be guided: use a run of a diffusion model, or give "
                "the model a method `guided_by`"
            )
        model, places = own.guided_by(guide.experiment.model), (self.workdir, guide.workdir)
        check_one_autoencoder(self.nets, guide.nets, places)
        if reads_text(own) is not None and reads_text(guide.experiment.model) is not None:
            check_one_tokenizer(self.tokenizer, guide.tokenizer, places)
        nets = jax.device_put(guide.nets, state_sharding(mesh_of(self.nets), guide.nets))
        params, stats = split(model.joined({}, nets))
        state = self.state.replace(params=self.state.params | params, stats=self.state.stats | stats)
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, model=model), state=state)

    def reconstruct(self, std: float, step: int | None = None) -> Run:
        """Returns this run with its first average replaced by that of another width, by post-hoc reconstruction.

        `std` is the width sigma_rel in (0, 0.2886) of the power function (EDM2, section 3.2); `step` is the step that
        the average ends at (None: the last snapshot). Raises ValueError for another width, and CheckpointError where
        the run has kept no snapshots.
        """
        averages, first = power_averages(self.experiment), next(iter(self.experiment.averages), "")
        ema = reconstructed(self.workdir, averages, self.state.ema, first, std, step)
        return dataclasses.replace(self, state=self.state.replace(ema=ema))


def _above(tag: str) -> Any:
    """Imports what a run can be asked for but the core does not know, by "module:function", when it is asked."""
    module, _, name = tag.partition(":")
    return getattr(importlib.import_module(module), name)


def fit(
    experiment: Experiment,
    workdir: Path | None = None,
    resume_with_changes: bool = False,
    quiet: bool = False,
    at_end: Callable[[], None] | None = None,
    track: Sequence[str | Tracking] = (),
    profile: tuple[int, int] | None = None,
    metadata: bool = True,
) -> Run:
    """Trains an experiment to its last step, from where its folder is, and returns the finished run.

    Without `workdir`, in a new temporary folder (`Run.workdir` says where). Raises ValueError or RunFolderError
    before anything is compiled where the experiment or the folder cannot be used; see `core.loop.train`, also for
    `at_end`. `track` names trackers that follow its metrics, such as "wandb:my_project" or "csv"; `profile` are the
    first and the last of the steps to trace, (20, 25). Without `metadata` grids of samples do not say that they are
    generated. A start that fails leaves nothing that it made.
    """
    path = pathlib.Path(tempfile.mkdtemp(prefix="imagegen_") if workdir is None else workdir)
    try:
        program, state = train(experiment, path, resume_with_changes, quiet, at_end, track, profile, metadata)
    except BaseException:
        if workdir is None:
            with contextlib.suppress(OSError):  # it holds what was trained
                path.rmdir()
        raise
    return Run(program.experiment, state, path)


def load(
    run: Path,
    modules: Sequence[str] = (),
    experiment: Experiment | None = None,
    step: int | Literal["best"] | None = None,
) -> Run:
    """Opens a run at its newest good checkpoint, at that of a `step`, or at the one that its evaluation found "best".

    `modules` names modules outside this package that the experiment's classes may come from; or hand over the
    `experiment` itself, such as one defined in a notebook. Raises RunFolderError where `run` is no run folder and
    CheckpointError where it has no good checkpoint.
    """
    path = pathlib.Path(run)
    found = experiment or folder.load_experiment(path, modules)
    return Run(found, stored_state(path, found, step), path)
