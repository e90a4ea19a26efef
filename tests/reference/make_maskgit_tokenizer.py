"""Makes official_maskgit_tokenizer.npz: what MaskGIT's own tokenizer and discriminator compute at random weights.

    git clone https://github.com/google-research/maskgit ../maskgit
    python tests/reference/make_maskgit_tokenizer.py ../maskgit

Cases are stored as in the other official_*.npz, see make_official.py, and compute in float64. Norms have the number of
groups that ours have in layers so narrow; the discriminator has fewer channels than its table says, and its file is
read without the last line, the beginning of a function, which Python does not take.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

CODES, DIM, SIDE, ROWS = 8, 6, 8, 2
TABLE = {"4": "16", "8": "16", "16": "8"}  # channels by resolution


class Case(NamedTuple):
    """A network's weights, the shape of its first input, and a function of both."""

    init: Callable[[jax.Array, jax.Array], Any]
    first: tuple[str, tuple[int, ...]]
    run: Callable[[Any, jax.Array], jax.Array]
    inputs: dict[str, np.ndarray]


class NarrowNorm(nn.Module):
    """32 groups where there are 128 channels or more, and 4 channels in a group below."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.GroupNorm(max(1, min(32, x.shape[-1] // 4)), epsilon=1e-6, dtype=jnp.float64, name="norm")(x)


def namespace(**values: Any) -> types.SimpleNamespace:
    """In the place of ml_collections."""
    return types.SimpleNamespace(**values)


CONFIG = namespace(
    image_size=16,
    vqvae=namespace(
        codebook_size=CODES, embedding_dim=DIM, filters=16, num_res_blocks=1, channel_multipliers=[1, 2],
        conv_downsample=False, activation_fn="swish", norm_type="GN", commitment_cost=0.25, entropy_loss_ratio=0.1,
        entropy_loss_type="softmax", entropy_temperature=0.5,
    ),
    discriminator=namespace(channel_multiplier=1, blur_resample=True),
)  # fmt: skip


def tokenizer() -> dict[str, Case]:
    """The encoder, the decoder, and the loss of the quantiser."""
    from maskgit.nets import layers, vqgan_tokenizer

    layers.get_norm_layer = lambda **_: NarrowNorm
    same = {"config": CONFIG, "train": True, "dtype": jnp.float64}
    encoder, decoder = vqgan_tokenizer.Encoder(**same), vqgan_tokenizer.Decoder(**same)
    quantiser = vqgan_tokenizer.VectorQuantizer(**same)
    image, grid = (ROWS, SIDE, SIDE, 3), (ROWS, SIDE // 2, SIDE // 2, DIM)
    return {
        "encoder": Case(encoder.init, ("x", image), encoder.apply, {}),
        "decoder": Case(decoder.init, ("z", grid), decoder.apply, {}),
        "quantiser": Case(
            quantiser.init, ("z", grid), lambda v, z: quantiser.apply(v, z)[1]["quantizer_loss"][None], {}
        ),
    }


def discriminator(folder: pathlib.Path) -> dict[str, Case]:
    """Its loss with R1, for images and reconstructions that are given."""
    from maskgit.libml import losses

    source = (folder / "maskgit/nets/discriminator.py").read_text().replace("jnp.float32", "jnp.float64")
    source = source.rstrip().removesuffix("def squared_euclidean_distance")
    for size, channels in TABLE.items():
        assert f" {size}: 512," in source
        source = source.replace(f" {size}: 512,", f" {size}: {channels},")
    module = sys.modules["discriminator"] = types.ModuleType("discriminator")  # where dataclasses look for it
    exec(source, module.__dict__)
    network = module.Discriminator(CONFIG, train=True)
    shape = (ROWS, 16, 16, 3)
    fake = drawn_weights.normal("fake", shape)

    def run(variables: Any, real: jax.Array) -> jax.Array:
        logits, penalty = losses.r1_gradient_penalty(lambda train: network, variables, real, 10.0)
        judged = losses.discriminator_loss(
            real_logit=logits, fake_logit=network.apply(variables, fake), loss_type="non-saturating"
        )
        return (judged + penalty)[None]

    return {"discriminator": Case(network.init, ("real", shape), run, {"fake": fake})}


def computed(case: Case) -> dict[str, Any]:
    """The weights' names, the inputs, the output, and the gradients of half its squared sum."""
    name, shape = case.first
    first = jnp.asarray(drawn_weights.normal(f"input {name}", shape))
    shapes = flax.traverse_util.flatten_dict(jax.eval_shape(case.init, jax.random.key(0), first), sep="/")
    scales = {n: 0.5 if len(s.shape) == 1 else float(np.prod(s.shape[:-1])) ** -0.5 for n, s in shapes.items()}
    weights = {n: jnp.asarray(drawn_weights.weight(n, s.shape, scales[n])) for n, s in shapes.items()}

    def objective(weights: Any, first: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = case.run(flax.traverse_util.unflatten_dict(weights, sep="/"), first)
        return jnp.sum(out**2) / 2, out

    options = {"xla_backend_optimization_level": 0}  # to compile takes nearly all of the time
    gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True), compiler_options=options)
    (of_weights, of_first), out = gradient(weights, first)
    gradients = {f"input {name}": of_first, **of_weights}
    return {
        "weights": [f"{n}|{','.join(map(str, s.shape))}|{scales[n]!r}" for n, s in shapes.items()],
        "first": f"{name}|{','.join(map(str, shape))}|1.0",
        "output": out,
        "gradients": list(gradients),
        "along": [np.vdot(g, drawn_weights.direction(n, g.shape)) for n, g in gradients.items()],
        "lengths": [np.linalg.norm(g) for g in gradients.values()],
        "start/weights": np.zeros(0, "U1"),
        "start/statistics": np.zeros((0, 3)),
        **{f"input/{n}": value for n, value in case.inputs.items()},
    }


def main(folder: pathlib.Path) -> None:
    """Writes the file; `folder` is the clone."""
    sys.path.insert(0, str(folder))
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = object  # type: ignore[attr-defined]
    arrays: dict[str, np.ndarray] = {}
    with jax.enable_x64(True):
        for name, case in (tokenizer() | discriminator(folder)).items():
            arrays |= {f"{name}/{key}": np.asarray(value) for key, value in computed(case).items()}
    arrays = {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "jax": jax.__version__, "flax": flax.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "official_maskgit_tokenizer.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
