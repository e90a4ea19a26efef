"""EDM (Karras et al. 2022, arXiv 2206.00364) on MNIST, class-conditional, narrowed to what a laptop trains in minutes.

    imagegen data prepare mnist
    python -m experiments.edm_mnist --workdir runs/edm_mnist
    imagegen sample runs/edm_mnist --n 20 --labels 3,7 --model.levels.steps 8

The network is that of `ddpm_mnist`, given the class. Cost: 25 minutes on one CPU core, other work on the second.
Expected: 5,000 samples without guidance against the training images have FD-classifier 0.58, coverage 0.81 and 91.5 %
of the class asked for (`benchmarks/leaderboard_mnist.py`); the flow gives the test images 1.64 bits per dimension
(`benchmarks/flow_nll.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="edm_mnist",
    model=Diffusion(
        network=UNet(width=16, multipliers=(1, 2, 4), blocks=1, attention_at=(7,), dropout=0.0),
        levels=Karras(32),
        solver=DPMSolver(2),
        image_shape=(28, 28, 1),
        num_classes=10,
        label_dropout=0.1,
    ),
    data=TFDS("mnist"),
    optim={"network": Adam(CosineDecay(2e-3, warmup=200))},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=32,
    steps=5_500,
    sample_every=1_100,
)

smoke = {
    **on_digits(28),
    "model.network.width": 8,
    "model.network.multipliers": (1, 1, 1),
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
