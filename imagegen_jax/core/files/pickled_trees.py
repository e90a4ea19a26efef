"""Arrays by name out of what a pickle held: of mappings inside others, of torch's modules, of NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.files.pickles import Opaque
from imagegen_jax.core.files.torch_files import Tensor

_NAMES = 200_000  # values in mappings; a checkpoint of 1,000 tensors and of an optimizer's for each has about 10,000
_DEPTH = 100  # mappings inside others
_PATH = 1_000  # letters of a name with those of the mappings around it
_LIST = 100  # plain values in a list that is kept
_COPIES = 16  # times the file's bytes, for tensors that share values, such as tied weights
_FREE = 1 << 20  # bytes that arrays may always have
_PLAIN = (str, int, float, bool, type(None))
MADE_OF = "_init_kwargs"  # the attribute of NVIDIA's networks that has the arguments of their class
CLASS = "_class_name"  # what the class of such a network is called
_NUMPY = ("numpy.core", "numpy._core")


class Named(NamedTuple):
    """What a tree holds by name: with "/" between the names of mappings, and "." between those of modules."""

    arrays: dict[str, np.ndarray]
    plain: dict[str, Any]  # numbers, texts, and lists of them


def named(tree: Any, size: int) -> Named:
    """Returns the arrays and the plain values in a tree that was read of a file of `size` bytes.

    What else there is, such as the optimizers and callbacks of a training, is left out. Raises ValueError for a tree
    that has no end, and for arrays that are many times as large as the file.
    """
    found, left = Named({}, {}), _COPIES * size + _FREE
    for names, (name, value) in enumerate(_leaves(tree, "", 0)):
        if names > _NAMES or len(name) > _PATH:
            raise ValueError(f"more than {_NAMES:,} names, or a longer one than {_PATH:,} letters: it has no end")
        left -= value.size if isinstance(value, Tensor) else 0
        if left < 0:
            raise ValueError(f"its tensors are more than {_COPIES} times as large as the file")
        array = value.array() if isinstance(value, Tensor) else _numpy_array(value)
        if array is not None:
            left -= 0 if isinstance(value, Tensor) else array.nbytes
            found.arrays[name] = array
        elif _is_plain(value):
            found.plain[name] = value
    return found


def _is_plain(value: Any) -> bool:
    flat = value if isinstance(value, (list, tuple)) else (value,)
    return len(flat) <= _LIST and all(isinstance(item, _PLAIN) for item in flat)


def _leaves(node: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Walks through mappings and modules; what has no value there is `...`, and counts, so that all has an end."""
    if depth > _DEPTH:
        raise ValueError(f"more than {_DEPTH} mappings inside others")
    attributes = _attributes(node)
    if attributes is not None:
        yield f"{path}{CLASS}", _described(node).get("class_name", ...)
        if attributes.get(MADE_OF):
            yield from _leaves(attributes[MADE_OF], f"{path}{MADE_OF}/", depth + 1)
        yield from _module(attributes, path, depth)
        return
    mapping = node.items if isinstance(node, Opaque) else node
    if not isinstance(mapping, dict):
        yield path.removesuffix("/"), node
        return
    yield path, ...
    for key, value in mapping.items():
        if isinstance(key, (str, int)):
            yield from _leaves(value, f"{path}{key}/", depth + 1)
        else:
            yield path, ...


def _module(attributes: dict[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Walks through a module of torch: parameters, buffers, then the modules in it."""
    if depth > _DEPTH:
        raise ValueError(f"more than {_DEPTH} modules inside others")
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(attributes[kind]):
            yield f"{path}{name}", ... if value is None else value
    for name, value in _items(attributes["_modules"]):
        yield path, ...
        inner = _attributes(value)
        if inner is not None:
            yield from _module(inner, f"{path}{name}.", depth + 1)


def _items(mapping: Any) -> list[tuple[Any, Any]]:
    found = list(mapping.items()) if isinstance(mapping, dict) else []
    if not all(isinstance(name, str) for name, _ in found):
        raise ValueError("a module whose parts have no names")
    return found


def _attributes(node: Any) -> dict[Any, Any] | None:
    """Returns the attributes of a module of torch, or of one that came with its source as text; None for others."""
    if not isinstance(node, Opaque):
        return None
    state = _described(node).get("state", node.state)
    whole = isinstance(state, dict) and all(kind in state for kind in ("_parameters", "_buffers", "_modules"))
    return state if whole else None


def _described(node: Any) -> dict[Any, Any]:
    """Returns what NVIDIA's pickles say of an object that came with its source; {} for others."""
    if isinstance(node, Opaque) and node.name.endswith("persistence._reconstruct_persistent_obj") and node.arguments:
        return node.arguments[0] if isinstance(node.arguments[0], dict) else {}
    return {}


def _numpy_array(node: Any) -> np.ndarray | None:
    """Makes an array or a number of NumPy of what its pickle says; None where it says nothing of them."""
    if not isinstance(node, Opaque) or not node.name.startswith(_NUMPY) or node.arguments is None:
        return None
    kind = node.name.rpartition(".")[2]
    if kind == "_reconstruct" and isinstance(node.state, tuple):
        _, shape, dtype, columns_first, content = node.state
        order = "F" if columns_first else "C"
    elif kind == "_frombuffer":
        content, dtype, shape, order = node.arguments
    elif kind == "scalar":
        dtype, content = node.arguments
        shape, order = (), "C"
    else:
        return None
    found = _dtype(dtype)
    if found is None:  # of objects or texts
        return None
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise ValueError("an array whose shape is no numbers")
    content = content.encode("latin-1") if isinstance(content, str) else content
    if 0 in shape:
        return np.zeros(shape, found.newbyteorder("="))
    if math.prod(shape) * found.itemsize != len(content):
        raise ValueError(f"an array of the shape {shape} and type {found} of {len(content):,} bytes")
    array = np.frombuffer(content, found).reshape(shape, order="F" if order == "F" else "C")
    return np.array(array, found.newbyteorder("="), order="C")


def _dtype(node: Any) -> np.dtype[Any] | None:
    """Returns the type of numbers that a pickle describes; None for one of other things."""
    if not isinstance(node, Opaque) or node.name != "numpy.dtype" or not node.arguments:
        return None
    code = node.arguments[0]
    if not isinstance(code, str) or code[:1] not in "fiubc" or not code[1:].isdecimal() or len(code) > 3:
        return None
    order = node.state[1] if isinstance(node.state, tuple) and len(node.state) > 1 else "<"
    return np.dtype(code).newbyteorder(">" if order == ">" else "<")
