"""DCGAN on MNIST at 32x32 (Radford et al. 2016, arXiv 1511.06434), of half the width, for a CPU.

    python -m experiments.dcgan_mnist --workdir runs/dcgan_mnist

Cost: 0.14 s a step on 2 CPU cores, 10 minutes for its 4,000 steps (9 epochs). Generator 369,600 and
discriminator 166,784 parameters. Expected: legible digits; there is no published score for this size. The first run
trains the classifier behind its scores, once.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.gan.dcgan import DCGAN, Discriminator, Generator
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="dcgan_mnist",
    model=DCGAN(image_shape=(32, 32, 1), generator=Generator(width=32), discriminator=Discriminator(width=32)),
    data=TFDS("mnist", split="train", size=32, channels=1),
    optim={"generator": Adam(2e-4, b1=0.5), "discriminator": Adam(2e-4, b1=0.5)},  # section 4
    steps=4_000,
    batch_size=128,
    log_every=50,
    sample_every=500,
    checkpoint_every=500,
    evaluation=Evaluate(every=500),
)

smoke = {
    **on_digits(16),
    "model.generator.width": 4,
    "model.discriminator.width": 4,
    "model.latent_dim": 8,
    "evaluation": Evaluate(every=4, metrics=("kid",), samples=16, extractor="pixels"),
}

if __name__ == "__main__":
    main(experiment, smoke)
