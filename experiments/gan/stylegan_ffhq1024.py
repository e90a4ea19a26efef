"""StyleGAN on FFHQ at 1024x1024, as in the paper (Karras et al. 2019, arXiv 1812.04948).

    python -m experiments.stylegan_ffhq1024 --data.path ffhq_1024.zip --workdir runs/stylegan_ffhq1024

The 70,000 aligned portraits of github.com/NVlabs/ffhq-dataset (images1024x1024), as a folder or a zip. Training begins
at 8x8; each size is held for 600,000 images and faded in over 600,000, 25 million in all. R1 with gamma 10, style
mixing 0.9, Adam with betas (0, 0.99), averages with a half-life of 10,000 images, mirror images (appendix C). The batch
is 32 at all sizes, where theirs is up to 512 at small ones; the rate rises from 1e-3 at 64x64 to 3e-3 at 512x512, in a
line where theirs has steps.

Cost: generator 26,219,627 and discriminator 23,087,249 parameters; the authors' code takes 6 days 14 hours on 8 V100
(README of NVlabs/stylegan). Expected: FID 4.40 (Table 1, row F), of 50,000 images drawn from the average.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, LinearDecay
from imagegen_jax.data import Folder, HorizontalFlip
from imagegen_jax.gan.style.growing import Growth
from imagegen_jax.gan.style.progan_networks import Discriminator
from imagegen_jax.gan.style.stylegan import StyleGAN
from imagegen_jax.gan.style.stylegan_networks import Generator
from imagegen_jax.nn.upfirdn import BINOMIAL
from imagegen_jax.recipes.smoke import on_digits

# 128x128 fades in from step 131,250 on, 256x256 from 168,750 and 512x512 from 206,250.
RATE = LinearDecay(1e-3, floor=3e-3, start=131_250, steps=206_250)

experiment = Experiment(
    name="stylegan_ffhq1024",
    model=StyleGAN(),
    data=Folder("ffhq_1024.zip", size=1024, channels=3),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(RATE, b1=0.0, b2=0.99), "discriminator": Adam(RATE, b1=0.0, b2=0.99)},
    averages={"ema": HalfLife(images=10_000, ramp=None, networks=("generator",))},
    batch_size=32,
    steps=781_250,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
    samples=16,
)

# A bias that an instance norm cancels has a gradient of rounding alone, which Adam's steps would be made of: eps is
# above it.
smoke = {
    **on_digits(8, 3),
    "model.generator": Generator(
        style_dim=8,
        mapping_layers=1,
        mapping_rate=1.0,  # with 0.01 weights are about 100, and one unit of their rounding 8e-6
        channel_base=32,
        channel_max=6,
    ),
    "model.discriminator": Discriminator(channel_base=32, channel_max=6, taps=BINOMIAL),
    "model.latent_dim": 8,
    "model.growth": Growth(hold=2, fade=2),
    **{f"optim.{name}": Adam(2e-4, b1=0.0, b2=0.99, eps=1e-2) for name in ("generator", "discriminator")},
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
