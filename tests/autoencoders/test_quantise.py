"""Quantisers against published ones (reference/make_quantisers.py), and what all of them have in common."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoencoders.quantise import (
    FSQ,
    LFQ,
    Codebook,
    EMACodebook,
    GumbelCodebook,
    MultiScaleCodebook,
    Residual,
    code_shape_of,
)
from imagegen_jax.autoencoders.quantise.learned import annealed
from imagegen_jax.autoencoders.quantise.lookup_free import bit_entropies
from imagegen_jax.autoencoders.quantise.multiscale import averaging, bicubic
from imagegen_jax.autoencoders.quantise.quantiser import entropies

K, D, GRID = 7, 3, (5, 5)
SMALL = [
    EMACodebook(K, D),
    EMACodebook(K, D, normalised=True),
    Codebook(K, D),
    Codebook(K, D, swapped=True, normalised=True, entropy=0.1),
    GumbelCodebook(K, D),
    FSQ((5, 4, 3)),
    LFQ(4),
    Residual(EMACodebook(K, D), depth=2),
    Residual(Codebook(K, D), depth=2, shared=True),
    MultiScaleCodebook(Codebook(K, D), sizes=(1, 2, 5)),
    MultiScaleCodebook(EMACodebook(K, D), sizes=(1, 2, 5)),
]
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def name(quantiser):
    inner = getattr(quantiser, "quantiser", getattr(quantiser, "book", None))
    return type(quantiser).__name__ + (f"-{type(inner).__name__}" if inner else "")


each = pytest.mark.parametrize("quantiser", SMALL, ids=name)


@functools.cache
def reference(case):
    with np.load(pathlib.Path(__file__).parents[1] / "reference" / "quantisers.npz") as arrays:
        return {key.removeprefix(f"{case}/"): arrays[key] for key in arrays if key.startswith(f"{case}/")}


def jax_arrays(params):
    return jax.tree.map(jnp.asarray, params)


def close(ours, theirs):
    """To 1e-5 of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1.0, np.abs(theirs).max()))


def compare(quantiser, case, params, key=None, codebook=None):
    """Vectors, codes, loss, and the gradients to the input and to all of `params`, of which the reference has some."""
    theirs = reference(case)

    def total(params, z):
        variables = {"params": params} | ({} if codebook is None else {"codebook": codebook})
        found, _ = quantiser.apply(variables, z, key, mutable=["codebook"])
        return found.loss + jnp.sum(found.vectors * theirs["direction"]), found

    (_, found), grads = jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(params, theirs["z"])
    close(found.vectors, theirs["vectors"])
    close(found.loss, theirs["loss"])
    np.testing.assert_array_equal(np.asarray(found.codes).reshape(theirs["codes"].shape), theirs["codes"])
    close(grads[1], theirs["grad"])
    return grads[0], theirs


# --- published quantisers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("codebook", {}),
        ("swapped", {"swapped": True}),
        ("normalised", {"normalised": True}),
        ("normalised_entropy", {"normalised": True, "entropy": 0.1}),
    ],
)
def test_codebooks_of_vqgan_and_llamagen(case, options):
    params = {"embedding": reference(case)["embedding"]}
    grads, theirs = compare(Codebook(K, D, **options), case, params)
    close(grads["embedding"], theirs["embedding_grad"])


def test_gumbel_codebook_of_vqgan(monkeypatch):
    theirs = reference("gumbel")
    monkeypatch.setattr(jax.random, "gumbel", lambda key, shape: theirs["noise"])
    logits = {"kernel": theirs["kernel"][:, :, 0, 0].T, "bias": theirs["bias"]}
    params = {"embedding": theirs["embedding"], "logits": logits}
    quantiser = GumbelCodebook(K, D, temperature=0.7, kl_weight=0.3)
    codebook = {"steps": jnp.int32(0)}
    grads, _ = compare(quantiser, "gumbel", params, jax.random.key(0), codebook)
    close(grads["embedding"], theirs["embedding_grad"])
    close(grads["logits"]["kernel"], theirs["kernel_grad"][:, :, 0, 0].T)
    close(grads["logits"]["bias"], theirs["bias_grad"])


@pytest.mark.parametrize("levels", [(5, 4, 3), (8, 5, 5, 5), (2, 2)])
def test_fsq_of_its_authors(levels):
    theirs = reference("fsq_" + "".join(map(str, levels)))
    found = FSQ(levels).apply({}, theirs["z"])
    close(found.vectors, theirs["vectors"])
    np.testing.assert_array_equal(found.codes, theirs["codes"])


def test_lfq():
    compare(LFQ(4, entropy=0.1, diversity=0.8, temperature=1.0), "lfq", {}, jax.random.key(0))


def test_residual():
    theirs = reference("residual")
    params = {f"parts_{depth}": {"embedding": book} for depth, book in enumerate(theirs["books"])}
    quantiser = Residual(Codebook(K, D, commitment=0.25), depth=3)
    found = jit(lambda z: quantiser.apply({"params": jax_arrays(params)}, z))(theirs["z"])
    close(found.vectors, theirs["vectors"])
    np.testing.assert_array_equal(found.codes, theirs["codes"])
    close(found.loss, theirs["loss"] * 1.25 / 0.25)  # theirs has no term for the book, which equals the commitment


@pytest.mark.slow
def test_multiscale_of_var():
    theirs = reference("multiscale")
    params = {"book": {"embedding": theirs["embedding"]}}
    for i in range(4):
        kernel = theirs[f"kernel_{i}"].transpose(2, 3, 1, 0)
        params[f"smooth_{i}"] = {"Conv_0": {"kernel": kernel, "bias": theirs[f"bias_{i}"]}}
    quantiser = MultiScaleCodebook(Codebook(K, D), sizes=(1, 2, 3, 5))
    grads, _ = compare(quantiser, "multiscale", params)
    close(grads["book"]["embedding"], theirs["embedding_grad"])
    for i in range(4):
        close(grads[f"smooth_{i}"]["Conv_0"]["kernel"], theirs[f"kernel_{i}_grad"].transpose(2, 3, 1, 0))
        close(grads[f"smooth_{i}"]["Conv_0"]["bias"], theirs[f"bias_{i}_grad"])
    variables = {"params": params}
    close(quantiser.apply(variables, theirs["codes"], method="lookup"), theirs["decoded"])
    inputs = quantiser.apply(variables, theirs["codes"], method="next_inputs")
    close(inputs, theirs["next_inputs"])
    first = quantiser.apply(variables, theirs["codes"][:, :5], method="next_inputs")
    close(first, theirs["next_inputs"][:, : 4 + 9])
    with pytest.raises(ValueError, match=r"6 codes are not those of whole sizes: there may be \[1, 5, 14, 39\]"):
        quantiser.apply(variables, theirs["codes"][:, :6], method="next_inputs")


def test_averages_of_vqvae():
    """Eqs. 6 to 8, beside the port of Sonnet's code with its smoothing left out."""
    theirs = reference("averaged")
    book = theirs["book"]
    codebook = {"embedding": book, "sums": book, "counts": jnp.ones(K)}
    quantiser = EMACodebook(K, D, decay=0.9, commitment=1.0, restart_below=0.0)
    step = jit(lambda codebook, z: quantiser.apply({"codebook": codebook}, z, jax.random.key(0), mutable=["codebook"]))
    for i in range(2):
        found, changed = step(codebook, theirs[f"z_{i}"])
        codebook = changed["codebook"]
        np.testing.assert_array_equal(found.codes, theirs[f"codes_{i}"])
        close(codebook["embedding"], theirs[f"embedding_{i}"])
        close(codebook["counts"], theirs[f"counts_{i}"])


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@each
def test_codes_stand_for_the_vectors_and_gradients_reach_the_encoder(quantiser):
    z = jax.random.normal(jax.random.key(0), (3, *GRID, quantiser.dim))
    direction = jax.random.normal(jax.random.key(2), z.shape)

    def calls(z):
        variables = quantiser.init(jax.random.key(1), z)
        trained = lambda z: quantiser.apply(variables, z, jax.random.key(3), mutable=["codebook"])  # noqa: E731
        grad, changed = jax.grad(lambda z: (jnp.sum(trained(z)[0].vectors * direction), trained(z)[1]), has_aux=True)(z)
        found = quantiser.apply(variables, z)
        return variables, found, quantiser.apply(variables, found.codes, method="lookup"), grad, changed

    variables, found, looked_up, grad, changed = jit(calls)(z)
    assert found.codes.shape == (3, *code_shape_of(quantiser, GRID)) and found.vectors.shape == z.shape
    assert 0 <= found.codes.min() and found.codes.max() < quantiser.codebook_size
    assert found.codes.dtype == jnp.int32 and found.loss.shape == ()
    np.testing.assert_allclose(found.vectors, looked_up, atol=1e-6)
    stats = {name: value for name, value in variables.items() if name != "params"}
    assert jax.tree.map(jax.typeof, stats) == jax.tree.map(jax.typeof, dict(changed))
    through = not isinstance(quantiser, (GumbelCodebook, FSQ)) and not getattr(quantiser, "normalised", False)
    if through:  # else what lies before the rounding has its own gradient: a softmax, tanh, or a length
        np.testing.assert_allclose(grad, direction, atol=1e-6)
    else:
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0


@each
def test_products_are_in_whole_float32(quantiser):
    """Accelerators round products to fewer digits by default; entropies divide them by a temperature of 0.01."""
    z = jnp.ones((2, *GRID, quantiser.dim))
    variables = jax.eval_shape(quantiser.init, jax.random.key(1), z)
    call = lambda variables, z: quantiser.apply(variables, z, jax.random.key(3), mutable=["codebook"])  # noqa: E731
    text = str(jax.make_jaxpr(call)(variables, z))
    products = text.count("dot_general[")
    assert products == text.count("(Precision.HIGHEST, Precision.HIGHEST)")
    assert products or isinstance(quantiser, FSQ)


def test_the_gradient_of_fsq_is_that_of_its_bound():
    levels, z = (5, 4), jnp.array([[0.3, -1.2]])
    half = np.array([2 * 0.999, 1.5 * 0.999])
    shift = np.array([0.0, np.tan(0.5 / half[1])])
    expected = half * (1 - np.tanh(np.asarray(z) + shift) ** 2) / 2  # both have 2 levels on the lower side
    grad = jax.grad(lambda z: FSQ(levels).apply({}, z).vectors.sum())(z)
    np.testing.assert_allclose(grad, expected, rtol=1e-5)


def test_a_book_of_averages_starts_from_the_batch_and_restarts_what_is_dead():
    quantiser = EMACodebook(4, 2, restart_below=0.1)
    z = jnp.array([[[5.0, 5.0], [5.0, 5.1], [-5.0, 5.0], [-5.0, 5.1]]])
    step = jit(lambda variables: quantiser.apply(variables, z, jax.random.key(1), mutable=["codebook"]))
    found, changed = step(jit(quantiser.init)(jax.random.key(0), z))
    assert found.metrics["restarted"] == 1 and np.abs(changed["codebook"]["embedding"]).min() > 4.9
    dead = {"embedding": jnp.array([[5.0, 5.0], [-5.0, 5.0], [0, 0], [9, -9]]), "counts": jnp.array([1.0, 1, 1, 0])}
    dead["sums"] = dead["embedding"] * dead["counts"][:, None]
    found, changed = step({"codebook": dead})
    assert found.metrics["restarted"] == 0.25 and np.abs(changed["codebook"]["embedding"][3, 1]) > 4.9
    still = EMACodebook(4, 2, restart_below=0.0)
    _, changed = jit(lambda book: still.apply(book, z, jax.random.key(1), mutable=["codebook"]))({"codebook": dead})
    np.testing.assert_array_equal(changed["codebook"]["embedding"][3], dead["embedding"][3])


def test_averages_of_length_one_stay_so():
    quantiser = EMACodebook(4, 2, normalised=True)
    z = jnp.array([[[5.0, 1.0], [0.1, 0.1], [-5.0, 5.0], [-1.0, -0.1]]])
    step = jit(lambda variables: quantiser.apply(variables, z, jax.random.key(1), mutable=["codebook"]))
    found, changed = step(jit(quantiser.init)(jax.random.key(0), z))
    for vectors in (found.vectors, changed["codebook"]["embedding"]):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)


def test_the_temperature_falls_in_a_cosine_and_is_counted():
    found = [float(annealed(jnp.int32(step), 1.0, 0.2, 10)) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(found, [1.0, 0.6, 0.2, 0.2], rtol=1e-6)
    quantiser = GumbelCodebook(K, D, temperature=1.0, last_temperature=0.5, annealed_over=2)
    z = jnp.ones((1, D))
    variables = jit(quantiser.init)(jax.random.key(1), z)
    step = jit(lambda variables: quantiser.apply(variables, z, jax.random.key(0), mutable=["codebook"]))
    for temperature in (1.0, 0.75, 0.5, 0.5):
        found, changed = step(variables)
        np.testing.assert_allclose(found.metrics["temperature"], temperature, rtol=1e-6)
        variables = {**variables, **changed}


@pytest.mark.parametrize(("shared", "books"), [(False, {"parts_0", "parts_1"}), (True, {"quantiser"})])
def test_books_of_one_kind_differ_unless_shared(shared, books):
    quantiser = Residual(EMACodebook(K, D), depth=2, shared=shared)
    variables = jax.eval_shape(quantiser.init, jax.random.key(0), jnp.ones((1, D)))
    assert set(variables["codebook"]) == books


@pytest.mark.parametrize("rows", [averaging(5, 2), averaging(4, 4), bicubic(2, 5), bicubic(3, 16)])
def test_resizing_keeps_what_is_constant(rows):
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(("sizes", "grid"), [((1, 2), (5, 5)), ((2, 1, 5), (5, 5)), ((1, 5), (5, 4))])
def test_sizes_must_rise_to_that_of_the_grid(sizes, grid):
    with pytest.raises(ValueError, match=rf"quantiser.sizes=.*which is {grid[0]}x{grid[1]}; the grid must be square"):
        MultiScaleCodebook(sizes=sizes).code_shape(grid)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_entropies_of_bits_are_those_of_all_codes(bits):
    """With their gradients, though no array of vectors times codes is made."""
    z = jnp.asarray(np.random.default_rng(0).standard_normal((6, bits)), jnp.float32)
    book = LFQ(bits).lookup(jnp.arange(2**bits))

    def both(entropies_of):
        return jit(jax.value_and_grad(lambda z: (lambda a, b: a - 0.7 * b)(*entropies_of(z))))(z)

    found, wanted = both(lambda z: bit_entropies(4 * z / 0.8)), both(lambda z: entropies(2 * z @ book.T / 0.8))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_eighteen_bits_need_no_array_of_vectors_times_codes():
    shape = jax.ShapeDtypeStruct((4096, 18), jnp.float32)
    program = jax.make_jaxpr(bit_entropies)(shape)
    sizes = [np.prod(v.aval.shape) for line in program.eqns for v in line.outvars]
    assert max(sizes) <= 4096 * 2**10  # all codes of all vectors would be 2^30
