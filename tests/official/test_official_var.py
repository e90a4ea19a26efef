"""VAR's transformer against the authors' class: as in training, scale by scale with caches, and at the start."""

from __future__ import annotations

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.autoencoders.quantise import Codebook, MultiScaleCodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.var import VAR
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import ScaleCodes
from imagegen_jax.nn.backbones.transformers.next_scale import NextScale

CLASSES, HEADS = 3, 3
CODES = ScaleCodes(7, (1, 2, 3))
DENSE = {
    "attention/out": "attn.proj",
    "mlp_0": "ffn.fc1",
    "mlp_1": "ffn.fc2",
    "modulation": "ada_lin.1",
}


def names() -> official.Names:
    """Of two blocks."""

    def heads(weight):
        return weight.reshape(HEADS, -1)

    layers = {"input": "word_embed", "modulation": "head_nm.ada_lin.1", "head": "head"}
    found = {
        "params/class": ("class_emb.weight", official.same),
        "params/level": ("lvl_embed.weight", official.same),
        "params/start": ("pos_start", lambda w: w[0]),
        "params/position": ("pos_1LC", lambda w: w[0]),
    }
    for i in range(2):
        attention = f"params/block_{i}/attention"
        layers |= {f"block_{i}/{ours}": f"blocks.{i}.{theirs}" for ours, theirs in DENSE.items()}
        found[f"{attention}/qkv/kernel"] = (f"blocks.{i}.attn.mat_qkv.weight", official.linear)
        found[f"{attention}/query_bias"] = (f"blocks.{i}.attn.q_bias", heads)
        found[f"{attention}/value_bias"] = (f"blocks.{i}.attn.v_bias", heads)
        found[f"{attention}/log_length"] = (f"blocks.{i}.attn.scale_mul_1H11", heads)
    for ours, theirs in layers.items():
        found |= official.layer(ours, theirs, official.linear)
    return found


def cached(network, variables, x, told):
    """Scale by scale; the memory of a scale is given to the next."""
    found = []
    for i, begin in enumerate(CODES.starts[:-1]):
        inputs = x[:, begin - 1 : begin - 1 + CODES.counts[i]] if i else x[:, :0]
        logits, cache = network.apply(variables, inputs, CODES, told, i, mutable=["cache"])
        variables = {**variables, **cache}
        found.append(logits)
    return jnp.concatenate(found, axis=1)


def told_of(theirs):
    """The classes; the last row's label is dropped."""
    labels = jax.nn.one_hot(theirs.inputs["y"], CLASSES)
    assert not labels[-1].any()
    return Conditioning(labels)


@pytest.mark.slow
def test_logits_and_gradients_are_the_authors(root):
    theirs = official.load(root / "tests/reference/official_var.npz", "whole")
    ours, told = NextScale(2, 24, HEADS, dtype="float64"), told_of(theirs)
    variables = official.renamed(names(), theirs.weights)
    official.check(theirs, names(), variables, lambda v, x: (ours.apply(v, x, CODES, told), None), near=2e-6)


@pytest.mark.slow
def test_logits_scale_by_scale_are_the_authors(root):
    theirs = official.load(root / "tests/reference/official_var.npz", "cached")
    ours, told, variables = (
        NextScale(2, 24, HEADS, dtype="float64"),
        told_of(theirs),
        official.renamed(names(), theirs.weights),
    )
    with jax.enable_x64(True):
        found = official.jit(lambda v, x: cached(ours, v, x, told))(variables, theirs.inputs["x"])
    np.testing.assert_allclose(found, theirs.output, rtol=0, atol=2e-6 * np.abs(theirs.output).max())


@pytest.mark.slow
def test_codes_are_drawn_as_by_the_authors(root):
    """Guided, the likeliest of each, with their quantiser between the scales: their cfg is a guidance less 1."""
    with np.load(root / "tests/reference/var_drawing.npz") as arrays:
        theirs = dict(arrays)
    of_network, of_quantiser = (
        {n: drawn_weights.weight(n, *rest).astype(np.float32) for n, *rest in map(official.parsed, theirs[name])}
        for name in ("network", "quantiser")
    )
    quantiser = {"book": {"embedding": of_quantiser["embedding.weight"]}} | {
        f"smooth_{i}": {
            "Conv_0": {
                "kernel": official.kernel(of_quantiser[f"quant_resi.qresi_ls.{i}.weight"]),
                "bias": of_quantiser[f"quant_resi.qresi_ls.{i}.bias"],
            }
        }
        for i in range(4)
    }
    network = Tokenizer(ResidualEncoder(4, 1), MultiScaleCodebook(Codebook(7, 5), CODES.sizes), ResidualDecoder(4, 1))
    model = VAR(VQVAE((6, 6, 1), network), NextScale(2, 24, HEADS, drop_path=0.0), CLASSES)
    nets = {"tokenizer": {"params": {"quantiser": quantiser}}, "prior": official.renamed(names(), of_network)}
    told = {"label": jnp.asarray(theirs["labels"]), "guidance": jnp.float32(1 + theirs["cfg"]), "top_k": jnp.int32(1)}
    draw = official.jit(lambda nets, told: model.sample_codes(nets, jax.random.key(0), len(theirs["labels"]), told))
    codes = draw(nets, told)
    np.testing.assert_array_equal(codes, theirs["codes"])
    vectors = network.quantiser.apply({"params": quantiser}, codes, method="lookup")
    np.testing.assert_allclose(official.first(vectors), theirs["vectors"], atol=1e-5)


@pytest.mark.slow
def test_weights_start_as_the_authors(root):
    theirs = official.load(root / "tests/reference/official_var.npz", "whole")
    ours, told = NextScale(2, 96, HEADS), Conditioning(jnp.zeros((1, CLASSES)))
    official.check_start(theirs, names(), lambda key: ours.init(key, jnp.zeros((1, 13, 5)), CODES, told))


@pytest.mark.parametrize("scale", [0, 1, None])
def test_inputs_of_another_number_are_refused(scale):
    with pytest.raises(ValueError, match="5 inputs are given for"):
        jax.eval_shape(lambda: NextScale(1, 24, HEADS).init(jax.random.key(0), np.zeros((1, 5, 5)), CODES, scale=scale))
