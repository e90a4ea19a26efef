"""StyleGAN2's networks against the authors' classes of StyleGAN2-ADA, at random weights and at the start."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator

SHAPE, CLASSES = (16, 16, 3), 3
# Our convolutions are in float32: a sum of 1e5 products rounds by about sqrt(1e5) * 2^-24 of its length, and in what
# order it is summed depends on the processor (1.1e-5 without AVX-512).
FLOAT32 = 2e-5


def mirrored(weight: np.ndarray) -> np.ndarray:
    """A kernel that the authors' upsampling layers mirror before they convolve."""
    return official.kernel(weight)[::-1, ::-1]


def mapping(ours: str) -> official.Names:
    """Of two layers."""
    found = official.layer(f"{ours}/embed", "mapping.embed", official.linear)
    for i in range(2):
        found |= official.layer(f"{ours}/dense_{i}", f"mapping.fc{i}", official.linear)
    return found


def generator_names() -> official.Names:
    """Three resolutions, five convolutions."""
    start = ("synthesis.b4.const", official.channels_last)
    found = mapping("mapping") | {"params/synthesis/start": start, "averages/w": ("mapping.w_avg", official.same)}
    for i, theirs in enumerate(("b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1")):
        ours, theirs = f"synthesis/conv_{i}", f"synthesis.{theirs}"
        found |= official.layer(ours, theirs, mirrored if theirs.endswith("conv0") else official.kernel)
        found |= official.layer(f"{ours}/style", f"{theirs}.affine", official.linear)
        found[f"params/{ours}/noise_strength"] = (f"{theirs}.noise_strength", official.same)
        found[f"noise/{ours}/constant"] = (f"{theirs}.noise_const", lambda noise: noise[..., None])
    for i in range(3):
        ours, theirs = f"synthesis/image_{i}", f"synthesis.b{4 * 2**i}.torgb"
        found |= official.layer(ours, theirs) | official.layer(f"{ours}/style", f"{theirs}.affine", official.linear)
    return found


def discriminator_names(classes: int, residual: bool) -> official.Names:
    """Two resolutions that halve, and the last one."""

    def flat(weight: np.ndarray) -> np.ndarray:
        return official.kernel(weight.reshape(len(weight), -1, 4, 4)).reshape(-1, len(weight))

    found = official.layer("from_image", "b16.fromrgb") | (mapping("mapping") if classes else {})
    for i, side in enumerate((16, 8)):
        found |= official.layer(f"conv_{i}", f"b{side}.conv0") | official.layer(f"halve_{i}", f"b{side}.conv1")
        found |= official.layer(f"skip_{i}", f"b{side}.skip", bias=False) if residual else {}
    found |= official.layer("last_conv", "b4.conv") | official.layer("dense", "b4.fc", flat)
    return found | official.layer("logit", "b4.out", official.linear)


@pytest.fixture(scope="module")
def path(root):
    """What the authors' classes gave."""
    return root / "tests/reference/official_stylegan2.npz"


def model(wide: bool = False, classes: int = CLASSES, residual: bool = True) -> StyleGAN2:
    """Ours; the mapping and the last layers compute in float32 anyway."""
    latent, style, width = (16, 48, 64) if wide else (5, 7, 8)
    rest = {"mapping_layers": 2, "channel_base": 12 * width, "channel_max": width}
    rest |= {} if wide else {"dtype": "float64"}
    networks = Generator(style, **rest), Discriminator(residual=residual, group=2, **rest)
    return StyleGAN2(SHAPE, *networks, latent_dim=latent, num_classes=classes)


@pytest.mark.slow
def test_images_and_gradients_are_the_authors(path):
    """With the stored noise, at a truncation."""
    theirs, ours = official.load(path, "generator"), model()
    variables = official.renamed(generator_names(), theirs.weights)
    label = jnp.argmax(theirs.inputs["c"], axis=1)

    def apply(variables, z):
        nets = {"generator": variables}
        return official.first(ours.synthesise(nets, ours.styles(nets, z, label, 0.6))), None

    official.check(theirs, generator_names(), variables, apply, near=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "residual"), [("discriminator", CLASSES, True), ("discriminator_plain", 0, False)]
)
def test_logits_and_gradients_are_the_authors(path, name, classes, residual):
    """Their groups are rows 0 and 2 and rows 1 and 3; ours are rows in turn."""
    theirs, ours, order = official.load(path, name), model(False, classes, residual), np.array([0, 2, 1, 3])
    names = discriminator_names(classes, residual)
    labels = theirs.inputs["labels"][order] if classes else None

    def apply(variables, x):
        return ours.discriminator.apply(variables, official.last(x[order]), labels)[order], None

    official.check(theirs, names, official.renamed(names, theirs.weights), apply, near=FLOAT32)


@pytest.mark.slow
def test_weights_start_as_the_authors(path):
    ours = model(wide=True)
    batch = {"image": jnp.zeros((1, *SHAPE)), "label": jnp.zeros(1, int)}
    for part, names in (("generator", generator_names()), ("discriminator", discriminator_names(CLASSES, True))):
        theirs = official.load(path, part)
        official.check_start(theirs, names, lambda key, part=part: ours.init(key, batch)[part])
