"""StyleGAN2, configuration F, on FFHQ at 1024x1024 (Karras et al. 2020, arXiv 1912.04958).

    python -m experiments.stylegan2_ffhq1024 --data.path ffhq_1024.zip --workdir runs/stylegan2_ffhq1024

The 70,000 aligned portraits of github.com/NVlabs/ffhq-dataset (images1024x1024), as a folder or a zip. Batch 32, Adam
with rate 2e-3 and betas (0, 0.99), R1 with gamma 10 at every 16th step, path lengths with weight 2 at every 4th, style
mixing 0.9, averages with a half-life of 10,000 images, 25 million images (section 4 and appendix B).

Cost: generator 30,370,060 and discriminator 29,012,513 parameters; the authors' code takes 9 days 18 hours on 8 V100
(README of NVlabs/stylegan2). Expected: FID 2.84 and path length 145.0 (Table 1, and there), of 50,000 images drawn from
the average.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Folder, HorizontalFlip
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="stylegan2_ffhq1024",
    model=StyleGAN2(),
    data=Folder("ffhq_1024.zip", size=1024, channels=3),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(2e-3, b1=0.0, b2=0.99), "discriminator": Adam(2e-3, b1=0.0, b2=0.99)},
    averages={"ema": HalfLife(images=10_000, ramp=None, networks=("generator",))},
    batch_size=32,
    steps=781_250,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
    samples=16,
)

smoke = {
    **on_digits(8, 3),
    "model.generator": Generator(
        style_dim=8,
        mapping_layers=1,
        mapping_rate=1.0,  # with 0.01 weights are about 100, and one unit of their rounding 8e-6
        channel_base=32,
        channel_max=6,
    ),
    "model.discriminator": Discriminator(channel_base=32, channel_max=6),
    "model.latent_dim": 8,
    "model.path_every": 2,
    "model.r1_every": 2,
    "optim.generator.lr": 2e-4,  # weights of N(0, 1): at full rates, rounding differs by more than 2e-7
    "optim.discriminator.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
