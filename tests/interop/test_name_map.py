"""Rules from published names to paths, and the check that every tensor and every parameter is used once."""

import jax
import numpy as np
import pytest

from imagegen_jax.interop.name_map import (
    Rule,
    as_published,
    convolution,
    dense,
    fused,
    layer,
    norm,
    parts,
    pixelwise,
    renamed,
    sines_first,
    within,
)

RULES = [
    *convolution("stem", "conv_in"),
    *within(
        {"blocks.{i}.": "block_{i}/"},
        [*norm("norm1", "norm"), *fused("qkv", ("query", "key", "value")), *layer("a", "b")],
    ),
    Rule("steps", ()),
]


def tree(shapes):
    """Shapes by path as a tree of them."""
    made = {}
    for path, shape in shapes.items():
        *parents, leaf = path.split("/")
        node = made
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jax.ShapeDtypeStruct(shape, np.float32)
    return made


ABSTRACT = tree(
    {"conv_in/kernel": (3, 3, 2, 4), "conv_in/bias": (4,), "block_12/norm/scale": (4,), "block_12/norm/bias": (4,)}
    | {f"block_12/{name}/kernel": (4, 2) for name in ("query", "key", "value")}
    | {f"block_12/{name}/bias": (2,) for name in ("query", "key", "value")}
)


@pytest.fixture
def tensors():
    draw = np.random.RandomState(0).standard_normal
    shapes = {
        "stem.weight": (4, 2, 3, 3),
        "stem.bias": (4,),
        "blocks.12.norm1.weight": (4,),
        "blocks.12.norm1.bias": (4,),
    }
    shapes |= {"blocks.12.qkv.weight": (6, 4), "blocks.12.qkv.bias": (6,)}
    found = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"steps": np.int64(7)[None]}


def test_each_tensor_lands_where_its_rule_says(tensors):
    found = renamed(tensors, ABSTRACT, RULES, "a.pth")
    assert jax.tree.structure(found) == jax.tree.structure(ABSTRACT)
    x = np.random.RandomState(1).standard_normal(4).astype(np.float32)
    block, qkv = found["block_12"], tensors["blocks.12.qkv.weight"] @ x + tensors["blocks.12.qkv.bias"]
    for i, name in enumerate(("query", "key", "value")):
        np.testing.assert_allclose(x @ block[name]["kernel"] + block[name]["bias"], qkv[2 * i : 2 * i + 2], rtol=1e-5)
    assert found["conv_in"]["kernel"][2, 1, 0, 3] == tensors["stem.weight"][3, 0, 2, 1]
    np.testing.assert_array_equal(block["norm"]["scale"], tensors["blocks.12.norm1.weight"])


def test_parts_of_heads_are_gathered():
    """Of two heads with one query, key and value each."""
    assert [part.tolist() for part in parts(3, heads=2)(np.arange(6))] == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": (2, 3)}, r"b 2x3 has no place in the network\. Give"),
        ({"blocks.12.a.weight": (2, 3)}, r"blocks.12.a.weight 2x3 has no place"),
        ({"stem.weight": (4, 2, 1, 1)}, "stem.weight 4x2x1x1 does not fit conv_in/kernel 3x3x2x4. Give"),
        ({"stem.weight": (4,)}, "stem.weight 4 does not fit conv_in/kernel"),
        (
            {"blocks.12.qkv.bias": (5,)},
            r"blocks.12.qkv.bias 5 does not fit block_12/query/bias 2, block_12/key/bias 2, \S+/value/bias 2\. Give",
        ),
        ({"stem.bias": None, "c": ()}, "c scalar has no place in the network; conv_in/bias 4 is not there"),
        ({f"c{i}": () for i in range(5)}, "c0 scalar .*; c1 scalar .*; c2 scalar .*; and 2 more"),
    ],
)
def test_what_does_not_fit_is_named_with_its_shape(tensors, change, message):
    given = tensors | {name: np.zeros(shape or ()) for name, shape in change.items()}
    given = {name: x for name, x in given.items() if change.get(name, ()) is not None}
    with pytest.raises(ValueError, match=f"a.pth: these are not the weights of this network: {message}"):
        renamed(given, ABSTRACT, RULES, "a.pth")


def test_two_tensors_for_one_parameter_are_refused(tensors):
    with pytest.raises(ValueError, match="old.bias 4 is a second conv_in/bias"):
        renamed(tensors | {"old.bias": np.zeros(4)}, ABSTRACT, [*RULES, Rule("old.bias", "conv_in/bias")], "a.pth")


@pytest.mark.parametrize(("value", "message"), [(np.nan, "1 values that are NaN"), (1e39, "1 values"), (1, "of int64")])
def test_values_that_are_no_finite_floats_are_refused(tensors, value, message):
    bias = np.array([0, value, 0, 0]) if value == 1 else np.array([0.0, value, 0, 0])
    with pytest.raises(ValueError, match=f"a.pth: the tensor 'stem.bias' (has|is) .*{message}"):
        renamed(tensors | {"stem.bias": bias}, ABSTRACT, RULES, "a.pth")


def test_several_tensors_may_be_one_parameter():
    """Side by side in its last axis, as queries, keys and values are in some networks here."""
    rules = [Rule(f"{name}.weight", "qkv/kernel", dense, part=(at, 3)) for at, name in enumerate("qkv")]
    given = {f"{name}.weight": np.full((2, 4), at, np.float32) for at, name in enumerate("qkv")}
    abstract = tree({"qkv/kernel": (4, 6)})
    found = renamed(dict(reversed(given.items())), abstract, rules, "a.pth")
    np.testing.assert_array_equal(found["qkv"]["kernel"], np.tile(np.repeat(np.arange(3), 2), (4, 1)))
    with pytest.raises(ValueError, match="qkv/kernel 4x6 is not there"):
        renamed({name: given[name] for name in ("q.weight", "v.weight")}, abstract, rules, "a.pth")
    with pytest.raises(ValueError, match="k.weight 3x4 does not fit qkv/kernel 4x6"):
        renamed(given | {"k.weight": np.zeros((3, 4), np.float32)}, abstract, rules, "a.pth")


def test_copies_have_to_be_the_same():
    rules = [Rule("blocks.{i}.time", "time", copied=True)]
    abstract = tree({"time": (2,)})
    given = {f"blocks.{i}.time": np.float32([1, 2]) for i in range(3)}
    np.testing.assert_array_equal(renamed(given, abstract, rules, "a.pth")["time"], [1, 2])
    given["blocks.1.time"] = np.float32([1, 3])
    with pytest.raises(ValueError, match="blocks.1.time 2 is not the same as elsewhere, but the network has it once"):
        renamed(given, abstract, rules, "a.pth")


def test_parameters_are_written_as_they_were_published():
    """In the layouts of convolutions of one pixel and of layers that see times, too."""
    rules = [
        *convolution("stem", "conv_in"),
        *layer("short", "shortcut", pixelwise),
        *layer("time", "time_0", sines_first),
        *within({"blocks.{i}.": "block_{i}/"}, [*norm("norm1", "norm"), *layer("a", "b")]),
    ]
    draw = np.random.RandomState(0).standard_normal
    shapes = {"stem.weight": (4, 2, 3, 3), "short.weight": (5, 3, 1, 1), "time.weight": (4, 6), "time.bias": (4,)}
    given = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
    given |= {"stem.bias": given["time.bias"], "short.bias": draw(5).astype(np.float32)}
    abstract = {"conv_in/kernel": (3, 3, 2, 4), "conv_in/bias": (4,), "shortcut/kernel": (3, 5), "shortcut/bias": (5,)}
    abstract |= {"time_0/kernel": (6, 4), "time_0/bias": (4,)}
    found = as_published(renamed(given, tree(abstract), rules, "a"), rules)
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="the parameter elsewhere/kernel has no published name"):
        as_published({"elsewhere": {"kernel": given["stem.bias"]}}, rules)
