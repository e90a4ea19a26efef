"""What memory Stable Diffusion's decoder takes at large sizes: whole, an image at a time, and in tiles.

python benchmarks/decoding_memory.py --side 96 --images 4 --tile 32

By the compiler's plan of its working memory (`memory_analysis`), beside weights and images; nothing is run.
"""

from __future__ import annotations

import argparse
import functools

import jax
import jax.numpy as jnp
from machine import write_result

from imagegen_jax.autoencoders.first_stages.published import published
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.tiles import Decoding


def main() -> None:
    """Compiles each way of decoding, and writes what it plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=96, help="of the latents")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--tile", type=int, default=32)
    options = parser.parse_args()
    pixels = 8 * options.side
    autoencoder = published("sd", (pixels, pixels, 3))
    nets = {"autoencoder": jax.eval_shape(autoencoder.init_autoencoder, jax.random.key(0))}
    latents = jax.ShapeDtypeStruct((options.images, *autoencoder.latent_shape), jnp.float32)
    ways = {"whole": Decoding(), "an image at a time": Decoding(1), "in tiles": Decoding(1, options.tile)}

    def decoded(decoding: Decoding, nets: dict, latents: jax.Array) -> jax.Array:
        return decoding(functools.partial(autoencoder.decode, nets), latents)

    planned = {}
    for name, decoding in ways.items():
        program = compiling.jit(functools.partial(decoded, decoding)).lower(nets, latents).compile()
        planned[name] = round(program.memory_analysis().temp_size_in_bytes / 2**30, 3)
        print(name, planned[name], flush=True)
    write_result("decoding_memory", {**vars(options), "working_memory_gib": planned})


if __name__ == "__main__":
    main()
