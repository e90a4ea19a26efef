"""What networks are told: dropped, nulled and guided by in one way, also in networks and models of a user's own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.guidance.fields import ClassifierFree
from imagegen_jax.diffusion.guidance.functions import guiding, unguided
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.vdm import VDM
from imagegen_jax.diffusion.models.vdm_networks import VDMUNet
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.conditioning import (
    Conditioning,
    Rates,
    conditioning_of,
    drop_conditions,
    null_conditions,
)
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.edm2 import EDM2UNet
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)

# --- dropped and nulled ----------------------------------------------------------------------------------------------


def told(rows):
    """Of each kind, with every second token masked."""
    ones = jnp.ones((rows, 4, 3))
    return Conditioning(jnp.ones((rows, 2)), ones, jnp.arange(rows * 4).reshape(rows, 4) % 2 == 0, ones[..., None])


def kept(conditioning):
    """Which rows have their labels, tokens and source, each whole or not at all."""
    values = [np.asarray(value).reshape(len(value), -1) for value in conditioning[:2]]
    values.append(np.asarray(conditioning.source).reshape(len(values[0]), -1))
    assert all((value == value[:, :1]).all() for value in values)
    return np.stack([value[:, 0] == 1 for value in values])


def test_each_condition_is_dropped_at_its_own_rate():
    rates, keys, all_told = Rates(0.1, 0.5, 0.8), jax.random.split(KEY, 4000), told(4000)
    dropped = drop_conditions(all_told, rates, keys)
    there = kept(dropped)
    np.testing.assert_allclose(1 - there.mean(axis=1), rates, atol=0.03)
    together = np.corrcoef(there)[np.triu_indices(3, 1)]
    assert np.abs(together).max() < 0.06  # whatever happens to the others
    np.testing.assert_array_equal(dropped.token_mask, all_told.token_mask & there[1][:, None])


def test_what_is_dropped_of_a_row_follows_from_its_key_and_its_rate():
    rates, keys, all_told = Rates(0.3, 0.5, 0.7), jax.random.split(KEY, 64), told(64)
    there = kept(drop_conditions(all_told, rates, keys))
    part = jax.tree.map(lambda leaf: leaf[20:40], (all_told, keys))
    np.testing.assert_array_equal(kept(drop_conditions(part[0], rates, part[1])), there[:, 20:40])
    alone = kept(drop_conditions(all_told, Rates(tokens=0.5), keys))
    np.testing.assert_array_equal(alone, [np.ones(64), there[1], np.ones(64)])


def test_what_is_never_dropped_is_left_as_it_is():
    all_told = told(2)
    assert drop_conditions(all_told, Rates(), jax.random.split(KEY, 2)) is all_told
    some = all_told._replace(labels=None, tokens=None, token_mask=None)
    assert drop_conditions(some, Rates(0.5, 0.5), jax.random.split(KEY, 2)) is some


def test_what_is_nulled_is_what_was_dropped():
    all_told = told(3)._replace(span=jnp.ones(3))
    nulled = null_conditions(all_told)
    for value in (*nulled[:3], nulled.source):
        assert not value.any()
    assert nulled.span is all_told.span
    gone = drop_conditions(all_told, Rates(1.0, 1.0, 1.0), jax.random.split(KEY, 3))
    jax.tree.map(np.testing.assert_array_equal, gone, nulled)
    tokens = null_conditions(all_told._replace(token_mask=None), ("tokens",))
    assert tokens.labels is all_told.labels and not tokens.token_mask.any()


# --- seen by networks ------------------------------------------------------------------------------------------------

SMALL = {"width": 8, "multipliers": (1,), "blocks": 1, "attention_at": ()}
GIVEN = {
    "labels": jnp.zeros((1, 2)),
    "tokens": jnp.zeros((1, 2, 3)),
    "source": jnp.zeros((1, *SHAPE)),
    "span": jnp.zeros(1),
    "augment_labels": jnp.zeros((1, 9)),
}
SEEN = [
    (UNet(**SMALL), {"labels", "source", "span"}),
    (UNet(**SMALL, cross_attention=True), {"labels", "tokens", "source", "span"}),
    (ADM(**SMALL, head_channels=8), {"labels", "source", "span"}),
    (ADM(**SMALL, head_channels=8, cross_attention=True), {"labels", "tokens", "source", "span"}),
    (DiT(2, 1, 16, 2), {"labels", "source", "span"}),
    (DiT(2, 1, 16, 2, cross_attention=True), {"labels", "tokens", "source", "span"}),
    (SongUNet(**SMALL), {"labels", "source", "span", "augment_labels"}),
    (EDM2UNet(**SMALL, head_channels=8), {"labels", "source", "span"}),
    (VDMUNet(8, 1), {"labels"}),
]


@pytest.mark.parametrize(("network", "seen"), SEEN, ids=lambda value: type(value).__name__)
def test_a_network_refuses_what_it_does_not_see(network, seen):
    def init(conditioning):
        return jax.eval_shape(network.init, KEY, jnp.zeros((1, *SHAPE)), jnp.zeros(1), conditioning)

    some = {"tokens": GIVEN["tokens"]} if "tokens" in seen else {}
    init(Conditioning(**{name: GIVEN[name] for name in seen}, keys=jax.random.split(KEY, 1)))
    for name in GIVEN.keys() - seen:
        with pytest.raises(ValueError, match=f"{type(network).__name__}.* given {name}|tokens are given, but cross"):
            init(Conditioning(**some | {name: GIVEN[name]}))
    if "tokens" in seen:
        with pytest.raises(ValueError, match="no tokens are given"):
            init(Conditioning())
    with pytest.raises(TypeError, match=r"called as network\(x, t, conditioning\)"):
        init(GIVEN["labels"])


@pytest.mark.slow
def test_cross_attention_of_adm_adds_weights_and_starts_as_the_identity():
    x, t = jax.random.normal(KEY, (1, 8, 8, 1)), jnp.zeros(1)
    plain = ADM(8, (1, 2), 1, (4,), head_channels=8)
    crossed = plain.clone(cross_attention=True)
    given = Conditioning(tokens=jnp.ones((1, 2, 3)))
    shapes, before = (
        jax.eval_shape(network.init, KEY, x, t, told)["params"]
        for network, told in ((crossed, given), (plain, Conditioning()))
    )
    added = {block for block, layers in shapes.items() if "cross_attention" in layers}
    assert added == {"down_1_0", "middle_0", "up_1_0", "up_1_1"}
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    for block in added:
        weights[block]["cross_attention"]["attention"]["out"] = jax.tree.map(
            jnp.zeros_like, weights[block]["cross_attention"]["attention"]["out"]
        )
    without = {
        block: {name: leaf for name, leaf in layers.items() if name != "cross_attention"}
        for block, layers in weights.items()
    }
    assert jax.tree.map(jnp.shape, without) == jax.tree.map(jnp.shape, before)
    found, wanted = (
        jax.jit(network.apply)({"params": params}, x, t, told)
        for network, params, told in ((crossed, weights, given), (plain, without, Conditioning()))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


# --- told by models --------------------------------------------------------------------------------------------------


class Mixes(nn.Module):
    """A user's own network: an image of one brightness, which the mean of the tokens that are seen tells."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        tokens, mask = conditioning.tokens, conditioning.token_mask
        seen = jnp.ones(tokens.shape[:2], bool) if mask is None else mask
        mean = jnp.sum(tokens * seen[..., None], axis=1) / jnp.maximum(seen.sum(axis=1), 1)[:, None]
        h = jnp.concatenate([mean, *([] if conditioning.labels is None else [conditioning.labels])], axis=1)
        return nn.Dense(1)(h)[:, None, None] + 0 * x


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Images as bright as the first token that is seen says; the other one lies."""

    def open(self):
        return self

    class_names = ()

    def __len__(self):
        return 32

    def batch(self, step, n, seed=0, rows=None):
        rng = np.random.default_rng([step, seed])
        tokens = rng.uniform(-0.8, 0.8, (n, 2, 3)).astype(np.float32)
        mask = np.tile([True, False], (n, 1))
        image = np.tile(tokens[:, 0, 0].reshape(-1, 1, 1, 1), (1, *SHAPE)).astype(np.float32)
        batch = {"image": image, "tokens": tokens, "token_mask": mask}
        return batch if rows is None else {name: leaf[rows] for name, leaf in batch.items()}


OWN = Diffusion(Mixes(), "x0", levels=Karras(4), image_shape=SHAPE, token_shape=(2, 3), token_dropout=0.2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = ig.Experiment(
        "own", OWN, Brightness(), {"network": Adam(0.05)}, batch_size=16, steps=120, samples=4, log_every=60
    )
    return ig.fit(experiment, tmp_path_factory.mktemp("run") / "run", quiet=True)


def bright(value, n=4):
    tokens = np.full((n, 2, 3), -value, np.float32)
    tokens[:, 0] = value, 0, 0
    return {"tokens": tokens, "token_mask": np.tile([True, False], (n, 1))}


@pytest.mark.slow
def test_a_network_of_a_users_own_is_trained_stored_and_sampled_by_tokens(run):
    loaded = ig.load(run.workdir, modules=[__name__])
    assert loaded.experiment == run.experiment and isinstance(loaded.experiment.model.network, Mixes)
    for value in (-0.5, 0.5):
        found = loaded.sample(4, **bright(value)) / 127.5 - 1
        np.testing.assert_allclose(found, value, atol=0.1)
        np.testing.assert_array_equal(loaded.sample(4, **bright(value)), run.sample(4, **bright(value)))
    stronger = loaded.sample(4, **bright(0.3), guidance=2.0) / 127.5 - 1
    np.testing.assert_allclose(stronger, 0.6, atol=0.15)


CELL = """
import sys
import flax.linen as nn
import imagegen_jax as ig
from imagegen_jax.core.optim import Adam
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from test_conditioning import Brightness, bright


class Attends(nn.Module):
    @nn.compact
    def __call__(self, x, t, conditioning):
        h = nn.Dense(8)(x.reshape(len(x), 1, -1))
        mask = conditioning.token_mask
        mask = None if mask is None else mask[:, None, None]
        h = h + nn.MultiHeadDotProductAttention(2)(h, conditioning.tokens, mask=mask)
        return nn.Dense(x[0].size)(h).reshape(x.shape)


model = Diffusion(Attends(), levels=Karras(3), image_shape=(4, 4, 1), token_shape=(2, 3), token_dropout=0.1)
experiment = ig.Experiment("cell", model, Brightness(), {"network": Adam(1e-2)}, batch_size=8, steps=4, samples=4)
trained = ig.fit(experiment, sys.argv[1], quiet=True)
loaded = ig.load(sys.argv[1], experiment=experiment)
given = bright(0.5)
assert (loaded.sample(4, **given, guidance=2.0) == trained.sample(4, **given, guidance=2.0)).all()
assert loaded.sample(4, **given).shape == (4, 4, 4, 1)
assert '"__main__:Attends"' in (loaded.workdir / "experiment.json").read_text()
"""


@pytest.mark.slow
def test_a_network_of_a_notebook_cell_is_trained_stored_and_loaded(tmp_path, root):
    paths = os.pathsep.join(map(str, (root, root / "tests", os.path.dirname(__file__))))
    command = [sys.executable, "-c", CELL, str(tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tokens_of_the_data_come_with_their_mask(run):
    """Where none are given; the masked ones would lead astray."""
    first = run.experiment.data.batch(0, 6)
    np.testing.assert_array_equal(run.sample(6), run.sample(6, tokens=first["tokens"], token_mask=first["token_mask"]))


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({}, "makes images from 'tokens', which is not given"),
        ({"tokens": jnp.zeros((4, 3, 3))}, "'tokens' has rows of 3x3, but this Diffusion wants 2x3"),
        (
            {"tokens": jnp.zeros((4, 2, 3)), "token_mask": jnp.ones((4, 3), bool)},
            r"'token_mask' has the shape \(4, 3\).*it must be \(4, 2\)",
        ),
    ],
)
def test_tokens_that_do_not_fit_are_refused(conditions, words):
    with pytest.raises(ValueError, match=words):
        conditioning_of(OWN, conditions)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"token_shape": None}, "model.token_dropout=0.2, model.token_shape=None"),
        ({"token_dropout": 1.0}, "model.token_dropout=1.0"),
        ({"source_dropout": 0.5}, "model.source_dropout=0.5, model.source_shape=None"),
        ({"label_dropout": 0.5}, "model.label_dropout=0.5, model.num_classes=0"),
    ],
)
def test_dropout_of_what_there_is_not_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(OWN, **fields)


WEIGHTS = {"kernel": jnp.array([[0.5], [-0.2], [0.1], [0.3], [-0.4]]), "bias": jnp.array([0.05])}
NETS = {"network": {"params": {"Dense_0": WEIGHTS}}}
BOTH = dataclasses.replace(OWN, num_classes=2)


@pytest.mark.parametrize("learned", [Rates(tokens=0.2), Rates(labels=0.1, tokens=0.2), Rates(labels=0.1)], ids=str)
def test_guidance_is_away_from_what_there_is_without_what_was_dropped(learned):
    """By hand: zeros in place of what was dropped in training, and what never was stays."""
    model = dataclasses.replace(BOTH, label_dropout=learned.labels, token_dropout=learned.tokens)
    tokens, label = jax.random.normal(KEY, (2, 2, 3)), jnp.array([0, 1])
    given = {"tokens": tokens, "label": label}
    x, sigma = jax.random.normal(KEY, (2, *SHAPE)), jnp.array([0.3, 2.0])

    def by_hand(tokens, labels):
        return jnp.concatenate([tokens.mean(axis=1), labels], axis=1) @ WEIGHTS["kernel"] + WEIGHTS["bias"]

    one_hot = jax.nn.one_hot(label, 2)
    strong = by_hand(tokens, one_hot)
    weak = by_hand(tokens * (not learned.tokens), one_hot * (not learned.labels))
    for scale in (0.0, 1.0, 3.0):
        found = model.denoiser(NETS, {**given, "guidance": scale})(x, sigma)
        np.testing.assert_allclose(found[:, 0, 0], weak + scale * (strong - weak), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.denoiser(NETS, given)(x, sigma)[:, 0, 0], strong, rtol=1e-5)
    assert float(jnp.abs(strong - weak).min()) > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_training_drops_tokens_of_its_share_of_rows(share):
    """The network puts out the first token, which is the image: without it the error of a row is the image's square."""
    rows, model = 4000, dataclasses.replace(OWN, token_dropout=share)
    batch = {"image": jnp.full((rows, *SHAPE), 0.5), "tokens": jnp.full((rows, 2, 3), 0.5)}
    layer = {"kernel": jnp.array([[1.0], [0.0], [0.0]]), "bias": jnp.zeros(1)}
    inputs = Inputs(batch, KEY, jax.random.split(KEY, rows), jnp.int32(0), {})
    loss, _ = model.loss({"network": {"params": {"Dense_0": layer}}}, inputs)
    np.testing.assert_allclose(loss, share * 0.25, atol=0.005)


# --- guided in one way -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shifts:
    """Puts out what it is given plus its one parameter, and with `copies` above 1 zeros as well."""

    copies: int = 1
    learned_variance: bool = True

    def init(self, *inputs):
        return {"params": {"shift": jnp.float32(0.1)}}

    def apply(self, variables, x, t, conditioning):
        out = 0.1 * x + variables["params"]["shift"]
        return jnp.concatenate([out, *[0 * out] * (self.copies - 1)], axis=-1)


MODELS = {
    "Diffusion": Diffusion(Shifts(), levels=Karras(3, 0.1, 5.0), image_shape=SHAPE),
    "ImprovedDDPM": ImprovedDDPM(Shifts(2), LinearSchedule(4, 0.05, 0.5), SHAPE),
    "VDM": VDM(Shifts(), image_shape=SHAPE, steps=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_one_function_guides_every_model(name):
    """Each draws by the estimate that it is handed, by its own steps or those of its path."""
    model = MODELS[name]
    nets, weaker_nets = (model.init(KEY, {"image": jnp.zeros((1, *SHAPE))}) for _ in range(2))
    weaker_nets["network"] = {"params": {"shift": jnp.float32(0.5)}}
    guided = model.guided_by(model)
    assert isinstance(guided, Guided)
    both = guided.joined(nets, weaker_nets)
    x, sigma = jax.random.normal(KEY, (2, *SHAPE)), jnp.array([0.3, 2.0])
    good, bad = (model.denoiser(one, {})(x, sigma) for one in (nets, weaker_nets))
    for scale in (0.0, 1.0, 2.5):
        found = guided.denoiser(both, {"guidance": scale})(x, sigma)
        np.testing.assert_allclose(found, bad + scale * (good - bad), atol=1e-5)
    drawn = jax.jit(lambda scale: guided.sample(both, KEY, 2, {"guidance": scale}))
    np.testing.assert_allclose(drawn(1.0), model.sample(nets, KEY, 2, {}), atol=1e-4)
    np.testing.assert_allclose(drawn(0.0), model.sample(weaker_nets, KEY, 2, {}), atol=1e-4)
    assert float(jnp.abs(drawn(1.5) - drawn(1.0)).max()) > 1e-3


def test_an_estimate_is_made_once_and_may_be_what_the_weaker_one_is_made_of():
    asked = []

    def own(x, sigma):
        asked.append(None)
        return x

    guide = guiding(ClassifierFree(), lambda one: lambda x, sigma: one(x, sigma) - 1, 3.0)
    np.testing.assert_allclose(guide(own)(jnp.zeros(2), jnp.ones(2)), 2.0)
    assert len(asked) == 1 and unguided(own) is own
