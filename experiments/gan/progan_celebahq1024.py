"""ProGAN on CelebA-HQ at 1024x1024, as in the paper (Karras et al. 2018, arXiv 1710.10196).

    python -m experiments.progan_celebahq1024 --data.path celeba_hq_1024.zip --workdir runs/progan_celebahq1024

The 30,000 portraits of github.com/tkarras/progressive_growing_of_gans, as a folder or a zip of images. Each size is
held for 600,000 images and faded in over 600,000, 12 million in all; WGAN-GP with a drift of 1e-3, Adam with rate 1e-3
and betas (0, 0.99), averages with decay 0.999 (appendix A.1), mirror images as the authors' code has them. The batch is
16 at all sizes, where the paper has 14, 6 and 3 from 256x256 on.

Cost: generator 23,079,115 and discriminator 23,087,249 parameters; the paper's took 4 days on 8 V100. Expected: FID
7.79, of 50,000 images drawn from the average (Karras et al. 2019, arXiv 1812.04948, Table 1, row A).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Folder, HorizontalFlip
from imagegen_jax.gan.style.growing import Growth
from imagegen_jax.gan.style.progan import ProGAN
from imagegen_jax.gan.style.progan_networks import Discriminator, Generator
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="progan_celebahq1024",
    model=ProGAN(),
    data=Folder("celeba_hq_1024.zip", size=1024, channels=3),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(1e-3, b1=0.0, b2=0.99), "discriminator": Adam(1e-3, b1=0.0, b2=0.99)},
    averages={"ema": FixedDecay(0.999, networks=("generator",))},
    batch_size=16,
    steps=750_000,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
    samples=16,
)

smoke = {
    **on_digits(8, 3),
    "model.generator": Generator(channel_base=32, channel_max=6),
    "model.discriminator": Discriminator(channel_base=32, channel_max=6),
    "model.latent_dim": 8,
    "model.growth": Growth(hold=1, fade=2),
    "optim.generator.lr": 2e-4,  # weights of N(0, 1): at full rates, rounding differs by more than 2e-7
    "optim.discriminator.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
