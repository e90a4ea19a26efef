"""VAR: published sizes, drawing with caches as by whole passes, guidance that grows with the scale, and errors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoencoders.quantise import EMACodebook, MultiScaleCodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.var import VAR
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import ScaleCodes
from imagegen_jax.nn.backbones.transformers.next_scale import NextScale, var

# To compile takes nearly all of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

KEY = jax.random.key(0)
TOKENIZER = VQVAE(
    (8, 8, 1),
    Tokenizer(
        ResidualEncoder(4, 1, 1, 2), MultiScaleCodebook(EMACodebook(16, 3), (1, 2, 4), 1), ResidualDecoder(4, 1, 1, 2)
    ),
)
MODEL = VAR(TOKENIZER, NextScale(2, 16, 2, drop_path=0.0), num_classes=3)


@pytest.fixture(scope="module")
def nets():
    """Random weights: at the start all codes are nearly as likely."""
    batch = {"image": jnp.zeros((2, 8, 8, 1)), "label": jnp.zeros(2, jnp.int32)}
    rng, made = np.random.default_rng(0), jax.eval_shape(MODEL.init, KEY, batch)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 2, leaf.dtype), made)


@pytest.mark.parametrize(("depth", "size"), [(16, 310_283_520), (30, 2_010_020_356)])
def test_the_network_has_the_published_size(depth, size):
    codes, told = ScaleCodes(4096, (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)), Conditioning(jnp.zeros((1, 1000)))
    network, inputs = var(depth), jnp.zeros((1, codes.length - 1, 32))
    made = jax.eval_shape(lambda key: network.init(key, inputs, codes, told), KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == size
    if depth == 16:
        assert network == NextScale()


@pytest.mark.slow
def test_codes_drawn_scale_by_scale_are_those_of_whole_passes(nets):
    """Nearly without noise each is the likeliest given those before, and guided by 3 x (i / 2) more than labels."""
    given = {"label": jnp.arange(3), "temperature": jnp.float32(1e-5), "guidance": jnp.float32(4.0)}
    codes = jit(lambda told: MODEL.sample_codes(nets, KEY, 3, told))(given)

    def whole(codes):
        told = [Conditioning(jax.nn.one_hot(labels, 3)) for labels in (jnp.arange(3), jnp.full(3, -1))]
        return [MODEL._logits(nets, codes, one) for one in told]

    labelled, free = jit(whole)(codes)
    extra = 3 * np.repeat([0, 0.5, 1], [1, 4, 16])[:, None]
    np.testing.assert_array_equal(codes, np.argmax(labelled + extra * (labelled - free), axis=-1))
    assert len(np.unique(codes)) > 4 and not np.array_equal(codes, np.argmax(labelled, axis=-1))


@pytest.mark.slow
def test_conditions_may_be_one_for_each_image_and_compile_nothing_anew(nets):
    draw = jit(lambda told: MODEL.sample_codes(nets, KEY, 3, told))
    label = jnp.arange(3)
    mixed = draw({"label": label, "guidance": jnp.array([1.0, 1.0, 9.0]), "top_k": jnp.array([1, 16, 1])})
    plain = draw({"label": label, "guidance": jnp.ones(3), "top_k": jnp.array([1, 16, 16])})
    assert draw._cache_size() == 1
    np.testing.assert_array_equal(mixed[:2], plain[:2])
    assert not np.array_equal(mixed[2], plain[2])


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ({"top_k": 17}, "top_k=17: must be an integer from 1 to 16"),
    ],
)
def test_conditions_that_nothing_can_be_drawn_by_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        check_conditions(MODEL, 2, {"label": np.zeros(2, np.int32), **conditions})


def test_a_tokenizer_of_one_scale_and_labels_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"this VQVAE has codes at a single scale, of shape \(8, 8\)"):
        VAR(VQVAE())
    with pytest.raises(ValueError, match="model.label_dropout=0.1, model.num_classes=0: without classes"):
        VAR(TOKENIZER, num_classes=0)
