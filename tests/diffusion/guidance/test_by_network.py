"""One run guided by another, on the mixture, whose best denoisers and whose classes are known."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import mixture
import numpy as np
import pytest
from programs import counted
from toys import Quarters

import imagegen_jax as ig
from imagegen_jax import cli
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.arrays.texts import keep_tokenizer
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.data import Captioned, Digits
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.guidance.fields import GuidanceInterval
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.diffusion.sampling.solver import Path
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import WordVocabulary
from imagegen_jax.text.words import Words

KEY = jax.random.key(0)
LABELS = jnp.array([0, 1, 2, 1, 0, 2, 2, 1])
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True)
class Exact:
    """The best denoiser of the mixture, or of its parts where these are its classes; `shift` makes it a worse one."""

    num_classes: int = 0
    image_shape: tuple[int, int, int] = (1, 1, 2)

    @property
    def path(self):
        return Path(DPMSolver(), Karras(12, 0.01, 20.0)())

    def init(self, key, batch):
        return {"network": {"params": {"shift": jnp.zeros(())}}}

    def phases(self, stage):
        return ()

    def denoiser(self, nets, conditions):
        def denoise(x, sigma):
            points = x.reshape(-1, 2)
            if not self.num_classes:
                return mixture.denoise(points, sigma).reshape(x.shape)
            gain = (mixture.STD**2 / (mixture.STD**2 + sigma**2))[:, None]
            means = jnp.asarray(mixture.MEANS, x.dtype)[conditions["label"]] + nets["network"]["params"]["shift"]
            return (means + gain * (points - means)).reshape(x.shape)

        return denoise


@dataclasses.dataclass(frozen=True)
class Parts:
    """The mixture's own classifier."""

    image_shape: tuple[int, int, int] = (1, 1, 2)
    num_classes: int = 3

    def init(self, key, batch):
        return {"network": {"params": {"shift": jnp.zeros(())}}}

    def log_probability(self, nets, labels):
        def log_prob(x, sigma):
            parts, _ = mixture._parts(x.reshape(-1, 2), sigma)
            return jax.nn.log_softmax(parts)[jnp.arange(len(labels)), labels]

        return log_prob


def nets_of(model, guide=0.0):
    nets = model.init(KEY, {})
    if "guide.network" in nets:
        nets["guide.network"] = {"params": {"shift": jnp.float32(guide)}}
    return nets


def draw(model, nets, scale=None, labels=LABELS):
    conditions = {"label": labels} | ({} if scale is None else {"guidance": jnp.float32(scale)})
    path = model.path
    return jit(lambda c: path.draw(model.denoiser(nets, c), (len(labels), *model.image_shape), KEY))(conditions)


@pytest.mark.slow
def test_led_by_the_exact_classifier_the_model_of_all_is_that_of_each_class():
    guided = Guided(Exact(), Parts())
    assert guided.num_classes == 3 and guided.image_shape == (1, 1, 2)
    exact, nets = Exact(3), nets_of(guided)
    x, sigma = jax.random.normal(KEY, (8, 1, 1, 2)), jnp.geomspace(0.02, 20.0, 8)
    found = guided.denoiser(nets, {"label": LABELS, "guidance": 1.0})(x, sigma)
    np.testing.assert_allclose(found, exact.denoiser(nets, {"label": LABELS})(x, sigma), atol=2e-4)
    np.testing.assert_allclose(draw(guided, nets, 1.0), draw(exact, nets), atol=2e-3)
    np.testing.assert_allclose(draw(guided, nets, 0.0), draw(Exact(), nets), atol=1e-6)


@pytest.mark.slow
def test_away_from_a_weaker_twin():
    """1 is the model, 0 the twin, 2 as far beyond the model as the twin is before it."""
    guided, exact = Guided(Exact(3), Exact(3)), Exact(3)
    nets = nets_of(guided, guide=0.25)
    twin = {"network": nets["guide.network"]}
    good, bad = draw(exact, nets), draw(exact, twin)
    np.testing.assert_allclose(draw(guided, nets, 1.0), good, atol=1e-5)
    np.testing.assert_allclose(draw(guided, nets, 0.0), bad, atol=1e-5)
    np.testing.assert_allclose(bad - good, 0.25, atol=0.01)
    np.testing.assert_allclose(draw(guided, nets, 2.0) - good, -0.25, atol=0.01)
    still = dataclasses.replace(guided, guidance=GuidanceInterval(30.0, 40.0))  # above all levels
    np.testing.assert_allclose(draw(still, nets, 2.0), good, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Puts out the best estimate of the mixture's noise at times of `schedule`, and `v` for the variance."""

    schedule: LinearSchedule
    v: float
    learned_variance: bool = True

    def apply(self, variables, x_t, t, conditioning):
        alpha_bar = jnp.asarray(self.schedule.alpha_bar)[(t * self.schedule.steps / 1000).round().astype(int)]
        signal, noise = jnp.sqrt(alpha_bar)[:, None], jnp.sqrt(1 - alpha_bar)[:, None]
        points = x_t.reshape(-1, 2)
        x_0 = mixture.denoise(points / signal, (noise / signal)[:, 0])
        epsilon = ((points - signal * x_0) / noise).reshape(x_t.shape)
        return jnp.concatenate([epsilon, jnp.full_like(x_t, 2 * self.v - 1)], axis=-1)


@pytest.mark.parametrize("v", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_learned_variances_are_kept_when_led(v):
    schedule = LinearSchedule(200, 5e-4, 0.1)
    model = ImprovedDDPM(Noise(schedule, v), schedule, (1, 1, 2))
    guided, nets, labels = Guided(model, Parts()), {"network": {"params": {}}}, jnp.arange(3600) % 3
    nets["guide.network"] = {"params": {}}
    sample = jit(lambda scale: guided.sample(nets, KEY, len(labels), {"label": labels, "guidance": scale}))
    alone = jit(lambda: model.sample(nets, KEY, len(labels), {}))()
    np.testing.assert_allclose(sample(0.0), alone, atol=2e-3)
    classes = np.asarray(sample(1.0)).reshape(-1, 3, 2)
    np.testing.assert_allclose(classes.mean(axis=0), mixture.MEANS, atol=0.03)
    nearest = np.linalg.norm(np.reshape(alone, (-1, 1, 2)) - mixture.MEANS, axis=-1).argmin(axis=1)
    spread = [np.reshape(alone, (-1, 2))[nearest == label].std(axis=0) for label in range(3)]
    np.testing.assert_allclose(classes.std(axis=0), spread, rtol=0.1)  # of 720 samples or more


@pytest.mark.parametrize("guided", [Guided(Exact(3), Exact(3)), Guided(Exact(), Parts())], ids=["twin", "classifier"])
def test_one_program_serves_all_scales_labels_and_seeds(guided):
    sample, traces = counted(lambda nets, key, c: guided.sample(nets, key, 8, c))
    seen = [
        sample(nets_of(guided, 0.1), jax.random.key(seed), {"label": labels, "guidance": np.float32(scale)})
        for seed, scale, labels in ((0, 1.0, LABELS), (0, 3.0, LABELS), (1, 3.0, LABELS), (1, 3.0, LABELS[::-1]))
    ]
    assert len(traces) == 1
    for before, after in zip(seen, seen[1:], strict=False):
        assert jnp.abs(before - after).max() > 1e-3


class Means(nn.Module):
    """F of the best denoiser of normal data with a mean for each class, and a parameter to add to them."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        more = self.param("more", nn.initializers.zeros, ())
        means = more if conditioning.labels is None else more + conditioning.labels @ jnp.linspace(-0.45, 0.45, 10)
        sigma = jnp.exp(4 * t)
        return jnp.zeros_like(x) + (means * sigma / (0.5 * jnp.sqrt(0.25 + sigma**2))).reshape(-1, 1, 1, 1)


class Nearest(nn.Module):
    """The classifier of such data: classes by the distance to their means."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x, t, keys=None):
        variance = 0.25 + jnp.exp(8 * t)[:, None]
        means = self.param("more", nn.initializers.zeros, ()) + jnp.linspace(-0.45, 0.45, self.num_classes)
        x = x.reshape(len(x), -1, 1) * jnp.sqrt(variance)[:, None]
        return -jnp.sum((x - means) ** 2, axis=1) / (2 * variance)


LEVELS = Karras(12, 0.05, 20.0)  # fewer are too few for guided slopes
MODELS = {
    "classes": Diffusion(Means(), levels=LEVELS, image_shape=(8, 8, 1), num_classes=10),
    "unlabelled": Diffusion(Means(), levels=LEVELS, image_shape=(8, 8, 1)),
    "colour": Diffusion(Means(), levels=LEVELS, image_shape=(8, 8, 3), num_classes=10),
    "ddpm": DDPM(Means(), image_shape=(8, 8, 1), num_classes=10),
    "classifier": NoisyClassifier(Nearest(), image_shape=(8, 8, 1)),
    "three": NoisyClassifier(Nearest(3), image_shape=(8, 8, 1)),
    "vae": VAE(image_shape=(8, 8, 1)),
}


@functools.cache
def run_of(name, more=0.0):
    """A run whose last weights have `more` and whose average has twice that."""
    averages = {"ema": HalfLife(images=100)}
    optim = {} if name == "vae" else {"network": Adam(1e-3)}
    experiment = ig.Experiment(name, MODELS[name], Digits(), optim, averages, batch_size=8)
    nets = {"network": {"params": {"more": jnp.float32(more)}}}
    state = create(nets, optim, averages)
    state = state.replace(ema={"network": {"ema": {"params": {"more": jnp.float32(2 * more)}}}})
    return Run(experiment, state, pathlib.Path(name))


def weights(run):
    return {name: float(variables["params"]["more"]) for name, variables in run.nets.items()}


def test_a_guided_run_has_the_averages_of_both():
    guided = run_of("classes", 0.1).guided_by(run_of("classes", 0.2))
    assert weights(guided) == pytest.approx({"network": 0.2, "guide.network": 0.4})
    assert weights(guided.with_average("none")) == pytest.approx({"network": 0.1, "guide.network": 0.4})
    assert weights(run_of("classes", 0.1)) == pytest.approx({"network": 0.2})
    last = run_of("classes", 0.1).guided_by(run_of("classes", 0.2).with_average("none"))
    assert weights(last) == pytest.approx({"network": 0.2, "guide.network": 0.2})


@pytest.mark.slow
def test_a_run_draws_by_its_guide():
    run, guide, labels = run_of("classes"), run_of("classes", -0.1), np.array([0, 0, 9, 9])
    alone = run.sample(4, labels, chunk=8)
    guided = run.guided_by(guide)
    np.testing.assert_allclose(guided.sample(4, labels, chunk=8, guidance=1.0).astype(int), alone, atol=1)
    far = guided.sample(4, labels, chunk=8, guidance=2.0).astype(float) - alone
    assert np.median(far) == pytest.approx(0.2 * 127.5, abs=2)
    classified = run.guided_by(run_of("classifier")).sample(4, labels, chunk=8, guidance=2.0)
    dark, bright = (classified.astype(float) - alone).reshape(2, -1).mean(axis=1)
    assert dark < -3 and bright > 3


@pytest.mark.parametrize(
    ("name", "guide", "words"),
    [
        ("classes", "colour", r"the guide's images are of \(8, 8, 3\).*the model's of \(8, 8, 1\)"),
        ("classes", "unlabelled", "the guide knows 0 classes, the model 10"),
        ("unlabelled", "classes", "the guide knows 10 classes, the model 0"),
        ("classes", "three", "the guide knows 3 classes, the model 10"),
        ("classes", "vae", "a VAE cannot guide a Diffusion"),
        ("vae", "classes", "a VAE has no denoiser that could be guided"),
        ("classifier", "classes", "a NoisyClassifier has no denoiser that could be guided"),
    ],
)
def test_two_that_do_not_go_together_are_refused(name, guide, words):
    with pytest.raises(ValueError, match=words):
        run_of(name).guided_by(run_of(guide))


def test_a_guide_is_not_guided_and_wants_a_scale():
    guided = run_of("classes").guided_by(run_of("classifier"))
    for both in ((guided, run_of("classes")), (run_of("classes"), guided)):
        with pytest.raises(ValueError, match="cannot guide a"):
            both[0].guided_by(both[1])
    with pytest.raises(ValueError, match="guided by a NoisyClassifier, but how strongly"):
        guided.sample(2, [0, 1])
    with pytest.raises(ValueError, match="10 classes: say which"):
        run_of("unlabelled").guided_by(run_of("classifier")).sample(2, guidance=1.0)
    with pytest.raises(ValueError, match="nothing to guide away from.*another run as a guide"):
        run_of("classes").sample(2, [0, 1], guidance=2.0)


def texts_of(folder, word):
    """A run that reads texts of one word, and keeps its tokenizer in a folder."""
    folder.mkdir()
    keep_tokenizer(folder / "tokenizer", Words((word,), 4))
    encoder = TextTransformer(vocabulary_size=5, context=4, width=4, depth=1, heads=1)
    run = run_of("unlabelled")
    model = dataclasses.replace(run.experiment.model, text=encoder, token_dropout=0.1)
    data = Captioned(Digits(), WordVocabulary(context=4))
    return dataclasses.replace(
        run, experiment=dataclasses.replace(run.experiment, model=model, data=data), workdir=folder
    )


def test_a_guide_with_another_tokenizer_is_refused(tmp_path):
    run, same, other = (
        texts_of(tmp_path / "a", "red"),
        texts_of(tmp_path / "b", "red"),
        texts_of(tmp_path / "c", "blue"),
    )
    assert run.guided_by(same).experiment.model.text == run.experiment.model.text
    with pytest.raises(ValueError, match=r"c reads texts by another tokenizer \(5 tokens in rows of 4\) than .*a \(5"):
        run.guided_by(other)


def test_a_negative_prompt_is_not_for_a_guide(tmp_path):
    guided = texts_of(tmp_path / "a", "red").guided_by(texts_of(tmp_path / "b", "red"))
    assert not any(name.startswith("negative_") for name in guided.experiment.model.optional_conditions)
    for scale in ({}, {"guidance": 2.0}):
        with pytest.raises(
            ValueError, match="a negative prompt, but guidance leads by a Diffusion here.* leave out the negative"
        ):
            guided.sample(1, prompts="red", negative_prompts="red", **scale)


def latents_by(scale, deviation=0.0):
    """A run in the space of the latents of an autoencoder with one weight."""
    run, space = run_of("unlabelled"), Latents(autoencoder=Quarters(deviation=deviation))
    model = dataclasses.replace(run.experiment.model, image_shape=(4, 4, 4), space=space)
    weights = {"autoencoder": {"scale": jnp.float32(scale)}}
    state = run.state.replace(
        params=run.state.params | weights, stats={"autoencoder": {}} | run.state.stats, ema=run.state.ema
    )
    return dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=model), state=state)


def test_a_guide_of_the_latents_of_another_autoencoder_is_refused():
    """By its values, or else by the fingerprints of its weights."""
    latents_by(2.0).guided_by(latents_by(2.0))
    with pytest.raises(ValueError, match=r"Quarters.*deviation=0.0.* of the one model, Quarters.*deviation=0.5"):
        latents_by(2.0).guided_by(latents_by(2.0, 0.5))
    with pytest.raises(ValueError, match=r"is of the latents of the autoencoder \w{16}, \w+ of those of \w{16}"):
        latents_by(2.0).guided_by(latents_by(3.0))


@pytest.fixture
def imagegen(monkeypatch, tmp_path, capsys):
    """Runs `imagegen sample ...` in an empty folder; returns (code, standard error)."""
    monkeypatch.setattr(run_options, "load", lambda run, modules, step=None: run_of(run.name))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            cli.main(["sample", *arguments])
            code = 0
        except SystemExit as leaving:
            code = leaving.code
        return code, capsys.readouterr().err

    return run


def test_the_command_draws_by_a_guide(imagegen):
    code, said = imagegen("unlabelled", *"--guide classifier --guidance 3 --labels 0,9 --n 8 --out a.npz".split())
    assert code == 0, said
    with np.load("a.npz") as arrays:
        dark, bright = (arrays["arr_0"][arrays["arr_1"] == label].mean() for label in (0, 9))
    assert bright > dark + 5


@pytest.mark.slow
def test_the_command_chooses_the_guidance(imagegen):
    """In an interval without a level the model is alone, in spite of the guide."""

    def drawn(words):
        code, said = imagegen(*f"{words} --labels 0,9 --n 8 --out a.npz".split())
        assert code == 0, said
        with np.load("a.npz") as arrays:
            return arrays["arr_0"].astype(int)

    led = "classes --guide classifier --guidance 3 --model.guidance interval --model.guidance.low"
    alone = drawn("classes")
    np.testing.assert_allclose(drawn(f"{led} 30"), alone, atol=1)
    assert np.abs(drawn(f"{led} 0.1") - alone).max() > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("ddpm --guidance 2", "a DDPM has none of its own; a second run could guide it: --guide"),
        ("vae --guidance 2", "a VAE has none\n"),
        ("classes --guide classes", "guided by a Diffusion, but how strongly"),
        ("classes --guide vae --guidance 2", "a VAE cannot guide a Diffusion"),
        ("classes --model.guidance interval", "none is given: add one, such as --guidance 2"),
    ],
)
def test_the_command_refuses_what_cannot_be(imagegen, arguments, words):
    code, said = imagegen(*arguments.split())
    assert code == 1 and words in said
