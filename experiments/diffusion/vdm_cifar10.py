"""VDM on CIFAR-10 (Kingma et al. 2021, arXiv 2107.00630), 32x32, without augmentation: for likelihood.

    imagegen data prepare cifar10
    python -m experiments.vdm_cifar10 --workdir runs/vdm_cifar10
    python benchmarks/flow_nll.py runs/vdm_cifar10 --by bound

The authors' recipe (configs/cifar10.py of google-research/vdm): batch 128, AdamW with rate 2e-4 after 100 steps of
warm-up, beta2 0.99 and weight decay 0.01, 10 million steps, averages of decay 0.9999, dropout 0.1, the straight
schedule with learned ends. Two things differ: there biases do not decay, and level v of 8 bits is
2 (v + 1/2) / 256 - 1, here 2 v / 255 - 1.

Cost: made for an accelerator. Expected: 30,578,181 parameters, as published; 2.637 bits per dimension of the test
images by the authors' weights, as their README reports, which gives 2.64 for the paper.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.vdm import VDM
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vdm_cifar10",
    model=VDM(),
    data=TFDS("cifar10"),
    optim={name: AdamW(WarmUp(2e-4, steps=100), b2=0.99, weight_decay=0.01) for name in ("network", "gamma")},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=128,
    steps=10_000_000,
    log_every=100,
    sample_every=100_000,
    checkpoint_every=10_000,
)

smoke = {
    **on_digits(),
    "model.network.width": 8,
    "model.network.layers": 1,
    "model.steps": 4,
    "optim.network.lr": 2e-4,
    "optim.gamma.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
