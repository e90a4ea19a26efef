"""Published tensors as parameters of this package: rules from names to paths, and one check that everything fits.

A rule is a published name, in which {i} stands for any number, and the path that it goes to:

    Rule("blocks.{i}.attn.proj.weight", "block_{i}/self_attention/out/kernel", dense)

`layer`, `norm` and `within` write the rules of a whole layer, or of the layers of many blocks, at once.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Tensors = Mapping[str, np.ndarray]
Layout = Callable[[np.ndarray], np.ndarray]  # from the published one to that of linen
Form = Layout | Callable[[np.ndarray], Sequence[np.ndarray]]  # the latter of tensors that are several parameters here

_SHOWN = 3  # tensors and parameters that an error names


# --- layouts ----------------------------------------------------------------------------------------------------------


def as_is(tensor: np.ndarray) -> np.ndarray:
    """Returns the tensor as it is."""
    return tensor


def kernel(tensor: np.ndarray) -> np.ndarray:
    """Reorders a convolution's kernel: [O I H W] -> [H W I O]."""
    return tensor.transpose(2, 3, 1, 0)


def dense(tensor: np.ndarray) -> np.ndarray:
    """Transposes a dense layer's kernel, or that of a convolution of single pixels: [O I ...] -> [I O]."""
    return tensor.reshape(len(tensor), -1).T


def pixelwise(tensor: np.ndarray) -> np.ndarray:
    """Transposes the kernel of a convolution of single pixels, which is a dense layer here: [O I 1 1] -> [I O]."""
    return tensor[..., 0, 0].T if tensor.shape[2:] == (1, 1) else np.zeros(0)  # of no layer's shape


def channels_last(tensor: np.ndarray) -> np.ndarray:
    """Reorders feature maps: [... C H W] -> [... H W C]."""
    return np.moveaxis(tensor, -3, -1)


def patches(tensor: np.ndarray) -> np.ndarray:
    """Flattens the kernel of a convolution of patches: [O I P P] -> [P P I, O]."""
    return kernel(tensor).reshape(-1, len(tensor))


def in_patches(size: int) -> Layout:
    """Returns the way back from `patches` of so many pixels a side: [P P I, O] -> [O I P P]."""
    return lambda array: array.reshape(size, size, -1, array.shape[1]).transpose(3, 2, 0, 1)


def sines_first(tensor: np.ndarray) -> np.ndarray:
    """Reorders the kernel of a layer that sees cosines, then sines, of times; ours see sines first: [O I] -> [I O]."""
    return np.roll(dense(tensor), tensor.shape[1] // 2, axis=0)


def parts(count: int, form: Layout = as_is, heads: int | None = 1) -> Form:
    """Returns a form that splits outputs into `count`, such as queries, keys and values; for each, `form` follows.

    With `heads` the parts of one head come after those of another; None: those of each channel.
    """

    def split(tensor: np.ndarray) -> list[np.ndarray]:
        inside = tensor.shape[1:]
        found = np.moveaxis(tensor.reshape(heads or len(tensor) // count, count, -1, *inside), 1, 0)
        return [form(part.reshape(-1, *inside)) for part in found]

    return split


# --- rules ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where the tensors of a name go. Of two rules for one name, the first counts."""

    name: str  # as published; {i} or another word in braces stands for any whole number
    path: str | Sequence[str]  # in the tree, with "/" between names, of each part; of none: the tensor is not needed
    form: Form = as_is
    part: tuple[int, int] = (
        0,
        1,
    )  # (i, n): the i-th of n tensors that are one parameter, side by side in its last axis
    copied: bool = False  # whether a file has the tensor several times, each time the same
    back: Layout | None = None  # from linen's layout to the published one, where that does not follow from `form`

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """The name as a regular expression, a group for each number."""
        return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(self.name)))

    def paths(self, name: str) -> Sequence[str] | None:
        """Returns the paths that a tensor goes to, none where it is not needed; None where the rule is for others."""
        match = self.pattern.fullmatch(name)
        if match is None:
            return None
        return [path.format(**match.groupdict()) for path in self.given]

    @property
    def given(self) -> Sequence[str]:
        """The paths of all parts."""
        return [self.path] if isinstance(self.path, str) else self.path


def layer(name: str, path: str, form: Form = dense, back: Layout | None = None) -> tuple[Rule, ...]:
    """Returns the rules of a layer with a weight, of the layout `form`, and a bias."""
    return Rule(f"{name}.weight", f"{path}/kernel", form, back=back), Rule(f"{name}.bias", f"{path}/bias")


def convolution(name: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a convolution."""
    return layer(name, path, kernel)


def norm(name: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a norm that scales and shifts."""
    return Rule(f"{name}.weight", f"{path}/scale"), Rule(f"{name}.bias", f"{path}/bias")


def fused(name: str, paths: Sequence[str], heads: int | None = 1) -> tuple[Rule, ...]:
    """Returns the rules of one dense layer that is several here, such as queries, keys and values; see `parts`."""
    return (
        Rule(f"{name}.weight", [f"{path}/kernel" for path in paths], parts(len(paths), dense, heads)),
        Rule(f"{name}.bias", [f"{path}/bias" for path in paths], parts(len(paths), heads=heads)),
    )


def within(places: Mapping[str, str], rules: Iterable[Rule]) -> list[Rule]:
    """Returns the rules below each published beginning of `places`, at the beginning of paths that it has there.

    `within({"blocks.{i}.": "block_{i}/"}, norm("norm1", "norm_1"))` has two, one for "blocks.{i}.norm1.weight".
    """
    rules = tuple(rules)
    return [
        dataclasses.replace(rule, name=begin + rule.name, path=[ours + path for path in rule.given])
        for begin, ours in places.items()
        for rule in rules
    ]


def kernel_names(rules: Iterable[Rule]) -> Callable[[str], tuple[str, ...]]:
    """Returns the function from a kernel's path to its names, as published.

    There are none where a tensor is more than that kernel, or has other places.
    """
    back = [Rule(rule.given[0], rule.name) for rule in rules if len(rule.given) == 1 and rule.form in _LAYERS]
    return lambda path: tuple(name for rule in back for name in rule.paths(path) or ())


_LAYERS = (dense, kernel, pixelwise)  # whose inputs are in the published order
_BACK: Mapping[Any, Layout] = {  # from the layout of linen to the published one
    as_is: as_is,
    dense: lambda array: array.T,
    kernel: lambda array: array.transpose(3, 2, 0, 1),
    pixelwise: lambda array: array.T[:, :, None, None],
    sines_first: lambda array: np.roll(array, len(array) // 2, axis=0).T,
}


def as_published(params: Any, rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Returns a network's parameters by their published names, the first ones of `rules`, and in that layout.

    Raises ValueError where a parameter is in no rule, or is not one tensor there.
    """
    ways = ((rule, rule.back or _BACK.get(rule.form)) for rule in rules if rule.path)
    back = [(Rule(rule.given[0], rule.name), form) for rule, form in ways if form]
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        name, form = next(((names[0], form) for rule, form in back if (names := rule.paths(where))), ("", as_is))
        if not name:
            raise ValueError(f"the parameter {where} has no published name: this network cannot be written for others")
        found[name] = np.ascontiguousarray(form(np.asarray(jax.device_get(leaf))))
    return found


# --- the check --------------------------------------------------------------------------------------------------------


def renamed(tensors: Tensors, abstract: Mapping[str, Any], rules: Sequence[Rule], place: str) -> Any:
    """Fills the tree `abstract`, arrays or their shapes by name, with `tensors`, which were read at `place`.

    Each tensor is used once, and each parameter is filled. Raises ValueError where that cannot be, and names the first
    three tensors and parameters that do not fit, with their shapes; and for NaN and infinite values.
    """
    leaves, tree = jax.tree.flatten_with_path(abstract)
    wanted = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    found: dict[str, dict[tuple[int, int], Any]] = {}
    faults: list[str] = []
    for name, tensor in tensors.items():
        rule, paths = next(((r, paths) for r in rules if (paths := r.paths(name)) is not None), (None, ()))
        if rule is None or not set(paths) <= wanted.keys():
            faults.append(f"{name} {_shape(tensor)} has no place in the network")
        else:
            faults += _placed(name, tensor, rule, {path: wanted[path] for path in paths}, found, place)
    whole = {path for path, parts in found.items() if len(parts) == next(iter(parts))[1]}
    faults += [f"{path} {_shape(leaf)} is not there" for path, leaf in wanted.items() if path not in whole]
    if faults:
        more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise ValueError(
            f"{place}: these are not the weights of this network: {'; '.join(faults[:_SHOWN])}{more}. Give the file "
            "and the configuration of one network"
        )
    return jax.tree.unflatten(tree, [_joined(found[path]) for path in wanted])


def _placed(
    name: str,
    tensor: np.ndarray,
    rule: Rule,
    leaves: Mapping[str, Any],
    found: dict[str, dict[tuple[int, int], Any]],
    place: str,
) -> list[str]:
    """Puts a tensor where its rule says, into `found`; returns what does not fit."""
    said = f"{name} {_shape(tensor)}"
    arrays = _formed(rule, tensor, [_part_shape(leaf, rule) for leaf in leaves.values()])
    if arrays is None:
        for path in leaves:
            found.setdefault(path, {})[rule.part] = None
        return [f"{said} does not fit {', '.join(f'{path} {_shape(leaf)}' for path, leaf in leaves.items())}"]
    faults = []
    for (path, leaf), array in zip(leaves.items(), arrays, strict=True):
        parts, values = found.setdefault(path, {}), finite(array, leaf.dtype, name, place)
        if rule.part not in parts:
            parts[rule.part] = values
        elif not rule.copied:
            faults.append(f"{said} is a second {path}")
        elif not np.array_equal(parts[rule.part], values):
            faults.append(f"{said} is not the same as elsewhere, but the network has it once, as {path}")
    return faults


def _part_shape(leaf: Any, rule: Rule) -> tuple[int, ...]:
    count = rule.part[1]
    return tuple(leaf.shape) if count == 1 else (*leaf.shape[:-1], leaf.shape[-1] // count)


def _joined(parts: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
    arrays = [parts[at] for at in sorted(parts)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def finite(array: np.ndarray, dtype: Any, name: str, place: str) -> np.ndarray:
    """Returns a tensor's values in `dtype`. Raises ValueError for one that is not of finite floats."""
    if not jax.numpy.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{place}: the tensor {name!r} is of {array.dtype}, not of floats: fetch it again")
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        values = array.astype(dtype)
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(
            f"{place}: the tensor {name!r} has {bad:,} values that are NaN or infinite, of {values.size:,}: a network "
            "with them draws nothing; fetch it again"
        )
    return values


def _formed(rule: Rule, tensor: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Sequence[np.ndarray] | None:
    """Returns a tensor's parts in the layout of linen; None where they do not have these shapes."""
    try:
        made = rule.form(tensor) if shapes else ()
    except (ValueError, IndexError, TypeError):
        return None
    arrays = [made] if isinstance(made, np.ndarray) else list(made)
    return arrays if [array.shape for array in arrays] == list(shapes) else None


def _shape(leaf: Any) -> str:
    return "x".join(map(str, leaf.shape)) or "scalar"
