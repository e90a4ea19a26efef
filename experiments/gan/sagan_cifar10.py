"""SAGAN on CIFAR-10 with classes (Zhang et al. 2019, arXiv 1805.08318): SNGAN with self-attention at 16x16.

    imagegen data prepare cifar10
    python -m experiments.sagan_cifar10 --workdir runs/sagan_cifar10

The paper's additions to SNGAN with a projection discriminator: attention and spectral normalisation in both networks,
and as many steps of the generator as of the discriminator, at rates of 1e-4 and 4e-4. The paper is about ImageNet; the
sizes here, and the number of steps, are those of StudioGAN's configuration for CIFAR-10.

Cost: 64 million real images, made for an accelerator. Expected: 4,386,308 parameters in the generator and 1,075,586 in
the discriminator, as StudioGAN logs. The paper has no score for CIFAR-10.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.gan.residual.sngan import SNGAN, Discriminator, Generator
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="sagan_cifar10",
    model=SNGAN(
        generator=Generator(spectral=True, attention=16),
        discriminator=Discriminator(attention=16),
        num_classes=10,
        discriminator_steps=1,
    ),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(1e-4, b1=0.0, b2=0.9), "discriminator": Adam(4e-4, b1=0.0, b2=0.9)},  # section 4
    steps=1_000_000,
    batch_size=64,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.generator.multipliers": (1, 1, 1),
    "model.generator.attention": 8,
    "model.discriminator.width": 4,
    "model.discriminator.multipliers": (1, 1, 1),
    "model.discriminator.attention": 8,
    "model.latent_dim": 8,
    "model.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all images are within it
    "optim.generator.eps": 1e-4,  # biases before a norm have only the gradient of rounding: let it not become steps
    "optim.discriminator.eps": 1e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
