"""Improved DDPM (Nichol & Dhariwal 2021, arXiv 2102.09672): the variance of each step back is learned, too.

The network puts out the noise and, in as many channels more, where between its two extremes the log variance lies. It
learns that from the variational bound (VLB), in bits per dimension of 8-bit images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax import moved
from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space, with_space
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape, Share
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Model,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    check_choice,
    check_images,
)
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.guidance.conditions import (
    NEGATIVE_TEXT,
    check_dropout,
    check_empty_text,
    check_guidance,
    check_source_shape,
    guided_by_conditions,
    rows_of_conditions,
)
from imagegen_jax.diffusion.guidance.fields import AnyGuidance, ClassifierFree
from imagegen_jax.diffusion.guidance.functions import Guiding, constant
from imagegen_jax.diffusion.process.bound import Predictor, bound_bits, step_bits
from imagegen_jax.diffusion.process.denoiser import Denoise, clipped, from_prediction
from imagegen_jax.diffusion.process.importance import drawn_times, no_losses, remembered
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral
from imagegen_jax.diffusion.sampling.levels import of_schedule, timesteps
from imagegen_jax.diffusion.sampling.solver import Path
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import (
    Conditioning,
    Rates,
    conditioning_of,
    drop_conditions,
    drop_texts,
    init_text,
)
from imagegen_jax.nn.backbones.denoising import AnyNetwork, check_channels
from imagegen_jax.nn.distributions.noise_steps import (
    AnySchedule,
    CosineSchedule,
    StepTable,
    backward,
    rows_of,
    signal_and_noise,
    step_table,
    x_0_of,
)
from imagegen_jax.nn.text_encoders.encoding import AnyTextEncoder

__getattr__ = moved.attributes(__name__)


@dataclasses.dataclass(frozen=True)
class ImprovedDDPM:
    """A diffusion model that learns its variances; the defaults are the paper's for CIFAR-10.

    These are L_hybrid (sections 3 and 4, appendix A). `objective` "vlb" trains on the bound alone; `importance` draws
    times by the size of their recent losses, as the paper does with this objective (Eq. 18). Sampling takes
    `sampling_steps` of the schedule's times, evenly spaced; None: all. With `label_dropout` above 0 samples can be
    guided: the scalar `conditions["guidance"]`, 1 for no guidance, moves the noise, not the variance (DiT, Peebles &
    Xie 2023, 2212.09748). Noise is added to what `space` makes of data. Estimates of pixels are clipped to [-1, 1],
    those of latents are not; the last of the bound's T terms treats even latents as 8-bit values, as DiT's code does.
    Raises ValueError for choices that do not go together.
    """

    network: AnyNetwork = ADM(
        128, (1, 2, 2, 2), blocks=3, attention_at=(16, 8), head_channels=None, heads=4, resample="conv", dropout=0.3
    )
    schedule: AnySchedule = CosineSchedule(4000)
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    source_shape: Shape | None = None  # of source images, at most as large as the images; None: there are none
    objective: Literal["hybrid", "vlb"] = "hybrid"
    vlb_weight: NonNegative = 0.001  # lambda of L_hybrid
    importance: bool = False
    sampling_steps: Count | None = None
    label_dropout: Share = 0.0  # share of images whose label is dropped
    token_dropout: Share = 0.0  # share of images whose text is dropped
    guidance: AnyGuidance = ClassifierFree()  # what a guidance scale does, where one is given
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled
    text: AnyTextEncoder | None = None  # as the next two, see `Diffusion`
    train_text: bool = True
    empty_text: EmptyText | None = None

    def __post_init__(self) -> None:
        if self.sampling_steps is not None and not 1 <= self.sampling_steps <= self.schedule.steps:
            raise ValueError(
                f"model.sampling_steps={self.sampling_steps} is not between 1 and the {self.schedule.steps} steps of "
                "the schedule"
            )
        check_dropout(self.condition_dropout, self.num_classes, self.condition_rows)
        check_choice("model.objective", self.objective, ("hybrid", "vlb"))
        if not self.vlb_weight > 0:
            raise ValueError(f"model.vlb_weight={self.vlb_weight}: must be above 0, or the variance learns nothing")

    @classmethod
    def upgraded(cls, items: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the `gain` of an earlier version as a space of latents."""
        return with_space(items)

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of the "source" and of the "text" in a row, where there are any."""
        return rows_of_conditions(self.source_shape, text=self.text)

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The guidance scale, and a text to lead away from."""
        return ("guidance", *(() if self.text is None else NEGATIVE_TEXT))

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network of texts, where it is not trained."""
        return ("text",) if self.text is not None and not self.train_text else ()

    @property
    def condition_dropout(self) -> Rates:
        """The share of rows in training for which each condition is dropped."""
        return Rates(self.label_dropout, self.token_dropout)

    @property
    def guidance_settings(self) -> Mapping[str, Any]:
        """The way in which a guidance scale moves estimates."""
        return {"guidance": self.guidance}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network.

        Raises ValueError where images, labels, sources or the levels of the network do not fit.
        """
        check_images(self, batch)
        check_space(self)
        check_source_shape(self.source_shape, self.image_shape)
        check_empty_text(self.empty_text, self.text)
        check_channels(self.network, self.image_shape, variance=True)
        x, nets = batch["image"], init_text(self, jax.random.fold_in(key, 2), batch)
        network = self.network.init(key, x, jnp.zeros(x.shape[:1]), conditioning_of(self, batch, nets))
        if self.importance:
            network |= {"history": no_losses(self.schedule.steps)}
        return {**nets, "network": network}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the network learns to denoise."""
        trains = ("network", "text") if self.text is not None and self.train_text else ("network",)
        return (Phase(trains, self.loss, name="denoise"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """L_hybrid = L_simple + lambda L_vlb, where L_vlb does not move the mean (Eq. 16); or L_vlb alone.

        L_vlb is in bits per dimension: T times the mean of its terms. The metric `vlb` is its mean over the batch.
        """
        keys = streams(inputs.keys, 4)
        t_keys, epsilon_keys, dropout_keys, condition_keys = keys
        batch, rates = drop_texts(self, inputs.batch, self.condition_dropout, condition_keys)
        x_0 = self.space.encode(batch["image"])
        t, weight = drawn_times(self.schedule.steps, nets["network"].get("history"), t_keys)
        epsilon = normal_rows(epsilon_keys, self.image_shape)
        signal, noise = signal_and_noise(self.schedule, t, x_0.ndim)
        x_t = signal * x_0 + noise * epsilon
        conditioning = drop_conditions(conditioning_of(self, batch, nets, dropout_keys), rates, condition_keys)
        predicted, between = self._predictor(nets, conditioning)(x_t, t)
        hybrid = self.objective == "hybrid"
        table = rows_of(self._table(None), t, x_0.ndim)
        mean_of = jax.lax.stop_gradient(predicted) if hybrid else predicted
        p = backward(table, x_t, x_0_of(table, x_t, mean_of), between)  # not clipped: what is cut off has no gradient
        terms = step_bits(table, x_0, x_t, p, t == 0)
        vlb = self.schedule.steps * terms
        rows = vlb
        if hybrid:
            rows = jnp.mean((epsilon - predicted) ** 2, axis=(1, 2, 3)) + self.vlb_weight * vlb
        loss = jnp.mean(weight * rows)
        stats = {"network": {"history": remembered(nets["network"]["history"], t, rows)}} if self.importance else {}
        return loss, Aux({"vlb": jnp.mean(weight * vlb)}, stats)

    def bits(self, nets: Nets, batch: Batch, key: PRNGKey) -> Float[Array, " b"]:
        """Bounds -log P(x_0) of 8-bit images, in bits per dimension: all terms of L_vlb, with one draw of noise each.

        Raises ValueError for latents: they have no such levels.
        """
        if not self.space.clips:
            raise ValueError(f"model.space={self.space}: these are latents, and bits per dimension are of 8-bit images")
        table, predict = self._table(None), self._predictor_under(nets, batch)
        return bound_bits(table, float(self.schedule.alpha_bar[-1]), predict, batch["image"], key)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        return self.draw_by(nets, key, n, conditions, guided_by_conditions(self, nets, conditions))

    def draw_by(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch, guide: Guiding) -> Image:
        """Draws as `sample` does, with the estimates that `guide` makes: it moves means, and leaves the variances."""
        table, predict = self._table(self.sampling_steps), self._predictor_under(nets, conditions)
        noise_key, step_key = jax.random.split(key)
        count = len(table.t)

        def step(x_t: Image, i: Int[Array, ""]) -> tuple[Image, None]:
            row = rows_of(table, jnp.full(n, i), x_t.ndim)
            predicted, between = predict(x_t, jnp.full(n, table.t[i]))
            own = self._clipped_pixels(constant(x_0_of(row, x_t, predicted)))
            x_0 = guide(own)(x_t / row.signal, (row.noise / row.signal).reshape(-1))
            mean, log_variance = backward(row, x_t, x_0, between)
            z = jax.random.normal(jax.random.fold_in(step_key, i), x_t.shape)
            return mean + (i > 0) * jnp.exp(log_variance / 2) * z, None

        x_T = jax.random.normal(noise_key, (n, *self.image_shape))
        x_0, _ = jax.lax.scan(step, x_T, jnp.arange(count - 1, -1, -1))
        return self.space.decode(x_0, nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of edits: the times of sampling, with the smaller of the two variances."""
        times = timesteps(self.schedule.steps, self.sampling_steps, "linear")
        return Path(DDPMAncestral("small"), of_schedule(self.schedule, times))

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the denoiser, x_0 from the network's noise; guided where `conditions` has "guidance"."""
        guide = guided_by_conditions(self, nets, conditions)
        return guide(self.estimate(nets, conditioning_of(self, conditions, nets)))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions, without guidance."""
        predict = self._predictor(nets, conditioning)
        denoise = from_prediction(lambda x_t, t: predict(x_t, t)[0], Discrete(self.schedule), "epsilon")
        return self._clipped_pixels(denoise)

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide` as `guidance` says."""
        return Guided(self, guide, self.guidance)

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance where there is no label, or training never dropped one."""
        check_guidance(self, conditions)

    def _clipped_pixels(self, denoise: Denoise) -> Denoise:
        """Clips estimates of pixels to [-1, 1]; those of latents stay."""
        return clipped(denoise) if self.space.clips else denoise

    def _predictor_under(self, nets: Nets, conditions: Batch) -> Predictor:
        return self._predictor(nets, conditioning_of(self, conditions, nets))

    def _predictor(self, nets: Nets, conditioning: Conditioning) -> Predictor:
        """Returns the function (x_t, t) -> noise and v of Eq. 15, which is in [0, 1] for outputs in [-1, 1]."""
        variables = {"params": nets["network"]["params"]}

        def predict(x_t: Image, t: Int[Array, " b"]) -> tuple[Image, Image]:
            out = self.network.apply(variables, x_t, t * 1000 / self.schedule.steps, conditioning)
            epsilon, between = jnp.split(out, 2, axis=-1)
            return epsilon, (between + 1) / 2

        return predict

    def _table(self, steps: int | None) -> StepTable:
        """Tables the steps from each of `steps` times (None: all) to the one before; the first leads to the image."""
        return step_table(self.schedule, timesteps(self.schedule.steps, steps, "linear"))
