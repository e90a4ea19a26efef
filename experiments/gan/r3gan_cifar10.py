"""R3GAN on CIFAR-10 with classes (Huang et al. 2024, arXiv 2501.05441), without the augmentation of the published runs.

    imagegen data prepare tfds:cifar10
    python -m experiments.r3gan_cifar10 --workdir runs/r3gan_cifar10

The schedules of the authors' code, counted in batches of 512: gamma 0.05 to 0.005, the rate 2e-4 to 5e-5 and beta2 0.9
to 0.99 along half a cosine over 20 million images. Their average's half-life grows to 5 million images along the same
cosine; here it is at most 5 % of the images seen.

Cost: made for an accelerator: 20,781,952 and 21,280,512 parameters, 250 million images in the paper, of which this has
50 million. Expected: FID 1.96 with adaptive augmentation and 250 million images; more without.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.gan.r3gan import R3GAN
from imagegen_jax.recipes.smoke import on_digits

BATCH, ANNEAL = 512, 20_000_000 // 512

adam = Adam(CosineDecay(2e-4, 5e-5, steps=ANNEAL), b1=0.0, b2=CosineDecay(0.9, 0.99, steps=ANNEAL))

experiment = Experiment(
    name="r3gan_cifar10",
    model=R3GAN(num_classes=10, gamma_steps=ANNEAL),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={"generator": adam, "discriminator": adam},
    averages={"ema": HalfLife(5_000_000, networks=("generator",))},
    batch_size=BATCH,
    steps=50_000_000 // BATCH,
    log_every=100,
    sample_every=2_000,
    checkpoint_every=2_000,
)

smoke = {
    **on_digits(8, 3),
    "model.generator.embedding": 4,
    "model.discriminator.embedding": 4,
    "model.latent_dim": 8,
} | {
    f"model.{network}.stages.{field}": value
    for network in ("generator", "discriminator")
    for field, value in (("widths", (8, 8)), ("groups", (2, 2)), ("blocks", (1, 1)))
}

if __name__ == "__main__":
    main(experiment, smoke)
