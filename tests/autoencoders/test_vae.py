"""VAE: its bound and its likelihood estimate against a linear model whose likelihood is known, and its networks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoencoders.likelihood import Bernoulli, Gaussian
from imagegen_jax.autoencoders.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from imagegen_jax.autoencoders.vae import VAE, kl_to_prior
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs

KEY = jax.random.key(0)
SHAPE, LATENT, SIGMA = (2, 3, 1), 2, 0.5
LINEAR = VAE(SHAPE, MLPEncoder(()), MLPDecoder(()), Gaussian(SIGMA, dequantize=False), LATENT)


def counts(nets) -> dict[str, int]:
    return {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}


# --- a linear model: x = W z + b + SIGMA noise, so x ~ N(b, W W^T + SIGMA^2 I) ----------------------------------------


@pytest.fixture(scope="module")
def linear():
    """(images, their log-likelihood in nats per level, networks with the exact posterior)."""
    random = np.random.default_rng(0)
    W = np.linalg.qr(random.normal(size=(6, LATENT)))[0] * [0.8, 0.3]  # orthogonal, so the posterior is diagonal
    b = 0.2 * random.normal(size=6)
    covariance = W @ W.T + SIGMA**2 * np.eye(6)
    x = random.multivariate_normal(b, covariance, size=16)
    quadratic = np.einsum("ni,ij,nj->n", x - b, np.linalg.inv(covariance), x - b)
    log_p = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1]) - 6 * math.log(127.5)
    variance = 1 / (1 + (W**2).sum(0) / SIGMA**2)
    to_mean = W * variance / SIGMA**2
    encoder = {
        "mean": {"kernel": to_mean, "bias": -b @ to_mean},
        "log_var": {"kernel": np.zeros((6, LATENT)), "bias": np.log(variance)},
    }
    nets = {"encoder": {"params": encoder}, "decoder": {"params": {"Dense_0": {"kernel": W.T, "bias": b}}}}
    nets = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), nets)
    return jnp.asarray(x.reshape(-1, *SHAPE), jnp.float32), log_p, nets


@pytest.fixture(scope="module")
def inexact(linear):
    """The linear networks with a posterior that is shifted and too wide."""
    _, _, nets = linear
    params = nets["encoder"]["params"]
    moved = {"mean": {**params["mean"], "bias": params["mean"]["bias"] + 0.3}}
    moved["log_var"] = {**params["log_var"], "bias": params["log_var"]["bias"] + 0.5}
    return {**nets, "encoder": {"params": moved}}


@pytest.mark.slow
def test_the_exact_posterior_gives_the_likelihood_in_one_draw(linear):
    x, log_p, nets = linear
    keys = jax.random.split(KEY, len(x))
    np.testing.assert_allclose(LINEAR.nll(nets, x, keys, samples=1), -log_p, rtol=1e-5)


@pytest.mark.slow
def test_the_bound_is_tight_on_average_for_the_exact_posterior(linear):
    """-E[log p(x|z)] + KL is -log p(x) where q(z|x) is p(z|x)."""
    x, log_p, nets = linear
    many = jax.vmap(lambda key: LINEAR.elbo(nets, x, jax.random.split(key, len(x))))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(jnp.mean(many.reconstruction + many.kl, axis=0), -log_p, atol=0.12)


@pytest.mark.slow
def test_the_estimate_converges_to_the_likelihood(linear, inexact):
    x, log_p, _ = linear
    keys = jax.random.split(KEY, len(x))
    bound = jnp.mean(sum(LINEAR.elbo(inexact, x, keys)))
    estimate = LINEAR.nll(inexact, x, keys, samples=20_000)
    np.testing.assert_allclose(estimate, -log_p, atol=0.04)
    assert bound > estimate.mean() + 0.2


@pytest.mark.slow
def test_the_estimate_tightens_with_samples(linear, inexact):
    """From above, monotonically in expectation (Burda et al. 2016, Theorem 1); S = 1 is the bound itself."""
    x, log_p, _ = linear
    batches = jax.random.split(jax.random.key(1), (500, len(x)))

    def gap(samples):
        estimates = jax.vmap(lambda keys: LINEAR.nll(inexact, x, keys, samples))(batches)
        return float(jnp.mean(estimates) + log_p.mean())

    gaps = [gap(samples) for samples in (1, 2, 8, 32)]
    elbo = jax.vmap(lambda keys: sum(LINEAR.elbo(inexact, x, keys)))(batches).mean() + log_p.mean()
    assert gaps[0] > 1.5 * gaps[1] > 1.5 * 1.5 * gaps[2] > 1.5 * 1.5 * 1.5 * gaps[3] > 0
    np.testing.assert_allclose(gaps[0], elbo, rtol=0.1)


# --- the bound's terms -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kl_by_hand_and_against_torch(root):
    """KL(N(1, 4) || N(0, 1)) = 2 - log 2; zero for the prior itself."""
    np.testing.assert_allclose(kl_to_prior(jnp.ones((1, 1)), jnp.log(4.0 * jnp.ones((1, 1)))), [2 - math.log(2)])
    np.testing.assert_array_equal(kl_to_prior(jnp.zeros((1, 3)), jnp.zeros((1, 3))), [0.0])
    with np.load(root / "tests/reference/torch_losses.npz") as torch:
        found = kl_to_prior(torch["at/mean"], 2 * torch["at/log_sigma"])
        np.testing.assert_allclose(found, torch["at/kl"].sum(1), rtol=1e-5)


@pytest.mark.slow
def test_kl_against_monte_carlo():
    mu, log_var = jnp.array([[0.5, -1.0]]), jnp.array([[0.3, -1.5]])
    epsilon = jax.random.normal(KEY, (200_000, 2))
    z = mu + jnp.exp(0.5 * log_var) * epsilon
    log_ratio = 0.5 * jnp.sum(z**2 - epsilon**2 - log_var, axis=1)  # log q(z) - log p(z)
    np.testing.assert_allclose(log_ratio.mean(), kl_to_prior(mu, log_var)[0], atol=0.02)


def test_loss_and_metrics(linear):
    """The weight is on the KL in the loss alone; nats are sums over an image, bits are for one value of it."""
    x, _, nets = linear
    keys = jax.random.split(KEY, len(x))
    given = Inputs({"image": x}, KEY, keys, jnp.int32(0), {})
    (phase,) = VAE(SHAPE, LINEAR.encoder, LINEAR.decoder, LINEAR.likelihood, LATENT, kl_weight=4.0).phases(None)
    assert (phase.name, phase.trains) == ("elbo", ("encoder", "decoder"))
    loss, aux = phase.loss(nets, given)
    reconstruction, kl = (float(term.mean()) for term in LINEAR.elbo(nets, x, keys))
    wanted = {"elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
    wanted["bits_per_dim"] = (reconstruction + kl) / (6 * math.log(2))
    assert set(aux.metrics) == set(wanted) and aux.stats == {}
    for name, value in wanted.items():
        np.testing.assert_allclose(aux.metrics[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, reconstruction + 4 * kl, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(SIGMA)])
def test_noise_follows_the_key_of_the_row(linear, likelihood):
    x, _, nets = linear
    model = VAE(SHAPE, LINEAR.encoder, LINEAR.decoder, likelihood, LATENT)
    keys = jax.random.split(KEY, len(x))
    whole, part = model.elbo(nets, x, keys), model.elbo(nets, x[5:], keys[5:])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(a[5:], b, rtol=1e-5)
    estimates = model.nll(nets, x, keys, 3), model.nll(nets, x[5:], keys[5:], 3)
    np.testing.assert_allclose(estimates[0][5:], estimates[1], rtol=1e-5)


# --- images ----------------------------------------------------------------------------------------------------------


def test_reconstruction_is_the_mean_at_the_posterior_mean(linear):
    """W E[z|x] + b, clipped to the range of images."""
    x, _, nets = linear
    encoder, decoder = nets["encoder"]["params"], nets["decoder"]["params"]["Dense_0"]
    mu = x.reshape(-1, 6) @ encoder["mean"]["kernel"] + encoder["mean"]["bias"]
    wanted = jnp.clip(mu @ decoder["kernel"] + decoder["bias"], -1, 1).reshape(x.shape)
    np.testing.assert_allclose(LINEAR.reconstruct(nets, x), wanted, atol=1e-5)


@pytest.mark.slow
def test_interpolation_goes_from_one_reconstruction_to_the_other_in_equal_steps(linear):
    x, _, nets = linear
    x = 0.3 * x  # so that nothing is clipped and the path in images is straight
    path = LINEAR.interpolate(nets, x[:4], x[4:8], steps=5)
    assert path.shape == (4, 5, *SHAPE)
    first, last = LINEAR.reconstruct(nets, x[:4]), LINEAR.reconstruct(nets, x[4:8])
    for at, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        np.testing.assert_allclose(path[:, at], (1 - share) * first + share * last, atol=1e-5)


@pytest.mark.slow
def test_samples_have_the_moments_of_the_prior_s_image(linear):
    """W z + b: mean b and covariance W W^T."""
    _, _, nets = linear
    nets = {**nets, "decoder": jax.tree.map(lambda a: 0.3 * a, nets["decoder"])}
    W, b = nets["decoder"]["params"]["Dense_0"]["kernel"], nets["decoder"]["params"]["Dense_0"]["bias"]
    sample = LINEAR.sample(nets, KEY, 40_000, {}).reshape(-1, 6)
    np.testing.assert_allclose(sample.mean(0), b, atol=0.01)
    np.testing.assert_allclose(jnp.cov(sample.T), W.T @ W, atol=0.005)


# --- networks --------------------------------------------------------------------------------------------------------


def test_published_parameter_count():
    """pythae's default MLP: 784-512-10, 820,004 parameters."""
    model = VAE(encoder=MLPEncoder((512,)), decoder=MLPDecoder((512,)), latent_dim=10)
    nets = jax.eval_shape(model.init, KEY, {"image": jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)})
    assert sum(counts(nets).values()) == 820_004


@pytest.mark.slow
def test_weights_start_as_torch_s():
    """Uniform within 1 / sqrt(fan in), biases too."""
    nets = jax.jit(batch_draws(VAE(latent_dim=8).init))(KEY, {"image": jnp.zeros((2, 28, 28, 1))})
    layers = {**nets["encoder"]["params"], "out": nets["decoder"]["params"]["Dense_1"]}
    for name, fan_in in (("Dense_0", 784), ("mean", 400), ("log_var", 400), ("out", 400)):
        limit = fan_in**-0.5
        for leaf in layers[name].values():
            assert limit * 0.7 < jnp.abs(leaf).max() <= limit
        np.testing.assert_allclose(layers[name]["kernel"].std(), limit / 3**0.5, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "function"), [("relu", lambda a: np.maximum(a, 0)), ("tanh", np.tanh)])
def test_perceptrons_by_hand(activation, function):
    model = VAE((2, 2, 1), MLPEncoder((5,), activation), MLPDecoder((5,), activation), latent_dim=3)
    image = jax.random.normal(KEY, (4, 2, 2, 1))
    nets = model.init(KEY, {"image": image})

    def layer(params, x):
        return x @ params["kernel"] + params["bias"]

    encoder, decoder = nets["encoder"]["params"], nets["decoder"]["params"]
    hidden = function(layer(encoder["Dense_0"], image.reshape(4, 4)))
    mean, log_var = model.encoder.apply(nets["encoder"], image, 3)
    np.testing.assert_allclose(mean, layer(encoder["mean"], hidden), atol=1e-5)
    np.testing.assert_allclose(log_var, layer(encoder["log_var"], hidden), atol=1e-5)
    out = layer(decoder["Dense_1"], function(layer(decoder["Dense_0"], mean))).reshape(4, 2, 2, 1)
    np.testing.assert_allclose(model.decoder.apply(nets["decoder"], mean, (2, 2, 1)), out, atol=1e-5)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), Gaussian(0.1)])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (37, 50, 3), (127, 127, 2)])
def test_convolutional_pair_fits_every_size(shape, likelihood):
    model = VAE(shape, ConvEncoder(4), ConvDecoder(4), likelihood, 5)
    batch = {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32)}
    nets, keys = jax.eval_shape(model.init, KEY, batch), jax.eval_shape(lambda: jax.random.split(KEY, 2))
    loss, _ = jax.eval_shape(model.loss, nets, Inputs(batch, KEY, keys, jnp.int32(0), {}))
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert jax.eval_shape(model.reconstruct, nets, batch["image"]).shape == (2, *shape)
    assert jax.eval_shape(lambda nets, key: model.sample(nets, key, 3, {}), nets, KEY).shape == (3, *shape)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="latent_dim=0"):
        VAE(latent_dim=0)
    with pytest.raises(ValueError, match="kl_weight=nan"):
        VAE(kl_weight=math.nan)
    with pytest.raises(ValueError, match="32x32x1.*28x28x1"):
        VAE().init(KEY, {"image": jnp.zeros((2, 32, 32, 1))})
    with pytest.raises(ValueError, match="image size 6x6"):
        VAE((6, 6, 1), ConvEncoder(), ConvDecoder()).init(KEY, {"image": jnp.zeros((2, 6, 6, 1))})
