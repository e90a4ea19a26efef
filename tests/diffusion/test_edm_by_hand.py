"""The page docs/edm_by_hand.md, whose few lines are to be the same as `Diffusion` with its defaults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet

NETWORK = UNet(width=8, multipliers=(1, 2), blocks=1, attention_at=(), dropout=0.0)
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
    nets = MODEL.init(jax.random.key(1), {"image": images})
    leaves, tree = jax.tree.flatten(nets)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return images, jax.tree.unflatten(tree, moved)


@pytest.mark.slow
def test_the_loss_and_its_gradients_are_those_of_the_page(page, trained):
    images, nets = trained
    inputs = Inputs({"image": images}, jax.random.key(3), jax.random.split(jax.random.key(4), 4), jnp.int32(0), {})
    t_keys, epsilon_keys = jax.vmap(lambda key: jax.random.split(key, 5), out_axes=1)(inputs.keys)[:2]
    epsilon = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(epsilon_keys)

    def by_hand(nets):
        return page["loss"](lambda x, c: NETWORK.apply(nets["network"], x, c), images, MODEL.times(t_keys), epsilon)

    wanted, wanted_grads = jax.value_and_grad(by_hand)(nets)
    (found, _), grads = jax.value_and_grad(MODEL.loss, has_aux=True)(nets, inputs)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert length(grads, wanted_grads) < 1e-5 * length(wanted_grads)


@pytest.mark.slow
def test_samples_are_those_of_the_page(page, trained):
    _, nets = trained
    key = jax.random.key(5)
    latent = jax.random.normal(jax.random.split(key)[0], (3, 8, 8, 1))
    sigmas = MODEL.levels()
    x = latent * np.float32((1 + sigmas[0] ** 2) ** 0.5)  # of the images with noise: their deviation is 1, and not 0
    wanted = page["sample"](lambda x, c: NETWORK.apply(nets["network"], x, c), x, sigmas)
    found = MODEL.sample(nets, key, 3, {})
    assert jnp.std(wanted) > 0.1
    np.testing.assert_allclose(found, jnp.clip(wanted, -1.0, 1.0), atol=1e-4)


def length(tree, other=None):
    """The length of a tree, or of the difference of two."""
    leaves = jax.tree.leaves(tree if other is None else jax.tree.map(jnp.subtract, tree, other))
    return sum(float(jnp.sum(leaf**2)) for leaf in leaves) ** 0.5
