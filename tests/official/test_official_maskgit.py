"""MaskGIT against the authors' flax code: logits and loss at random weights, and decoding with the same noise."""

from __future__ import annotations

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.autoregressive.codes import smoothed_nll
from imagegen_jax.autoregressive.maskgit import Noise, masked_share, unmasked
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.bert import BERT
from imagegen_jax.nn.backbones.transformers.code_network import Codes

VOCABULARY, CLASSES, WIDTH = 11, 3, 24
CODES = Codes(VOCABULARY, (2, 3))


@pytest.fixture(scope="module")
def theirs(root):
    """What their code gave, by name."""
    with np.load(root / "tests/reference/official_maskgit.npz") as arrays:
        return dict(arrays)


def variables(lines):
    """Our variables with their weights."""
    found = {n: drawn_weights.weight(n, *rest) for n, *rest in map(official.parsed, lines)}
    weights = {name.removeprefix("params/"): weight for name, weight in found.items()}
    ours = {
        "word/embedding": weights.pop("Embed_0/word_embeddings/embedding"),
        "position": weights.pop("Embed_0/position_embeddings/embedding"),
        "bias": weights.pop("MlmLayer_0/mlm_bias/bias"),
    }
    layers = {"norm_in": "Embed_0/embeddings_ln", "head": "MlmLayer_0/mlm_dense", "norm_out": "MlmLayer_0/mlm_ln"}
    for i in range(2):
        block, attention = f"TransformerLayer_{i}", f"TransformerLayer_{i}/Attention_0"
        for leaf, shape in (("kernel", (WIDTH, WIDTH)), ("bias", (WIDTH,))):
            parts = [weights.pop(f"{attention}/self_attention/{n}/{leaf}") for n in ("query", "key", "value")]
            ours[f"block_{i}/attention/qkv/{leaf}"] = np.concatenate([p.reshape(shape) for p in parts], axis=-1)
            ours[f"block_{i}/attention/out/{leaf}"] = weights.pop(f"{attention}/self_attention/out/{leaf}").reshape(
                shape
            )
        layers |= {
            f"block_{i}/norm_0": f"{attention}/attention_output_ln",
            f"block_{i}/mlp_0": f"{block}/Mlp_0/intermediate_output",
            f"block_{i}/mlp_1": f"{block}/Mlp_0/layer_output",
            f"block_{i}/norm_1": f"{block}/Mlp_0/layer_output_ln",
        }
    for mine, name in layers.items():
        leaves = [leaf for leaf in ("kernel", "scale", "bias") if f"{name}/{leaf}" in weights]
        ours |= {f"{mine}/{leaf}": weights.pop(f"{name}/{leaf}") for leaf in leaves}
    assert not weights
    return official.tree({f"params/{name}": jnp.asarray(leaf, jnp.float32) for name, leaf in ours.items()})


@pytest.mark.slow
def test_logits_and_loss_are_the_authors(theirs):
    """Of three classes, and of a masked one."""
    words = theirs["network/given"]
    labels = jax.nn.one_hot(words[:, 0] - VOCABULARY, CLASSES)
    given = np.where(words[:, 1:] < VOCABULARY, words[:, 1:], VOCABULARY)
    network = BERT(2, WIDTH, 3, 40, dtype="float32")
    apply = official.jit(lambda variables, told: network.apply(variables, given, CODES, told))
    logits = apply(variables(theirs["network/weights"]), Conditioning(labels))
    wanted = theirs["network/logits"]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    masked = given[:3] == VOCABULARY
    nll = smoothed_nll(jnp.asarray(wanted[:3]), theirs["network/target"], 0.1)
    loss = jnp.mean(jnp.sum(nll * masked, axis=1) / masked.sum(axis=1))
    np.testing.assert_allclose(loss, theirs["network/loss"], rtol=1e-6)


@pytest.mark.slow
def test_decoding_is_the_authors(theirs):
    """Of all codes, of four, and of one; each pass with the noise that theirs drew."""
    table, given, iterations = (theirs[f"decoding/{name}"] for name in ("table", "start", "iterations"))
    at_start, steps, places = (given == VOCABULARY).sum(axis=1), iterations.shape[1], np.arange(given.shape[1])
    decode = official.jit(unmasked)
    for i in range(steps):
        progress = (i + 1) / steps
        logits = table[np.roll(given, 1, axis=1), places] + table[-1, places]
        left = jnp.floor(at_start * masked_share("cosine", jnp.float32(progress), at_start))
        noise = Noise(theirs["decoding/gumbel"][i], theirs["decoding/choice"][i])
        given, codes = decode(logits, given, left, theirs["decoding/temperature"] * (1 - progress), noise)
        np.testing.assert_array_equal(codes, iterations[:, i])
        given = np.asarray(given)
