"""Progressive distillation (Salimans & Ho 2022, arXiv 2202.00512): each student needs half the steps of its teacher.

A student learns to reach in one step of DDIM what its teacher reaches in two; then it becomes the teacher itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import integer_rows, normal_rows, streams
from imagegen_jax.core.arrays.space import Space
from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.model import Aux, Batch, Entry, Image, Inputs, Model, Nets, Phase, PRNGKey, Scalar
from imagegen_jax.core.optim import Adam, AnyOptimizer, Clock, LinearDecay, Projection
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.teacher import with_teacher
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.process.variance_preserving import Cosine
from imagegen_jax.diffusion.sampling.levels import Levels, Spaced
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.diffusion.sampling.solver import Path, Samples
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule


@dataclasses.dataclass(frozen=True)
class Progressive:
    """Halves the steps of a trained `Diffusion`, again and again (Algorithm 2); the defaults are the authors'.

    `diffusion` says how the first teacher was trained and is sampled: at its levels, by Euler's steps, which are DDIM.
    Each student has every second level of its teacher. The weights that "network" starts from, given by
    `Experiment.pretrained`, become the first "teacher", which need not be given as well. The network's collection
    "progress" holds the number of steps that it was last trained for, and `sample` takes that many.

    As in the authors' code, the weights themselves become the next teacher, not an average of them: let the learning
    rate fall to 0 in each stage (`PerStage`). There is no dropout. Raises ValueError for choices that do not go
    together.
    """

    diffusion: Diffusion = Diffusion(
        prediction="v",
        process=Cosine(0.0),
        times=Uniform(),
        levels=Spaced(CosineSchedule(8192, offset=0.0), None),  # equal times of `Cosine(0.0)`
        solver=Euler(),
        time_scale=1000.0,
    )
    halvings: Natural = 13  # of the teacher's steps: the last student has steps / 2^halvings, here 1
    halve_every: Count = 50_000  # steps of training

    def __post_init__(self) -> None:
        if not isinstance(self.diffusion.solver, Euler):
            raise ValueError(
                f"model.diffusion.solver is a {type(self.diffusion.solver).__name__}: what is distilled are steps of "
                "DDIM, so make it Euler()"
            )
        if self.halvings < 1 or self.halve_every < 1:
            raise ValueError(
                f"model.halvings={self.halvings}, model.halve_every={self.halve_every}: both must be at least 1"
            )
        steps = len(self.diffusion.levels()) - 1
        if steps % 2**self.halvings:
            raise ValueError(
                f"model.halvings={self.halvings}, but the {steps} steps of model.diffusion.levels cannot be halved so "
                f"often: make them a multiple of {2**self.halvings}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of images."""
        return self.diffusion.image_shape

    @property
    def space(self) -> Space:
        """The space that the teacher denoises in."""
        return self.diffusion.space

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 for none."""
        return self.diffusion.num_classes

    @property
    def condition_rows(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The conditions that the teacher makes images from."""
        return self.diffusion.condition_rows

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The teacher's optional conditions, without guidance, which students do not learn."""
        return tuple(name for name in self.diffusion.optional_conditions if name != "guidance")

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> Progressive:
        """Returns the model with a diffusion of images of that shape and so many classes."""
        diffusion = dataclasses.replace(self.diffusion, image_shape=image_shape, num_classes=num_classes)
        return dataclasses.replace(self, diffusion=diffusion)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images, labels or the levels of the network do not fit."""
        network = self.diffusion.init(key, batch)["network"]
        steps = jnp.int32(len(self.diffusion.levels()) - 1)
        return {**with_teacher(network), "network": {**network, "progress": {"steps": steps}}}

    def stage(self, step: int) -> int:
        """Returns how often the steps of the first teacher have been halved for the present student."""
        return min(step // self.halve_every + 1, self.halvings)

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """Makes the student the teacher, and lets its weights go on as the next student."""
        network = {collection: nets["network"][collection] for collection in nets["teacher"]}
        student = {**network, "progress": {"steps": jnp.int32(len(self.levels(stage)) - 1)}}
        return Entry({**with_teacher(network), "network": student}, ("network",), ("network",))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the student learns its teacher's steps."""
        return (Phase(trains=("network",), loss=functools.partial(self.loss, stage), name="distil"),)

    def levels(self, stage: Hashable) -> Levels:
        """Returns the noise levels of a stage's student; stage 0 is the first teacher."""
        assert isinstance(stage, int)
        return self.diffusion.levels()[:: 2**stage]

    def loss(self, stage: Hashable, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[max(SNR, 1) |x_hat - x~|^2], where two steps of the teacher aim at x~   (Algorithm 2, section 4)

        SNR = 1 / s^2 at the noise level s = sigma / alpha, drawn evenly from the student's levels.
        """
        assert isinstance(stage, int)
        x_0 = self.space.encode(inputs.batch["image"])
        step_keys, epsilon_keys = streams(inputs.keys, 2)
        levels = jnp.asarray(self.levels(stage - 1), jnp.float32)
        steps = len(levels) // 2
        i = integer_rows(step_keys, steps)
        now, middle, then = (levels[2 * i + place] for place in range(3))
        epsilon = normal_rows(epsilon_keys, self.image_shape)
        x = x_0 + broadcast_rows(now, x_0) * epsilon
        whole = dataclasses.replace(self.diffusion, clip=False)  # what is cut off would have no gradient
        teacher, student = (whole.denoiser({"network": nets[name]}, inputs.batch) for name in ("teacher", "network"))
        aim = jax.lax.stop_gradient(aim_of_two(teacher, x, now, middle, then))
        error = jnp.mean((student(x, now) - aim) ** 2, axis=(1, 2, 3))
        loss = jnp.mean(jnp.maximum(now**-2, 1) * error)
        return loss, Aux({"steps": jnp.float32(steps)})

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance, which students do not learn."""
        if "guidance" in conditions:
            raise ValueError(
                f"guidance={conditions['guidance']}: students learn their teacher's steps with labels alone, so leave "
                "it out, or sample from the teacher's run"
            )

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        It takes as many steps as the network was last trained for. That number is data: one compilation serves all
        stages. Raises ValueError where the label is missing, and for guidance.
        """
        denoise = self.denoiser(nets, conditions)
        sigmas = self.diffusion.levels()
        levels, steps = jnp.asarray(sigmas, jnp.float32), nets["network"]["progress"]["steps"]
        stride = (len(levels) - 1) // steps

        def step(i: Int[Array, ""], x: Image) -> Image:
            now, then = levels[i * stride], levels[(i + 1) * stride]
            return then / now * x + (1 - then / now) * denoise(x, jnp.full(n, now))

        x = jax.random.normal(key, (n, *self.image_shape)) * (1 + sigmas[0] ** 2) ** 0.5
        return self.space.decode(jax.lax.fori_loop(0, steps, step, x), nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of the last student."""
        return Path(Euler(), self.levels(self.halvings))

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the student's denoiser. Raises ValueError where the label is missing, and for guidance."""
        self.check_conditions(conditions)
        return self.diffusion.denoiser({"network": nets["network"]}, conditions)

    def guided_by(self, guide: Model) -> Guided:
        """Returns the student, led by `guide`."""
        return Guided(self, guide)


def aim_of_two(
    denoise: Denoise, x: Samples, now: Float[Array, " b"], middle: Float[Array, " b"], then: Float[Array, " b"]
) -> Samples:
    """Returns the estimate of x_0 with which one step of DDIM arrives where `denoise` arrives in two.

    The one step goes from `now` to `then`, the two by way of `middle`. With x = x_t / alpha, a step is
    x' = (s' / s) x + (1 - s' / s) x_0. Two of them, solved for the x_0 of one, give x~ of Algorithm 2: a mean of both
    estimates, in which x cancels, so that no digits are lost where s is large.
    """
    a, b = broadcast_rows(middle / now, x), broadcast_rows(then / middle, x)
    first = denoise(x, now)
    second = denoise(a * x + (1 - a) * first, middle)
    return (b * (1 - a) * first + (1 - b) * second) / (1 - a * b)


@dataclasses.dataclass(frozen=True)
class PerStage:
    """An optimizer whose schedules run from their start to their end in each stage of `steps` training steps.

    The defaults are the authors' for CIFAR-10: the rate falls to 0. Raises ValueError for stages without steps.
    """

    optimizer: AnyOptimizer = Adam(LinearDecay(5e-5))
    steps: Count = 50_000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"PerStage.steps={self.steps}: a stage has at least 1, as many as model.halve_every")

    @property
    def project(self) -> tuple[Projection, ...]:
        """The projections of the optimizer."""
        return self.optimizer.project

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        """Returns the optimizer's transformation, with its clock set to the time within the stage."""
        return self.optimizer.transform(Clock(clock.step % self.steps, jnp.int32(self.steps)), lazy)
