"""EDM on CIFAR-10 (Karras et al. 2022, arXiv 2206.00364), class-conditional, 32x32, with non-leaking augmentation.

    imagegen data prepare cifar10
    python -m experiments.edm_cifar10 --workdir runs/edm_cifar10
    imagegen sample runs/edm_cifar10 --n 100

The authors' recipe (Table 7): DDPM++, 200 million images in batches of 512, Adam with a rate of 1e-3 that is reached
after 10 million images, averages of half-life 0.5 million images, dropout 0.13, augmentation with probability 0.12, of
which the network is told; 18 steps of Heun's method. For NCSN++:

    --model.network.embedding fourier --model.network.encoder residual --model.network.taps 1 3 3 1

Cost: made for accelerators; the authors' code takes about 2 days on 8 V100 (README of NVlabs/edm). Expected: 55,735,299
parameters, as published; FID 1.79, as the authors report, the least of three sets of 50,000 images.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import EDMAugment
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.recipes.smoke import UNET, on_digits

BATCH = 512

experiment = Experiment(
    name="edm_cifar10",
    model=Diffusion(network=SongUNet(), num_classes=10, augment=EDMAugment(0.12)),
    data=TFDS("cifar10"),
    optim={"network": Adam(WarmUp(1e-3, steps=10_000_000 // BATCH))},
    averages={"ema": HalfLife(images=500_000)},
    batch_size=BATCH,
    steps=200_000_000 // BATCH,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    **UNET,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
