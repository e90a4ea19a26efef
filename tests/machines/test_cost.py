"""Operations of traced programs: closed forms of each kind of layer, and what papers publish of whole networks."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.machines.cost import flops_of
from imagegen_jax.machines.programs import training_steps
from imagegen_jax.nn.multihead import attend
from imagegen_jax.recipes.shipped import recipe

LAYOUT = ("NHWC", "HWIO", "NHWC")


def shaped(*shapes, dtype=jnp.float32):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]


def count(function, *shapes):
    return flops_of(jax.make_jaxpr(function)(*shaped(*shapes)))


def gradient(function, *numbers):
    return jax.grad(lambda *arguments: function(*arguments).sum(), argnums=numbers)


def conv(stride=1, groups=1, padding="SAME"):
    return functools.partial(
        lax.conv_general_dilated, window_strides=(stride, stride), padding=padding, dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )  # fmt: skip


def test_a_matrix_product():
    assert count(jnp.dot, (5, 7), (7, 3)) == 2 * 5 * 7 * 3
    assert count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (4, 5, 7), (4, 7, 3)) == 4 * 2 * 5 * 7 * 3


CONVOLUTIONS = {  # the layer, its input and kernel, and its multiply-adds
    "plain": (conv(), (2, 8, 8, 3), (3, 3, 3, 5), 2 * 64 * 5 * 27),
    "strided": (conv(2), (2, 8, 8, 3), (3, 3, 3, 5), 2 * 16 * 5 * 27),
    "in groups": (conv(groups=4), (2, 8, 8, 8), (3, 3, 2, 12), 2 * 64 * 12 * 18),
    "of each channel": (conv(groups=8), (2, 8, 8, 8), (3, 3, 1, 8), 2 * 64 * 8 * 9),
    "without padding": (conv(padding="VALID"), (2, 4, 4, 6), (4, 4, 6, 5), 2 * 1 * 5 * 96),
    "transposed": (
        functools.partial(lax.conv_transpose, strides=(2, 2), padding="SAME", dimension_numbers=LAYOUT),
        (2, 8, 8, 3), (4, 4, 3, 5), 2 * 64 * 5 * 16 * 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_and_its_gradients(kind):
    layer, images, kernel, products = CONVOLUTIONS[kind]
    assert count(layer, images, kernel) == 2 * products
    for number in (0, 1):
        assert count(gradient(layer, number), images, kernel) == 2 * products  # the layer's own values are not read
    both = jax.value_and_grad(lambda x, k: (layer(x, k) ** 2).sum(), argnums=(0, 1))
    assert count(both, images, kernel) == 3 * 2 * products


def test_attention_is_two_products_of_all_pairs():
    shape = (2, 16, 3, 8)  # rows, places, heads, channels
    assert count(attend, shape, shape, shape) == 2 * 2 * 2 * 3 * 16 * 16 * 8


def test_cudnn_attention_is_counted_though_it_is_one_operation(monkeypatch):
    """Its gradient computes the product of queries and keys anew: five products after the forward's two."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91_000)
    attention = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    arrays = shaped(*[(2, 16, 3, 8)] * 3, dtype=jnp.bfloat16)
    one = 2 * 2 * 3 * 16 * 16 * 8
    assert flops_of(jax.make_jaxpr(attention)(*arrays)) == 2 * one
    assert flops_of(jax.make_jaxpr(gradient(attention, 0, 1, 2))(*arrays)) == 7 * one


def test_a_loop_counts_as_often_as_it_turns():
    def turned(x, w):
        return lax.fori_loop(0, 6, lambda i, x: lax.scan(lambda x, _: (x @ w, None), x, length=5)[0], x)

    assert count(turned, (4, 4), (4, 4)) == 30 * 2 * 4**3
    assert count(gradient(turned, 1), (4, 4), (4, 4)) == 3 * 30 * 2 * 4**3


def test_a_choice_counts_as_its_costliest_branch():
    def chosen(x, w):
        return lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x @ w, x)

    assert count(chosen, (4, 4), (4, 4)) == 2 * 2 * 4**3


def test_what_is_computed_anew_counts_again_and_what_nothing_reads_not_at_all():
    layer = lambda x, w: jnp.tanh(x @ w)  # noqa: E731
    once, again = (count(gradient(f, 0, 1), (4, 4), (4, 4)) for f in (layer, jax.checkpoint(layer)))
    assert (once, again) == (3 * 2 * 4**3, 3 * 2 * 4**3)  # the value, of which tanh' is made, is needed once in both
    deep = lambda x, w: jnp.tanh(layer(x, w) @ w)  # noqa: E731
    assert count(gradient(jax.checkpoint(deep), 0, 1), (4, 4), (4, 4)) == 6 * 2 * 4**3
    assert count(lambda x, w: (x @ w, x)[1], (4, 4), (4, 4)) == 0


def test_xla_counts_the_same_without_padding():
    """XLA leaves products with padding out: without any, both are the same, elementwise operations apart."""
    layer, images, kernel, products = CONVOLUTIONS["without padding"]
    compiled = jax.jit(layer).lower(*shaped(images, kernel)).cost_analysis()
    assert compiled["flops"] == count(layer, images, kernel) == 2 * products


PUBLISHED = {  # G multiply-adds of one image, forward; the papers call them Gflops
    "dit_b4_imagenet256": 5.56,  # Peebles & Xie 2023, arXiv 2212.09748, Table 4
    "dit_xl2_imagenet256": 118.64,  # there
    "adm_imagenet256": 1120,  # there, Table 6
    "edm2_imagenet64": 102,  # Karras et al. 2024, arXiv 2312.02696, Table 3, EDM2-S
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_take_what_is_published(name):
    experiment = recipe(name)
    (step,) = training_steps(experiment, MeshShape(data=1).build())
    forward = flops_of(step.program.jaxpr) / 3 / 2 / experiment.batch_size  # a step is that and two gradients
    assert forward / 1e9 == pytest.approx(PUBLISHED[name], rel=0.05)
