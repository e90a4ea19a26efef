"""The guidances that models have as a field: what they are in a denoiser, in samples, and of two runs."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counted

from imagegen_jax.core.arrays.space import Latents, Pixels
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.guidance.fields import (
    CFGZeroStar,
    ClassifierFree,
    GuidanceInterval,
    Projected,
    Rescaled,
    Thresholded,
)
from imagegen_jax.diffusion.guidance.functions import (
    cfg_zero_star,
    classifier,
    classifier_free,
    interval,
    projected,
    rescaled,
    thresholded,
)
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY, SHAPE, LABELS = jax.random.key(0), (4, 4, 1), jnp.array([0, 1, 2])
SIGMA = jnp.array([0.1, 0.5, 4.0])
X = jax.random.normal(KEY, (3, *SHAPE)) * SIGMA.reshape(-1, 1, 1, 1)
PLAIN = ClassifierFree()
BY_HAND = {
    PLAIN: classifier_free,
    CFGZeroStar(2.0): functools.partial(cfg_zero_star, still_above=2.0),
    Projected(0.2, 1.5): functools.partial(projected, along=0.2, radius=1.5),
    GuidanceInterval(0.2, 1.0): lambda c, u, scale: classifier_free(c, u, interval(scale, 0.2, 1.0)),
    Rescaled(0.6, "epsilon"): lambda c, u, s: rescaled(classifier_free(c, u, s), c, 0.6, "epsilon"),
    Thresholded(0.9, 1.5): lambda c, u, scale: thresholded(classifier_free(c, u, scale), 0.9, 1.5),
    Thresholded(of=Rescaled(of=GuidanceInterval(0.2, 1.0, Projected()))): lambda c, u, scale: thresholded(
        rescaled(projected(c, u, interval(scale, 0.2, 1.0)), c)
    ),
}
every = pytest.mark.parametrize("guidance", BY_HAND, ids=str)


@dataclasses.dataclass(frozen=True)
class Network:
    """Waves that the label moves; without one they are others. With a `shift` it is a weaker twin."""

    shift: float = 0.0
    copies: int = 1

    def init(self, *inputs):
        return {"params": {"shift": jnp.float32(self.shift)}}

    def apply(self, variables, x, t, conditioning):
        moved = (conditioning.labels @ jnp.array([0.5, -1.0, 2.0])).reshape(-1, 1, 1, 1)
        waves = jnp.sin(2 * x + moved + jnp.arange(4.0).reshape(4, 1)) + moved + variables["params"]["shift"]
        return jnp.concatenate([waves] * self.copies, axis=-1)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Classes by the mean of the pixels."""

    num_classes: int = 3

    def init(self, *inputs):
        return {}

    def apply(self, variables, x, t, keys=None):
        return -((x.mean(axis=(1, 2, 3))[:, None] - jnp.arange(3.0)) ** 2)


def diffusion(guidance=PLAIN, shift=0.0):
    return Diffusion(
        Network(shift),
        levels=Karras(4, 0.1, 5.0),
        image_shape=SHAPE,
        num_classes=3,
        label_dropout=0.1,
        guidance=guidance,
    )


PIXELS = Pixels()


@dataclasses.dataclass(frozen=True)
class Improved(ImprovedDDPM):
    """Of a network that is no ADM."""

    def __post_init__(self):
        pass


def improved(guidance=PLAIN, space=PIXELS):
    schedule = LinearSchedule(20, 0.01, 0.3)
    known = {"num_classes": 3, "label_dropout": 0.1, "guidance": guidance, "space": space}
    return Improved(Network(copies=2), schedule, SHAPE, **known)


def nets_of(model):
    return model.init(KEY, {"image": X, "label": LABELS})


def estimate(model, x=X, sigma=SIGMA, **conditions):
    return model.denoiser(nets_of(model), {"label": LABELS, **conditions})(x, sigma)


def same(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@every
def test_a_models_denoiser_is_guided_as_its_field_says(guidance):
    """In units of what is denoised, whatever the data are."""
    for make in (diffusion, functools.partial(improved, space=Latents(2.0, 1.0))):
        plain = make()
        known = [functools.partial(estimate, plain, guidance=s) for s in (1.0, 0.0)]
        expected = BY_HAND[guidance](*known, 3.0)
        found = estimate(make(guidance), guidance=3.0)
        same(found, expected(X, SIGMA))
        same(estimate(make(guidance)), estimate(plain), 0)
        assert guidance == PLAIN or float(jnp.abs(found - estimate(plain, guidance=3.0)).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [PLAIN, CFGZeroStar(2.0), list(BY_HAND)[-1]], ids=str)
def test_one_program_serves_all_scales_labels_and_seeds(guidance):
    model = diffusion(guidance)
    nets = nets_of(model)
    draw, traces = counted(lambda key, conditions: model.sample(nets, key, 3, conditions))
    seen = [
        draw(jax.random.key(seed), {"label": labels, "guidance": np.float32(scale)})
        for seed, scale, labels in ((0, 1.0, LABELS), (0, 3.0, LABELS), (1, 3.0, LABELS), (1, 3.0, LABELS[::-1]))
    ]
    assert len(traces) == 1
    for before, after in zip(seen, seen[1:], strict=False):
        assert float(jnp.abs(before - after).max()) > 1e-3


def test_estimates_are_guided_before_they_are_clipped():
    free = estimate(diffusion(), guidance=3.0)
    assert float(jnp.abs(free).max()) > 1.5
    same(estimate(dataclasses.replace(diffusion(), clip=True), guidance=3.0), jnp.clip(free, -1, 1))


def test_an_interval_may_be_anywhere_among_the_others():
    for change in (CFGZeroStar, Projected, Rescaled, Thresholded):
        inside, outside = change(), GuidanceInterval(0.2, 1.0, change())
        if dataclasses.fields(change)[-1].name == "of":
            same(
                estimate(diffusion(outside), guidance=3.0),
                estimate(diffusion(change(of=GuidanceInterval(0.2, 1.0))), guidance=3.0),
            )
        found = estimate(diffusion(outside), guidance=3.0)
        same(found[1], estimate(diffusion(inside), guidance=3.0)[1])
        same(found[::2], estimate(diffusion(inside), guidance=1.0)[::2])


@pytest.mark.slow
@pytest.mark.parametrize("space", [PIXELS, Latents(2.0, 1.0)], ids=str)
def test_improved_ddpm_draws_by_its_guidance(space):
    """Its own steps guide the noise, by way of the image and back: a single step gives what its denoiser does.

    Estimates of pixels are guided before they are clipped.
    """
    models = [dataclasses.replace(improved(guidance, space), sampling_steps=1) for guidance in BY_HAND]
    nets, conditions = nets_of(models[0]), {"label": LABELS, "guidance": 3.0}
    sigma = float(models[0].path.sigmas[0])
    x_T = jax.random.normal(jax.random.split(KEY)[0], (3, *SHAPE))
    x = x_T * (sigma**2 + 1) ** 0.5  # over alpha

    @jit
    def both():
        drawn = [model.sample(nets, KEY, 3, conditions) for model in models]
        return drawn, [model.denoiser(nets, conditions)(x, jnp.full(3, sigma)) for model in models]

    drawn, estimates = map(jnp.stack, both())
    same(drawn, space.decode(estimates, {}), 1e-4)
    assert len(np.unique(np.round(drawn, 3), axis=0)) >= 5


@pytest.mark.slow
def test_two_models_are_guided_by_it():
    """Outside of an interval a model is alone, whatever guides it; inside it is what it is without."""
    model, twin = diffusion(), diffusion(shift=0.5)
    alone = estimate(model)
    for guide in (twin, NoisyClassifier(Classifier(), image_shape=SHAPE)):
        everywhere = estimate(Guided(model, guide), guidance=2.0)
        within = estimate(Guided(model, guide, GuidanceInterval(0.2, 1.0)), guidance=2.0)
        same(within[::2], alone[::2])
        same(within[1], everywhere[1])
        assert float(jnp.abs(within[1] - alone[1]).max()) > 1e-3
        across = estimate(Guided(model, guide, Projected()), guidance=2.0) - alone
        same(jnp.sum(across * alone, axis=(1, 2, 3)), 0, 1e-4)
    led = Guided(model, guide)
    log_prob = guide.log_probability({"network": {}}, LABELS)
    same(
        estimate(led, guidance=2.0),
        classifier(model.denoiser(nets_of(model), {"label": LABELS}), log_prob, 2.0)(X, SIGMA),
    )


def test_estimates_are_made_once():
    asked = []

    def denoise(x, sigma):
        asked.append(None)
        return x

    Rescaled(of=Thresholded(of=GuidanceInterval()))(denoise, lambda x, sigma: 0 * x, 2.0)(X, SIGMA)
    assert len(asked) == 1


def test_guidances_are_options_and_are_stored():
    model = diffusion()
    nested = Rescaled(0.5, of=GuidanceInterval(0.3, of=Projected(radius=2.0)))
    words = "--guidance rescaled --guidance.share 0.5 --guidance.of interval --guidance.of.low 0.3"
    words += " --guidance.of.of projected --guidance.of.of.radius 2"
    assert parse_overrides(model, words.split(), "sample").guidance == nested
    within = GuidanceInterval(of=Projected())
    assert override(model, {"guidance": GuidanceInterval(), "guidance.of": Projected()}).guidance == within
    assert from_dict(to_dict(nested)) == nested
    assert from_dict({"class": "imagegen_jax.diffusion.guidances:Interval", "low": 0.3}) == GuidanceInterval(0.3)
    with pytest.raises(SystemExit, match="it can be ClassifierFree, CFGZeroStar, Projected, GuidanceInterval"):
        parse_overrides(model, ["--guidance", "plain"], "sample")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GuidanceInterval(2.0, 1.0), "guidance.low=2.0, guidance.high=1.0: must obey 0 <= low < high"),
        (lambda: GuidanceInterval(-1.0, 1.0), "guidance.low=-1.0"),
        (lambda: Rescaled(1.5), "guidance.share=1.5: must be from 0 to 1"),
        (lambda: Projected(radius=0.0), "guidance.radius=0.0"),
        (lambda: Projected(float("nan")), "along must be finite"),
        (lambda: CFGZeroStar(0.0), "guidance.still_above=0.0: must be above 0"),
        (lambda: Thresholded(1.5), "guidance.percentile=1.5"),
        (lambda: Thresholded(most=0.5), "guidance.most=0.5"),
    ],
)
def test_what_is_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
