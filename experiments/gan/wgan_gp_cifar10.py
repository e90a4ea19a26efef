"""WGAN-GP on CIFAR-10 with residual networks (Gulrajani et al. 2017, arXiv 1704.00028, appendix F), without classes.

    imagegen data prepare cifar10
    python -m experiments.wgan_gp_cifar10 --workdir runs/wgan_gp_cifar10

The recipe of the authors' code, igul222/improved_wgan_training: 128 channels everywhere, batch norm in the generator
alone, five critic steps of 64 images for one of the generator with 128, Adam with rates that fall from 2e-4 to 0. A
step here is one of the critic, so its 100,000 iterations are 500,000 steps. Not taken over: the noise of one grey
level on real images.

Cost: made for an accelerator. Expected: 1,204,483 parameters in the generator and 1,053,825 in the critic, as
there. The paper's inception score is 7.86 (Table 3); others measured 6.68 and FID 40.1 (Miyato et al. 2018, Table 2).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, LinearDecay
from imagegen_jax.data import TFDS
from imagegen_jax.gan.wgan import WGAN
from imagegen_jax.nn.objectives import Wasserstein
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="wgan_gp_cifar10",
    model=WGAN(generator_batches=2),
    data=TFDS("cifar10"),
    optim={
        "generator": Adam(LinearDecay(2e-4), b1=0.0, b2=0.9),
        "critic": Adam(LinearDecay(2e-4), b1=0.0, b2=0.9),
    },
    steps=500_000,
    batch_size=64,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.critic.width": 4,
    "model.latent_dim": 8,
    "model.critic_steps": 2,
    "model.objective": Wasserstein(drift=0.1),  # without which the critic's last bias has no gradient
    "optim.generator.eps": 1e-2,  # biases before a norm have only the gradient of rounding: let it not become steps
    "optim.critic.eps": 1e-2,
}

if __name__ == "__main__":
    main(experiment, smoke)
