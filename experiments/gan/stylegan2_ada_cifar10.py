"""StyleGAN2 with adaptive augmentation on CIFAR-10, with classes (Karras et al. 2020, arXiv 2006.06676).

    imagegen data prepare cifar10
    python -m experiments.stylegan2_ada_cifar10 --workdir runs/stylegan2_ada_cifar10

The `cifar` configuration of the authors' code: batch 64, rate 2.5e-3, gamma 0.01, a mapping of 2 layers, deviations
over 32 images, a discriminator without residuals, no path lengths, no mixing, averages with a half-life of 500,000
images, no flips but those of the augmentation, 100 million images.

Cost: 100 million images of 32x32 through 20,215,315 (generator) and 23,089,664 (discriminator) parameters, on one or
two V100 in the authors' code, which gives no time for it. Expected: FID 2.42 and inception score 10.14 (the paper's
abstract and Figure 11b), of 50,000 images drawn from the average; StudioGAN measures 2.31 and 10.46.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.gan.augment import ADA
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="stylegan2_ada_cifar10",
    model=StyleGAN2(
        image_shape=(32, 32, 3),
        generator=Generator(mapping_layers=2),
        discriminator=Discriminator(residual=False, group=32),
        num_classes=10,
        r1_weight=0.01,
        path_weight=0.0,
        mixing=0.0,
        augment=ADA(),
    ),
    data=TFDS("cifar10", split="train"),
    optim={"generator": Adam(2.5e-3, b1=0.0, b2=0.99), "discriminator": Adam(2.5e-3, b1=0.0, b2=0.99)},
    averages={"ema": HalfLife(images=500_000, ramp=0.05, networks=("generator",))},
    batch_size=64,
    steps=1_562_500,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    "model.generator": Generator(style_dim=8, mapping_layers=1, mapping_rate=1.0, channel_base=32, channel_max=6),
    "model.discriminator": Discriminator(
        residual=False, group=8, mapping_layers=1, mapping_rate=1.0, channel_base=32, channel_max=6
    ),
    "model.latent_dim": 8,
    "model.r1_every": 1,
    "model.augment.p": 0.3,
    "model.augment.images": 400.0,
    "optim.generator.lr": 2e-4,  # weights of N(0, 1): at full rates, rounding differs by more than 2e-7
    "optim.discriminator.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
