"""The page docs/edm_by_hand.md, whose few lines are to be the same as `Diffusion` with its defaults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet

NETWORK = UNet(width=8, multipliers=(1,), blocks=1, attention_at=(), dropout=0.0)
MODEL = Diffusion(network=NETWORK, levels=Karras(5), image_shape=(8, 8, 1))


@pytest.fixture(scope="module")
def page(root):
    """What the code of the page defines."""
    _, code, _ = (root / "docs" / "edm_by_hand.md").read_text().replace("```python", "```").split("```")
    defined = {}
    exec(compile(code, "docs/edm_by_hand.md", "exec"), defined)
    return defined


@pytest.fixture(scope="module")
def trained():
    """A network with no layer at 0, since the last one starts there and then nothing would be compared."""
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1), minval=-1.0)
    nets = jax.jit(batch_draws(MODEL.init))(jax.random.key(1), {"image": images})
    noise = np.random.default_rng(2)
    return images, jax.tree.map(lambda leaf: leaf + 0.1 * noise.standard_normal(leaf.shape, np.float32), nets)


@pytest.mark.slow
def test_the_loss_and_its_gradients_are_those_of_the_page(page, trained):
    images, nets = trained
    keys = jax.random.split(jax.random.key(4), 4)
    t_keys, epsilon_keys = jax.vmap(lambda key: jax.random.split(key, 5), out_axes=1)(keys)[:2]
    epsilon = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(epsilon_keys)

    @jax.jit
    @jax.value_and_grad
    def by_hand(nets):
        return page["loss"](lambda x, c: NETWORK.apply(nets["network"], x, c), images, MODEL.times(t_keys), epsilon)

    @jax.jit
    @jax.value_and_grad
    def by_model(nets):
        loss, _ = MODEL.loss(nets, Inputs({"image": images}, jax.random.key(3), keys, jnp.int32(0), {}))
        return loss

    (wanted, wanted_grads), (found, grads) = by_hand(nets), by_model(nets)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert length(grads, wanted_grads) < 1e-5 * length(wanted_grads)


@pytest.mark.slow
def test_samples_are_those_of_the_page(page, trained):
    _, nets = trained
    key = jax.random.key(5)
    latent = jax.random.normal(jax.random.split(key)[0], (3, 8, 8, 1))
    sigmas = MODEL.levels()
    x = latent * np.float32((1 + sigmas[0] ** 2) ** 0.5)  # of the images with noise: their deviation is 1, and not 0
    wanted = page["sample"](jax.jit(lambda x, c: NETWORK.apply(nets["network"], x, c)), x, sigmas)
    found = jax.jit(lambda nets: MODEL.sample(nets, key, 3, {}))(nets)
    assert jnp.std(wanted) > 0.1
    np.testing.assert_allclose(found, jnp.clip(wanted, -1.0, 1.0), atol=1e-4)


def length(tree, other=None):
    """The length of a tree, or of the difference of two."""
    leaves = jax.tree.leaves(tree if other is None else jax.tree.map(np.subtract, tree, other))
    return sum(float(np.sum(np.square(leaf))) for leaf in leaves) ** 0.5
