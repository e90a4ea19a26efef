"""MAR: published sizes, masks and passes in closed form, a token of known density, images and latents, and errors."""

from __future__ import annotations

import dataclasses
import functools
import math

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Quarters

from imagegen_jax.autoregressive.mar import MAR, mar, masked_counts
from imagegen_jax.autoregressive.token_diffusion import TokenDiffusion
from imagegen_jax.core.arrays import autoencoding
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.core.model import Inputs, frozen_networks
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.mae import MaskedAutoencoder, known_first
from imagegen_jax.nn.backbones.transformers.token_denoiser import TokenDenoiser
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule

# To compile takes nearly all of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY = jax.random.key(0)


MODEL = MAR(
    Quarters(), MaskedAutoencoder(1, 16, 2, buffer=2, dropout=0.0),
    TokenDiffusion(TokenDenoiser(1, 16), CosineSchedule(20, largest=0.5), steps=3),
    num_classes=3, latent_scale=0.5, min_masked=0.5, steps=3,
)  # fmt: skip
IMAGES = np.random.RandomState(0).uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
LATENTS = jnp.zeros((4, 4, 4, 4))
LABEL = {"label": jnp.array([0, 1, 2, 0])}


@pytest.fixture(scope="module")
def nets():
    """Of the model, with no weights of 0, and variances in their range."""
    shapes = jax.eval_shape(MODEL.init, KEY, {"image": LATENTS, **LABEL})
    drawn = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.float32(drawn_weights.weight(jax.tree_util.keystr(path), leaf.shape, 0.3)), shapes
    )
    out = jax.tree.map(lambda leaf: 0.05 * leaf, drawn["denoiser"]["params"]["out"])
    denoiser = {"params": {**drawn["denoiser"]["params"], "out": out}}
    return autoencoding.init(MODEL, KEY, {**drawn, "denoiser": denoiser})


@pytest.mark.parametrize(("size", "count"), [("B", 207_924_768), ("L", 478_326_304), ("H", 942_403_104)])
def test_networks_have_the_published_sizes(size, count):
    """Those of the authors' classes: of 208, 479 and 943 million, as their page says."""
    model = mar(size, Quarters((32, 32, 4)))
    tokens, told = jnp.zeros((1, 256, 16)), Conditioning(jnp.zeros((1, 1000)))
    z = jnp.zeros((1, 256, model.network.width))
    made = jax.eval_shape(
        lambda: (
            model.network.init(KEY, tokens, jnp.ones((1, 256), bool), told),
            model.diffusion.init(KEY, tokens, z),
        )
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == count


def test_passes_follow_a_cosine_and_draw_at_least_one_token():
    assert masked_counts(4, 1) == [4, 0]
    for length, steps in ((256, 64), (256, 256), (9, 4)):
        left = np.array(masked_counts(length, steps))
        assert len(left) == steps + 1 and left[0] == length and left[-1] == 0 and (np.diff(left) < 0).all()
    np.testing.assert_array_equal(masked_counts(256, 4), [256, 236, 181, 97, 0])  # floor(256 cos(pi i / 8))


def test_the_masked_share_is_a_normal_that_is_cut_off():
    """At 0.7 and 1, of mean 1 and deviation 0.25 before; of 256 tokens, whole ones are masked."""
    model = MAR(Quarters((32, 32, 1)), num_classes=0, label_dropout=0.0)
    masked = model._masks(jax.random.split(KEY, 1_000), jax.random.split(jax.random.key(1), 1_000))
    share = np.asarray(masked).mean(axis=1)
    assert masked.shape == (1_000, 256) and share.min() >= 180 / 256 and share.max() <= 1
    mean = 1 - 0.25 * math.sqrt(2 / math.pi) * (1 - math.exp(-(1.2**2) / 2)) / math.erf(1.2 / math.sqrt(2))
    np.testing.assert_allclose(share.mean(), mean + 0.5 / 256, atol=4 * share.std() / 1_000**0.5)
    np.testing.assert_allclose(np.asarray(masked).mean(axis=0), share.mean(), atol=0.06)  # no place is preferred


def test_known_tokens_come_first():
    places, seen = known_first(jnp.array([[True, False, True, False], [True, True, True, False]]), 2)
    np.testing.assert_array_equal(places[0], [1, 3])
    np.testing.assert_array_equal(seen, [[True, True], [True, False]])
    assert places[1, 0] == 3


class Exact:
    """The noise to expect in tokens N(mean, deviation^2) at their times, and the smaller variance."""

    mean, deviation = 0.4, 0.5

    def apply(self, alpha_bar, x, t, z):
        share = jnp.asarray(alpha_bar, jnp.float32)[jnp.int32(jnp.round(t))][..., None]
        signal, noise = jnp.sqrt(share), jnp.sqrt(1 - share)
        epsilon = noise * (x - signal * self.mean) / (share * self.deviation**2 + 1 - share)
        return jnp.concatenate([epsilon, -jnp.ones(x.shape)], axis=-1)


@pytest.mark.slow
def test_tokens_of_a_known_density_are_drawn_from_it():
    """And with no noise on the way, they are not; the loss is what is left of the noise when x_t is known."""
    model = TokenDiffusion(Exact(), noises=8)
    alpha_bar, z = model.schedule.alpha_bar, jnp.zeros((500, 2, 1))

    @jit
    def both(key, temperature):
        noise = lambda i: jax.random.normal(jax.random.fold_in(key, i), (500, 2, 3))  # noqa: E731
        drawn = model.draw(alpha_bar, z, noise, temperature=temperature)
        return drawn, model.losses(alpha_bar, z, drawn, jax.random.split(key, 500))[0]

    drawn, squares = both(KEY, 1.0)
    np.testing.assert_allclose(drawn.mean(), Exact.mean, atol=0.03)
    np.testing.assert_allclose(drawn.std(), Exact.deviation, rtol=0.05)
    left = alpha_bar * Exact.deviation**2 / (alpha_bar * Exact.deviation**2 + 1 - alpha_bar)
    np.testing.assert_allclose(squares.mean(), left.mean(), rtol=0.05)
    assert both(KEY, 0.0)[0].std() < 0.8 * Exact.deviation


@pytest.mark.slow
def test_masked_tokens_are_not_read(nets):
    """And every other one is."""
    masked = jnp.arange(16)[None] % 3 == 0
    tokens = jax.random.normal(KEY, (1, 16, 4))
    see = jit(lambda tokens: MODEL.network.apply(nets["prior"], tokens, masked, Conditioning(jnp.eye(3)[:1]), 10))
    z, others, moved = see(tokens), see(jnp.where(masked[..., None], 7.0, tokens)), see(tokens.at[0, 1].add(1.0))
    np.testing.assert_array_equal(z, others)
    assert (np.abs(moved - z).max(axis=-1) > 1e-4).all()


@pytest.mark.slow
def test_latents_cost_as_much_as_the_images_that_they_were_made_of(nets):
    """Their tokens are the same, at a scale; samples are images."""
    keys, images = jax.random.split(KEY, 4), {"image": jnp.asarray(IMAGES), **LABEL}
    mean, std = MODEL.autoencoder.encode(nets, images["image"])
    losses = []
    for batch in (images, {"image": mean, **LABEL}, {"image": mean, "std": std, **LABEL}):
        seen = autoencoding.drawn_latents(MODEL, nets, batch, keys)
        loss, aux = jit(MODEL.loss)(nets, Inputs(seen, KEY, keys, jnp.array(0), nets))
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) == pytest.approx(losses[2], rel=1e-6)
    assert np.isfinite(losses[0]) and 0.5 <= aux.metrics["masked"] <= 1
    assert sample_shape(MODEL) == (8, 8, 1) and frozen_networks(MODEL) == ("autoencoder",)


@pytest.mark.slow
def test_guidance_of_one_follows_labels(nets):
    """And a changed value compiles nothing new; every token is drawn."""
    draw = jit(lambda told: MODEL.sample_tokens(nets, KEY, 4, told))
    plain = np.asarray(draw(LABEL))
    assert plain.shape == (4, 16, 4) and np.isfinite(plain).all() and (plain != 0).all()
    followed, guided = (np.asarray(draw({**LABEL, "guidance": jnp.float32(scale)})) for scale in (1.0, 30.0))
    np.testing.assert_allclose(followed, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    assert draw._cache_size() == 2 and np.abs(guided - plain).max() > 1e-3 * np.abs(plain).max()


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"temperature": -1.0}, r"temperature=-1.0: must be at least 0"),
        ({"guidance": 2.0}, r"guidance=2.0: this MAR has model.label_dropout=0, so it never was without a label"),
    ],
)
def test_conditions_that_nothing_can_be_drawn_by_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        check_conditions(
            dataclasses.replace(MODEL, label_dropout=0.0), 4, {"label": np.zeros(4, np.int32), **conditions}
        )


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="model.label_dropout=0.1, model.num_classes=0: without classes"):
        dataclasses.replace(MODEL, num_classes=0)
    with pytest.raises(ValueError, match="diffusion.steps=2000 is not between 1 and the 1000 steps of the schedule"):
        TokenDiffusion(steps=2_000)
    with pytest.raises(ValueError, match="no MAR of size 'XL': use one of B, L, H"):
        mar("XL", Quarters())
    with pytest.raises(ValueError, match="does not divide into patches of patch=3"):
        jax.eval_shape(dataclasses.replace(MODEL, patch=3).init, KEY, {"image": LATENTS, **LABEL})
    with pytest.raises(ValueError, match="data are of 4x4x2 .*a Quarters, has images of 8x8x1 and latents of 4x4x4"):
        autoencoding.example(MODEL, {"image": jnp.zeros((4, 4, 4, 2)), **LABEL})
    with pytest.raises(ValueError, match="model.num_classes=3, but the batch has no 'label'"):
        jax.eval_shape(MODEL.init, KEY, {"image": LATENTS})
