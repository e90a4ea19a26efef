"""Whatever changes the resolution commutes with mirroring: new pixels lie evenly among the old ones, both ways.

Data are mirrored in training, and a shift by part of a pixel would not be. Where there are kernels, they are mirrored
with the image. What the authors of a model shift is listed with the reason; a function that is in no list fails.
"""

from __future__ import annotations

import ast
import base64
import functools
import io
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import imagegen_jax
from imagegen_jax.autoencoders import vdvae_network
from imagegen_jax.data import decode
from imagegen_jax.data.pictures import user_images, watermark
from imagegen_jax.data.wrappers import derived
from imagegen_jax.editing import attention
from imagegen_jax.editing import inverse_problems as inverse
from imagegen_jax.editing.exemplars import neighbours, style
from imagegen_jax.gan import r3gan, resnet
from imagegen_jax.gan.residual import biggan_deep, conditional
from imagegen_jax.gan.style import equalized, growing, modulated, progan_networks
from imagegen_jax.gan.translation import cyclegan
from imagegen_jax.metrics.features import distances, resize
from imagegen_jax.nn import affine, resample, strided, upfirdn
from imagegen_jax.nn.backbones import adm, edm2, unet
from imagegen_jax.nn.backbones import ncsnpp as song
from imagegen_jax.nn.backbones.pooled_autoencoder import PooledEncoder
from imagegen_jax.pages.play import edits

PACKAGE = pathlib.Path(imagegen_jax.__file__).parent
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 8, 8, 4)).astype(np.float32)
BYTES = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
KERNELS = {k: RNG.standard_normal((k, k, 4, 3)).astype(np.float32) for k in (1, 3)}
EMBEDDING = RNG.standard_normal((2, 4)).astype(np.float32)
FILTERS = (upfirdn.BINOMIAL, (1.0, 1.0), (0.2, -0.3, 1.0, 1.0, -0.3, 0.2))
BINOMIAL = upfirdn.BINOMIAL


class Case(NamedTuple):
    """function(weights, x), where `weights` makes arrays of which those with four axes are kernels."""

    function: Callable[[Any, Any], Any]
    weights: Callable[[], Any] = dict
    x: np.ndarray = X


def images(function: Callable[[Any], Any], x: np.ndarray = X) -> Case:
    return Case(lambda _, x: function(x), x=x)


def kernels(function: Callable[[Any, Any], Any], k: int = 3) -> Case:
    return Case(lambda kernel, x: function(x, kernel), lambda: KERNELS[k])


def drawn(module: Any, *inputs: Any) -> Any:
    """Random weights of a module, also where it starts from zeros, without the time that its own start takes."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda key: module.init(key, *inputs), KEY))
    numbers = np.random.default_rng(3)
    return jax.tree.unflatten(structure, [np.float32(numbers.standard_normal(leaf.shape) / 2) for leaf in leaves])


def layer(module: Any, *more: Any) -> Case:
    return Case(lambda variables, x: module.apply(variables, x, *more), lambda: drawn(module, X, *more))


def bare(name: str) -> Callable[[Any], Any]:
    """In place of a norm."""
    return lambda x: x


def decoded(x: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(decode._resized(Image.fromarray(image), 5)) for image in np.asarray(x)])


def doubled(x: np.ndarray) -> np.ndarray:
    """What a picture is looked at for a mark, where it may have been left at half its size."""
    return np.stack([watermark._resized(image[..., 0], 2.0) for image in np.asarray(x, np.float64)])[..., None]


def painted(x: np.ndarray) -> np.ndarray:
    """What a painted mask leaves of 5 x 5 pixels."""

    def known(image: np.ndarray) -> np.ndarray:
        out = io.BytesIO()
        Image.fromarray(np.concatenate([image, image[..., :1]], -1)).save(out, "PNG")
        return edits.mask_of(base64.b64encode(out.getvalue()).decode(), 5, 5)

    return np.stack([known(image) for image in np.asarray(x)])


conv, ROOM = resnet.plain("float32"), (16, 16)
CASES: dict[str, list[Case]] = {
    "nn.upfirdn.upsample": [images(functools.partial(upfirdn.upsample, taps=taps)) for taps in FILTERS],
    "nn.upfirdn.downsample": [images(functools.partial(upfirdn.downsample, taps=taps)) for taps in FILTERS],
    "nn.upfirdn.convolve_up": [
        kernels(functools.partial(way, taps=taps))
        for way in (upfirdn.convolve_up, upfirdn._up_filtered, upfirdn._up_at_once)
        for taps in FILTERS
    ],
    "nn.upfirdn.convolve_down": [
        kernels(functools.partial(upfirdn.convolve_down, taps=taps), k) for k in (1, 3) for taps in FILTERS
    ],
    "nn.resample.upsample_nearest": [
        images(functools.partial(resample.upsample_nearest, factor=factor)) for factor in (2, 3)
    ],
    "autoencoders.vdvae_network.pooled": [images(functools.partial(vdvae_network.pooled, factor=4))],
    "nn.resample.with_source": [images(lambda x: resample.with_source(jnp.zeros((2, 12, 16, 1)), x))],
    "nn.strided.Halve.__call__": [layer(strided.Halve(3, dtype="float32"))],
    "nn.strided.Double.__call__": [layer(strided.Double(3, dtype="float32"), ROOM)],
    "gan.style.equalized.EqualConv.__call__": [
        layer(equalized.EqualConv(3, size, down=True, dtype="float32")) for size in (1, 3)
    ],
    "gan.style.modulated.modulated_convolve": [
        kernels(lambda x, kernel: modulated.modulated_convolve(x, kernel, EMBEDDING, up=True))
    ],
    "nn.backbones.ncsnpp.SongBlock.__call__": [
        layer(song.SongBlock(4, change=change, taps=BINOMIAL, dtype="float32"), EMBEDDING, None)
        for change in ("up", "down")
    ],
    "nn.backbones.ncsnpp.FilteredConv.__call__": [layer(song.FilteredConv(3, BINOMIAL, "float32"))],
    "nn.backbones.adm.Block.__call__": [
        layer(adm.Block(4, change=change, dtype="float32"), adm.BlockConditions(EMBEDDING)) for change in ("up", "down")
    ],
    "nn.backbones.edm2.MPBlock.__call__": [
        layer(edm2.MPBlock(4, "encoder", change=change, dtype="float32"), EMBEDDING, None) for change in ("up", "down")
    ],
    "nn.backbones.pooled_autoencoder.PooledEncoder.__call__": [layer(PooledEncoder(4, (1, 2), 1, "float32"))],
    "gan.resnet.UpBlock.__call__": [layer(resnet.UpBlock(3, conv, bare), ROOM)],
    "gan.resnet.DownBlock.__call__": [layer(resnet.DownBlock(3, conv))],
    "gan.residual.biggan_deep.DeepUpBlock.__call__": [layer(biggan_deep.DeepUpBlock(3, conv, bare), ROOM)],
    "gan.residual.biggan_deep.DeepDownBlock.__call__": [layer(biggan_deep.DeepDownBlock(4, conv, True))],
    "gan.residual.conditional.SelfAttention.__call__": [layer(conditional.SelfAttention(dtype="float32"))],
    "gan.style.progan_networks.Conv.__call__": [layer(progan_networks.Conv(3, True, dtype="float32"))],
    "gan.style.growing.at_stage": [images(lambda x: growing.at_stage(x, growing.Stage(1, True), jnp.float32(0.3), 3))],
    "data.decode._resized": [images(decoded, BYTES)],
    "data.pictures.user_images.shrunk": [
        images(lambda x: np.stack([user_images.shrunk(image, 5) for image in np.asarray(x)]), BYTES)
    ],
    "editing.exemplars.neighbours._resized": [
        images(lambda x, size=size: np.stack([neighbours._resized(image[..., :3], size) for image in np.asarray(x)]))
        for size in ((5, 5), (11, 11))
    ],
    "editing.exemplars.style._image_of": [
        images(lambda x: jnp.stack([style._image_of((level,), jnp.zeros((16, 16, 4))) for level in x]))
    ],
    "data.pictures.watermark._resized": [images(doubled, BYTES)],
    "pages.play.edits.mask_of": [images(painted, BYTES)],
    "data.wrappers.derived.lowered": [images(lambda x: derived.lowered(np.asarray(x), 2), BYTES)],
    "editing.attention._map_of": [images(lambda x: attention._map_of((8, 8), (16, 16), x.reshape(2, 64, 4)))],
    "editing.inverse_problems.pooled": [images(inverse.pooled(2).forward), images(inverse.pooled(2).adjoint)],
    "metrics.features.distances._reduced": [images(lambda x: distances._reduced(x, 2))],
    "metrics.features.distances._resized": [
        images(functools.partial(distances._resized, size=size)) for size in (3, 9)
    ],
    "metrics.features.resize.resize": [
        images(functools.partial(resize.resize, size=size, kind=kind), BYTES)
        for kind in ("clean", "clean_float", "legacy_torch")
        for size in (3, 9)
    ],
}
SLOW = ("__call__", "convolve_up", "convolve_down", "metrics.features.resize")
SHIFTED: dict[str, tuple[str, Case]] = {
    "nn.backbones.unet.UNet.__call__": (
        "DDPM's code pads its 3x3 convolutions with stride 2 below and right only",
        layer(unet.conv(3, jnp.float32, "down", strides=2)),
    ),
    "nn.backbones.adm.changed": (
        "improved DDPM's 3x3 convolutions with stride 2 see a pixel more above and left",
        kernels(lambda x, kernel: upfirdn._convolve(x, kernel, [(1, 1)] * 2, stride=2)),
    ),
    "nn.backbones.latent_unet.LatentUNet.__call__": (
        "as those, in latent diffusion's code",
        kernels(lambda x, kernel: upfirdn._convolve(x, kernel, [(1, 1)] * 2, stride=2)),
    ),
    "nn.backbones.tiny_autoencoder._conv": (
        "as those, in TAESD's code",
        kernels(lambda x, kernel: upfirdn._convolve(x, kernel, [(1, 1)] * 2, stride=2)),
    ),
    "nn.backbones.autoencoder.conv": (
        "VQGAN's 3x3 convolutions with stride 2 see a row and a column of zeros below and right only",
        kernels(lambda x, kernel: upfirdn._convolve(x, kernel, [(0, 1)] * 2, stride=2)),
    ),
    "gan.translation.cyclegan.Generator.__call__": (
        "as those, in Johnson et al.'s network",
        kernels(lambda x, kernel: upfirdn._convolve(x, kernel, [(1, 1)] * 2, stride=2)),
    ),
    "gan.translation.cyclegan.Double.__call__": (
        "torch's transposed 3x3 convolution, with an output padding below and right only",
        layer(cyclegan.Double(3, "float32")),
    ),
    "nn.affine.warp": (
        "ADA's wavelet sym6 is not symmetric; the offset of its taps is allowed for",
        Case(lambda turn, x: jax.vmap(affine.warp, (0, None))(x, turn), lambda: affine.rotation(jnp.float32(jnp.pi))),
    ),
    "metrics.features.resize.resize": (
        "TensorFlow 1's bilinear filter, kept for figures that were measured with it",
        images(functools.partial(resize.resize, size=5, kind="legacy_tf"), BYTES),
    ),
}
MADE_OF_THOSE = {
    "core.arrays.space.Latents.decode", "core.arrays.tiles.Decoding.__call__", "core.arrays.tiles._sliced",
    "core.arrays.tiles._tiled", "nn.backbones.tiny_autoencoder.TinyEncoder.__call__",
    "data.augment.Jitter._one", "data.source.Derived.__getitem__",
    "gan.residual.biggan_deep.DeepUpBlock.__call__.resized", "gan.residual.conditional.SelfAttention.__call__.pooled",
    "gan.resnet.double", "gan.resnet.halve", "gan.style.stylegan2_networks.Discriminator._halve",
    "metrics.features.extractor.Network._compiled", "metrics.features.extractor.Network._compiled.features",
    "metrics.features.extractor.Pixels.__call__", "nn.backbones.adm.descend", "nn.backbones.adm.resized",
    "nn.backbones.autoencoder.ConvEncoder.__call__", "nn.backbones.blurred_discriminator.BlurredDiscriminator._halve",
    "autoencoders.tokenizer.ResidualEncoder.__call__",
    "autoregressive.maskgit.whole_patches",
    "nn.backbones.latent_unet.LatentUNet.__call__",
    "nn.backbones.edm2.EDM2UNet._descend", "gan.style.modulated.StyledConv.__call__",
    "nn.backbones.ncsnpp.SongBlock._resized", "nn.backbones.ncsnpp.SongUNet._descend", "nn.upfirdn._up_filtered",
    "nn.upfirdn.upfirdn",
}  # fmt: skip
# Features of published networks, whose layers are what they were trained with.
FROZEN = (
    "metrics.features.inception.",
    "nn.backbones.lpips.",
    "nn.backbones.mobilenet.",
    "metrics.features.classifier.",
    "metrics.features.dual_encoder.",
    "nn.backbones.patch.",
)


def both_ways(case: Case, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The mirrored result, and the result of what is mirrored."""
    weights = case.weights()
    function = case.function if case.weights is dict else jax.jit(case.function)
    turned = jax.tree.map(lambda array: np.flip(array, axis - 1) if array.ndim == 4 else array, weights)
    plain, of_mirrored = (
        np.asarray(function(given, x), np.float32) for given, x in ((weights, case.x), (turned, np.flip(case.x, axis)))
    )
    return np.flip(plain, axis), of_mirrored


PARAMETERS = [
    pytest.param(case, id=f"{name}-{i}", marks=[pytest.mark.slow] * any(word in name for word in SLOW))
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_resampling_commutes_with_mirroring(case):
    for axis in (1, 2):
        found, wanted = both_ways(case, axis)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1.01 if case.x.dtype == np.uint8 else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIFTED)
def test_what_is_said_to_shift_does(name):
    found, wanted = both_ways(SHIFTED[name][1], 1)
    assert np.abs(found - wanted).max() > 1e-3 * np.abs(found).max()


def changing_functions() -> set[str]:
    """What changes the resolution by its annotation, or calls what does."""
    sizes = re.compile(r"2\*h|h//|\bhh\b|\bs s\b")
    calls = re.compile(r"(?!np\.)(.*\.)?(resize|avg_pool|max_pool|reduce_window|upfirdn)")
    found = set()

    def visit(node: ast.AST, place: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = f"{place}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else place
            of_protocol = isinstance(child, ast.FunctionDef) and ast.unparse(child.body[-1]) == "..."
            if isinstance(child, ast.FunctionDef) and child.returns is not None and not of_protocol:
                inside = list(ast.walk(child))
                called = {ast.unparse(node.func) for node in inside if isinstance(node, ast.Call)}
                strided = any(node.arg in ("strides", "stride") for node in inside if isinstance(node, ast.keyword))
                if sizes.search(ast.unparse(child.returns)) or any(calls.fullmatch(call) for call in called) or strided:
                    found.add(inner)
            visit(child, inner)

    for path in sorted(PACKAGE.rglob("*.py")):
        visit(ast.parse(path.read_text()), ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    return found


def test_every_function_that_changes_the_resolution_is_listed():
    """Add a new one to `CASES`."""
    found = {name for name in changing_functions() if not name.startswith(FROZEN)}
    assert found - set(CASES) - set(SHIFTED) - MADE_OF_THOSE == set()
    assert MADE_OF_THOSE <= found


@pytest.mark.parametrize("taps", [(1.0, 2.0, 1.0), (1.0,), ()])
@pytest.mark.parametrize("function", ["upsample", "downsample", "convolve_up", "convolve_down"])
def test_an_odd_number_of_taps_is_refused(function, taps):
    given = (X, KERNELS[3]) if function.startswith("convolve") else (X,)
    with pytest.raises(ValueError, match="taps=.* an odd number of taps moves the image by half a pixel"):
        getattr(upfirdn, function)(*given, taps)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [1, 2])
def test_whole_networks_commute_with_mirroring(axis):
    """R3GAN's, whose filters once had three taps: its generator's basis is mirrored as kernels are."""
    stages = r3gan.Stages((4, 4), (1, 1), (1, 1))
    generator, discriminator = r3gan.Generator(stages), r3gan.Discriminator(stages)
    z, x = RNG.standard_normal((2, 3)).astype(np.float32), RNG.standard_normal((2, 8, 8, 3)).astype(np.float32)
    weights = drawn(generator, z, None, 0, 3), drawn(discriminator, x, None, 0)
    make = jax.jit(lambda weights: generator.apply(weights, z, None, 0, 3))
    judge = jax.jit(lambda weights, x: discriminator.apply(weights, x, None, 0))
    turned = jax.tree.map(lambda leaf: np.flip(leaf, axis - 1) if leaf.ndim > 2 else leaf, weights)
    image, logits = make(weights[0]), judge(weights[1], x)
    np.testing.assert_allclose(make(turned[0]), jnp.flip(image, axis), atol=1e-4 * np.abs(image).max())
    np.testing.assert_allclose(judge(turned[1], jnp.flip(x, axis)), logits, atol=1e-4 * np.abs(logits).max())
