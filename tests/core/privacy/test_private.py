"""Private training: rows are clipped, noise has its scale, and without both it is the plain step, on any devices."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Game, Regression, ToyData

from imagegen_jax import Experiment, Program, fit
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.model import Aux, Inputs
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.privacy.poisson import PoissonRows, capacity
from imagegen_jax.core.privacy.private import KEPT, DifferentialPrivacy, private_gradients
from imagegen_jax.core.run_folder import compare_data, store
from imagegen_jax.core.step import gradients, make_inputs
from imagegen_jax.data.image import HorizontalFlip
from imagegen_jax.data.source import Dataset
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.nn.affine import SmallWarps
from imagegen_jax.nn.backbones.unet import UNet

ONE = MeshShape(data=1)
KEY = jax.random.key(0)
PRIVATE = DifferentialPrivacy(0.5, 2.0, 1e-3)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images of 2x2 that can be read row by row."""

    size: int = 200

    def open(self):
        return Dataset(np.random.default_rng(0).integers(0, 256, (self.size, 2, 2, 1), np.uint8))


def experiment(model=None, **changes):
    settings = {
        "name": "toy", "data": Pixels(), "optim": {"network": SGD(0.1)}, "batch_size": 16, "steps": 20, "mesh": ONE,
        "private": PRIVATE,
    }  # fmt: skip
    return Experiment(model=model or Regression(), **settings | changes)


@pytest.fixture(scope="module")
def started():
    """A program, its first state, and the inputs of its first phase with 16 rows of which 13 were drawn."""
    program = Program(experiment())
    state = program.init()
    images = np.random.default_rng(1).uniform(-1, 1, (16, 2, 2, 1)).astype(np.float32)
    batch = {"image": jnp.asarray(images), KEPT: jnp.arange(16) < 13}
    return program.spec, state, make_inputs(program.spec, state, batch, KEY)


def differentiating(loss):
    """What the step makes of a loss: gradients, and metrics with the loss."""

    def found(trained, stats, inputs):
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(trained, stats, inputs)
        return grads, aux._replace(metrics={**aux.metrics} | dict(loss=value))

    return found


def privately(started, privacy, inputs=None, microbatches=1):
    """The private gradients of the first phase, of 16 rows on average."""
    spec, state, own = started
    phase = spec.model.phases(None)[0]

    def loss(trained, stats, inputs):
        return phase.loss({"network": {"params": trained["network"]}}, inputs)

    return private_gradients(privacy, 16, differentiating(loss), state.params, state.stats, inputs or own, microbatches)


@pytest.mark.parametrize("microbatches", [1, 4])
def test_with_neither_clip_nor_noise_it_is_the_plain_gradient(started, microbatches):
    spec, state, inputs = started
    found, metrics = jax.jit(privately, static_argnums=(0, 1, 3))(
        Static(started), DifferentialPrivacy(1e9, 0.0), None, microbatches
    )
    drawn = inputs._replace(batch={"image": inputs.batch["image"][:13]}, keys=inputs.keys[:13])
    plain, _, wanted = gradients(spec.model.phases(None)[0], state, drawn, 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b * 13 / 16, rtol=1e-5, atol=1e-7), found, plain)
    assert float(metrics["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-5)
    assert float(metrics["rows"]) == 13 and float(metrics["clipped"]) == 0


class Static(tuple):
    """Arguments that are constants of a jitted function."""

    __hash__ = object.__hash__


def test_no_row_moves_the_gradient_by_more_than_the_clip(started):
    """A planted image, a thousand times as bright, moves it by C / L; without the clip, by far more."""
    _, _, inputs = started
    bright = inputs.batch["image"].at[5].multiply(1000.0)
    without = inputs._replace(batch={"image": bright, KEPT: inputs.batch[KEPT].at[5].set(False)})
    with_it = inputs._replace(batch={"image": bright, KEPT: inputs.batch[KEPT]})

    def moved(clip):
        both = (privately(started, DifferentialPrivacy(clip, 0.0), given)[0] for given in (with_it, without))
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, *both)))

    assert moved(0.5) == pytest.approx(0.5 / 16, rel=1e-3)
    assert moved(1e9) > 100


def test_the_noise_has_the_deviation_that_is_asked_for(started):
    _, _, inputs = started
    calm = privately(started, dataclasses.replace(PRIVATE, noise=0.0))[0]

    @jax.jit
    def noise(key):
        noisy = privately(started, PRIVATE, inputs._replace(key=key))[0]
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.tree.map(jnp.subtract, noisy, calm))])

    found = np.asarray(jax.lax.map(noise, jax.random.split(KEY, 500)))  # 500 times 20 weights
    assert found.std() == pytest.approx(2.0 * 0.5 / 16, rel=0.03)
    assert np.abs(np.corrcoef(found.T) - np.eye(20)).max() < 0.2  # of each weight its own
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(found.size)


@pytest.mark.slow
def test_eight_devices_and_microbatches_take_the_same_steps():
    ends = []
    for changes in ({}, {"mesh": MeshShape(data=8)}, {"microbatches": 2}):
        program = Program(experiment(**changes))
        state = program.init()
        for step in range(3):
            state, metrics = program.advance(state, step, program.batch(step))
        ends.append(jax.device_get((state.params, metrics["regress/loss"])))
    for other in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ends[0], other)


# --- rows that are drawn ---------------------------------------------------------------------------------------------


def test_each_row_is_drawn_by_itself_with_the_probability_of_the_batch():
    rows = PoissonRows(Pixels().open(), 16, 8)
    counts = np.stack([np.isin(np.arange(200), rows.drawn(step, 3)) for step in range(2000)])
    sizes = counts.sum(axis=1)
    assert rows.shape % 8 == 0 and rows.capacity == capacity(200, 16) == 32
    assert sizes.mean() == pytest.approx(16, abs=0.3) and sizes.std() == pytest.approx((16 * 0.92) ** 0.5, abs=0.2)
    assert np.abs(counts.mean(axis=0) - 0.08).max() < 5 * (0.08 * 0.92 / 2000) ** 0.5
    assert np.abs(np.corrcoef(counts[:, :20].T) - np.eye(20)).max() < 0.1


def test_a_batch_follows_from_seed_and_step_and_its_parts_are_its_rows():
    data = Pixels().open()
    rows = PoissonRows(data, 16, 8)
    batch, drawn = rows.batch(7, 32, 3), rows.drawn(7, 3)
    assert batch[KEPT].sum() == len(drawn) and batch[KEPT][: len(drawn)].all()
    np.testing.assert_array_equal(batch["image"][: len(drawn)], data.images[drawn])
    part = rows.batch(7, 32, 3, slice(8, 16))
    jax.tree.map(np.testing.assert_array_equal, part, {name: leaf[8:16] for name, leaf in batch.items()})
    assert not np.array_equal(rows.drawn(8, 3)[:5], drawn[:5]) and not np.array_equal(rows.drawn(7, 4)[:5], drawn[:5])


def test_more_rows_than_there_is_room_for_are_left_out_by_lot():
    rows = PoissonRows(Pixels().open(), 16, 8)
    rows.capacity = 10
    drawn = np.concatenate([rows.drawn(step, 0) for step in range(400)])
    assert max(len(rows.drawn(step, 0)) for step in range(400)) == 10
    assert 0.8 < np.mean(drawn < 100) / 0.5 < 1.2  # not the first ones


# --- what is refused -------------------------------------------------------------------------------------------------


class Coupled(Regression):
    """A loss that subtracts the mean of the batch."""

    def loss(self, nets, inputs):
        image = inputs.batch["image"]
        return super().loss(nets, inputs._replace(batch={"image": image - image.mean(axis=0)}))


@dataclasses.dataclass(frozen=True)
class Mixed:
    """An augmentation that mixes each image with the next one of the batch, as mixup does."""

    def __call__(self, batch, keys):
        return {**batch, "image": (batch["image"] + jnp.roll(batch["image"], 1, axis=0)) / 2}


class Often(Pixels):
    """Images of which the first comes twice an epoch."""

    def open(self):
        return dataclasses.replace(super().open(), epoch=np.r_[0, np.arange(self.size)])


class Counting(Regression):
    """A loss that returns a statistic."""

    def init(self, key, batch):
        return {"network": {**super().init(key, batch)["network"], "pool": {"count": jnp.int32(0)}}}

    def loss(self, nets, inputs):
        loss, aux = super().loss({"network": {"params": nets["network"]["params"]}}, inputs)
        return loss, Aux(aux.metrics, {"network": {"pool": {"count": jnp.int32(1)}}})


DIFFUSION = Diffusion(UNet(width=4, multipliers=(1,), blocks=1), image_shape=(2, 2, 1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": Game(), "optim": {"generator": SGD(0.1), "critic": SGD(0.1)}}, r"a Game has 3 phases \(critic"),
        ({"model": Coupled()}, "the loss 'regress' of a Coupled couples the rows"),
        ({"model": dataclasses.replace(DIFFUSION, coupling="optimal")}, "of a Diffusion couples the rows"),
        ({"data": ToyData()}, "cannot be read row by row"),
        ({"data": Often()}, "--private: these data have images that come more often than others"),
        ({"augment": (HorizontalFlip(), Mixed())}, "augment, Mixed, couples the rows of a batch: 'image'"),
        ({"batch_size": 200}, "batch_size=200 of 200 images"),
        ({"private": DifferentialPrivacy(delta=0.01)}, "delta 0.01: with 200 images .* less than 0.005"),
    ],
)
def test_what_cannot_be_private_is_refused_before_anything_is_compiled(changes, words):
    with pytest.raises(ValueError, match=words):
        Program(experiment(**changes))


def test_augmentations_of_each_row_alone_are_private():
    assert Program(experiment(augment=(HorizontalFlip(), SmallWarps()))).batch(0)[KEPT].dtype == bool


def test_a_private_run_goes_on_with_no_other_data(tmp_path):
    """Epsilon is of all steps with the number of images that there is: more images would make it too small."""
    own = experiment()
    store(tmp_path, own, {}, Pixels().open())
    with pytest.raises(RunFolderError, match=r"data.images: 200 there, 900 now\n(.|\n)*of one set of data"):
        compare_data(tmp_path, {}, Pixels(900).open(), resume_with_changes=True)
    store(tmp_path, experiment(private=None), {}, Pixels().open())
    assert "data.images" in compare_data(tmp_path, {}, Pixels(900).open(), resume_with_changes=True)


def test_statistics_of_a_batch_are_refused_while_the_step_is_traced(started):
    with pytest.raises(TypeError, match="returns statistics of its batch, of network"):
        program = Program(experiment(Counting()))
        program.step(program.init())


def test_a_diffusion_of_independent_noise_is_private():
    assert Program(experiment(DIFFUSION)).batch(0)[KEPT].dtype == bool
    with pytest.raises(ValueError, match="clip"):
        experiment(private=DifferentialPrivacy(clip=0.0))


def test_inputs_of_rows_alone_have_keys_of_their_own(started):
    """A loss that draws by the key of the whole batch draws another number for each row."""
    _, state, inputs = started

    def loss(trained, stats, inputs: Inputs):
        drawn = jax.random.normal(inputs.key)
        return 0.0 * jnp.sum(trained["network"]["Dense_0"]["bias"]), Aux({"drawn": drawn, "square": drawn**2})

    privacy = DifferentialPrivacy(1e9, 0.0)
    _, metrics = private_gradients(privacy, 16, differentiating(loss), state.params, state.stats, inputs, 1)
    assert float(metrics["square"] - metrics["drawn"] ** 2) > 0.1  # a variance


def test_averages_follow_as_many_images_as_are_drawn_on_average():
    """Not so many as there is room for: half of the weights are older than eight steps of 16 images."""
    program = Program(experiment(averages={"ema": HalfLife(128, ramp=None)}))
    state = program.init()
    after, _ = program.step(state)
    leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])  # noqa: E731
    old, new, mean = leaf(state.params), leaf(after.params), leaf(after.ema["network"]["ema"])
    np.testing.assert_allclose(mean, new + (old - new) * 0.5 ** (1 / 8), rtol=1e-4, atol=1e-6)


class Follower:
    """A tracker that keeps what it is told of the experiment, and nothing else."""

    def check(self):
        return None

    def open(self, run):
        self.config = run.config
        return self

    def write(self, step, metrics):
        pass

    def image(self, step, picture):
        pass

    def close(self):
        pass


@pytest.mark.slow
def test_a_private_run_says_what_it_spends_before_and_after(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("imagegen_jax.core.privacy.accountant.is_there", lambda: True)
    right = (PRIVATE, 200, 16, 2)
    monkeypatch.setattr("imagegen_jax.core.privacy.accountant.epsilon", lambda *given: float(given == right))
    follower = Follower()
    fit(experiment(steps=2, seed=12345), tmp_path / "private", track=[follower])
    assert follower.config["batch_size"] == 16 and "seed" not in follower.config  # it is a secret
    words = "private: epsilon 1 at delta 0.001 after 2 steps (noise 2, 16 of 200 images a step)"
    assert capsys.readouterr().err.count(words) == 2
    fit(experiment(steps=2, private=None), tmp_path / "plain")
    assert "private" not in capsys.readouterr().err.replace(str(tmp_path), "")
