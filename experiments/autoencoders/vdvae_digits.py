"""VDVAE, the very deep VAE (Child 2020, arXiv 2011.10650), on scikit-learn's handwritten digits, without classes.

    python -m experiments.vdvae_digits --workdir runs/vdvae_digits
    python benchmarks/vae_nll.py runs/vdvae_digits --samples 100

Seven layers of latents in the place of 43, 304,088 parameters, and a probability for each of 256 levels: digits use 17
of these. Rate and averaging are those of a short run; b2, weight decay, clipping and skipping are the authors'.

Cost: about 6 minutes on 2 CPU cores with other work beside it. Expected: at most 1.94 bits per dimension of the test
digits by the bound (standard error 0.02; 1.89 of those it was trained on), 1.83 by 100 importance samples. There is no
published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.autoencoders.vdvae_network import TopDownNetwork
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import AdamW, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.nn.distributions.pixel import Categorical
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="vdvae_digits",
    model=VDVAE(
        image_shape=(8, 8, 1),
        network=TopDownNetwork(levels=((8, 2, 4), (4, 1, 2), (1, 1, 1)), width=48, latent_channels=4, bottleneck=0.5),
        distribution=Categorical(),
        data_mean=-0.39,
        data_deviation=0.75,
    ),
    data=Digits(split="train"),
    optim={"network": AdamW(CosineDecay(2e-3, warmup=100), b2=0.9, weight_decay=0.01)},
    averages={"ema": HalfLife(images=5_000)},
    clip_norm=200.0,
    skip_norm=400.0,
    batch_size=64,
    steps=1_200,
    log_every=50,
    sample_every=600,
    samples=100,
    checkpoint_every=300,
)

smoke = {
    **TINY,
    "model.network.levels": ((8, 1, 1), (1, 1, 1)),
    "model.network.width": 8,
    "model.network.latent_channels": 2,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
