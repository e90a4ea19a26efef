"""The training step: accumulation, phases, lazy ones, clipping, statistics, stages, compilations, meshes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Game, Growing, Regression, ToyData

from imagegen_jax import Experiment, Program
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape, bytes_per_device
from imagegen_jax.core.ema import FixedDecay, HalfLife
from imagegen_jax.core.model import Aux, Entry, Phase
from imagegen_jax.core.optim import SGD, Adam, CosineDecay
from imagegen_jax.core.state import networks
from imagegen_jax.core.step import prepare

pytestmark = pytest.mark.versions

ONE = MeshShape(data=1)


def experiment(model, optim, **changes):
    settings = {"name": "toy", "data": ToyData(), "batch_size": 16, "steps": 20, "mesh": ONE} | changes
    return Experiment(model=model, optim=optim, **settings)


def trained(value, steps):
    """The state and the last metrics after some steps."""
    program = Program(value)
    state, metrics = program.init(), {}
    for step in range(steps):
        state, metrics = program.advance(state, step, program.batch(step))
    return jax.device_get(state), jax.device_get(metrics)


def largest_difference(a, b):
    gaps = jax.tree.map(lambda x, y: np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(), a, b)
    return max(jax.tree.leaves(gaps), default=0.0)


REGRESSION = experiment(Regression(), {"network": SGD(0.1)})
GAME = experiment(
    Game(), {"generator": Adam(1e-2, 0.5), "critic": Adam(CosineDecay(1e-2), 0.5)},
    averages={"ema": HalfLife(1000.0), "slow": FixedDecay(0.99, networks=("generator",))},
)  # fmt: skip


@pytest.mark.slow
def test_one_step_of_sgd_by_hand():
    program = Program(experiment(Regression(noise=0.0), {"network": SGD(0.1)}))
    state = program.init()
    after, metrics = program.step(state)
    x = np.asarray(program.batch(0)["image"], np.float64).reshape(16, 4)
    kernel, bias = (np.asarray(state.params["network"]["Dense_0"][k], np.float64) for k in ("kernel", "bias"))
    error = x @ kernel + bias - 2 * x
    new = after.params["network"]["Dense_0"]
    np.testing.assert_allclose(new["bias"], bias - 0.1 * 2 * error.mean(0) / 4, atol=1e-6)
    np.testing.assert_allclose(new["kernel"], kernel - 0.1 * 2 * x.T @ error / (16 * 4), atol=1e-6)
    assert float(metrics["regress/loss"]) == pytest.approx(np.mean(error**2), rel=1e-5)
    assert int(after.step) == 1 and int(state.step) == 0  # the state that was handed in remains usable


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [2, 4])
@pytest.mark.parametrize("value", [REGRESSION, GAME], ids=["regression", "game"])
def test_accumulated_gradients_equal_plain_ones(value, microbatches):
    value = dataclasses.replace(value, optim={name: SGD(0.1) for name in value.optim})
    plain, plain_metrics = trained(value, 4)
    parts, parts_metrics = trained(dataclasses.replace(value, microbatches=microbatches), 4)
    assert largest_difference(plain.params, parts.params) < 1e-6
    for name in plain_metrics:
        if not name.endswith("grad_norm"):
            assert parts_metrics[name] == pytest.approx(plain_metrics[name], rel=1e-5)


@pytest.mark.slow
def test_statistics_are_threaded_through_microbatches():
    state, _ = trained(dataclasses.replace(GAME, microbatches=4), 3)
    assert state.stats["critic"]["pool"]["count"] == 12
    assert state.stats["critic"]["pool"]["count"].dtype == np.int32


@pytest.mark.slow
@pytest.mark.parametrize("value", [REGRESSION, GAME], ids=["regression", "game"])
def test_one_device_equals_eight(value):
    one, _ = trained(value, 4)
    for mesh in (MeshShape(8), MeshShape(2, 4)):
        many, _ = trained(dataclasses.replace(value, mesh=mesh), 4)
        assert largest_difference(one.params, many.params) < 2e-7
        assert largest_difference(one.ema, many.ema) < 2e-7


def test_frozen_networks_stay_and_trained_ones_move():
    program = Program(GAME)
    before, (after, _) = jax.device_get(program.init()), trained(GAME, 4)
    assert largest_difference(before.params["frozen"], after.params["frozen"]) == 0
    assert largest_difference(before.params["generator"], after.params["generator"]) > 0
    assert largest_difference(before.params["critic"], after.params["critic"]) > 0
    assert set(after.ema) == {"generator", "critic"}
    assert set(after.ema["generator"]) == {"ema", "slow"} and set(after.ema["critic"]) == {"ema"}


def test_phases_are_due_as_they_say():
    program = Program(GAME)
    state, seen = program.init(), []
    for step in range(8):
        state, metrics = program.advance(state, step, program.batch(step))
        seen.append({name.split("/")[0] for name in metrics})
    assert [("penalty" in names, "generator" in names) for names in seen] == [
        (False, False), (False, True), (False, False), (True, True),
    ] * 2  # fmt: skip
    counts = [int(state.opt[name][0].count) for name in ("generator", "critic")]
    assert counts == [4, 10]  # updates differ from steps, and schedules follow steps


@dataclasses.dataclass(frozen=True)
class Reporting(Regression):
    """Two phases that report the numbers they draw, and how far the averages are from the weights."""

    def phases(self, stage):
        return tuple(Phase(("network",), self.loss, name) for name in ("one", "two"))

    def loss(self, nets, inputs):
        loss, _ = super().loss(nets, inputs)
        drawn = jax.vmap(jax.random.uniform)(inputs.keys)
        bias, averaged = (n["network"]["params"]["Dense_0"]["bias"] for n in (nets, inputs.averaged))
        gap = jnp.abs(jax.lax.stop_gradient(bias) - averaged).max()
        return loss, Aux({"first": drawn[0], "last": drawn[-1], "batch": jax.random.uniform(inputs.key), "gap": gap})


@pytest.mark.slow
def test_every_row_phase_step_and_seed_draws_numbers_of_its_own():
    drawn = []
    for seed in (0, 1):
        program = Program(experiment(Reporting(), {"network": SGD(0.1)}, seed=seed))
        state = program.init()
        for step in range(2):
            state, metrics = program.advance(state, step, program.batch(step))
            drawn += [float(number) for name, number in metrics.items() if name.endswith(("first", "last", "batch"))]
    assert len(set(drawn)) == 24


@pytest.mark.slow
def test_a_phase_starts_where_the_one_before_it_ended_and_sees_the_averages():
    value = experiment(Reporting(noise=0.0), {"network": SGD(0.1)}, averages={"ema": FixedDecay(0.9)})
    (before, _), (_, metrics) = trained(value, 1), trained(value, 2)
    assert metrics["two/loss"] < metrics["one/loss"]
    bias, averaged = (networks(before, name)["network"]["params"]["Dense_0"]["bias"] for name in (None, "ema"))
    assert metrics["one/gap"] == pytest.approx(np.abs(bias - averaged).max(), rel=1e-5)
    assert metrics["two/gap"] > metrics["one/gap"] > 0


@pytest.mark.slow
def test_augmentations_follow_one_another_with_keys_of_their_own():
    def noisy(batch, keys):
        return {**batch, "image": batch["image"] + jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)}

    def doubled(batch, keys):
        return {**batch, "image": 2 * batch["image"]}

    batch, key = {"image": np.full((3, 1, 1, 1), 255, np.uint8)}, jax.random.key(0)
    first = np.ravel(prepare((noisy,), batch, key)["image"]) - 1
    both = np.ravel(prepare((noisy, doubled, noisy), batch, key)["image"]) - 2 * (1 + first)
    numbers = np.concatenate([first, both])
    assert (0 < numbers).all() and (numbers < 1).all() and len(set(numbers.round(4))) == 6


def moved(before, after):
    return np.sqrt(sum(jax.tree.leaves(jax.tree.map(lambda a, b: np.sum((a - b) ** 2), before, after))))


@pytest.mark.slow
def test_the_rate_of_a_network_with_a_lazy_phase_is_corrected():
    """A penalty at every fourth step: 4/5 of the rate (`lazy_correction`), also where it is not due."""
    program = Program(experiment(Game(), {"generator": SGD(1.0), "critic": SGD(1.0)}))
    state = program.init()
    after, metrics = program.step(state)
    distance = moved(state.params["critic"], after.params["critic"])
    assert distance == pytest.approx(0.8 * float(metrics["critic/grad_norm"]), rel=1e-4)


@pytest.mark.slow
def test_schedules_follow_the_steps_of_the_run():
    """A generator that is updated every second step reads its rate at the step, not at its own count."""
    rate = CosineDecay(1.0, steps=8)
    value = experiment(Game(), {"generator": SGD(rate), "critic": SGD(0.0)})
    program = Program(value)
    state = program.init()
    for step in range(4):
        before = jax.device_get(state.params["generator"])
        state, metrics = program.advance(state, step, program.batch(step))
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(
        jax.tree.leaves(before), jax.tree.leaves(jax.device_get(state.params["generator"])), strict=True)))  # fmt: skip
    wanted = 0.5 * (1 + np.cos(np.pi * 3 / 8))
    assert moved / float(metrics["generator/grad_norm"]) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_gradients_are_clipped_by_their_global_norm():
    value = dataclasses.replace(REGRESSION, optim={"network": SGD(1.0)}, clip_norm=0.01)
    program = Program(value)
    state = program.init()
    after, metrics = program.step(state)
    moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), state.params, after.params)
    assert float(metrics["regress/grad_norm"]) > 0.01
    assert float(jnp.sqrt(sum(jax.tree.leaves(moved)))) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_a_norm_below_the_limit_is_left_alone_and_reported_as_it_was():
    plain, wanted = trained(REGRESSION, 1)
    loose, _ = trained(dataclasses.replace(REGRESSION, clip_norm=1e3), 1)
    assert largest_difference(plain.params, loose.params) < 1e-7
    _, metrics = trained(dataclasses.replace(REGRESSION, clip_norm=0.01), 1)
    assert metrics["regress/grad_norm"] == pytest.approx(wanted["regress/grad_norm"], rel=1e-5)


@pytest.mark.slow
def test_a_step_is_skipped_unless_its_norm_is_below_the_limit():
    """Weights, optimizer, statistics and averages stay; the step is counted, so that the next sees other rows."""
    value = dataclasses.replace(GAME, clip_norm=1e-3)
    plain, _ = trained(value, 2)
    loose, found = trained(dataclasses.replace(value, skip_norm=1e3), 2)
    assert largest_difference(plain, loose) < 1e-7 and found["critic/skipped"] == found["generator/skipped"] == 0
    tight = dataclasses.replace(value, skip_norm=2e-3)  # above the clipped norm, and below the one before
    after, found = Program(tight).step(loose)
    assert found["critic/skipped"] == 1 and int(after.step) == 3
    assert largest_difference(loose.ema["generator"]["slow"]["params"], loose.params["generator"]) > 1e-3
    assert largest_difference(jax.device_get(after).replace(step=loose.step), loose) == 0


@pytest.mark.slow
def test_the_limit_of_skipping_is_that_of_the_norm_itself():
    norm = float(trained(REGRESSION, 1)[1]["regress/grad_norm"])
    for share, skipped in ((0.9, 1), (1.1, 0)):
        _, found = trained(dataclasses.replace(REGRESSION, skip_norm=share * norm), 1)
        assert found["regress/skipped"] == skipped


@pytest.mark.slow
def test_averages_include_the_step_just_taken():
    state, _ = trained(dataclasses.replace(GAME, averages={"ema": HalfLife(1000.0)}), 1)
    kernel = state.ema["critic"]["ema"]["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, state.params["critic"]["Dense_0"]["kernel"])  # ramp: the first is a copy
    assert networks(state, "ema")["critic"]["pool"]["count"] == 1  # other collections are taken as they are


@pytest.mark.slow
def test_a_step_is_compiled_once_for_each_stage_and_due():
    value = dataclasses.replace(GAME, optim={"generator": SGD(0.123), "critic": SGD(0.1)})
    before = compiling.compilations()
    trained(value, 8)
    assert compiling.compilations() - before == 3  # nothing lazy due; generator; generator and penalty
    trained(dataclasses.replace(value, steps=99, seed=5, log_every=7), 8)
    assert compiling.compilations() - before == 3  # of these, none is part of the compiled step


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [GAME, experiment(Growing(), {"network": Adam(1e-2)}, averages={"ema": FixedDecay(0.5)})]
)
def test_a_step_compiled_ahead_from_shapes_is_the_step_that_the_state_needs(value):
    value = dataclasses.replace(value, clip_norm=1.5 + value.batch_size)  # unlike any other test's
    program = Program(value)
    program.compile_ahead(0).result()
    before = compiling.compilations()
    state, _ = program.advance(program.init(), 0, program.batch(0))
    assert compiling.compilations() == before and int(state.step) == 1


@pytest.mark.slow
def test_a_new_stage_restarts_what_the_model_names():
    value = experiment(Growing(), {"network": Adam(1e-2)}, averages={"ema": FixedDecay(0.5)})
    four, _ = trained(value, 4)
    five, _ = trained(value, 5)
    assert int(four.opt["network"][0].count) == 4 and int(five.opt["network"][0].count) == 1
    halved = jax.tree.map(lambda x: 0.5 * x, four.params)
    assert largest_difference(halved, five.params) < 0.0101  # one step of Adam from half the weights
    assert jax.tree.structure(Program(value).abstract_state(5)) == jax.tree.structure(five)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
def test_averages_go_on_where_the_model_does_not_name_them(fresh):
    """With a rate of 0 the weights are w until step 4 and w / 2 from then on; an average has all of either, or half."""

    @dataclasses.dataclass(frozen=True)
    class Halved(Growing):
        def enter(self, stage, nets):
            entry = super().enter(stage, nets)
            return entry if fresh else entry._replace(fresh_averages=())

    value = experiment(Halved(), {"network": SGD(0.0)}, averages={"ema": FixedDecay(0.5)})
    four, five = (trained(value, steps)[0] for steps in (4, 5))
    expected = jax.tree.map(lambda w: (0.5 if fresh else 0.75) * w, four.params["network"])
    assert largest_difference(expected, five.ema["network"]["ema"]["params"]) < 1e-7


@pytest.mark.slow
def test_the_first_stage_is_entered_too():
    @dataclasses.dataclass(frozen=True)
    class FromZero(Growing):
        def enter(self, stage, nets):
            return Entry(jax.tree.map(jnp.zeros_like, nets)) if stage == "one" else super().enter(stage, nets)

    state, _ = trained(experiment(FromZero(), {"network": SGD(0.0)}), 1)
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
def test_the_first_step_of_a_stage_is_compiled_for_the_networks_that_it_begins_with():
    @dataclasses.dataclass(frozen=True)
    class Gaining(Growing):
        def enter(self, stage, nets):
            return Entry(nets | {"copy": nets["network"]} if stage == "two" else nets)

    program = Program(experiment(Gaining(), {"network": SGD(0.1)}))
    program.compile_ahead(4).result()
    state = program.init()
    for step in range(5):
        state, _ = program.advance(state, step, program.batch(step))
    assert set(state.params) == {"network", "copy"}


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        ({"network": {"pool": {"count": 1.0}}}, "structure"),
        ({"nobody": {}}, "nobody"),
    ],
)
def test_changed_statistics_are_refused(stats, message):
    @dataclasses.dataclass(frozen=True)
    class Careless(Regression):
        def loss(self, nets, inputs):
            loss, aux = super().loss(nets, inputs)
            return loss, Aux(aux.metrics, stats)

    with pytest.raises((KeyError, TypeError), match=message):
        trained(experiment(Careless(), {"network": SGD(0.1)}), 1)


def test_a_counter_turned_float_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Careless(Game):
        def critic_loss(self, nets, inputs):
            loss, _ = super().critic_loss(nets, inputs)
            return loss, Aux({}, {"critic": {"pool": {"count": nets["critic"]["pool"]["count"] * 0.5}}})

    with pytest.raises(TypeError, match=r"critic.*pool.*count.*int32.*float32"):
        trained(experiment(Careless(), {"generator": SGD(0.1), "critic": SGD(0.1)}), 1)


@pytest.mark.slow
def test_state_is_sharded_over_fsdp():
    @dataclasses.dataclass(frozen=True)
    class Wide(Regression):
        def init(self, key, batch):
            return {"network": {"params": {"kernel": jax.random.normal(key, (512, 64)), "bias": jnp.zeros(64)}}}

    whole = Program(experiment(Wide(), {"network": Adam()}, mesh=MeshShape(8))).init()
    split = Program(experiment(Wide(), {"network": Adam()}, mesh=MeshShape(1, 8))).init()
    assert 7 < bytes_per_device(whole) / bytes_per_device(split) <= 8
    network = split.params["network"]
    assert network["kernel"].sharding.spec == jax.P("fsdp", None)  # its largest axis
    assert network["bias"].is_fully_replicated  # too small to be worth it
    assert largest_difference(jax.device_get(whole), jax.device_get(split)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 12, "mesh": MeshShape(8)}, "batch_size=12 is not divisible by 8 devices.*8, 16"),
        ({"batch_size": 8, "microbatches": 3}, "3 microbatches"),
        ({"mesh": MeshShape(3, 5)}, "does not fit 8 devices"),
        ({"optim": {}}, "no optimizer"),
        ({"optim": {"network": SGD(), "netwrok": SGD()}}, "netwrok"),
        ({"averages": {"ema": FixedDecay(networks=("other",))}}, "other"),
        ({"pretrained": {"first_stage": "runs/a"}}, "first_stage"),
        ({"data": ToyData(side=3)}, "3x3x1"),
    ],
)
def test_bad_experiments_are_refused_before_anything_is_compiled(changes, message):
    before = compiling.compilations()
    with pytest.raises(ValueError, match=message):
        Program(dataclasses.replace(REGRESSION, **changes))
    assert compiling.compilations() == before
