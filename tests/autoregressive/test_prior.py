"""Priors over codes: what they cost, learn and draw, and a run that outlives the run of its tokenizer."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.autoregressive.decoding import draw
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.drawing.draw import sample
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import from_arrays
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import Codes
from imagegen_jax.nn.backbones.transformers.gpt import GPT
from imagegen_jax.nn.backbones.transformers.transformer import LLAMA

CLASSES, LEVELS, SHAPE = 2, 4, (2, 3, 1)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True)
class Greys:
    """A tokenizer of single pixels: the code is the nearest of four greys, which are its weights."""

    image_shape: tuple[int, int, int] = SHAPE
    codebook_size: int = LEVELS

    @property
    def code_shape(self):
        return self.image_shape[:2]

    def init_tokenizer(self, key):
        return {"params": {"greys": jnp.linspace(-1.0, 1.0, self.codebook_size)}}

    def encode(self, nets, image):
        return jnp.argmin(jnp.abs(image - nets["tokenizer"]["params"]["greys"]), axis=-1)

    def decode(self, nets, codes):
        return nets["tokenizer"]["params"]["greys"][codes][..., None]


NETWORK = GPT(1, 24, 2, zero_head=True)
PRIOR = CodePrior(Greys(), NETWORK, num_classes=CLASSES, label_dropout=0.25)


def batch_of(n=8, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, LEVELS, (n, *SHAPE[:2]))
    image = jnp.float32(np.linspace(-1, 1, LEVELS)[codes][..., None])
    return {"image": image, "label": jnp.asarray(rng.integers(0, CLASSES, n))}, jnp.asarray(codes, jnp.int32)


def inputs_of(batch):
    n = len(batch["label"])
    key = jax.random.key(0)
    return Inputs(batch, key, jax.random.split(key, n), jnp.int32(0), {})


@pytest.fixture(scope="module")
def nets():
    """Whose logits are of the size of 1."""
    shapes = jax.eval_shape(PRIOR.init, jax.random.key(0), batch_of()[0])
    drawn = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.float32(drawn_weights.weight(jax.tree_util.keystr(path), leaf.shape, 0.3)),
        shapes["prior"],
    )
    return {"tokenizer": PRIOR.tokenizer.init_tokenizer(None), "prior": drawn}


loss_of = jit(PRIOR.loss)


def with_head(nets, kernel):
    return {**nets, "prior": {"params": {**nets["prior"]["params"], "head": {"kernel": kernel}}}}


def test_of_a_head_of_zeros_every_code_costs_as_much(nets):
    """log 4 nats a code, so 2 bits for each of 6."""
    loss, aux = loss_of(with_head(nets, jnp.zeros((24, LEVELS))), inputs_of(batch_of()[0]))
    np.testing.assert_allclose(loss, math.log(4), rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["bits_per_image"], 12, rtol=1e-6)


def test_codes_cost_as_much_as_the_images_that_they_were_made_of(nets):
    batch, codes = batch_of()
    coded = {"codes": codes, "label": batch["label"]}
    np.testing.assert_array_equal(PRIOR.tokenizer.encode(nets, batch["image"]), codes)
    np.testing.assert_allclose(loss_of(nets, inputs_of(batch))[0], loss_of(nets, inputs_of(coded))[0], rtol=1e-6)
    shapes = jax.eval_shape(PRIOR.init, jax.random.key(0), coded)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, nets)


def test_the_cost_of_all_images_of_a_class_is_a_distribution(nets):
    """Of single columns of two codes: 16 images, whose probabilities sum to 1."""
    prior = dataclasses.replace(PRIOR, tokenizer=Greys((2, 1, 1)))
    network = dict(nets["prior"]["params"], position=nets["prior"]["params"]["position"][:2])
    image = np.linspace(-1, 1, 4)[np.indices((4, 4)).reshape(2, 16).T].reshape(16, 2, 1, 1)
    batch = {"image": jnp.float32(image), "label": jnp.ones(16, jnp.int32)}
    costs = jit(prior.nats)({**nets, "prior": {"params": network}}, batch, jax.random.split(jax.random.key(0), 16))
    np.testing.assert_allclose(np.exp(-2 * np.float64(costs)).sum(), 1, rtol=1e-5)
    assert costs.std() > 0.1


@pytest.mark.slow
def test_codes_are_drawn_from_what_whole_passes_say(nets):
    """Each code with the key of its place, from the guided logits of passes over the codes that were drawn."""
    n, key, codes = 16, jax.random.key(3), Codes(LEVELS, SHAPE[:2])
    given = {"temperature": jnp.float32(0.7), "top_k": jnp.int32(3), "guidance": jnp.float32(2.0)}
    labels = jnp.arange(n) % CLASSES

    @jit
    def both(nets):
        drawn = PRIOR.sample_codes(nets, key, n, {**given, "label": labels}).reshape(n, -1)
        one_hot = jax.nn.one_hot(labels, CLASSES)
        logits, free = (
            NETWORK.apply(nets["prior"], drawn[:, :-1], codes, Conditioning(told)) for told in (one_hot, 0 * one_hot)
        )
        logits = free + 2 * (logits - free)
        again = [draw(jax.random.fold_in(key, at), logits[:, at], given) for at in range(codes.length)]
        return drawn, jnp.stack(again, axis=1)

    drawn, again = both(nets)
    np.testing.assert_array_equal(drawn, again)
    assert len(np.unique(drawn, axis=0)) > n / 2


def test_labels_are_dropped_and_codes_replaced_for_the_network_alone(nets):
    """A share of them; the loss is of the codes that were there."""
    batch, codes = batch_of(512)
    prior = dataclasses.replace(PRIOR, replaced=0.3)
    seen = []

    class Watched:
        def apply(self, variables, before, codes, told):
            seen.append((before, told.labels))
            return jnp.zeros((len(before), codes.length, codes.vocabulary)).at[:, 2, 1].set(3.0)

    object.__setattr__(prior, "network", Watched())
    loss, (before, labels) = jit(lambda nets: (prior.loss(nets, inputs_of(batch))[0], seen[0]))(nets)
    flat = np.asarray(codes).reshape(512, -1)
    changed = (before != flat[:, :-1]).mean()
    assert changed == pytest.approx(0.3 * 3 / 4, abs=5 * (0.23 / before.size) ** 0.5)
    assert (labels.sum(axis=1) == 0).mean() == pytest.approx(0.25, abs=5 * (0.19 / 512) ** 0.5)
    third = np.where(flat[:, 2] == 1, 3.0, 0.0) - np.log(np.exp(3.0) + 3)
    np.testing.assert_allclose(loss, (5 * math.log(4) - third.mean()) / 6, rtol=1e-5)


@pytest.mark.slow
def test_a_distribution_that_is_known_is_learned_and_drawn():
    """Class k: each code is the last one, counted from 0, and 1 or 2 with the probabilities 3/4 and 1/4 of class 0."""
    rng, n = np.random.default_rng(0), 4_096
    labels = rng.integers(0, 2, n).astype(np.int32)
    steps = 1 + (rng.random((n, 6)) < np.where(labels == 0, 0.25, 0.75)[:, None])
    images = np.uint8(85 * (np.cumsum(steps, axis=1) % 4)).reshape(n, *SHAPE)
    experiment = ig.Experiment(
        name="chain", model=dataclasses.replace(PRIOR, network=GPT(1, 32, 2, style=LLAMA, positions="rotary")),
        data=from_arrays(images, labels), optim={"prior": Adam(5e-3)}, pretrained={"tokenizer": "random"},
        batch_size=256, steps=150, mesh=MeshShape(data=1),
    )  # fmt: skip
    program = ig.Program(experiment)
    state = program.init()
    for step in range(experiment.steps):
        state, metrics = program.advance(state, step, program.batch(step))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(metrics["prior/nats_per_code"]) == pytest.approx(entropy, abs=0.12)  # a quarter has no label
    drawn = program.sample(state, 1000, seed=1, conditions={"label": np.arange(1000) % 2})
    steps = np.diff(np.rint(drawn / 85).astype(int).reshape(1000, 6), axis=1, prepend=0) % 4
    for label, share in ((0, 0.25), (1, 0.75)):
        assert (steps[label::2] == 2).mean() == pytest.approx(share, abs=0.04)
        assert np.isin(steps[label::2], (1, 2)).mean() > 0.99


# --- runs ------------------------------------------------------------------------------------------------------------


def small(name, **changes):
    module = __import__(f"experiments.{name}", fromlist=["experiment"])
    found = ig.override(module.experiment, module.smoke)
    return dataclasses.replace(found, steps=2, checkpoint_every=2, mesh=MeshShape(data=1), sample_every=0, **changes)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a run of the tokenizer of digits."""
    folder = tmp_path_factory.mktemp("runs") / "vqvae"
    ig.fit(small("vqvae_digits"), folder, quiet=True)
    return folder


@pytest.mark.slow
def test_a_run_draws_and_goes_on_when_the_run_of_its_tokenizer_is_gone(tokenizer, tmp_path, imagegen):
    copy = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, copy)
    experiment = small("gpt_digits", pretrained={"tokenizer": FromRun(str(copy))})
    run = ig.fit(experiment, tmp_path / "prior", quiet=True)
    for a, b in zip(*map(jax.tree.leaves, (run.nets["tokenizer"], ig.load(copy).nets["tokenizer"])), strict=True):
        np.testing.assert_array_equal(a, b)
    labels = np.arange(10)
    images = run.sample(10, labels)
    shutil.rmtree(copy)
    loaded = ig.load(tmp_path / "prior")
    np.testing.assert_array_equal(loaded.sample(10, labels), images)
    call = ("sample", tmp_path / "prior", "--n", 10, "--out", tmp_path / "drawn.npz", "--temperature", 0.5)
    code, _, said = imagegen(*call, "--top_k", 9)
    assert code == 1 and "top_k=9: must be an integer from 1 to 8, the number of codes that there are" in said
    code, _, said = imagegen(*call[:-1], 0)  # a VDVAE's may be 0, and a MAR's
    assert code == 1 and "temperature=0.0: must be above 0" in said
    assert imagegen(*call, "--top_k", 4)[0] == 0
    with np.load(tmp_path / "drawn.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], loaded.sample(10, labels, temperature=0.5, top_k=4))
    longer = ig.fit(dataclasses.replace(experiment, steps=4), tmp_path / "prior", quiet=True, resume_with_changes=True)
    assert longer.step == 4
    for a, b in zip(*map(jax.tree.leaves, (longer.nets["tokenizer"], run.nets["tokenizer"])), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_tokenizer_with_another_book_is_refused(tokenizer):
    experiment = small("gpt_digits", pretrained={"tokenizer": FromRun(str(tokenizer))})
    other = ig.override(experiment, {"model.tokenizer.network.quantiser.codebook_size": 16})
    with pytest.raises(ValueError, match=r"pretrained\['tokenizer'\].*codebook.*8.*16"):
        ig.Program(other).init()


def test_a_prior_without_a_tokenizer_is_refused():
    experiment = dataclasses.replace(small("gpt_digits"), pretrained={})
    with pytest.raises(ValueError, match="the network 'tokenizer' is frozen and has no weights"):
        ig.Program(experiment)


@pytest.mark.parametrize(
    ("changes", "conditions", "message"),
    [
        ({"label_dropout": 0.0}, {"guidance": 2.0}, "guidance=2.0: this CodePrior has model.label_dropout=0"),
        ({}, {"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ({}, {"top_k": 5}, "top_k=5: must be an integer from 1 to 4"),
        ({}, {"top_p": 2.0}, "top_p=2.0: must be above 0 and at most 1"),
        ({}, {"truncation": 0.5}, r"'truncation' given, but a CodePrior reads \['guidance', 'label', 'temperature'"),
    ],
)
def test_conditions_that_nothing_can_be_drawn_by_are_refused(nets, changes, conditions, message):
    model = dataclasses.replace(PRIOR, **changes)
    with pytest.raises(ValueError, match=message):
        sample(model, nets, 2, conditions={"label": np.zeros(2, int), **conditions})


def test_labels_that_are_not_there_cannot_be_dropped():
    with pytest.raises(ValueError, match=r"model.label_dropout=0.25, model.num_classes=0: without classes"):
        dataclasses.replace(PRIOR, num_classes=0)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="the data give images of 3x3x1 .*, but this CodePrior has .*=2x3x1"):
        PRIOR.init(jax.random.key(0), {"image": jnp.zeros((2, 3, 3, 1)), "label": jnp.zeros(2, jnp.int32)})
