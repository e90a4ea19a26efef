"""Denoising with every choice open: network, prediction, process, training times, weights; then levels and solver.

The choices that have names:

    DDPM            prediction "epsilon", process Discrete(), times WholeTimes()                (2006.11239)
    progressive     prediction "v", process Cosine(0), times Uniform(), weighting MinSNR(...)    (2202.00512)
    EDM             prediction "F", process EDM(), times LogNormal(): the defaults               (2206.00364)
    flow matching   prediction "velocity", process RectifiedFlow(), times Uniform() or LogitNormal()    (2210.02747)
    OT-CFM          the same with coupling "optimal"                                             (2302.00482)

Whatever a network was trained on, any solver samples from it, at any levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    check_images,
    check_labels,
    one_hot_labels,
)
from imagegen_jax.diffusion.coupling import optimal_order
from imagegen_jax.diffusion.denoiser import Denoise, Predict, from_prediction, preconditioned
from imagegen_jax.diffusion.guidance import classifier_free
from imagegen_jax.diffusion.heun import Heun
from imagegen_jax.diffusion.levels import AnyLevels, Karras
from imagegen_jax.diffusion.prediction import SIGMA_DATA, Kind, row, rows_of
from imagegen_jax.diffusion.preserving import Cosine, Discrete, SubVP, VariancePreserving
from imagegen_jax.diffusion.process import EDM, RectifiedFlow, VarianceExploding, at
from imagegen_jax.diffusion.solver import Path
from imagegen_jax.diffusion.solvers import AnySolver
from imagegen_jax.diffusion.times import AnyTimes, LogNormal, WholeTimes
from imagegen_jax.diffusion.weighting import AnyWeighting, Plain
from imagegen_jax.nn.adm import ADM
from imagegen_jax.nn.dit import DiT
from imagegen_jax.nn.edm2 import EDM2UNet
from imagegen_jax.nn.song import SongUNet
from imagegen_jax.nn.unet import UNet

AnyNetwork = UNet | ADM | SongUNet | EDM2UNet | DiT
AnyProcess = EDM | VarianceExploding | RectifiedFlow | VariancePreserving | SubVP | Cosine | Discrete


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """A network that is trained to denoise. The defaults are EDM's (Karras et al. 2022, arXiv 2206.00364, Table 1).

    `prediction` "F" has EDM's preconditioning around the network; with any other the network sees x_t and t *
    `time_scale`. With `label_dropout` above 0 the network also learns to do without a label, and samples can be guided:
    `conditions["guidance"]`, a scalar of which 1 is the class itself (classifier-free, Ho & Salimans 2022, 2207.12598).
    Raises ValueError for choices that do not go together.
    """

    network: AnyNetwork = UNet()
    prediction: Kind = "F"
    process: AnyProcess = EDM()
    times: AnyTimes = LogNormal()
    weighting: AnyWeighting = Plain()
    coupling: Literal["independent", "optimal"] = "independent"  # which noise goes with which image of a batch
    levels: AnyLevels = Karras(18)
    solver: AnySolver = Heun()
    image_shape: tuple[int, int, int] = (32, 32, 3)
    num_classes: int = 0  # 0: unconditional
    label_dropout: float = 0.0  # share of images whose label is left out
    time_scale: float = 1.0  # of t, before the network sees it; 1000 where t is in [0, 1]
    sigma_data: float = SIGMA_DATA  # deviation of the data that "F" assumes
    clip: bool = False  # whether estimates of x_0 are kept in [-1, 1] while sampling

    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance",)

    def __post_init__(self) -> None:
        if isinstance(self.process, Discrete) and isinstance(self.times, WholeTimes):
            if self.process.schedule.steps != self.times.steps:
                raise ValueError(
                    f"model.times.steps={self.times.steps}, but model.process.schedule.steps="
                    f"{self.process.schedule.steps}: make them the same"
                )
        elif isinstance(self.process, Discrete) or isinstance(self.times, WholeTimes):
            raise ValueError(
                f"model.process is a {type(self.process).__name__}, but model.times a {type(self.times).__name__}: "
                "Discrete has WholeTimes, and every other process has times between them"
            )
        if not 0 <= self.label_dropout < 1 or (self.label_dropout and not self.num_classes):
            raise ValueError(
                f"model.label_dropout={self.label_dropout}, model.num_classes={self.num_classes}: it must be at least "
                "0 and below 1, and 0 without classes"
            )

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Raises ValueError where images, labels or the levels of the network do not fit."""
        check_images(self, batch)
        check_labels(self, batch)
        x = batch["image"]
        return {"network": self.network.init(key, x, jnp.zeros(x.shape[:1]), one_hot_labels(self, batch))}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """One: denoise."""
        return (Phase(trains=("network",), loss=self.loss, name="denoise"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[w(t) |prediction - target|^2] at x_t = alpha x_0 + sigma epsilon; the mean over pixels and rows."""
        x_0 = inputs.batch["image"]
        keys = jax.vmap(lambda key: jax.random.split(key, 4), out_axes=1)(inputs.keys)
        t_keys, epsilon_keys, label_keys, dropout_keys = keys
        t = self.times(t_keys)
        epsilon = jax.vmap(lambda key: jax.random.normal(key, self.image_shape))(epsilon_keys)
        if self.coupling == "optimal":
            epsilon = epsilon[optimal_order(x_0, epsilon)]
        point = at(self.process, t)
        x_t = rows_of(point.alpha, x_0) * x_0 + rows_of(point.sigma, x_0) * epsilon
        of_x_0, of_epsilon, divisor = (rows_of(c, x_0) for c in row(self.prediction, point, self.sigma_data))
        target = (of_x_0 * x_0 + of_epsilon * epsilon) / divisor
        labels = self._dropped(one_hot_labels(self, inputs.batch), label_keys)
        predicted = self._predict(nets, labels, dropout_keys)(x_t, t)
        error = jnp.mean((predicted - target) ** 2, axis=(1, 2, 3))
        loss = jnp.mean(self.weighting(self.prediction, point, self.sigma_data) * error)
        return loss, Aux({"loss": loss})

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance where there is no label, or none was ever left out in training."""
        if "guidance" in conditions and not self.label_dropout:
            raise ValueError(
                f"guidance={conditions['guidance']}, but model.label_dropout=0: the network has not learned to do "
                "without labels, so there is nothing to guide away from; train with label_dropout 0.1, say"
            )

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Images in [-1, 1], of the classes `conditions["label"]` where the model has classes (else ValueError)."""
        return self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key)

    @property
    def path(self) -> Path:
        """How it samples."""
        return Path(self.solver, self.levels())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """What solvers and guidance see of the network; guided where `conditions` has "guidance"."""
        check_labels(self, conditions)
        self.check_conditions(conditions)
        labels = one_hot_labels(self, conditions)
        conditional = self._denoiser(nets, labels)
        if labels is None or "guidance" not in conditions:
            return conditional
        return classifier_free(conditional, self._denoiser(nets, jnp.zeros_like(labels)), conditions["guidance"])

    def _denoiser(self, nets: Nets, labels: Float[Array, "b k"] | None) -> Denoise:
        predict = self._predict(nets, labels, None)
        return from_prediction(predict, self.process, self.prediction, self.clip, sigma_data=self.sigma_data)

    def _predict(self, nets: Nets, labels: Float[Array, "b k"] | None, keys: PRNGKeys | None) -> Predict:
        """(x_t, t) -> the prediction."""

        def network(x: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b h w c"]:
            return self.network.apply(nets["network"], x, t * self.time_scale, labels, keys)

        if self.prediction != "F":
            return network
        inner = preconditioned(network, self.sigma_data)

        def predict(x_t: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b h w c"]:
            alpha = self.process.alpha(t)
            return inner(x_t / rows_of(alpha, x_t), self.process.sigma(t) / alpha)

        return predict

    def _dropped(self, labels: Float[Array, "b k"] | None, keys: PRNGKeys) -> Float[Array, "b k"] | None:
        """Labels of which some rows are 0, as the unconditional network sees them."""
        if labels is None or not self.label_dropout:
            return labels
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.label_dropout))(keys)
        return labels * kept[:, None]
