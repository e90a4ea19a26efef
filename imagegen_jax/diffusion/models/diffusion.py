"""Denoising with every choice open: network, prediction, process, training times, weights; then levels and solver.

The choices that have names:

    DDPM            prediction "epsilon", process Discrete(), times WholeTimes()                (2006.11239)
    progressive     prediction "v", process Cosine(0), times Uniform(), weighting MinSNR(...)    (2202.00512)
    EDM             prediction "F", process EDM(), times LogNormal(): the defaults               (2206.00364)
    flow matching   prediction "velocity", process RectifiedFlow(), times Uniform() or LogitNormal()    (2210.02747)
    OT-CFM          the same with coupling "optimal"                                             (2302.00482)
    EDM2            EDM with LogNormal(-0.4, 1), an EDM2UNet and its uncertainty                 (2312.02696)

Whatever a network was trained on, any solver samples from it, at any levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space, with_space
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.config.bounds import Count, Natural, Positive, Shape, Share
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
from imagegen_jax.diffusion.models.edm_augment import AnyAugmentation
from imagegen_jax.diffusion.process.coupling import optimal_order
from imagegen_jax.diffusion.process.denoiser import Denoise, Predict, c_noise, clipped, from_prediction, preconditioned
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, Kind, broadcast_rows, row
from imagegen_jax.diffusion.process.process import EDM, AnyProcess, at
from imagegen_jax.diffusion.process.times import AnyTimes, LogNormal, check_range, check_times
from imagegen_jax.diffusion.process.weighting import AnyWeighting, Plain
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import AnyLevels, Karras
from imagegen_jax.diffusion.sampling.solver import AnySolver, Path
from imagegen_jax.nn.backbones.conditioning import (
    Conditioning,
    Rates,
    check_token_mask,
    conditioning_of,
    drop_conditions,
    drop_texts,
    init_text,
)
from imagegen_jax.nn.backbones.denoising import AnyNetwork, AnyUncertainty, ToldOfAugmentation, check_channels
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.encoding import AnyTextEncoder


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """A network that is trained to denoise. The defaults are EDM's (Karras et al. 2022, arXiv 2206.00364, Table 1).

    `prediction` "F" has EDM's preconditioning around the network; with any other the network sees x_t and t *
    `time_scale`. Beside labels it may see the "source" and the "tokens" of the batch; tokens are seen by
    cross-attention, those for which "token_mask", if there is one, is True. With `text`, a second network makes them of
    the batch's "text", and is trained with the first. With a dropout above 0 the network also
    learns to do without labels, tokens or sources, with `empty_text` in the place of a text. Samples can then be
    guided, as `guidance` says, away from what the network makes without these; the scale is the scalar
    `conditions["guidance"]`, and 1 is no guidance (classifier-free, Ho & Salimans 2022, 2207.12598).
    Noise is added to what `space` makes of data, and `levels` and guidance refer to that. Samples are like the data:
    latents where these are latents. Raises ValueError for choices that do not go together.
    """

    network: AnyNetwork = UNet()
    prediction: Kind = "F"
    process: AnyProcess = EDM()
    times: AnyTimes = LogNormal()
    weighting: AnyWeighting = Plain()
    coupling: Literal["independent", "optimal"] = "independent"  # which noise goes with which image of a class
    levels: AnyLevels = Karras(18)
    solver: AnySolver = Heun()
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    source_shape: Shape | None = None  # of source images, at most as large as the images; None: there are none
    label_dropout: Share = 0.0  # share of images whose label is dropped
    guidance: AnyGuidance = ClassifierFree()  # what a guidance scale does, where one is given
    time_scale: Positive = 1.0  # of t, before the network sees it; 1000 where t is in [0, 1]
    sigma_data: Positive = SIGMA_DATA  # deviation of the data that "F" assumes
    clip: bool = False  # whether estimates of x_0 are kept in [-1, 1] while sampling
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled
    augment: AnyAugmentation | None = None  # of training images; the network, such as a SongUNet, is told of it
    uncertainty: AnyUncertainty | None = None  # u(sigma), a second network: the loss becomes loss / exp(u) + u
    token_shape: tuple[Count, Count] | None = None  # how many tokens there are, and how many values each; None: none
    token_dropout: Share = 0.0  # share of images whose tokens are dropped
    source_dropout: Share = 0.0  # share of images whose source is dropped
    text: AnyTextEncoder | None = None  # makes tokens of texts; None: of images without texts
    train_text: bool = True  # whether it is trained; else it is frozen, as `Experiment.pretrained` gives it
    empty_text: EmptyText | None = None  # what a dropped text becomes; None: none of its tokens is seen
    unused_variance: bool = False  # whether the network puts out a variance too, in as many channels, as in DiT

    def __post_init__(self) -> None:
        check_times(self.process, self.times)
        check_dropout(self.condition_dropout, self.num_classes, self.condition_rows)
        check_choice("model.coupling", self.coupling, ("independent", "optimal"))
        if self.augment is not None and not isinstance(self.network, ToldOfAugmentation):
            raise ValueError(
                f"model.augment={self.augment}, but a {type(self.network).__name__} cannot be told how images were "
                "augmented, and would draw augmented ones: use a SongUNet, or set augment to None"
            )
        if self.augment is not None and self.source_shape is not None:
            raise ValueError(
                f"model.augment={self.augment}, model.source_shape={self.source_shape}: the source would stay as it "
                "was while its image is moved; set augment to None, and use the experiment's, which changes both"
            )

    @classmethod
    def upgraded(cls, items: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the `gain` of an earlier version as a space of latents, whose estimates are not clipped."""
        found = with_space(items)
        return found if isinstance(found.get("space", Pixels()), Pixels) else found | {"clip": False}

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of the "source", of the "tokens" and of the "text" in a row, where there are any."""
        return rows_of_conditions(self.source_shape, self.token_shape, self.text)

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The guidance scale, the mask of the tokens that are seen, and a text to lead away from."""
        tokens = () if self.token_shape is None else ("token_mask",)
        return ("guidance", *tokens, *(() if self.text is None else NEGATIVE_TEXT))

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network of texts, where it is not trained."""
        return ("text",) if self.text is not None and not self.train_text else ()

    @property
    def condition_dropout(self) -> Rates:
        """The share of rows in training for which each condition is dropped."""
        return Rates(self.label_dropout, self.token_dropout, self.source_dropout)

    @property
    def guidance_settings(self) -> Mapping[str, Any]:
        """The way in which a guidance scale moves estimates."""
        return {"guidance": self.guidance}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks.

        Raises ValueError where images, labels, sources or the levels of the network do not fit.
        """
        check_images(self, batch)
        check_space(self)
        check_source_shape(self.source_shape, self.image_shape)
        check_empty_text(self.empty_text, self.text)
        check_channels(self.network, self.image_shape, self.unused_variance)
        check_range(self.process, self.times)
        self._check_together()
        x, t = batch["image"], jnp.zeros(batch["image"].shape[:1])
        nets = init_text(self, jax.random.fold_in(key, 2), batch)
        conditioning = conditioning_of(self, batch, nets)
        if self.augment is not None:
            conditioning = conditioning._replace(augment_labels=jnp.zeros((len(x), self.augment.labels)))
        nets["network"] = self.network.init(key, x, t, conditioning)
        if self.uncertainty is not None:
            nets["uncertainty"] = self.uncertainty.init(jax.random.fold_in(key, 1), t)
        return nets

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the network learns to denoise."""
        also = {"uncertainty": self.uncertainty is not None, "text": self.text is not None and self.train_text}
        trains = ("network", *(name for name, trained in also.items() if trained))
        return (Phase(trains, self.loss, name="denoise"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[w(t) |prediction - target|^2] at x_t = alpha x_0 + sigma epsilon, the mean over pixels and rows.

        With an uncertainty u, E[w(t) / exp(u) |prediction - target|^2 + u]   (EDM2, Eq. 14 and 21).
        """
        keys = streams(inputs.keys, 5)
        t_keys, epsilon_keys, condition_keys, dropout_keys, augment_keys = keys
        batch, rates = drop_texts(self, inputs.batch, self.condition_dropout, condition_keys)
        x_0, conditioning = batch["image"], conditioning_of(self, batch, nets, dropout_keys)
        conditioning = drop_conditions(conditioning, rates, condition_keys)
        if self.augment is not None:
            x_0, augment_labels = self.augment(x_0, augment_keys)
            conditioning = conditioning._replace(augment_labels=augment_labels)
        x_0 = self.space.encode(x_0)
        t = self.times(t_keys)
        epsilon = normal_rows(epsilon_keys, self.image_shape)
        if self.coupling == "optimal":
            label = batch["label"] if self.num_classes else jnp.zeros(len(x_0), jnp.int32)
            epsilon = epsilon[optimal_order(x_0, epsilon, label)]
        point = at(self.process, t)
        x_t = broadcast_rows(point.alpha, x_0) * x_0 + broadcast_rows(point.sigma, x_0) * epsilon
        of_x_0, of_epsilon, divisor = (broadcast_rows(c, x_0) for c in row(self.prediction, point, self.sigma_data))
        target = (of_x_0 * x_0 + of_epsilon * epsilon) / divisor
        predicted = self._predict(nets, conditioning)(x_t, t)
        error = jnp.mean((predicted - target) ** 2, axis=(1, 2, 3))
        rows = self.weighting(self.prediction, point, self.sigma_data) * error
        if self.uncertainty is None:
            loss = jnp.mean(rows)
            return loss, Aux({})
        u = self.uncertainty.apply(nets["uncertainty"], c_noise(point.sigma / point.alpha))
        loss = jnp.mean(rows / jnp.exp(u) + u)
        return loss, Aux({"error": jnp.mean(rows)})

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance where training never dropped a condition, and for a mask that does not fit."""
        check_guidance(self, conditions)
        check_token_mask(conditions)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        return self.space.decode(self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key), nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of sampling."""
        return Path(self.solver, self.levels())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the denoiser of the network, guided where `conditions` has "guidance"."""
        guide = guided_by_conditions(self, nets, conditions)
        return guide(self.estimate(nets, conditioning_of(self, conditions, nets)))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions, without guidance."""
        predict = self._predict(nets, conditioning)
        denoise = from_prediction(predict, self.process, self.prediction, sigma_data=self.sigma_data)
        return clipped(denoise) if self.clip else denoise

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide` as `guidance` says."""
        return Guided(self, guide, self.guidance)

    def _predict(self, nets: Nets, conditioning: Conditioning) -> Predict:
        """Returns the function (x_t, t) -> the prediction of the network under these conditions."""

        def network(x: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b h w c"]:
            out = self.network.apply(nets["network"], x, t * self.time_scale, conditioning)
            return out[..., : x.shape[-1]]

        if self.prediction != "F":
            return network
        inner = preconditioned(network, self.sigma_data)

        def predict(x_t: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b h w c"]:
            alpha = self.process.alpha(t)
            return inner(x_t / broadcast_rows(alpha, x_t), self.process.sigma(t) / alpha)

        return predict

    def _check_together(self) -> None:
        """Raises ValueError for fields that exclude each other. For `init`: either may be set before the other."""
        if self.coupling == "optimal" and self.condition_rows:
            raise ValueError(
                f"model.coupling='optimal', model.source_shape={self.source_shape}, model.token_shape="
                f"{self.token_shape}: with a source, tokens or a text of its own for each image, noise chosen by image "
                "would not be normal given these; use 'independent'"
            )
        if self.text is not None and self.token_shape is not None:
            raise ValueError(
                f"model.token_shape={self.token_shape}, but model.text makes the tokens: set one of the two to None"
            )
        if self.clip and not self.space.clips:
            raise ValueError(
                f"model.clip=True, model.space={self.space}: latents have no range to be kept in; set clip to False"
            )
