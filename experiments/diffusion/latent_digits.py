"""Latent diffusion (Rombach et al. 2022, arXiv 2112.10752) on scikit-learn's handwritten digits, with classes.

    python -m experiments.kl_digits --workdir runs/kl_digits
    imagegen encode runs/kl_digits digits --split train --out digits_latents.npz
    python -m experiments.latent_digits --workdir runs/latent_digits
    imagegen sample runs/latent_digits --n 100 --guidance 2

Needs no download. EDM of 4x4x4 latents, which the autoencoder of the first run made once and decodes samples by; their
scale and shift are those that `imagegen encode` measured. In their place images may be trained on, encoded anew in each
step, with numbers for `model.space.scale` and `model.space.shift`.

Cost: 0.23 s of CPU time a step, so 6 minutes, after 2 for the autoencoder. Expected: a classifier finds 98.2 % of 500
samples to be of the class asked for, with a guidance of 2 all of them (`benchmarks/demo_agreement.py`). At 8x8 pixels
latents save no time: `benchmarks/drawing_time.py` compares with `edm_digits`.
"""

from imagegen_jax import Experiment, main, recipe
from imagegen_jax.core.arrays import space
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits, Latents
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="latent_digits",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        levels=Karras(16),
        solver=DPMSolver(2),
        image_shape=(4, 4, 4),
        num_classes=10,
        label_dropout=0.1,
        sigma_data=1.0,
        space=space.Latents("measured", "measured", autoencoder=recipe("kl_digits").model),
    ),
    data=Latents("digits_latents.npz"),
    pretrained={"autoencoder": FromRun("runs/kl_digits")},
    optim={"network": Adam(CosineDecay(2e-3, warmup=50))},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=1_500,
    log_every=50,
    sample_every=500,
    samples=100,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    "data": Digits(),
    "pretrained": {"autoencoder": "random"},
    "model.space.scale": 1.0,
    "model.space.shift": 0.0,
    "model.space.autoencoder.network.encoder.width": 4,
    "model.space.autoencoder.network.decoder.width": 4,
    "model.network.width": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
