"""Images and texts in one space: the loss in closed form, and finding a text among others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import filled

from imagegen_jax.core.model import Inputs
from imagegen_jax.metrics.features.dual_encoder import START_SCALE, DualEncoder, DualNetwork, ImageTower, retrieved
from imagegen_jax.nn.text_encoders.small import TextTransformer

MODEL = DualEncoder(
    DualNetwork(ImageTower(width=8), TextTransformer(vocabulary_size=9, context=4, width=8, depth=1, heads=2), 6),
    image_shape=(8, 8, 3),
)

embed_texts = jax.jit(MODEL.embed_texts)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    text = jnp.asarray([[2, 4, 3, 0], [2, 5, 3, 0], [2, 4, 3, 0], [2, 6, 7, 3]], jnp.int32)
    image = jnp.asarray(random.uniform(-1, 1, (4, 8, 8, 3)), jnp.float32)
    return {"image": image, "text": text, "text_mask": text > 0}


@pytest.fixture(scope="module")
def nets(batch):
    nets = filled(MODEL.init, jax.random.key(0), batch)
    nets["network"]["params"]["log_scale"] = jnp.float32(np.log(START_SCALE))
    return nets


def test_loss_is_the_mean_of_both_cross_entropies_and_equal_texts_are_equally_right(batch, nets):
    loss, aux = jax.jit(MODEL.loss)(nets, Inputs(batch, None, None, jnp.int32(0), nets))
    images = np.asarray(jax.jit(MODEL.embed_images)(nets, batch["image"]), np.float64)
    texts = np.asarray(embed_texts(nets, batch["text"], batch["text_mask"]), np.float64)
    logits = START_SCALE * images @ texts.T
    right = np.asarray([[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]])

    def cross_entropy(logits):
        return -np.mean(np.sum(right * (logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))), axis=1))

    np.testing.assert_allclose(loss, (cross_entropy(logits) + cross_entropy(logits.T)) / 2, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["accuracy"], np.mean(right[range(4), logits.argmax(1)] > 0))
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-6)


def test_padding_of_a_text_changes_nothing(batch, nets):
    filled = jnp.where(batch["text_mask"], batch["text"], 8)
    of = [embed_texts(nets, text, batch["text_mask"]) for text in (batch["text"], filled)]
    np.testing.assert_allclose(*of, atol=1e-6)


def test_perfect_embeddings_find_every_text_and_random_ones_one_in_twenty():
    random = np.random.default_rng(0)
    texts = random.normal(size=(50, 16))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    own = np.arange(4000) % 50
    assert retrieved(texts[own], texts, own, among=20, seed=0).all()
    chance = retrieved(random.normal(size=(4000, 16)), texts, own, among=20, seed=0).mean()
    assert abs(chance - 1 / 20) < 4 * np.sqrt(0.05 * 0.95 / 4000)
    assert not retrieved(texts[own], np.ones_like(texts), own, among=2, seed=0).any()  # ties are lost


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match="among=20: must be 2 or more, and at most the 3 texts"):
        retrieved(np.ones((1, 2)), np.ones((3, 2)), np.zeros(1, int), among=20, seed=0)
