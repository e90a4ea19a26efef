"""VQ-VAE and VQ-VAE-2: published sizes, the port's network at random weights, codes in use, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments.vqvae_digits import experiment as digits

import imagegen_jax as ig
from imagegen_jax.autoencoders.quantise import (
    FSQ,
    Codebook,
    EMACodebook,
    GumbelCodebook,
    MultiScaleCodebook,
    Residual,
)
from imagegen_jax.autoencoders.quantise.code_use import CodeUse, perplexity
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer, psnr
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoencoders.vqvae2 import TwoLevelTokenizer
from imagegen_jax.core.capabilities import Tokenizing
from imagegen_jax.core.model import Inputs
from imagegen_jax.recipes.fit import model_for_images

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SMALL = {"encoder": ResidualEncoder(4, 1, 1, 4), "decoder": ResidualDecoder(4, 1, 1, 4)}


def sizes(model):
    """Of what is trained, and of the books."""
    variables = jax.eval_shape(model.init_tokenizer, jax.random.key(0))
    books = [leaf for path, leaf in jax.tree.leaves_with_path(variables["codebook"]) if "embedding" in str(path)]
    return tuple(sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (variables["params"], books))


@pytest.mark.parametrize(
    ("model", "parameters", "books"),
    [
        (VQVAE(), 662_723, 32_768),
        (VQVAE((256, 256, 3), TwoLevelTokenizer()), 1_388_867, 65_536),
    ],
    ids=["Sonnet", "VQ-VAE-2"],
)
def test_published_sizes(model, parameters, books):
    assert sizes(model) == (parameters, books)


# --- the port of VQ-VAE-2 ---------------------------------------------------------------------------------------------


def conv(weights, name):
    return {"kernel": weights[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": weights[f"{name}.bias"]}


def double(weights, name):
    """A transposed convolution: [I O H W], mirrored."""
    return {"kernel": weights[f"{name}.weight"].transpose(2, 3, 0, 1)[::-1, ::-1], "bias": weights[f"{name}.bias"]}


def stack(weights, name, first):
    """Two residual blocks, whose convolutions are 1 and 3 of each."""
    found = {}
    for block in range(2):
        found[f"Conv_{2 * block}"] = conv(weights, f"{name}.blocks.{first + block}.conv.1")
        found[f"Conv_{2 * block + 1}"] = conv(weights, f"{name}.blocks.{first + block}.conv.3")
    return found


def encoder(weights, name, halvings):
    found = {f"Halve_{i}": {"conv": conv(weights, f"{name}.blocks.{2 * i}")} for i in range(halvings)}
    last = 2 * halvings
    return {
        **found,
        "Conv_0": conv(weights, f"{name}.blocks.{last}"),
        "ResidualStack_0": stack(weights, name, last + 1),
    }


def decoder(weights, name, doublings):
    found = {f"Double_{i}": double(weights, f"{name}.blocks.{4 + 2 * i}") for i in range(doublings)}
    return {**found, "Conv_0": conv(weights, f"{name}.blocks.0"), "ResidualStack_0": stack(weights, name, 1)}


@pytest.mark.slow
def test_two_levels_equal_the_port():
    with np.load(pathlib.Path(__file__).parents[1] / "reference" / "quantisers.npz") as arrays:
        theirs = {key.removeprefix("two_levels/"): arrays[key] for key in arrays if key.startswith("two_levels/")}
    weights = {key.removeprefix("weights/"): value for key, value in theirs.items() if key.startswith("weights/")}
    network = TwoLevelTokenizer(width=8, hidden=4, quantiser=EMACodebook(7, 3, commitment=1.0))
    params = {
        "encode_bottom": encoder(weights, "enc_b", 2),
        "encode_top": encoder(weights, "enc_t", 1),
        "pre_top": conv(weights, "quantize_conv_t"),
        "pre_bottom": conv(weights, "quantize_conv_b"),
        "decode_top": decoder(weights, "dec_t", 1),
        "enlarge": double(weights, "upsample_t"),
        "decode_both": decoder(weights, "dec", 2),
    }
    books = {}
    for level in ("top", "bottom"):
        embedding = weights[f"quantize_{level[0]}.embed"].T
        books[level] = {"embedding": embedding, "sums": embedding, "counts": np.ones(7)}
    variables = jax.tree.map(jnp.asarray, {"params": params, "codebook": books})
    y, quantised = jit(network.apply)(variables, theirs["image"])
    codes = np.concatenate([theirs[name].reshape(2, -1) for name in ("top", "bottom")], axis=1)
    np.testing.assert_array_equal(quantised.codes, codes)
    np.testing.assert_allclose(y, theirs["y"], atol=1e-5 * np.abs(theirs["y"]).max())
    np.testing.assert_allclose(quantised.loss, theirs["loss"], rtol=1e-5)
    decoded = jit(lambda codes: network.apply(variables, codes, 3, method="decode"))(codes)
    np.testing.assert_allclose(decoded, theirs["y"], atol=1e-5 * np.abs(theirs["y"]).max())


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Tokenizer(**SMALL, quantiser=EMACodebook(8, 3)), (4, 2)),
        (Tokenizer(**SMALL, quantiser=Residual(FSQ((3, 3)), depth=2)), (4, 2, 2)),
        (Tokenizer(**SMALL, quantiser=MultiScaleCodebook(Codebook(8, 3), sizes=(1, 4))), (17,)),
        (TwoLevelTokenizer(4, 1, 1, 4, EMACodebook(8, 3)), (4 + 16,)),
    ],
    ids=["grid", "residual", "multi-scale", "two levels"],
)
def test_shapes_of_codes(network, shape):
    side = (8, 4) if shape[1:] and shape[0] != shape[1] else (8, 8)
    model = VQVAE((*side, 1), network)
    assert isinstance(model, Tokenizing) and model.code_shape == shape
    x = jnp.zeros((2, *model.image_shape))

    def there_and_back(key):
        nets = {"tokenizer": model.init_tokenizer(key)}
        codes = model.encode(nets, x)
        return codes, model.decode(nets, codes)

    codes, y = jax.eval_shape(there_and_back, jax.random.key(0))
    assert codes.shape == (2, *shape) and codes.dtype == jnp.int32 and y.shape == x.shape


@pytest.mark.slow
def test_the_loss_is_that_of_equation_3():
    model = VQVAE((4, 4, 1), Tokenizer(**SMALL, quantiser=Codebook(8, 3, commitment=0.5)), variance=0.7)
    x = jax.random.uniform(jax.random.key(0), (3, 4, 4, 1), minval=-1)
    variables = jit(model.init_tokenizer)(jax.random.key(1))
    key = jax.random.key(2)
    loss, aux = jit(model.loss)({"tokenizer": variables}, Inputs({"image": x}, key, key[None], jnp.int32(0), {}))

    def parts(variables, x):
        z = model.network.apply(variables, x, method=lambda network, x: network.pre(network.encoder(x)))
        return z, *model.network.apply(variables, x)

    z, y, quantised = jit(parts)(variables, x)
    error = jnp.mean((z - quantised.vectors) ** 2)
    np.testing.assert_allclose(loss, jnp.mean((y - x) ** 2) / 0.7 + 1.5 * error, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["psnr"], psnr(x, y), rtol=1e-6)
    np.testing.assert_allclose(aux.images, y, atol=1e-6)


def test_the_perplexity_of_equal_shares_is_their_number():
    np.testing.assert_allclose(perplexity(jnp.array([0, 3, 3, 0]), 8), 2, rtol=1e-6)


def test_psnr_of_a_known_error():
    x = jnp.zeros((2, 4, 4, 1))
    np.testing.assert_allclose(psnr(x, x + 0.2), 10 * np.log10(4 / 0.04), rtol=1e-5)
    np.testing.assert_allclose(psnr(jnp.ones_like(x), x + 3), 106.0206, rtol=1e-5)  # clipped first, as images are


# --- codes in use -----------------------------------------------------------------------------------------------------


def test_codes_in_use_are_counted_over_the_window():
    use = CodeUse(codebook_size=4, books=1, window=6)
    variables = use.init(jax.random.key(0), jnp.zeros((2, 1), jnp.int32))
    np.testing.assert_array_equal(variables["codebook"]["unchosen_images"], [[6] * 4])
    step = jit(lambda variables, codes: use.apply(variables, codes, mutable=["codebook"]))
    seen = []
    for codes in ([0, 1], [0, 0], [0, 2], [0, 0]):
        metrics, variables = step(variables, np.array(codes)[:, None])
        seen.append((float(metrics["codebook_used"]), float(metrics["codebook_dead"])))
    assert seen == [(0.5, 2.0), (0.5, 2.0), (0.75, 1.0), (0.5, 2.0)]  # 1 was chosen 6 images ago at the end
    np.testing.assert_array_equal(variables["codebook"]["unchosen_images"], [[0, 6, 2, 6]])


def test_each_book_has_its_own_count():
    use = CodeUse(codebook_size=4, books=2, window=10)
    codes = jnp.array([[[0, 3], [1, 3]]])
    metrics, changed = jit(lambda key: use.apply(use.init(key, codes), codes, mutable=["codebook"]))(jax.random.key(0))
    assert metrics["codebook_used"] == (2 + 1) / 8
    np.testing.assert_allclose(metrics["codebook_perplexity"], (2 + 1) / 2, rtol=1e-6)
    np.testing.assert_array_equal(changed["codebook"]["unchosen_images"] == 0, [[1, 1, 0, 0], [0, 0, 0, 1]])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.image_shape": (9, 8, 1)}, "model.image_shape=9x8: .* multiples of 2, such as 8 or 10"),
        ({"model.network.quantiser.codebook_size": 1}, "codebook_size=1: must be at least 2"),
        ({"model.network.quantiser.dim": 0}, "dim=0: must be at least 1"),
        ({"model.network.quantiser.decay": 1.0}, "decay=1.0: must be at least 0 and below 1"),
        ({"model.network.quantiser": FSQ((5, 1))}, r"levels.1=1: must be at least 2"),
        ({"model.network.quantiser": MultiScaleCodebook(sizes=(1, 3))}, "quantiser.sizes=.*, which is 4x4"),
        ({"model.network.use_window": 0}, "use_window=0: must be at least 1"),
        ({"model.variance": 0.0}, "variance=0.0: must be above 0"),
    ],
)
def test_bad_values_are_one_message(changes, words):
    with pytest.raises(ValueError, match=words) as found:
        ig.override(digits, changes)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("levels", "codes"), [((), "no"), ((1000,) * 4, "1000000000000")])
def test_fsq_wants_levels_whose_codes_are_integers(levels, codes):
    with pytest.raises(ValueError, match=rf"levels=.*: {codes} codes, but there must be at least 2"):
        FSQ(levels)


def test_images_that_do_not_halve_are_refused_for_own_data_too():
    with pytest.raises(ValueError, match="model.image_shape=30x30: .* multiples of 4, such as 28 or 32"):
        model_for_images(VQVAE(), (30, 30, 3), 0)
    with pytest.raises(ValueError, match="TwoLevelTokenizer takes square images, such as 16x16"):
        VQVAE((16, 8, 3), TwoLevelTokenizer())
    fitted = model_for_images(dataclasses.replace(digits.model), (16, 12, 3), 0)
    assert fitted.code_shape == (8, 6)


def test_quantisers_that_a_network_cannot_have_are_refused():
    with pytest.raises(ValueError, match="quantiser=Residual: a TwoLevelTokenizer has one code for each vector"):
        VQVAE((16, 16, 3), TwoLevelTokenizer(quantiser=Residual()))
    with pytest.raises(ValueError, match="MultiScaleCodebook of a Residual: it does not give each vector one code"):
        Residual(MultiScaleCodebook())
    with pytest.raises(ValueError, match="GumbelCodebook of a Residual: no gradient would reach its book"):
        Residual(GumbelCodebook())
