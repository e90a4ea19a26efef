"""Improved DDPM on CIFAR-10 (Nichol & Dhariwal 2021, arXiv 2102.09672), unconditional, 32x32: L_hybrid.

    imagegen data prepare cifar10
    python -m experiments.iddpm_cifar10 --workdir runs/iddpm_cifar10
    imagegen sample runs/iddpm_cifar10 --n 64 --model.sampling_steps 250

The authors' recipe: 4,000 steps of the cosine schedule, batch 128, Adam with rate 1e-4, dropout 0.3, 500,000 steps,
averages of decay 0.9999. For the likelihood, `--model.objective vlb --model.importance`.

Cost: made for an accelerator. Expected: 52,546,438 parameters, as published; FID 3.19 with L_hybrid, and 2.94 bits per
dimension with L_vlb, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.recipes.smoke import UNET, on_digits

experiment = Experiment(
    name="iddpm_cifar10",
    model=ImprovedDDPM(),
    data=TFDS("cifar10"),
    optim={"network": Adam(1e-4)},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=128,
    steps=500_000,
    log_every=100,
    sample_every=25_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(),
    **UNET,
    "model.network.heads": 2,
    "model.schedule.steps": 20,
    "model.sampling_steps": 4,
    "model.importance": True,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
