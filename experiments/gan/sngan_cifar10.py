"""SNGAN on CIFAR-10 (Miyato et al. 2018, arXiv 1802.05957), residual networks, without classes.

    imagegen data prepare cifar10
    python -m experiments.sngan_cifar10 --workdir runs/sngan_cifar10

The recipe of the authors' code, pfnet-research/sngan_projection: five discriminator steps of 64 images for one of the
generator with 128, the hinge loss, Adam with rates that fall from 2e-4 to 0. A step here is one of the discriminator,
so its 50,000 iterations are 250,000 steps. Conditional batch norm and a projection discriminator (Miyato & Koyama 2018,
arXiv 1802.05637) are one option away: --model.num-classes 10

Cost: 16 million real images, made for an accelerator. Expected: 4,276,739 parameters in the generator and 1,053,825 in
the discriminator, as there, and with classes 4,304,387 and 1,055,105; FID 21.7 and inception score 8.22 (Table 2), and
with classes FID 9.01 and inception score 8.83 (StudioGAN's measurement of its own).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, LinearDecay
from imagegen_jax.data import TFDS
from imagegen_jax.gan.residual.sngan import SNGAN
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.recipes.smoke import on_digits

adam = Adam(LinearDecay(2e-4), b1=0.0, b2=0.9)  # Table 1, C and section 4

experiment = Experiment(
    name="sngan_cifar10",
    model=SNGAN(generator_batches=2),
    data=TFDS("cifar10"),
    optim={"generator": adam, "discriminator": adam},
    steps=250_000,
    batch_size=64,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.generator.multipliers": (1, 1, 1),
    "model.discriminator.width": 4,
    "model.discriminator.multipliers": (1, 1, 1),
    "model.latent_dim": 8,
    "model.discriminator_steps": 2,
    "model.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all images are within it
    "optim.generator.eps": 1e-2,  # biases before a norm have only the gradient of rounding: let it not become steps
    "optim.discriminator.eps": 1e-2,
}

if __name__ == "__main__":
    main(experiment, smoke)
