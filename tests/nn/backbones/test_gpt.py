"""Transformers over codes: the official ones' values and sizes, what a place sees, and a cache that changes nothing."""

from __future__ import annotations

import dataclasses

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.core.platform.target import made_for
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning
from imagegen_jax.nn.backbones.transformers.bert import BERT
from imagegen_jax.nn.backbones.transformers.code_network import Codes, ScaleCodes
from imagegen_jax.nn.backbones.transformers.gpt import GPT, llamagen
from imagegen_jax.nn.backbones.transformers.next_scale import NextScale
from imagegen_jax.nn.backbones.transformers.transformer import LLAMA, Style, Transformer
from imagegen_jax.nn.embed import rotary
from imagegen_jax.nn.multihead import Cursor, rotated

CODES, CLASSES, DEPTH = Codes(13, (3, 3)), 5, 2
SMALL = {"depth": DEPTH, "width": 24, "heads": 3}
NETWORKS = {
    "taming": GPT(**SMALL, start="code"),
    "llamagen": dataclasses.replace(llamagen("B"), **SMALL, hidden=64),
}
jit = official.jit


def together(*weights):
    """Three layers of theirs that are one here."""
    return np.concatenate([official.linear(weight) if weight.ndim > 1 else weight for weight in weights], axis=-1)


def taming_names():
    """Our path -> their names, and the way from these."""
    names = {
        "params/code/embedding": (("tok_emb.weight",), official.same),
        "params/position": (("pos_emb",), np.squeeze),
    }
    names |= one(official.norm("transformer/norm", "ln_f")) | one(
        official.layer("head", "head", official.linear, False)
    )
    for i in range(DEPTH):
        ours, theirs = f"transformer/block_{i}", f"blocks.{i}"
        for leaf, leaf_there in (("kernel", "weight"), ("bias", "bias")):
            parts = tuple(f"{theirs}.attn.{part}.{leaf_there}" for part in ("query", "key", "value"))
            names[f"params/{ours}/attention/qkv/{leaf}"] = (parts, together)
        layers = {"attention/out": "attn.proj", "mlp/hidden": "mlp.0", "mlp/out": "mlp.2"}
        for here, there in layers.items():
            names |= one(official.layer(f"{ours}/{here}", f"{theirs}.{there}", official.linear))
        for here, there in (("norm_0", "ln1"), ("norm_1", "ln2")):
            names |= one(official.norm(f"{ours}/{here}", f"{theirs}.{there}"))
    return names


def llamagen_names():
    """Our path -> their names, and the way from these."""
    names = {
        "params/code/embedding": (("tok_embeddings.weight",), official.same),
        "params/start": (("cls_embedding.embedding_table.weight",), official.same),
        "params/transformer/norm/scale": (("norm.weight",), official.same),
        "params/head/kernel": (("output.weight",), official.linear),
    }
    layers = {
        "attention/qkv": "attention.wqkv", "attention/out": "attention.wo", "mlp/hidden": "feed_forward.w1",
        "mlp/gate": "feed_forward.w3", "mlp/out": "feed_forward.w2",
    }  # fmt: skip
    for i in range(DEPTH):
        ours, theirs = f"params/transformer/block_{i}", f"layers.{i}"
        names |= {f"{ours}/{a}/kernel": ((f"{theirs}.{b}.weight",), official.linear) for a, b in layers.items()}
        for here, there in (("norm_0", "attention_norm"), ("norm_1", "ffn_norm")):
            names[f"{ours}/{here}/scale"] = ((f"{theirs}.{there}.weight",), official.same)
    return names


def one(names):
    return {ours: ((theirs,), form) for ours, (theirs, form) in names.items()}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, root):
    """(network, weights, names, codes, conditioning, what the official class gave)."""
    name = request.param
    with np.load(root / "tests/reference/priors.npz") as arrays:
        found = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if not key.startswith("versions")}
    names = {"taming": taming_names, "llamagen": llamagen_names}[name]()
    weights = {n: drawn_weights.weight(n, *rest) for n, *rest in map(official.parsed, found["weights"])}
    assert {theirs for parts, _ in names.values() for theirs in parts} == weights.keys()
    variables = official.tree({ours: form(*(weights[n] for n in parts)) for ours, (parts, form) in names.items()})
    labels = jax.nn.one_hot(found["labels"], CLASSES)
    labels = labels.at[-1].set(0) if name == "llamagen" else labels  # dropped there
    variables = jax.tree.map(jnp.float32, variables)
    return NETWORKS[name], variables, names, jnp.asarray(found["codes"], jnp.int32), Conditioning(labels), found


def logits_of(network, variables, codes, conditioning):
    return jit(lambda variables, codes: network.apply(variables, codes, CODES, conditioning))(variables, codes)


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_logits_are_the_official_ones(case):
    network, variables, _, codes, conditioning, theirs = case
    near(logits_of(network, variables, codes[:, :-1], conditioning), theirs["logits"])


@pytest.mark.slow
def test_gradients_are_the_official_ones(case):
    network, variables, names, codes, conditioning, theirs = case

    def loss(params):
        logits = network.apply({"params": params}, codes[:, :-1], CODES, conditioning)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], axis=2))

    value, gradients = jit(jax.value_and_grad(loss))(variables["params"])
    np.testing.assert_allclose(value, theirs["loss"], rtol=1e-6)
    shapes = {n: shape for n, shape, _ in map(official.parsed, theirs["weights"])}
    order = {n: i for i, n in enumerate(shapes)}
    for ours, gradient in official.flat({"params": gradients}).items():
        parts, form = names[ours]
        along = form(*(drawn_weights.direction(n, shapes[n]) for n in parts))
        wanted = sum(theirs["along"][order[n]] for n in parts)
        limit = 1e-5 * max(theirs["lengths"][order[n]] for n in parts) + 1e-7
        np.testing.assert_allclose(np.vdot(gradient, along), wanted, rtol=0, atol=limit, err_msg=ours)


def test_going_on_from_a_cache_is_the_official_loop(case):
    """Also its codes, the likeliest at each place."""
    network, variables, _, codes, conditioning, theirs = case
    logits, taken = likeliest(network, variables, conditioning, len(codes))
    near(logits, theirs["cached_logits"])
    np.testing.assert_array_equal(taken, theirs["cached_codes"])
    near(logits_of(network, variables, taken[:, :-1], conditioning), theirs["cached_logits"])


def likeliest(network, variables, conditioning, n):
    def call(variables, code, cache, at):
        return network.apply({**variables, **cache}, code[:, None], CODES, conditioning, at, mutable=["cache"])

    code = jnp.zeros(n, jnp.int32)
    cache = jax.tree.map(jnp.zeros_like, jax.eval_shape(call, variables, code, {}, 0)[1])
    compiled, found = jit(call), []
    for at in range(CODES.length):
        logits, cache = compiled(variables, code, cache, jnp.int32(at))
        found.append(logits[:, 0])
        code = found[-1].argmax(axis=1).astype(jnp.int32)
    assert compiled._cache_size() == 1  # whatever the place
    return jnp.stack(found, axis=1), jnp.stack([one.argmax(axis=1) for one in found], axis=1)


def test_a_code_is_predicted_from_those_before_it_alone(case):
    network, variables, _, codes, conditioning, _ = case
    before = codes[:1, :-1]
    changed = [before.at[:, place].add(1) % CODES.vocabulary for place in range(CODES.length - 1)]
    told = Conditioning(jnp.tile(conditioning.labels[:1], (CODES.length, 1)))
    plain, *others = logits_of(network, variables, jnp.concatenate([before, *changed]), told)
    for place, logits in enumerate(others):
        moved = np.abs(logits - plain).max(axis=1) > 1e-4
        np.testing.assert_array_equal(moved, np.arange(CODES.length) > place)


def shapes(network, codes, classes):
    before = jax.ShapeDtypeStruct((1, codes.length - 1), jnp.int32)
    told = Conditioning(jax.ShapeDtypeStruct((1, classes), jnp.float32)) if classes else NOTHING
    return jax.eval_shape(network.init, jax.random.key(0), before, codes, told)


@pytest.mark.parametrize(
    ("network", "codes", "classes", "published"),
    [
        (GPT(start="code"), Codes(1024, (32, 16)), 0, 304_932_864),
        (llamagen("L"), Codes(16_384, (24, 24)), 1000, 342_910_976),
    ],
    ids=["taming-faces", "LlamaGen-L"],
)
def test_published_sizes(network, codes, classes, published):
    """Those of taming's ImageNet and LlamaGen-B are tested with their recipes."""
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(network, codes, classes))) == published


@pytest.mark.slow
@pytest.mark.parametrize(("size", "said"), [("XL", 775e6), ("3B", 3.1e9)])
def test_larger_sizes_are_as_large_as_the_authors_say(size, said):
    """In the README of LlamaGen."""
    found = shapes(llamagen(size), Codes(16_384, (16, 16)), 1000)
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == pytest.approx(said, rel=0.01)


def test_rotated_products_depend_on_how_far_places_are_apart():
    """In rows and in columns by themselves; and by the angles of the paper."""
    turns = rotary(4, 5, 8)
    q, k = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    q, k = jit(lambda *ends: [rotated(jnp.tile(x, (1, 20, 1, 1)), turns) for x in ends])(q, k)
    products = np.einsum("bqnd,bknd->qk", q, k).reshape(4, 5, 4, 5)
    for row, column in ((1, 2), (0, 3), (2, 0)):
        one = [products[r + row, c + column, r, c] for r in range(4 - row) for c in range(5 - column)]
        np.testing.assert_allclose(one, one[0], atol=1e-5)
    np.testing.assert_allclose(turns[7, 1], [np.cos(0.01), np.sin(0.01)], rtol=1e-5)  # row 1, its second frequency
    np.testing.assert_allclose(turns[7, 2], [np.cos(2.0), np.sin(2.0)], rtol=1e-5)  # column 2, the first


@pytest.mark.slow
def test_pieces_of_a_sequence_are_the_whole():
    """Of causal ones, and of others, where a place sees its own piece and those before it."""
    x, piece = jax.random.normal(jax.random.key(0), (2, 6, 16)), jnp.arange(6) // 2
    for causal, pairs in ((True, None), (False, piece[:, None] >= piece)):
        network = Transformer(1, 2, 32, Style(causal=causal))
        variables = drawn(jax.eval_shape(network.init, jax.random.key(0), x))

        def both(variables, network=network, pairs=pairs):
            found, cache = [], {}
            for at in (0, 2, 4):
                cursor = Cursor(jnp.int32(at), 6)
                y, cache = network.apply({**variables, **cache}, x[:, at : at + 2], cursor=cursor, mutable=["cache"])
                found.append(y)
            return jnp.concatenate(found, axis=1), network.apply(variables, x, None, pairs)

        found, whole = jit(both)(variables)
        np.testing.assert_allclose(found, whole, atol=1e-5)


def drawn(shapes):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.float32(drawn_weights.weight(jax.tree_util.keystr(path), leaf.shape, 0.3)), shapes
    )


@pytest.mark.slow
def test_less_memory_and_rows_by_themselves_compute_the_same():
    """With dropout, whose masks follow from the rows' keys."""
    network = GPT(1, 24, 3, style=LLAMA, dropout=0.2, code_dropout=0.1)
    codes, keys = jnp.arange(24).reshape(3, 8) % 13, jax.random.split(jax.random.key(0), 3)
    variables = drawn(shapes(network, CODES, 0))

    def objective(network, variables, codes, keys):
        return jnp.sum(network.apply(variables, codes, CODES, Conditioning(keys=keys)) ** 2)

    def gradients(variables):
        gradient = jax.grad(objective, argnums=1)
        rows = [gradient(network, variables, codes[i : i + 1], keys[i : i + 1]) for i in range(3)]
        remat = gradient(network.clone(remat=True), variables, codes, keys)
        return gradient(network, variables, codes, keys), remat, jax.tree.map(lambda *parts: sum(parts), *rows)

    whole, *others = jit(gradients)(variables)
    for other in others:
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max() + 1e-7)


def test_on_a_gpu_attention_is_fused_and_causal(monkeypatch):
    chosen = []

    def attention(q, k, v, bias=None, mask=None, is_causal=False, implementation=None):
        chosen.append((implementation, is_causal, mask))
        return q

    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    with made_for("gpu"):
        jax.eval_shape(GPT(**SMALL).init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), CODES)
    assert chosen == [("cudnn", True, None)] * DEPTH


@pytest.mark.parametrize(
    ("network", "codes", "classes", "message"),
    [
        (GPT(2, 24, 5), CODES, 0, "heads=5 does not divide a width of 24"),
        (GPT(2, 24, 4, positions="rotary"), CODES, 0, "heads of 6 channels cannot be rotated"),
        (GPT(2, 24, 3, positions="rotary"), Codes(13, (9,)), 0, r"codes of shape \(9,\) have no rows and columns"),
        (GPT(2, 24, 3), Codes(13, (2, 4)), 0, "8 codes before the next, but an image has 8 in all"),
        (GPT(2, 24, 3, start="code"), CODES, 14, "there are 14 classes and 13 codes: use start='own'"),
    ],
)
def test_what_does_not_fit_is_refused(network, codes, classes, message):
    told = Conditioning(jnp.zeros((1, classes))) if classes else NOTHING
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), codes, told)


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no LlamaGen of size 'M': use one of B, L, XL, XXL, 3B"):
        llamagen("M")


@pytest.mark.parametrize(
    ("network", "codes", "given"),
    [
        (GPT(1, 16, 2, dtype="bfloat16"), CODES, jnp.zeros((2, 8), jnp.int32)),
        (BERT(1, 16, 2, dtype="bfloat16"), CODES, jnp.zeros((2, 9), jnp.int32)),
        (NextScale(1, 16, 2, dtype="bfloat16"), ScaleCodes(13, (1, 2)), jnp.ones((2, 4, 3))),
    ],
    ids=["gpt", "bert", "next scale"],
)
def test_logits_are_not_rounded_to_what_a_network_computes_in(network, codes, given):
    logits = jit(lambda variables: network.apply(variables, given, codes))(drawn(shapes_of(network, given, codes)))
    assert logits.dtype == jnp.float32
    assert np.mean(logits == logits.astype(jnp.bfloat16)) < 0.1


def shapes_of(network, *arguments):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments))
