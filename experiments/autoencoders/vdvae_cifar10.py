"""VDVAE, the very deep VAE, on CIFAR-10 (Child 2020, arXiv 2011.10650), 32x32: 43 layers of latents.

    imagegen data prepare cifar10
    python -m experiments.vdvae_cifar10 --workdir runs/vdvae_cifar10
    python benchmarks/vae_nll.py runs/vdvae_cifar10 --samples 1 --batch 100

The authors' recipe (hps.py of openai/vdvae): width 384, 10 logistics, batches of 16 on each of 2 GPUs, AdamW with
moments of 0.9 and 0.9, a rate of 2e-4 after 100 steps, weights averaged with a decay of 0.9999; gradients, of nats a
dimension, are clipped to a norm of 200, and steps of 400 and more are skipped. They stop early, by 5,000
images kept for validation: the weights that they published are of 650,000 to 1,050,000 steps. Here these images are
trained on, and the steps are a few more.

Cost: made for accelerators: the authors took about 6 days on 2 V100. Expected: 39,145,700 parameters; 2.87 bits per
dimension of the test images, as published (2.84 to 2.90 by seed).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.autoencoders.vdvae_network import TopDownNetwork
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import TFDS
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vdvae_cifar10",
    model=VDVAE(
        image_shape=(32, 32, 3),
        network=TopDownNetwork(levels=((32, 12, 22), (16, 7, 11), (8, 7, 6), (4, 4, 3), (1, 3, 1)), width=384),
        distribution=LogisticMixture(10),
        data_mean=120.63838 / 127.5 - 1,
        data_deviation=64.16736 / 127.5,
    ),
    data=TFDS("cifar10", split="train"),
    optim={"network": AdamW(WarmUp(2e-4, steps=100), b1=0.9, b2=0.9, weight_decay=0.01)},
    averages={"ema": FixedDecay(0.9999)},
    clip_norm=200.0,
    skip_norm=400.0,
    batch_size=32,
    steps=1_100_000,
    log_every=100,
    sample_every=20_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(4, 3),
    "model.network.levels": ((4, 1, 1), (1, 1, 1)),
    "model.network.width": 8,
    "model.network.latent_channels": 2,
    "model.distribution.components": 2,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
