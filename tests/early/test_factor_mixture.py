"""Mixture of factor analysers: its density is scipy's, and its samples have its moments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from imagegen_jax.early.factor_mixture import FactorMixture

RNG = np.random.default_rng(0)
MODEL = FactorMixture((2, 2, 1), components=3, factors=2, num_classes=2)


@pytest.fixture(scope="module")
def nets():
    params = {
        "shares": RNG.normal(size=(2, 3)),
        "means": 0.2 * RNG.normal(size=(3, 4)),
        "factors": 0.15 * RNG.normal(size=(3, 4, 2)),
        "log_noise": RNG.normal(-2.5, 0.3, (3, 4)),
    }
    return {"network": {"params": {name: jnp.float32(array) for name, array in params.items()}}}


def covariance(params, k):
    deviation = np.exp(params["log_noise"][k]) + MODEL.least_noise
    return params["factors"][k] @ params["factors"][k].T + np.diag(deviation**2)


def test_the_density_is_that_of_the_whole_matrices(nets):
    params, images, labels = nets["network"]["params"], RNG.normal(size=(5, 2, 2, 1)), np.array([0, 1, 1, 0, 1])
    found = jax.jit(MODEL.log_prob)(nets, {"image": images.astype(np.float32), "label": labels})
    each = np.stack([
        stats.multivariate_normal(params["means"][k], covariance(params, k)).logpdf(images.reshape(5, 4))
        for k in range(3)
    ], axis=1)  # fmt: skip
    wanted = special.logsumexp(each + special.log_softmax(params["shares"], axis=1)[labels], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_samples_of_a_class_have_the_moments_of_its_gaussians(nets):
    params, n = nets["network"]["params"], 20_000
    labels = jnp.zeros(n, jnp.int32)
    found = jax.jit(lambda key: MODEL.sample(nets, key, n, {"label": labels}))(jax.random.key(0)).reshape(n, 4)
    shares = special.softmax(params["shares"][0])
    mean = shares @ params["means"]
    second = sum(
        share * (covariance(params, k) + np.outer(*[params["means"][k]] * 2)) for k, share in enumerate(shares)
    )
    np.testing.assert_allclose(found.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(np.cov(found.T), second - np.outer(mean, mean), atol=0.01)


def test_means_begin_as_images_and_other_shapes_are_refused():
    images = RNG.uniform(-1, 1, (5, 2, 2, 1)).astype(np.float32)
    params = MODEL.init(jax.random.key(0), {"image": images, "label": np.zeros(5, int)})["network"]["params"]
    assert np.abs(np.asarray(params["means"]) - images.reshape(5, 4)[:3]).max() < 0.1 and MODEL.starts_from_data
    with pytest.raises(ValueError, match="image_shape=2x2x1"):
        MODEL.init(jax.random.key(0), {"image": images[:, :1], "label": np.zeros(5, int)})
    with pytest.raises(ValueError, match="no 'label'"):
        MODEL.init(jax.random.key(0), {"image": images})
