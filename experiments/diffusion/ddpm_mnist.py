"""DDPM on MNIST (after Ho et al. 2020, arXiv 2006.11239), narrowed to what a laptop trains while one waits.

    imagegen data prepare mnist
    python -m experiments.ddpm_mnist --workdir runs/ddpm_mnist

The network has 16, 32 and 64 channels at 28, 14 and 7 pixels (0.7 million parameters), where the paper's for CIFAR-10
has 128 and 256. Cost: 0.21 s a step on 2 CPU cores, so 16 minutes. Expected: legible digits; no published score is
of this size. With a quarter of the steps, the posterior's variance leaves less noise than DDPM's choice, beta.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.discrete_time import Ancestral
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import ONE_LEVEL, on_digits

experiment = Experiment(
    name="ddpm_mnist",
    model=DDPM(
        network=UNet(width=16, multipliers=(1, 2, 4), blocks=1, attention_at=(7,), dropout=0.0),
        sampler=Ancestral(steps=250, variance="small"),
        image_shape=(28, 28, 1),
    ),
    data=TFDS("mnist"),
    optim={"network": Adam(CosineDecay(1e-3, warmup=200))},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=32,
    steps=4_500,
    sample_every=1_500,
)

smoke = {
    **on_digits(),
    **ONE_LEVEL,
    "model.network.width": 8,
    "model.sampler.steps": 4,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
