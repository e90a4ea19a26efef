"""`Diffusion`: every prediction in every process has one target, one optimum and one way to samples; weights; times."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from programs import counted

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.coupling import optimal_order
from imagegen_jax.diffusion.process.prediction import broadcast_rows, convert
from imagegen_jax.diffusion.process.process import EDM, Point, RectifiedFlow, VarianceExploding, at
from imagegen_jax.diffusion.process.times import LogitNormal, LogNormal, Uniform, WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import (
    Cosine,
    Discrete,
    Gamma,
    GammaLine,
    SubVP,
    VariancePreserving,
)
from imagegen_jax.diffusion.process.weighting import P2, MinSNR, Plain
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras, Spaced
from imagegen_jax.nn.backbones.conditioning import Conditioning, Rates, drop_conditions
from imagegen_jax.nn.backbones.unet import UNet

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
IMAGE = jnp.array([[0.1, -0.9], [0.5, 0.3]])[..., None]


@dataclasses.dataclass(frozen=True)
class Knows:
    """A network that knows the one image that there is, and says so in the words that it is asked for."""

    kind: str
    process: object

    def init(self, key, x, t, labels):
        return {"params": {}}

    def apply(self, variables, x, t, conditioning):
        if self.kind == "F":
            sigma = jnp.exp(4 * t)  # t is c_noise, and x is c_in x
            return convert(IMAGE + 0 * x, x * broadcast_rows(jnp.sqrt(sigma**2 + 0.25), x), sigma, EDM(), "x0", "F")
        return convert(IMAGE + 0 * x, x, t, self.process, "x0", self.kind)


def inputs(batch, rows):
    return Inputs(batch, KEY, jax.random.split(KEY, rows), jnp.int32(0), {})


PROCESSES = [
    (EDM(), LogNormal()),
    (VarianceExploding(), Uniform()),
    (RectifiedFlow(), LogitNormal()),
    (VariancePreserving(), Uniform(1e-3)),
    (SubVP(), Uniform(1e-3)),
    (Cosine(), Uniform(1e-3, 0.99)),
    (Gamma(GammaLine(-9.0, 6.0)), Uniform(1e-3)),
    (Discrete(), WholeTimes()),
]


@pytest.mark.parametrize("kind", ["x0", "epsilon", "v", "score", "velocity", "F"])
@pytest.mark.parametrize(("process", "times"), PROCESSES, ids=lambda value: type(value).__name__)
def test_whoever_knows_the_image_has_no_loss_and_draws_it(kind, process, times):
    """So the target of the loss is what the sampler takes the network's words for."""
    knows = Knows(kind, process)
    levels = Spaced(steps=8) if isinstance(process, Discrete) else Karras(6, 0.05, 2.0)  # whole times of a schedule
    model = Diffusion(knows, kind, process, times, levels=levels, solver=DPMSolver(2), image_shape=SHAPE)
    loss, _ = model.loss({"network": {}}, inputs({"image": jnp.broadcast_to(IMAGE, (64, *SHAPE))}, 64))
    scale = float(jnp.mean(at(process, times(jax.random.split(KEY, 64))).sigma ** -2)) if kind == "score" else 1.0
    assert 0 <= loss < 1e-5 * scale
    drawn = model.sample({"network": {}}, KEY, 3, {})
    np.testing.assert_allclose(drawn, jnp.broadcast_to(IMAGE, drawn.shape), atol=1e-4)


@pytest.mark.slow
def test_a_network_that_says_nothing_pays_for_the_target():
    """E|epsilon|^2 = 1; for F, E|x_0 - c_skip x|^2 / c_out^2 of an image with the deviation that EDM assumes is 1."""
    rows = 20_000
    image = 0.5 * jax.random.normal(jax.random.key(5), (rows, *SHAPE))
    for kind, process, times in [("epsilon", Discrete(), WholeTimes()), ("F", EDM(), LogNormal())]:
        model = Diffusion(Silent(), kind, process, times, image_shape=SHAPE)
        loss, _ = model.loss({"network": {}}, inputs({"image": image}, rows))
        assert float(loss) == pytest.approx(1, abs=0.02)


@dataclasses.dataclass(frozen=True)
class Silent:
    def apply(self, variables, x, t, conditioning):
        return jnp.zeros_like(x)


@dataclasses.dataclass(frozen=True)
class Tells:
    """A network that says what it is told of the time."""

    def apply(self, variables, x, t, conditioning):
        return jnp.zeros_like(x) + t.reshape(-1, 1, 1, 1)


POINT = Point(jnp.array([0.8, 0.6, 0.3]), jnp.array([0.6, 0.8, jnp.sqrt(0.91)]), 0.0, 0.0)
SNR = np.array([0.8, 0.6, 0.3]) ** 2 / np.array([0.36, 0.64, 0.91])


@pytest.mark.parametrize(
    ("weighting", "kind", "expected"),
    [
        (Plain(), "epsilon", np.ones(3)),
        (Plain("epsilon"), "x0", SNR),
        (Plain("x0"), "v", 1 / (SNR + 1)),
        (MinSNR(1.0), "x0", np.minimum(SNR, 1)),
        (MinSNR(1.0), "epsilon", np.minimum(SNR, 1) / SNR),
        (MinSNR(1.0), "v", np.minimum(SNR, 1) / (SNR + 1)),
        (P2(), "epsilon", 1 / (1 + SNR)),
        (P2(2.0, 0.5), "x0", SNR / np.sqrt(2 + SNR)),
    ],
)
def test_weights_are_the_papers(weighting, kind, expected):
    np.testing.assert_allclose(weighting(kind, POINT) * np.ones(3), expected, rtol=1e-5)


def test_the_weight_of_edm():
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 for the error of x_0 (Table 1)."""
    sigma = jnp.array([0.01, 0.5, 3.0])
    point = Point(jnp.ones(3), sigma, 0.0, 0.0)
    expected = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    np.testing.assert_allclose(Plain("F")("x0", point), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("times", "distribution"),
    [
        (Uniform(0.25, 2.0), scipy.stats.uniform(0.25, 1.75)),
        (LogNormal(-1.2, 1.2), scipy.stats.lognorm(1.2, scale=np.exp(-1.2))),
    ],
)
def test_times_have_their_distribution(times, distribution):
    assert scipy.stats.kstest(times(jax.random.split(KEY, 4_000)), distribution.cdf).pvalue > 0.01


def test_logits_of_logit_normal_times_are_normal():
    t = np.asarray(LogitNormal(0.5, 2.0)(jax.random.split(KEY, 4_000)), np.float64)
    assert scipy.stats.kstest(np.log(t / (1 - t)), scipy.stats.norm(0.5, 2.0).cdf).pvalue > 0.01


@pytest.mark.slow
def test_whole_times_are_all_of_the_schedules():
    t = WholeTimes(7)(jax.random.split(KEY, 7_000))
    assert t.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(t, minlength=7), 1_000, atol=120)


@pytest.fixture(scope="module")
def conditional():
    network = UNet(width=8, multipliers=(1,), blocks=1, attention_at=())
    model = Diffusion(network, levels=Karras(2), image_shape=(4, 4, 1), num_classes=3, label_dropout=0.25)
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": jnp.zeros((1, 4, 4, 1)), "label": jnp.zeros(1, jnp.int32)})
    leaves, tree = jax.tree.flatten(nets)  # the last layer starts at 0, which would hide all else
    keys = jax.random.split(KEY, len(leaves))
    return model, jax.tree.unflatten(
        tree, [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    )


@pytest.mark.slow
def test_a_quarter_of_the_labels_is_left_out():
    labels = Conditioning(jax.nn.one_hot(jnp.zeros(4_000, int), 3))
    rows = drop_conditions(labels, Rates(0.25), jax.random.split(KEY, 4_000)).labels
    assert set(np.unique(rows.sum(axis=1))) == {0, 1}
    assert float(rows.mean(axis=0)[0]) == pytest.approx(0.75, abs=0.03)


@pytest.mark.slow
def test_guidance_of_1_is_the_class_and_of_0_no_class(conditional):
    model, nets = conditional
    x, sigma = jax.random.normal(KEY, (2, 4, 4, 1)), jnp.array([0.3, 2.0])
    label = jnp.array([1, 2])
    plain = model.denoiser(nets, {"label": label})(x, sigma)
    free = model.estimate(nets, Conditioning(jnp.zeros((2, 3))))(x, sigma)
    assert float(jnp.abs(plain - free).max()) > 1e-3
    for guidance, expected in ((1.0, plain), (0.0, free), (3.0, free + 3 * (plain - free))):
        found = model.denoiser(nets, {"label": label, "guidance": guidance})(x, sigma)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_another_guidance_is_the_same_program(conditional):
    model, nets = conditional
    sample, traces = counted(lambda scale, label: model.sample(nets, KEY, 2, {"label": label, "guidance": scale}))
    first = sample(jnp.float32(1), jnp.array([0, 1]))
    assert not np.array_equal(first, sample(jnp.float32(4), jnp.array([2, 1])))
    assert len(traces) == 1


@pytest.mark.slow
def test_optimal_pairs_are_scipys():
    image, noise = jax.random.normal(KEY, (2, 16, *SHAPE))
    cost = np.sum((np.asarray(image)[:, None] - np.asarray(noise)) ** 2, axis=(2, 3, 4))
    one = jnp.zeros(16, jnp.int32)
    np.testing.assert_array_equal(optimal_order(image, noise, one), scipy.optimize.linear_sum_assignment(cost)[1])


@pytest.mark.slow
def test_noise_stays_in_its_class_and_is_paired_best_there():
    """So it is as normal given the class as what samples begin with, though the classes lie apart."""
    label = jnp.arange(16) % 2
    noise = jax.random.normal(KEY, (16, *SHAPE))
    image = 5.0 * (2 * label - 1).reshape(-1, 1, 1, 1) + jax.random.normal(jax.random.key(1), noise.shape)
    order = np.asarray(optimal_order(image, noise, label))
    np.testing.assert_array_equal(label[order], label)
    for c in (0, 1):
        rows = np.flatnonzero(label == c)
        cost = np.sum((np.asarray(image)[rows][:, None] - np.asarray(noise)[rows]) ** 2, axis=(2, 3, 4))
        np.testing.assert_array_equal(order[rows], rows[scipy.optimize.linear_sum_assignment(cost)[1]])


@pytest.mark.slow
def test_optimally_paired_paths_are_shorter():
    """The target is a path's length; a network that is silent pays for it."""
    image = inputs({"image": jax.random.normal(jax.random.key(5), (64, *SHAPE))}, 64)
    losses = [
        float(
            Diffusion(Silent(), "velocity", RectifiedFlow(), Uniform(), coupling=c, image_shape=SHAPE).loss(
                {"network": {}}, image
            )[0]
        )
        for c in ("independent", "optimal")
    ]
    assert losses[1] < 0.6 * losses[0]


@pytest.mark.slow
def test_a_time_of_0_gives_a_finite_loss():
    """There the flow begins, and c_noise would be the logarithm of nothing."""
    model = Diffusion(Tells(), "F", RectifiedFlow(), Uniform(0, 1e-50), image_shape=SHAPE)  # 0 in float32
    loss, _ = model.loss({"network": {}}, inputs({"image": jnp.ones((4, *SHAPE))}, 4))
    assert np.isfinite(float(loss))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"process": RectifiedFlow()}, "t of a RectifiedFlow is in"),
        ({"process": Cosine(), "times": Uniform(0, 2)}, "t of a Cosine is in"),
        ({"coupling": "optimal", "source_shape": SHAPE}, "model.coupling='optimal', model.source_shape"),
        ({"coupling": "optimal", "token_shape": (2, 3)}, "model.source_shape=None, model.token_shape=.2, 3."),
        ({"clip": True, "space": Latents()}, "model.clip=True, model.space=Latents"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_before_training(fields, words):
    model = Diffusion(Silent(), image_shape=SHAPE, **fields)
    batch = {"image": jnp.zeros((2, *SHAPE)), "source": jnp.zeros((2, *SHAPE)), "tokens": jnp.zeros((2, 2, 3))}
    with pytest.raises(ValueError, match=words):
        model.init(KEY, batch)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="model.coupling='optimum': must be one of 'independent', 'optimal'"):
        Diffusion(coupling="optimum")
    with pytest.raises(ValueError, match="model.process is a Discrete, but model.times a LogNormal"):
        Diffusion(process=Discrete())
    with pytest.raises(ValueError, match="model.times.steps=10"):
        Diffusion(process=Discrete(), times=WholeTimes(10))
    with pytest.raises(ValueError, match="model.label_dropout=0.1, model.num_classes=0"):
        Diffusion(label_dropout=0.1)
    with pytest.raises(ValueError, match="guidance=2.0, but model.label_dropout=0"):
        Diffusion(num_classes=10).check_conditions({"guidance": 2.0})
    for make in (lambda: Uniform(1, 0), lambda: LogNormal(std=0), lambda: MinSNR(0), lambda: P2(k=0)):
        with pytest.raises(ValueError, match="must"):
            make()
