"""The Inception-v3 of FID (Heusel et al. 2017, arXiv 1706.08500): the TensorFlow graph of December 2015.

The network is Szegedy et al. 2015 (arXiv 1512.00567) with 1,008 classes, in pytorch-fid's form. It is not
torchvision's Inception: its average pools do not count the padding, and the last block takes a maximum instead.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.files.regular import cache_root
from imagegen_jax.metrics.features.extractor import Features, Network
from imagegen_jax.metrics.features.weights import read_weights, select

SIZE = 299
CLASSES = 1008
SPATIAL_CHANNELS = 7  # of 17 x 17 positions: 2,023 numbers, about as many as the 2,048 of FID
FILE = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
TAPS = ("features", "logits_unbiased", "spatial")  # for FID, the Inception Score and sFID


def inception(path: str | pathlib.Path | None = None, resize: str = "clean", taps: tuple[str, ...] = TAPS) -> Network:
    """Makes FID's Inception-v3 with its published weights, at 299 x 299 and x / 127.5 - 1.

    Args:
      path: pytorch-fid's file, which must have the published SHA-256, or an `.npz` with the same names and layouts
        (`np.savez(path, **read_weights(file))`), which is checked for names and shapes only. None:
        `weights/pt_inception-2015-12-05-6726825d.pth` in the cache folder.
      resize: one of `imagegen_jax.metrics.features.resize.KINDS`. FID differs between them: "clean_float" is
        clean-fid's, "legacy_torch" pytorch-fid's, "legacy_tf" the first code's.
      taps: which features of `InceptionV3` to return.

    Raises:
      FileNotFoundError: there is no such file; it says where to get it and where to put it.
      ValueError: the file is another one, truncated or wrong; the `resize` is unknown.
    """
    path = cache_root() / "weights" / FILE if path is None else pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no Inception weights at {path}. Nothing is downloaded by itself: fetch {ADDRESS} "
            f"(95,628,359 bytes, SHA-256 {SHA256}) and put it at {cache_root() / 'weights' / FILE}, or give its path"
        )
    return from_weights(read_weights(path, None if path.suffix == ".npz" else SHA256), resize, taps)


def from_weights(weights: Mapping[str, np.ndarray], resize: str = "clean", taps: tuple[str, ...] = TAPS) -> Network:
    """Makes Inception-v3 from weights in torch's names and layouts.

    Raises ValueError where one is missing or has another shape.
    """
    chosen = select(weights, shapes())

    def forward(variables: Any, x: Float[Array, "n h w 3"]) -> Features:
        return InceptionV3().apply(variables, x)

    def leaf(path: tuple[Any, ...], _: Any) -> np.ndarray:
        array = chosen[_torch_name(path)]
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)

    return Network("FID", SIZE, jax.tree_util.tree_map_with_path(leaf, _abstract()), forward, taps, resize)


def shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight by its name in torch's state dict.

    Layouts are torch's: [out in height width] and [out in].
    """
    leaves = jax.tree_util.tree_leaves_with_path(_abstract())
    layouts = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {_torch_name(path): tuple(leaf.shape[i] for i in layouts[leaf.ndim]) for path, leaf in leaves}


def _abstract() -> Any:
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))


def _torch_name(path: tuple[Any, ...]) -> str:
    """Names a weight as torch: (params, Mixed_5b, branch1x1, conv, kernel) -> Mixed_5b.branch1x1.conv.weight"""
    *modules, last = (str(key.key) for key in path[1:])
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return ".".join([*modules, names[last]])


# --- the network; the names are those of the state dict --------------------------------------------------------------


class InceptionV3(nn.Module):
    """The whole network; its linen parameters are in the collections "params" and "batch_stats"."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 3"]) -> Features:
        """Extracts features by name from images [N H W 3] in [-1, 1].

        "features_64", "features_192", "features_768", "features" (2,048): means over all positions after the two
        pools, before the last reduction, and at the end; the last is FID's. "logits" [N 1008], and
        "logits_unbiased" without the last layer's bias: the Inception Score's graph has none. "spatial": the first
        seven channels of the graph's `mixed_6/conv` (the 1x1 branch of the third of the four 17x17 blocks), flattened,
        for sFID (Nash et al. 2021, arXiv 2103.03841), as ADM's evaluator takes them.
        """
        x = Unit(32, strides=2, kernel=(3, 3), padding="VALID", name="Conv2d_1a_3x3")(x)
        x = Unit(32, kernel=(3, 3), padding="VALID", name="Conv2d_2a_3x3")(x)
        x = Unit(64, kernel=(3, 3), name="Conv2d_2b_3x3")(x)
        x = _halved(x)
        found = {"features_64": x.mean((1, 2))}
        x = Unit(80, name="Conv2d_3b_1x1")(x)
        x = Unit(192, kernel=(3, 3), padding="VALID", name="Conv2d_4a_3x3")(x)
        x = _halved(x)
        found["features_192"] = x.mean((1, 2))
        x = BlockA(32, name="Mixed_5b")(x)
        x = BlockA(64, name="Mixed_5c")(x)
        x = BlockA(64, name="Mixed_5d")(x)
        x = BlockB(name="Mixed_6a")(x)
        x = BlockC(128, name="Mixed_6b")(x)
        x = BlockC(160, name="Mixed_6c")(x)
        x = BlockC(160, name="Mixed_6d")(x)
        found["spatial"] = x[..., :SPATIAL_CHANNELS].reshape(len(x), -1)
        x = BlockC(192, name="Mixed_6e")(x)
        found["features_768"] = x.mean((1, 2))
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(_average, name="Mixed_7b")(x)
        x = BlockE(_maximum, name="Mixed_7c")(x)
        found["features"] = x.mean((1, 2))
        last = nn.Dense(CLASSES, precision="highest", name="fc")
        found["logits"] = last(found["features"])
        found["logits_unbiased"] = found["logits"] - last.variables["params"]["bias"]
        return found


class Unit(nn.Module):
    """Convolution, batch normalisation by running statistics, ReLU."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n hh ww f"]:
        """Convolves, normalises and rectifies: [N H W C] -> [N H' W' features]"""
        x = nn.Conv(
            self.features,
            self.kernel,
            self.strides,
            self.padding,
            use_bias=False,
            precision="highest",  # float32 in full on every device
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class BlockA(nn.Module):
    """A block at 35 x 35 positions."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w f"]:
        """Applies the block: [N H W C] -> [N H W 224 + pool_features]"""
        straight = Unit(64, name="branch1x1")(x)
        five = _chain(x, "branch5x5", (48, 1, 1), (64, 5, 5))
        double = _chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3))
        pooled = Unit(self.pool_features, name="branch_pool")(_average(x))
        return jnp.concatenate([straight, five, double, pooled], 3)


class BlockB(nn.Module):
    """A block from 35 x 35 to 17 x 17 positions."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n hh ww f"]:
        """Applies the block: [N H W C] -> [N (H-1)/2 (W-1)/2 C + 480]"""
        three = Unit(384, (3, 3), 2, "VALID", name="branch3x3")(x)
        double = _chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3))
        double = Unit(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double)
        return jnp.concatenate([three, double, _halved(x)], 3)


class BlockC(nn.Module):
    """A block at 17 x 17 positions; 7 x 7 kernels are products of rows and columns."""

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w 768"]:
        """Applies the block: [N H W C] -> [N H W 768]"""
        c = self.inner
        straight = Unit(192, name="branch1x1")(x)
        seven = _chain(x, "branch7x7", (c, 1, 1), (c, 1, 7), (192, 7, 1))
        double = _chain(x, "branch7x7dbl", (c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7))
        pooled = Unit(192, name="branch_pool")(_average(x))
        return jnp.concatenate([straight, seven, double, pooled], 3)


class BlockD(nn.Module):
    """A block from 17 x 17 to 8 x 8 positions."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n hh ww f"]:
        """Applies the block: [N H W C] -> [N (H-1)/2 (W-1)/2 C + 512]"""
        three = _chain(x, "branch3x3", (192, 1, 1))
        three = Unit(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
        seven = _chain(x, "branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1))
        seven = Unit(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, _halved(x)], 3)


class BlockE(nn.Module):
    """A block at 8 x 8 positions; two branches end in a row and a column side by side."""

    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w 2048"]:
        """Applies the block: [N H W C] -> [N H W 2048]"""
        straight = Unit(320, name="branch1x1")(x)
        three = _chain(x, "branch3x3", (384, 1, 1))
        double = _chain(x, "branch3x3dbl", (448, 1, 1), (384, 3, 3))
        ends = [
            Unit(384, kernel, name=name)(branch)
            for branch, prefix in ((three, "branch3x3_2"), (double, "branch3x3dbl_3"))
            for kernel, name in (((1, 3), f"{prefix}a"), ((3, 1), f"{prefix}b"))
        ]
        pooled = Unit(192, name="branch_pool")(self.pool(x))
        return jnp.concatenate([straight, *ends, pooled], 3)


def _chain(x: Float[Array, "n h w c"], name: str, *units: tuple[int, int, int]) -> Float[Array, "n h w f"]:
    """Applies units `name`_1, `name`_2, ... of (features, height, width of the kernel), one after the other."""
    for number, (features, *kernel) in enumerate(units, 1):
        x = Unit(features, tuple(kernel), name=f"{name}_{number}")(x)
    return x


def _average(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _maximum(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _halved(x: Float[Array, "n h w c"]) -> Float[Array, "n hh ww c"]:
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")
