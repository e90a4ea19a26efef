"""ProGAN on MNIST, growing from 4x4 to 32x32 (Karras et al. 2018, arXiv 1710.10196), narrowed to what a CPU trains.

    imagegen data prepare mnist
    python -m experiments.progan_mnist --workdir runs/progan_mnist

The paper's objective, penalty, optimizer and rate; batch 32, 16 to 64 channels, each size held for 400 steps and faded
in over 400. The grids in runs/progan_mnist/samples show the growth.

Cost: 15 minutes on 2 CPU cores. Expected: digits, some of them broken: FD-classifier 9.8, precision 0.76, recall 0.77
and coverage 0.34 with 2,000 samples; there is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.gan.style.growing import Growth
from imagegen_jax.gan.style.progan import ProGAN
from imagegen_jax.gan.style.progan_networks import Discriminator, Generator
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="progan_mnist",
    model=ProGAN(
        image_shape=(32, 32, 1),
        generator=Generator(channel_base=512, channel_max=64),
        discriminator=Discriminator(channel_base=512, channel_max=64),
        latent_dim=64,
        growth=Growth(hold=400, fade=400),
    ),
    data=TFDS("mnist", split="train", size=32, channels=1),
    optim={"generator": Adam(1e-3, b1=0.0, b2=0.99), "discriminator": Adam(1e-3, b1=0.0, b2=0.99)},
    averages={"ema": HalfLife(images=5_000, networks=("generator",))},
    batch_size=32,
    steps=4_000,
    log_every=25,
    sample_every=200,
    checkpoint_every=500,
    evaluation=Evaluate(every=2_000),
)

smoke = {
    **on_digits(),
    "model.generator": Generator(channel_base=32, channel_max=6),
    "model.discriminator": Discriminator(channel_base=32, channel_max=6),
    "model.latent_dim": 8,
    "model.growth": Growth(hold=2, fade=2),
    "optim.generator.lr": 2e-4,  # weights of N(0, 1): at full rates, rounding differs by more than 2e-7
    "optim.discriminator.lr": 2e-4,
    "samples": 4,
    "evaluation": Evaluate(every=4, metrics=("kid",), samples=16, extractor="pixels"),
}

if __name__ == "__main__":
    main(experiment, smoke)
