"""VDM on CIFAR-10 (Kingma et al. 2021, arXiv 2107.00630), 32x32, without augmentation: for likelihood.

    imagegen data prepare cifar10
    python -m experiments.vdm_cifar10 --workdir runs/vdm_cifar10

The authors' recipe: batch 128, AdamW with rate 2e-4, beta2 0.99 and weight decay 0.01, 10 million steps, averages of
decay 0.9999, dropout 0.1, the straight schedule with learned ends.

Cost: made for an accelerator. Expected: 30,578,181 parameters, as published; 2.64 bits per dimension of the test images
after 10 million steps, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import TFDS, Digits
from imagegen_jax.diffusion.vdm import VDM

experiment = Experiment(
    name="vdm_cifar10",
    model=VDM(),
    data=TFDS("cifar10"),
    optim={name: AdamW(2e-4, b2=0.99, weight_decay=0.01) for name in ("network", "gamma")},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=128,
    steps=10_000_000,
    log_every=100,
    sample_every=100_000,
    checkpoint_every=10_000,
)

smoke = {
    "data": Digits(size=8),
    "model.image_shape": (8, 8, 1),
    "model.network.width": 8,
    "model.network.layers": 1,
    "model.steps": 4,
    "batch_size": 8,
    "samples": 4,
    "steps": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
