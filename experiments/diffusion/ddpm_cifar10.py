"""DDPM on CIFAR-10 (Ho et al. 2020, arXiv 2006.11239), as in the paper's appendix B.

    imagegen data prepare cifar10
    python -m experiments.ddpm_cifar10 --workdir runs/ddpm_cifar10

Cost: 102 million images through 35,746,307 parameters; the paper's code took 10.6 hours on a TPU v3-8 (21 steps/s).
Expected: FID 3.17 and inception score 9.46 (Table 1), with 50,000 samples of the average weights at the end. DDIM, for
which no training is needed, has FID 4.67 with 50 steps (Song et al. 2020, Table 1):

    imagegen sample runs/ddpm_cifar10 --n 64 --model.sampler DDIM --model.sampler.spacing quadratic
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.recipes.smoke import UNET, on_digits

experiment = Experiment(
    name="ddpm_cifar10",
    model=DDPM(),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={"network": Adam(WarmUp(2e-4, steps=5_000))},
    averages={"ema": FixedDecay(0.9999)},
    clip_norm=1.0,
    batch_size=128,
    steps=800_000,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    **UNET,
    "model.sampler.steps": 4,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
