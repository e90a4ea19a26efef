"""WGAN with clipped weights on MNIST at 32x32 (Arjovsky et al. 2017, arXiv 1701.07875), of half the width, for a CPU.

    imagegen data prepare mnist
    python -m experiments.wgan_mnist --workdir runs/wgan_mnist

Cost: made for minutes on 2 CPU cores, but not timed yet. Expected: digits; this recipe has not been
trained to its end yet.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import ClipWeights, RMSprop
from imagegen_jax.data import TFDS
from imagegen_jax.gan.dcgan import Discriminator, Generator
from imagegen_jax.gan.wgan import WGAN
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="wgan_mnist",
    model=WGAN(
        image_shape=(32, 32, 1),
        generator=Generator(width=32),
        critic=Discriminator(width=32),
        latent_dim=100,
        penalty=None,
    ),
    data=TFDS("mnist", split="train", size=32, channels=1),
    optim={"generator": RMSprop(2e-4), "critic": RMSprop(2e-4, project=(ClipWeights(0.01),))},
    steps=8_000,
    batch_size=64,
    log_every=50,
    sample_every=1_000,
    checkpoint_every=1_000,
    evaluation=Evaluate(every=2_000),
)

smoke = {
    **on_digits(16),
    "model.generator.width": 4,
    "model.critic.width": 4,
    "model.latent_dim": 8,
    "model.critic_steps": 2,
    "evaluation": Evaluate(every=4, metrics=("kid",), samples=16, extractor="pixels"),
}

if __name__ == "__main__":
    main(experiment, smoke)
