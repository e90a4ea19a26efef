"""The health of training: closed forms of what is watched, when it warns, and that a run says so."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Aux, Phase
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.reporting import health
from imagegen_jax.core.reporting.health import PATIENCE, Watch

pytestmark = pytest.mark.versions


def images(*shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def test_diversity_is_the_root_mean_square_over_all_pairs():
    x = np.asarray(images(9, 4, 3, 2))
    pairs = [np.sum((x[i] - x[j]) ** 2) for i in range(9) for j in range(9) if i != j]
    np.testing.assert_allclose(health.diversity(x), np.sqrt(np.mean(pairs)), rtol=1e-6)
    assert health.diversity(x[:1]) == 0


def test_health_is_relative_to_the_data():
    x = images(16, 4, 4, 1)
    found = health.image_health(0.5 * x, x)
    np.testing.assert_allclose(found["diversity"], 0.5, rtol=1e-6)
    assert health.image_health(jnp.tile(x[:1], (16, 1, 1, 1)), x)["diversity"] < 1e-6
    half_black = jnp.concatenate([-jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1))])
    assert health.image_health(x, half_black)["saturated_data"] == 0.5


def test_signs_of_logits():
    found = health.sign_statistics(jnp.array([3.0, 1, -2, 5]), jnp.array([-1.0, -2]))
    assert (found["real_sign"], found["fake_sign"]) == (0.5, -1)


def test_players_are_networks_trained_apart():
    phases = tuple(Phase((net,), None, name) for net, name in (("d", "critic"), ("d", "penalty"), ("g", "generator")))
    norms = {"critic/grad_norm": 4.0, "penalty/grad_norm": 9.0, "generator/grad_norm": 2.0}
    assert health.gradient_ratio(phases, norms) == {"players/grad_norm_ratio": 0.5}
    assert health.gradient_ratio(phases[:2], norms) == {}
    assert health.gradient_ratio(phases, {"generator/grad_norm": 2.0}) == {}, "only one of them was due"


def test_a_warning_comes_once_until_the_metric_has_been_back():
    watch = Watch()
    said = [bool(watch.look(step, {"g/diversity": value})) for step, value in enumerate([0.1, 0.9, 0.1, 0.1, 0.9, 0.2])]
    assert said == [False, False, True, False, False, True], "the first is a model that has not begun"
    (warning,) = Watch().look(PATIENCE, {"g/diversity": 0.1, "d/real_sign": 0.5, "g/loss": None})
    assert warning.startswith(f"step {PATIENCE:,}: g/diversity is 0.1, below 0.25")


@dataclasses.dataclass(frozen=True)
class Collapsing(Regression):
    """Its images are as diverse as the data's until step 6, and one image from then on."""

    def loss(self, nets, inputs):
        loss, aux = super().loss(nets, inputs)
        x = inputs.batch["image"]
        made = jnp.where(inputs.step < 6, x, x[:1])
        return loss, Aux({**aux.metrics, "codebook_used": jnp.float32(0.01)}, aux.stats, made)


EXPERIMENT = ig.Experiment(
    name="collapsing", model=Collapsing(), data=ToyData(), optim={"network": Adam(1e-3)}, batch_size=16, steps=12,
    log_every=2, sample_every=0, checkpoint_every=8, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


@pytest.mark.slow
def test_a_run_warns_of_a_collapse_and_names_the_step(tmp_path, capsys):
    ig.fit(dataclasses.replace(EXPERIMENT, steps=10), tmp_path)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "warning: step 8: regress/diversity is" in said
    ig.fit(EXPERIMENT, tmp_path, resume_with_changes=True)
    assert "warning" not in capsys.readouterr().err, "a resumed run does not say it again"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["regress/diversity"] for line in lines if "regress/diversity" in line}
    assert list(found.values()) == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-5)
    assert {"samples/diversity", "samples/saturated", "samples/saturated_data"} <= set(lines[-1])


@pytest.mark.slow
def test_health_does_not_depend_on_the_devices():
    def second_step(**changes):
        program = ig.Program(dataclasses.replace(EXPERIMENT, **changes))
        return program.step(program.step(program.init())[0])[1]

    one, eight = (second_step(mesh=MeshShape(data=n)) for n in (1, 8))
    assert "regress/saturated" in one and "players/grad_norm_ratio" not in one
    assert {name: float(x) for name, x in eight.items()} == pytest.approx(
        {n: float(x) for n, x in one.items()}, rel=1e-5
    )
    players = second_step(model=Game(), optim={"generator": Adam(1e-3), "critic": Adam(1e-3)})
    wanted = players["generator/grad_norm"] / players["critic/grad_norm"]
    np.testing.assert_allclose(players["players/grad_norm_ratio"], wanted, rtol=1e-6)
