"""MaskGIT: published size, masks in closed form, what decoding keeps, conditions without a new program, and errors."""

from __future__ import annotations

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.maskgit import MaskGIT, masked_share, ranks, whole_patches
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.core.model import Inputs
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning
from imagegen_jax.nn.backbones.transformers.bert import BERT
from imagegen_jax.nn.backbones.transformers.code_network import Codes

# To compile takes nearly all of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

TOKENIZER = VQVAE(
    (8, 8, 1),
    Tokenizer(ResidualEncoder(4, 1, 1, 2), EMACodebook(16, 2), ResidualDecoder(4, 1, 1, 2)),
)
KEY = jax.random.key(0)


class Table(nn.Module):
    """A network whose logits do not depend on what is given: "table" [L V], less 4 for codes of a dropped label."""

    @nn.compact
    def __call__(self, given, codes, conditioning=NOTHING):
        table = self.param("table", nn.initializers.normal(), (codes.length, codes.vocabulary))
        told = 0 if conditioning.labels is None else conditioning.labels.sum(axis=1)[:, None, None]
        return jnp.broadcast_to(table, (len(given), *table.shape)) - 4.0 * jnp.arange(codes.vocabulary) * (1 - told)


MODEL = MaskGIT(TOKENIZER, Table(), num_classes=3, label_dropout=0.1, steps=4)


@pytest.fixture(scope="module")
def nets():
    """Of the model."""
    batch = {"image": jnp.zeros((2, 8, 8, 1)), "label": jnp.zeros(2, jnp.int32)}
    return jit(batch_draws(MODEL.init))(KEY, batch)


def test_the_network_has_the_published_size():
    """With the tokenizer's 54,515,587 it has the paper's 227 million (Table 1)."""
    codes, told = Codes(1024, (16, 16)), Conditioning(jnp.zeros((1, 1000)))
    made = jax.eval_shape(lambda key: BERT().init(key, jnp.zeros((1, 256), jnp.int32), codes, told), KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == 172_457_193


@pytest.mark.parametrize(
    ("masks", "half"),
    [
        ("cosine", math.sqrt(0.5)), ("linear", 0.5), ("square", 0.75), ("cubic", 0.875), ("root", 1 - math.sqrt(0.5)),
        ("exponential", 1 - 1 / 16), ("logarithmic", 1 / 8),
    ],
)  # fmt: skip
def test_masked_shares_are_those_of_the_paper(masks, half):
    """Of 256 codes; all fall from 1 to nearly 0."""
    shares = masked_share(masks, jnp.array([0.0, 0.5, 1.0]), 256)
    np.testing.assert_allclose(shares, [1, half, 1e-6], rtol=1e-5, atol=1 / 255 if masks == "exponential" else 1e-7)


def test_ranks_and_whole_patches():
    np.testing.assert_array_equal(ranks(jnp.array([[0.3, -1.0, 2.0]])), [[1, 0, 2]])
    known = np.ones((1, 4, 4, 1), bool)
    known[0, 0, 1] = known[0, 3, 3] = False
    np.testing.assert_array_equal(whole_patches(known, (2, 2)), [[[False, True], [True, False]]])


@pytest.mark.slow
def test_the_loss_is_of_the_masked_codes(nets):
    """With equal logits it is log 16, whatever the smoothing; masks are at least half, and drawn anew for each row."""
    even = {**nets, "prior": jax.tree.map(jnp.zeros_like, nets["prior"])}
    batch = {"image": jax.random.uniform(KEY, (64, 8, 8, 1), minval=-1), "label": jnp.zeros(64, jnp.int32)}
    inputs = Inputs(batch, KEY, jax.random.split(KEY, 64), jnp.array(0), even)
    loss, aux = jit(dataclasses.replace(MODEL, label_dropout=0.0).loss)(even, inputs)
    np.testing.assert_allclose((loss, aux.metrics["nats_per_code"]), math.log(16), rtol=1e-6)
    masked = MODEL._masks(jax.random.split(KEY, 512), jax.random.split(jax.random.key(1), 512), 16)
    counts = np.asarray(masked.sum(axis=1))
    assert counts.min() >= 8 and counts.max() == 16 and len(np.unique(masked, axis=0)) > 256
    # ceil(16 cos(pi r / 2)) is 16 where r is below acos(15 / 16) 2 / pi.
    np.testing.assert_allclose((counts == 16).mean(), math.acos(15 / 16) * 2 / math.pi, atol=0.07)


@pytest.mark.slow
def test_decoding_keeps_what_is_given_and_fills_the_rest(nets):
    given = np.full((4, 16), 16)
    given[1, :15], given[2, 5], given[3] = 3, 7, 9
    draw = jit(lambda given, told: MODEL.complete(nets, KEY, given, told))
    codes = np.asarray(draw(given, {"label": jnp.zeros(4, jnp.int32)}))
    np.testing.assert_array_equal(codes[given < 16], given[given < 16])
    assert (codes < 16).all() and (codes >= 0).all()
    cold = {"label": jnp.zeros(4, jnp.int32), "temperature": jnp.float32(1e-4)}
    likeliest = np.argmax(nets["prior"]["params"]["table"], axis=1)
    np.testing.assert_array_equal(draw(given, cold)[0], likeliest)


@pytest.mark.slow
def test_guidance_of_one_follows_labels_and_of_zero_ignores_them(nets):
    """And a changed value compiles nothing new."""
    draw = jit(lambda told: MODEL.complete(nets, KEY, jnp.full((2, 16), 16), told))
    label = jnp.zeros(2, jnp.int32)
    told = [{"label": label, "guidance": jnp.float32(scale)} for scale in (1.0, 0.0, 3.0)]
    followed, ignored, _ = (np.asarray(draw(one)) for one in told)
    assert draw._cache_size() == 1
    np.testing.assert_array_equal(followed, draw({"label": label}))
    assert (ignored == 0).mean() > 0.9  # without a label code 0 is far the likeliest


@pytest.mark.slow
def test_a_hole_is_drawn_and_known_pixels_stay(nets):
    image, known = jax.random.uniform(KEY, (2, 8, 8, 1), minval=-1), np.ones((2, 8, 8, 1), bool)
    known[:, :5, :4] = False
    told = {"label": jnp.zeros(2, jnp.int32), "image": image, "known": jnp.asarray(known)}
    drawn = np.asarray(jit(lambda told: MODEL.sample(nets, KEY, 2, told))(told))
    np.testing.assert_array_equal(drawn[known], np.asarray(image)[known])
    assert (drawn != image)[~known].mean() > 0.9


@pytest.mark.slow
def test_temperatures_may_be_one_for_each_image(nets):
    draw = jit(lambda told: MODEL.complete(nets, KEY, jnp.full((3, 16), 16), {"label": jnp.zeros(3, int), **told}))
    for name, values in (("choice_temperature", [0.0, 4.5, 50.0]), ("temperature", [1e-4, 1.0, 2.0])):
        together = draw({name: jnp.array(values)})
        for row, value in enumerate(values):
            np.testing.assert_array_equal(together[row], draw({name: jnp.float32(value)})[row])


LABEL = {"label": np.zeros(2, np.int32)}
WHOLE = {"image": np.zeros((2, 8, 8, 1), np.uint8), "known": np.ones((2, 8, 8, 1), bool)}


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"temperature": 0.0}, r"temperature=0.0: must be above 0"),
        ({"choice_temperature": -1.0}, r"choice_temperature=-1.0: must be at least 0"),
        ({"guidance": 2.0}, r"guidance=2.0: this MaskGIT has model.label_dropout=0, so it never was without a label"),
        (WHOLE, "'known' is True everywhere in row 0: mark by False what is to be drawn"),
        ({"known": WHOLE["known"]}, "'known' alone given: .* give both 'image' and 'known'"),
        ({**WHOLE, "known": np.zeros((2, 4, 8, 1), bool)}, r"'known' has rows of \(4, 8, 1\): must be of \(8, 8, 1\)"),
        ({**WHOLE, "known": np.zeros((2, 8, 8, 1))}, "'known' is of float64: must be bool"),
    ],
)
def test_conditions_that_nothing_can_be_drawn_by_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        check_conditions(dataclasses.replace(MODEL, label_dropout=0.0), 2, {**LABEL, **conditions})


def test_labels_that_are_not_there_cannot_be_dropped():
    with pytest.raises(ValueError, match="model.label_dropout=0.1, model.num_classes=0: without classes"):
        dataclasses.replace(MODEL, num_classes=0)
