"""Makes official_vdvae.npz: what VDVAE's own code computes at random weights, for tests/autoencoders/test_vdvae.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    git clone https://github.com/openai/vdvae ../vdvae
    .venv-torch/bin/python tests/reference/make_vdvae.py ../vdvae

The model is called as it is, in float64, but for its draws of latents, whose noise is given. Weights and noise follow
from their names (tests/drawn_weights.py). Beside a narrow model's outputs, the file has the parameter counts of the
authors' configurations.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

NARROW = {
    "enc_blocks": "4x1,4d2,2x1", "dec_blocks": "2x1,4m2,4x1", "width": 6, "zdim": 2,
    "bottleneck_multiple": 0.5, "num_mixtures": 2, "no_bias_above": 2,
}  # fmt: skip
SIZES = {"cifar10": 32, "imagenet32": 32, "imagenet64": 64, "ffhq256": 256}
ROWS, SIDE, TEMPERATURE = 3, 4, 0.7
SHIFT, SCALE = -120.63838, 1 / 64.16736  # CIFAR-10's, of 8-bit values


def settings(size: int, configuration: str = "", **changes: Any) -> Any:
    """Their hyperparameters."""
    import hps

    found = hps.Hyperparams()
    parser = hps.add_vae_arguments(argparse.ArgumentParser())
    hps.parse_args_and_update_hparams(found, parser, s=["--hps", configuration])
    found.update(changes | {"image_size": size, "image_channels": 3})
    return found


def counts() -> dict[str, int]:
    """Of the authors' configurations."""
    import vae

    with torch.device("meta"):
        models = {name: vae.VAE(settings(size, name)) for name, size in SIZES.items()}
    return {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}


def narrow() -> dict[str, Any]:
    """Terms of the bound of images and what is put out for pixels, with latents of the posterior and of the prior."""
    import vae

    def drawn(mu: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
        noise = drawn_weights.normal(f"noise {next(numbers)}", tuple(mu.shape))
        return mu + log_sigma.exp() * torch.from_numpy(noise)

    vae.draw_gaussian_diag_samples = drawn
    model, lines = vae.VAE(settings(SIDE, **NARROW)), []
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) == 4 and shape[0] > 1 else 0.5
        scale *= 0.2 if "out_net" in name else 1.0  # their loss approximates levels less likely than 1e-5
        parameter.data = torch.from_numpy(drawn_weights.weight(name, shape, scale))
        lines.append(f"{name}|{','.join(map(str, shape))}|{scale!r}")
    image = np.clip(np.round(127.5 + 90 * drawn_weights.normal("image", (ROWS, SIDE, SIDE, 3))), 0, 255)
    seen, target = torch.from_numpy((image + SHIFT) * SCALE), torch.from_numpy(image / 127.5 - 1)
    with torch.no_grad():
        numbers = iter(range(99))
        features, stats = model.decoder(model.encoder(seen))
        numbers = iter(range(99))
        from_prior = model.decoder.forward_uncond(ROWS, t=TEMPERATURE)
        found = {
            "output": model.decoder.out_net(features),
            "distortion": model.decoder.out_net.nll(features, target),  # nats a dimension
            "kl": torch.stack([block["kl"].sum(dim=(1, 2, 3)) for block in stats]).sum(0),  # nats
            "prior_output": model.decoder.out_net(from_prior),
        }
        numbers = iter(range(99))
        found["elbo"] = model(seen, target)["elbo"]
    arrays = {name: value.numpy().astype(np.float32) for name, value in found.items()}
    return arrays | {"weights": np.array(lines), "image": image.astype(np.uint8), "temperature": TEMPERATURE}


def main(folder: pathlib.Path) -> None:
    """Writes the file; `folder` is the clone."""
    sys.path.insert(0, str(folder))
    torch.set_default_dtype(torch.float64)
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "torch": torch.__version__, "numpy": np.__version__}
    arrays = {f"count/{name}": value for name, value in counts().items()} | narrow()
    np.savez_compressed(FOLDER / "official_vdvae.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
