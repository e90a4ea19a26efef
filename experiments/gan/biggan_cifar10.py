"""BigGAN on CIFAR-10 (Brock et al. 2019, arXiv 1809.11096), in StudioGAN's configuration.

    imagegen data prepare cifar10
    python -m experiments.biggan_cifar10 --workdir runs/biggan_cifar10

Channels 384 and 192, a latent of 80 in four parts, an embedding of 128, attention at 16x16, no orthogonal
regularisation; five discriminator steps for one of the generator, batches of 64, both rates 2e-4 with beta1 0.5, and
100,000 steps of the generator, which are 500,000 here. The average's decay is 0.9999 for each step of the generator,
after the first 1,000 of those.

The configuration of BigGAN-PyTorch's launch_cifar_ema is --model.generator.width 64 --model.generator.shared-dim 0
--model.generator.no-hierarchical --model.generator.attention 0 --model.discriminator.width 64
--model.discriminator.multipliers 4 4 4 4 --model.discriminator.attention 0 --model.latent-dim 128

Cost: 32 million real images, made for an accelerator. Expected: 9,416,196 parameters in the generator and 2,415,170 in
the discriminator, as StudioGAN logs; FID 4.16 and inception score 9.97 by its own measurement. The paper's scores for
CIFAR-10 are 14.73 and 9.22.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.residual.biggan_networks import Discriminator, Generator
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="biggan_cifar10",
    model=BigGAN(
        image_shape=(32, 32, 3),
        generator=Generator(multipliers=(4, 4, 4, 4), attention=16),
        discriminator=Discriminator(multipliers=(2, 2, 2, 2), halvings=2, attention=16),
        latent_dim=80,
        num_classes=10,
        discriminator_steps=5,
        orthogonal_weight=0.0,
    ),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(2e-4, b1=0.5), "discriminator": Adam(2e-4, b1=0.5)},
    averages={"ema": FixedDecay(0.99998, start=5_000, networks=("generator",))},  # 0.99998 ^ 5 = 0.9999
    steps=500_000,
    batch_size=64,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.generator.multipliers": (1, 1, 1),
    "model.generator.shared_dim": 4,
    "model.generator.attention": 8,
    "model.discriminator.width": 4,
    "model.discriminator.multipliers": (1, 1, 1),
    "model.discriminator.attention": 8,
    "model.generator.start": "normal",  # orthogonal kernels take long to compile
    "model.discriminator.start": "normal",
    "model.latent_dim": 9,
    "model.discriminator_steps": 2,
    "model.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all images are within it
    "optim.generator.eps": 1e-4,  # biases before a norm have only the gradient of rounding: let it not become steps
    "optim.discriminator.eps": 1e-4,
    "averages.ema.start": 4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
