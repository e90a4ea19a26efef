"""Makes tiny_autoencoder.npz: what diffusers' AutoencoderTiny, TAESD's, computes at random weights.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy scipy diffusers==0.42.1
    .venv-torch/bin/python tests/reference/make_tiny_autoencoder.py

One case, stored as in official_*.npz, see make_official.py: images, encoded and decoded, in float64.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderTiny, __version__
from make_official import FOLDER, Case, by_fan_in, computed

WIDTH, BLOCKS, SIDE, ROWS = 6, (1, 2, 1), 8, 3


def main() -> None:
    """Writes the file."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    widths = (WIDTH,) * len(BLOCKS)
    network = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=BLOCKS,
        num_decoder_blocks=BLOCKS[::-1],
        latent_channels=4,
    )
    image = {"x": torch.empty(ROWS, 3, SIDE, SIDE)}
    case = Case(network, image, lambda x: network.decode(network.encode(x).latents).sample, by_fan_in)
    found = computed(case) | {"start/weights": [], "start/statistics": np.zeros((0, 3))}
    arrays = {n: v.detach().numpy() if isinstance(v, torch.Tensor) else np.array(v) for n, v in found.items()}
    versions = {"torch": torch.__version__, "diffusers": __version__, "numpy": np.__version__}
    named = {f"tiny/{name}": array for name, array in arrays.items()}
    np.savez_compressed(FOLDER / "tiny_autoencoder.npz", versions=str(versions), **named)


if __name__ == "__main__":
    main()
