"""Low-rank adaptation (LoRA; Hu et al. 2021, arXiv 2106.09685): what is trained are narrow pairs beside frozen weights.

    W = W_0 + (alpha / r) B A   (Eq. 3, section 4.1)

In the layout of linen, A is [... in r], a layer with r outputs, and B is [r out], a dense one: transposes of the
paper's. In a `State` the pairs are the parameters of their network, so that optimizer, averages and checkpoints are of
them alone; W_0 is a frozen network beside it, "NETWORK.base". `merged` makes of both what models, losses and samplers
see: it is differentiated through, so that no model knows of pairs. Where a model begins a stage with networks of its
own making (`core.model.Entering`), what was learned becomes part of W_0, and pairs begin anew.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Positive
from imagegen_jax.core.model import Nets, PRNGKey, Variables

SCALE = "lora"  # the collection of a network's alpha / r, which marks a network of pairs
_QUERIES = ("query", "qkv")  # what makes an "out" beside it the projection of an attention
_PROJECTIONS = ("query", "key", "value", "key_value", "qkv", "out")

Shapes = Mapping[tuple[str, ...], tuple[int, ...]]  # a kernel's path -> its shape


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Trains a pair of narrow matrices for each of some kernels, in place of a network's own weights.

    These stay as `Experiment.pretrained` gives them. `kernels` are names of layers, or patterns of their paths such as
    "up_*/conv_1" or "*", that match from any part of a path on. Where none are named, they are the projections of
    attentions, as diffusers and peft take them; in a network without attention, all dense and convolution kernels that
    have the rank. Averages are of A and of B, each by itself.
    """

    rank: Count = 8  # r: columns of A and rows of B
    alpha: Positive | None = None  # pairs count alpha / rank times; None: once, as by the rank itself
    kernels: tuple[str, ...] = ()  # layers such as "query", or patterns; (): see above
    networks: tuple[str, ...] = ()  # which networks have pairs; (): all that are trained

    @property
    def scale(self) -> float:
        """The factor of the product of a pair."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


def base_of(network: str) -> str:
    """Returns the name of the frozen network that holds the weights beside the pairs of `network`."""
    return f"{network}.base"


def network_of(base: str) -> str:
    """Returns the name of the network that an experiment knows the weights in `base` by; others are known by theirs."""
    return base.removesuffix(base_of(""))


def has_pairs(variables: Variables) -> bool:
    """Tells whether the parameters of a network are pairs."""
    return SCALE in variables


def adapted(nets: Nets, lora: LoRA, networks: Sequence[str], key: PRNGKey) -> dict[str, Variables]:
    """Puts fresh pairs in the place of the parameters of `networks`, and these into networks of their own.

    A is uniform as the initial weights of torch's layers are, with a variance of a third over its inputs, as in the
    code of the paper's authors; B is zero, so that nothing has changed yet.
    """
    found = dict(nets)
    for number, name in enumerate(networks):
        weights, pairs = nets[name]["params"], dict[str, Any]()
        for at, (path, shape) in enumerate(chosen_kernels(lora, weights).items()):
            pair = _fresh_pair(jax.random.fold_in(jax.random.fold_in(key, number), at), shape, lora.rank)
            _put(pairs, path, pair)
        found[name] = {**nets[name], "params": pairs, SCALE: {"scale": jnp.float32(lora.scale)}}
        found[base_of(name)] = {"params": weights}
    return found


def merged(nets: Nets) -> dict[str, dict[str, Any]]:
    """Returns networks as their models know them: with the products of pairs in their weights.

    Shapes become shapes.
    """
    bases = {base_of(name) for name, variables in nets.items() if has_pairs(variables)}
    return {
        name: with_pairs(variables, nets[base_of(name)]) if has_pairs(variables) else dict(variables)
        for name, variables in nets.items()
        if name not in bases
    }


def with_pairs(variables: Variables, base: Variables) -> dict[str, Any]:
    """Returns the collections of a network with weights in the place of pairs: those of `base`, and the products."""
    weights = _sum(base["params"], variables["params"], variables[SCALE]["scale"])
    return {"params": weights} | {name: of for name, of in variables.items() if name not in ("params", SCALE)}


def _sum(weights: Any, pairs: Mapping[str, Any], scale: Any) -> Any:
    if isinstance(weights, Mapping):
        return {name: _sum(w, pairs[name], scale) if name in pairs else w for name, w in weights.items()}
    if isinstance(weights, jax.ShapeDtypeStruct):
        return weights
    return adapted_kernel(weights, pairs["A"], pairs["B"], scale)


@jax.jit
def adapted_kernel(
    w: Float[Array, "*k out"], a: Float[Array, "*k r"], b: Float[Array, "r out"], scale: Float[Array, ""]
) -> Float[Array, "*k out"]:
    """Returns W_0 + (alpha / r) B A, at full precision: on accelerators a product has less unless it is asked for."""
    return (w + scale * jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)).astype(w.dtype)


def _fresh_pair(key: PRNGKey, shape: tuple[int, ...], rank: int) -> dict[str, Array]:
    uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    return {"A": uniform(key, (*shape[:-1], rank)), "B": jnp.zeros((rank, shape[-1]))}


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


# --- which kernels have pairs ----------------------------------------------------------------------------------------


def chosen_kernels(lora: LoRA, weights: Any) -> Shapes:
    """Returns path and shape of the kernels that have pairs, of a network's parameters or their shapes.

    Raises ValueError, with what would help, where there are none, and where one has a smaller rank than the pairs.
    """
    kernels = kernels_of(weights)
    attention = {path: shape for path, shape in kernels.items() if _projects(path, kernels)}
    if lora.kernels:
        found = _matching(lora.kernels, kernels)
    else:
        found = attention or {path: shape for path, shape in kernels.items() if rank_of(shape) >= lora.rank}
    if not found:
        raise ValueError(f"lora.rank={lora.rank}: no kernel has this rank; {_largest(kernels)}")
    narrow = min(found, key=lambda path: rank_of(found[path]))
    if rank_of(found[narrow]) < lora.rank:
        shape = "x".join(map(str, found[narrow]))
        raise ValueError(
            f"lora.rank={lora.rank}: {_layer(narrow)} has a kernel of {shape}, whose rank is {rank_of(found[narrow])}: "
            f"give --lora.rank {rank_of(found[narrow])} or less, or name other layers (--lora.kernels)"
        )
    return found


def kernels_of(weights: Any) -> Shapes:
    """Returns path and shape of the kernels of a network's parameters: dense ones and convolutions."""
    leaves = ((tuple(key.key for key in path), leaf.shape) for path, leaf in jax.tree.leaves_with_path(weights))
    return {path: shape for path, shape in leaves if path[-1] == "kernel" and len(shape) > 1}


def _patterns(path: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the patterns that choose a kernel's layer: its whole name, its last name, and each module around it."""
    return (_layer(path), *path[-2:-1], *(f"{name}/*" for name in path[:-2]))


def _matching(patterns: Sequence[str], kernels: Shapes) -> Shapes:
    found: dict[tuple[str, ...], tuple[int, ...]] = {}
    for pattern in patterns:
        hits = {
            path: shape for path, shape in kernels.items() if fnmatch.fnmatchcase(f"/{_layer(path)}", f"*/{pattern}")
        }
        if not hits:
            names = sorted({name for path in kernels for name in _patterns(path)})
            near = ", ".join(difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:3])
            raise ValueError(f"lora.kernels: {pattern!r} matches no layer with a kernel; the nearest are {near}")
        found |= hits
    return found


def _projects(path: tuple[str, ...], kernels: Shapes) -> bool:
    """Tells whether a kernel is a projection of an attention: by its name, and for "out" by what is beside it."""
    beside = ((*path[:-2], query, path[-1]) for query in _QUERIES)
    return len(path) > 1 and path[-2] in _PROJECTIONS and any(other in kernels for other in beside)


def _layer(path: tuple[str, ...]) -> str:
    return "/".join(path[:-1])


def rank_of(shape: tuple[int, ...]) -> int:
    """Returns the largest rank of a kernel as a matrix of inputs by outputs."""
    return min(math.prod(shape[:-1]), shape[-1])


def _largest(kernels: Shapes) -> str:
    ranks = [rank_of(shape) for shape in kernels.values()]
    return f"give --lora.rank {max(ranks)} or less" if ranks else "the network has no kernels: leave lora out for it"


def check_lora(
    lora: LoRA, networks: Sequence[str], nets: Nets, optim: Mapping[str, Any], given: Collection[str]
) -> None:
    """Raises ValueError, with what would help, where `networks` of a model cannot have pairs.

    `optim` has the optimizers of what is trained, `given` names the networks whose weights come from elsewhere.
    """
    for name in networks:
        if name not in optim:
            raise ValueError(f"lora.networks: {name!r} is not trained; those are {sorted(optim)}")
        if "params" not in nets[name]:
            raise ValueError(f"lora.networks: {name!r} has no parameters: name others of {sorted(optim)}")
        if name not in given:
            raise ValueError(
                f"lora trains pairs beside the weights of {name!r}, and these are from nowhere: say where they come "
                f"from (--pretrained.{name} runs/a, a file; for a smoke run 'random'), or which networks have pairs "
                "(--lora.networks)"
            )
        if optim[name].project:
            kinds = ", ".join(type(projection).__name__ for projection in optim[name].project)
            raise ValueError(
                f"optim[{name!r}].project={kinds}: is for weights, but lora trains pairs: leave it out, or name the "
                f"networks that have pairs without {name!r} (--lora.networks)"
            )
        try:
            chosen_kernels(lora, nets[name]["params"])
        except ValueError as error:
            raise ValueError(f"the network {name!r}: {error}") from None
