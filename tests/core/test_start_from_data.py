"""Networks that start from real data: from the first batch of training, whatever runs it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.model import Aux, Phase, StartsFromData
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.program import Program


class ActNorm(nn.Module):
    """y = (x - mean) / deviation, of the batch that it starts from (Kingma & Dhariwal 2018, section 3.1)."""

    @nn.compact
    def __call__(self, x):
        mean = self.param("mean", lambda key: jnp.mean(x, axis=0))
        deviation = self.param("deviation", lambda key: jnp.std(x, axis=0))
        return nn.Dense(4)((x - mean) / deviation)


@dataclasses.dataclass(frozen=True)
class Normalised:
    image_shape: tuple[int, int, int] = (2, 2, 1)
    starts_from_data: bool = True

    def init(self, key, batch):
        return {"network": ActNorm().init(key, batch["image"].reshape(len(batch["image"]), -1))}

    def phases(self, stage):
        return (Phase(("network",), self.loss, "shrink"),)

    def loss(self, nets, inputs):
        x = inputs.batch["image"].reshape(len(inputs.keys), -1)
        return jnp.mean(ActNorm().apply(nets["network"], x) ** 2), Aux({})


@dataclasses.dataclass(frozen=True)
class Shifted:
    """Moves each image by a number of its own."""

    def __call__(self, batch, keys):
        by = jax.vmap(jax.random.normal)(keys)
        return {**batch, "image": batch["image"] + by[:, None, None, None]}


EXPERIMENT = Experiment(
    "normalised", Normalised(), ToyData(), {"network": SGD(0.1)}, batch_size=16, steps=4, checkpoint_every=1
)


def start(**changes) -> dict:
    return Program(dataclasses.replace(EXPERIMENT, **changes)).init().params["network"]


def test_the_first_batch_is_that_of_step_0_in_the_order_of_the_seed():
    assert isinstance(Normalised(), StartsFromData)
    for seed in (0, 3):
        x = ToyData().open().batch(0, 16, seed)["image"].reshape(16, -1)
        found = start(seed=seed)
        np.testing.assert_allclose(found["mean"], x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found["deviation"], x.std(axis=0), rtol=1e-5)


def test_a_model_that_says_no_is_given_zeros_as_any_other():
    assert not start(model=Normalised(starts_from_data=False))["mean"].any()


def test_it_is_augmented_as_the_losses_see_it():
    experiment = dataclasses.replace(EXPERIMENT, augment=(Shifted(),))

    @dataclasses.dataclass(frozen=True)
    class Telling(Normalised):
        def loss(self, nets, inputs):
            return super().loss(nets, inputs)[0], Aux({"mean": jnp.mean(inputs.batch["image"])})

    program = Program(dataclasses.replace(experiment, model=Telling()))
    state = program.init()
    _, metrics = program.step(state)
    plain = start()["mean"].mean()
    assert float(state.params["network"]["mean"].mean()) == pytest.approx(float(metrics["shrink/mean"]), abs=1e-6)
    assert abs(float(metrics["shrink/mean"]) - float(plain)) > 0.01


def test_one_device_and_eight_start_alike():
    one, eight = start(mesh=MeshShape(data=1)), start(mesh=MeshShape(data=8))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=0, atol=1e-6), one, eight))


@pytest.mark.slow
def test_a_resumed_run_goes_on_from_where_it_was(tmp_path):
    whole = ig.fit(EXPERIMENT, tmp_path / "whole", quiet=True)
    ig.fit(dataclasses.replace(EXPERIMENT, steps=2), tmp_path / "part", quiet=True)
    resumed = ig.fit(EXPERIMENT, tmp_path / "part", resume_with_changes=True, quiet=True)
    assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == b).all(), whole.state, resumed.state))
    assert whole.state.params["network"]["mean"].any()
