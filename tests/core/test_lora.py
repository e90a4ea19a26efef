"""Low-rank pairs in place of weights: what is trained, kept, merged and refused."""

import contextlib
import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Game, Growing, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.lora import LoRA, adapted, chosen_kernels, merged
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import SGD, Adam, ClipWeights
from imagegen_jax.core.state import networks

ONE = MeshShape(data=1)
BASE = ig.Experiment(
    name="base", model=Regression(), data=ToyData(), optim={"network": SGD(0.5)}, batch_size=16, steps=4,
    checkpoint_every=2, sample_every=0, samples=4, mesh=ONE,
)  # fmt: skip
PAIRS = dataclasses.replace(
    BASE, lora=LoRA(2, alpha=3.0), pretrained={"network": "random"}, averages={"ema": FixedDecay(0.5)}
)
GAME = dataclasses.replace(
    BASE, model=Game(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)}, lora=LoRA(1, networks=("generator",)),
    pretrained={"generator": "random"},
)  # fmt: skip


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def after(experiment, steps):
    program = ig.Program(experiment)
    state = program.init()
    for step in range(steps):
        state, _ = program.advance(state, step, program.batch(step))
    return jax.device_get(state)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of pairs beside the weights of another run."""
    root = tmp_path_factory.mktemp("lora")
    ig.fit(dataclasses.replace(BASE, steps=2), root / "base", quiet=True)
    return ig.fit(dataclasses.replace(PAIRS, pretrained={"network": str(root / "base")}), root / "lora", quiet=True)


# --- what is learned -------------------------------------------------------------------------------------------------


def test_pairs_begin_as_nothing():
    state = ig.Program(PAIRS).init()
    assert_same(networks(state), networks(ig.Program(BASE).init()))
    assert_same(networks(state, "ema"), networks(state))
    pair = state.params["network"]["Dense_0"]["kernel"]
    assert pair["A"].shape == (4, 2) and np.abs(pair["A"]).min() > 0
    assert pair["B"].shape == (2, 4) and not np.any(pair["B"])


def test_a_pair_is_a_layer_of_its_own_and_one_on_top_of_it():
    """A convolution with W + s B A is that with W, and s times a 1x1 convolution with B of that with A."""
    keys, x = jax.random.split(jax.random.key(0), 2), jax.random.normal(jax.random.key(1), (2, 5, 5, 3))
    whole, narrow, top = (nn.Conv(n, (k, k), use_bias=False) for n, k in ((4, 3), (2, 3), (4, 1)))
    weights = whole.init(keys[0], x)
    pairs = adapted({"a": weights}, LoRA(2, alpha=5.0), ["a"], keys[1])
    a = pairs["a"]["params"]["kernel"]["A"]
    b = pairs["a"]["params"]["kernel"]["B"] = jax.random.normal(keys[1], (2, 4))
    lower = narrow.apply({"params": {"kernel": a}}, x)
    by_hand = whole.apply(weights, x) + 2.5 * top.apply({"params": {"kernel": b[None, None]}}, lower)
    found = merged(pairs)
    assert list(found) == ["a"] and list(found["a"]) == ["params"]
    np.testing.assert_allclose(whole.apply(found["a"], x), by_hand, atol=1e-5)


def test_a_step_by_hand_moves_pairs_alone():
    """From B = 0 on: dL/dB = s A^T dL/dW and dL/dA = 0."""
    before, one = jax.device_get(ig.Program(PAIRS).init()), after(PAIRS, 1)
    plain = after(BASE, 1)
    kernel = before.params["network.base"]["Dense_0"]["kernel"]
    slope = (kernel - plain.params["network"]["Dense_0"]["kernel"]) / 0.5
    old, new = (state.params["network"]["Dense_0"]["kernel"] for state in (before, one))
    np.testing.assert_allclose(new["B"], -0.5 * 1.5 * old["A"].T @ slope, atol=1e-6)
    np.testing.assert_array_equal(new["A"], old["A"])
    later = after(PAIRS, 3)
    assert_same(later.params["network.base"], before.params["network.base"])
    assert np.any(later.params["network"]["Dense_0"]["kernel"]["A"] != old["A"])
    by_hand = kernel + 1.5 * (pair := later.params["network"]["Dense_0"]["kernel"])["A"] @ pair["B"]
    np.testing.assert_allclose(networks(later)["network"]["params"]["Dense_0"]["kernel"], by_hand, atol=1e-6)


def test_optimizers_and_averages_are_of_pairs_alone():
    state = ig.Program(dataclasses.replace(PAIRS, optim={"network": Adam()})).init()
    shapes = {leaf.shape for leaf in jax.tree.leaves((state.opt, state.ema))}
    assert shapes == {(), (4, 2), (2, 4)}


def test_one_device_equals_eight():
    one, many = after(PAIRS, 4), after(dataclasses.replace(PAIRS, mesh=MeshShape(2, 4)), 4)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-7)


def test_some_networks_of_a_game_can_have_pairs():
    state = after(GAME, 2)
    assert set(state.params) == {"generator", "generator.base", "critic", "frozen"}
    assert "bias" in state.params["critic"]["Dense_0"] and state.stats["critic"]["pool"]["count"] == 2


def test_at_a_new_stage_what_was_learned_becomes_weights():
    """That model halves its network after four steps."""
    program = ig.Program(dataclasses.replace(PAIRS, model=Growing(), steps=8))
    state = program.init()
    for step in range(5):
        before = jax.device_get(state)
        state, _ = program.advance(state, step, program.batch(step))
    now, learned = jax.device_get(state), networks(before)["network"]["params"]
    assert_same(now.params["network.base"], jax.tree.map(lambda x: 0.5 * np.asarray(x), learned))
    old, new = (state.params["network"]["Dense_0"]["kernel"]["A"] for state in (before, now))
    assert np.abs(old - new).max() > 0.1  # drawn anew
    assert jax.tree.structure(program.abstract_state(5)) == jax.tree.structure(now)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_checkpoints_hold_no_weights(run):
    (frozen,) = (run.workdir / "frozen").iterdir()
    for path in (run.workdir / "checkpoints").glob("[0-9]*"):
        found = json.loads((path / "fingerprint" / "metadata").read_text())
        assert found["frozen"] == {"network.base": frozen.name}
        assert len(found["words"]) == 2 + 2 + 2  # step and scale; the pair; its average


def test_a_resumed_run_equals_one_that_was_not_stopped(run, tmp_path, capfd):
    folder = shutil.copytree(run.workdir, tmp_path / "lora")
    shutil.rmtree(folder / "checkpoints" / "4")
    shutil.rmtree(folder / "frozen")  # read where it came from, then
    assert_same(ig.fit(run.experiment, folder, quiet=True).state, run.state)
    assert "read from pretrained['network'] again" in capfd.readouterr().err  # as the experiment names it


def test_a_run_is_read_merged(run):
    again = ig.load(run.workdir, ["toys"])
    assert_same(again.nets, run.nets)
    assert_same(ig.load_network(run.workdir, "network"), run.nets["network"])
    np.testing.assert_array_equal(again.sample(4), run.sample(4))
    with pytest.raises(ValueError, match=r"no network 'judge'; it has \['network'\]"):
        ig.load_network(f"{run.workdir}:judge", "network")


def test_training_goes_on_from_what_was_learned(run):
    further = dataclasses.replace(BASE, pretrained={"network": str(run.workdir)})
    assert_same(networks(ig.Program(further).init())["network"], run.nets["network"])


# --- which kernels ---------------------------------------------------------------------------------------------------


class Attentive(nn.Module):
    """An attention after other layers, one of which has the name of a projection."""

    @nn.compact
    def __call__(self, x):
        return Attention(name="attention")(nn.Dense(8, name="out")(nn.Conv(6, (3, 3), name="conv_in")(x)))


class Attention(nn.Module):
    """The layers of an attention."""

    @nn.compact
    def __call__(self, x):
        return sum(nn.Dense(8, name=name)(x) for name in ("query", "key", "value", "out"))


def weights_of(network):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]


def chosen(lora, network=Attentive()):  # noqa: B008
    return sorted("/".join(path[:-1]) for path in chosen_kernels(lora, weights_of(network)))


def test_attention_is_chosen_where_there_is_any():
    assert chosen(LoRA(8)) == [f"attention/{name}" for name in ("key", "out", "query", "value")]
    assert chosen(LoRA(6, kernels=("query", "conv_*"))) == ["attention/query", "conv_in"]
    assert len(chosen(LoRA(2, kernels=("*",)))) == 6


def test_all_kernels_of_the_rank_are_chosen_where_there_is_none():
    both = nn.Sequential([nn.Conv(6, (3, 3)), nn.Dense(1)])
    assert chosen(LoRA(4), both) == ["layers_0"] and chosen(LoRA(1), both) == ["layers_0", "layers_1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": LoRA(5)}, "rank=5: no kernel has this rank; give --lora.rank 4 or less"),
        ({"lora": LoRA(5, kernels=("*",))}, "Dense_0 has a kernel of 4x4, whose rank is 4: give --lora.rank 4 or less"),
        ({"lora": LoRA(2, kernels=("Dens_0",))}, "'Dens_0' matches no layer with a kernel; the nearest are Dense_0"),
        ({"pretrained": {}}, r"--pretrained.network runs/a, a file; for a smoke run 'random'"),
        ({"lora": LoRA(2, networks=("judge",))}, r"'judge' is not trained; those are \['network'\]"),
        ({"optim": {"network": SGD(0.1, project=(ClipWeights(),))}}, r"project=ClipWeights: is for weights"),
    ],
)
def test_what_cannot_have_pairs_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ig.Program(dataclasses.replace(PAIRS, **changes))


def test_what_layers_are_in_is_named_as_it_is_chosen():
    weights = {"block_0": {"query": {"kernel": np.ones((4, 4))}}, "out": {"kernel": np.ones((4, 4))}}
    with pytest.raises(ValueError, match=r"'block_0' matches no layer with a kernel; the nearest are block_0/\*"):
        chosen_kernels(LoRA(2, kernels=("block_0",)), weights)
    assert list(chosen_kernels(LoRA(2, kernels=("block_0/*",)), weights)) == [("block_0", "query", "kernel")]


def test_options_make_pairs(capsys):
    found = parse_overrides(BASE, ["--pretrained.network", "random", "--lora.rank", "4"], "x")
    assert found.lora == LoRA(4) and found.pretrained == {"network": "random"}
    found = parse_overrides(BASE, ["--lora.alpha=2", "--lora.kernels", "query", "value"], "x")
    assert found.lora == LoRA(alpha=2.0, kernels=("query", "value"))
    assert parse_overrides(PAIRS, ["--lora", "None"], "x").lora is None
    assert from_dict(to_dict(PAIRS), ["toys"]) == PAIRS
    with contextlib.suppress(SystemExit):
        parse_overrides(BASE, ["--lora.rang", "4"], "x")
    assert "--lora.rank" in capsys.readouterr().err
