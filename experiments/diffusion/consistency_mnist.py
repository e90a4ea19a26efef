"""Consistency training, iCT (Song & Dhariwal 2023, arXiv 2310.14189), on MNIST, class-conditional, for a laptop.

    imagegen data prepare mnist
    python -m experiments.consistency_mnist --workdir runs/consistency_mnist
    imagegen sample runs/consistency_mnist --n 100 --model.levels.sigmas 80 0.8

The network is that of `edm_mnist`; images are drawn in one evaluation, or two as above. Cost: 13 minutes on 2 CPU
cores. Expected: 5,000 samples of a single evaluation against the training images have FD-classifier 1.81, coverage 0.74
and 96.3 % of the class asked for (`benchmarks/leaderboard_mnist.py`): legible, with ragged strokes. There is no
published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="consistency_mnist",
    model=Consistency(
        network=UNet(width=16, multipliers=(1, 2, 4), blocks=1, attention_at=(7,), dropout=0.0),
        image_shape=(28, 28, 1),
        num_classes=10,
        last_levels=160,
        double_every=900,
    ),
    data=TFDS("mnist"),
    optim={"network": Adam(CosineDecay(1e-3, warmup=200))},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=32,
    steps=4_500,
    sample_every=900,
)

smoke = {
    **on_digits(28),
    "model.network.width": 8,
    "model.network.multipliers": (1, 1, 1),
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
