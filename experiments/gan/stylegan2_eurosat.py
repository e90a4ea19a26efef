"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) on photos of the earth at 64x64, narrowed to what a CPU trains.

    python -m experiments.stylegan2_eurosat --data.path eurosat_rgb64.zip --workdir runs/stylegan2_eurosat

EuroSAT's RGB photos (Helber et al. 2019, arXiv 1709.00029; github.com/phelber/EuroSAT), as a folder or a zip, without
their classes; any other images do as well. As configuration F, with 192,464 parameters in the generator and 220,297 in
the discriminator, batch 16, and gamma and rate for that.

Cost: 0.4 s a step on 2 busy CPU cores, 27 minutes for its 4,000 steps (64,000 images, where the paper has 25 million).
Expected: the colours and textures of sea, woods, fields and towns, but not yet the straight lines of streets and
fields, which need more steps and channels (`channel_base`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Folder, HorizontalFlip
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="stylegan2_eurosat",
    model=StyleGAN2(
        image_shape=(64, 64, 3),
        generator=Generator(style_dim=64, mapping_layers=2, channel_base=512, channel_max=64),
        discriminator=Discriminator(channel_base=512, channel_max=64),
        latent_dim=64,
        r1_weight=0.1,
    ),
    data=Folder("eurosat_rgb64.zip", size=64, channels=3),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(2.5e-3, b1=0.0, b2=0.99), "discriminator": Adam(2.5e-3, b1=0.0, b2=0.99)},
    averages={"ema": HalfLife(images=5_000, networks=("generator",))},
    batch_size=16,
    steps=4_000,
    log_every=50,
    sample_every=500,
    checkpoint_every=500,
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
