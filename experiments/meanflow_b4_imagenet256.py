"""MeanFlow-B/4 on latents of ImageNet at 256x256 (Geng et al. 2025, arXiv 2505.13447), class-conditional, one step.

    python -m experiments.meanflow_b4_imagenet256 --data.path latents_256 --workdir runs/meanflow_b4_imagenet256

The data are those of Stable Diffusion's autoencoder for the images and for their mirror images, 32x32x4 each, in the
files that `data.Latents` describes. The authors' recipe for their ablations: batch 256, Adam with rate
1e-4 and beta2 0.95, a tenth of the labels left out, averages of decay 0.9999, 80 epochs. Guidance can be trained in:
`--model.guidance` and `--model.mixing` are omega and kappa.

Samples are latents like the data, float32, for that autoencoder to decode:

    imagegen sample runs/meanflow_b4_imagenet256 --n 1000 --out latents.npz

A run that was begun with latents in [-1, 1] goes on with `--data.scale 0.036430000000000004 --model.gain 5`.

Cost: made for an accelerator. Expected: 131,165,248 parameters, as published; FID by one evaluation
without guidance: 61.09 in the paper and 60.75 by the authors' code, both as its README gives them.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core import space
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits, Latents, Posterior
from imagegen_jax.diffusion.meanflow import MeanFlow

SCALE = 0.18215  # brings these latents to a deviation of 1

experiment = Experiment(
    name="meanflow_b4_imagenet256",
    model=MeanFlow(space=space.Latents(SCALE)),
    data=Latents("latents_256"),
    augment=(Posterior(),),
    optim={"network": Adam(1e-4, b2=0.95)},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=256,
    steps=400_000,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    "data": Digits(channels=4),
    "model.image_shape": (8, 8, 4),
    "model.num_classes": 10,
    "model.network.patch": 2,
    "model.network.depth": 1,
    "model.network.width": 16,
    "model.network.heads": 2,
    "model.space.scale": 2.0,
    "batch_size": 8,
    "samples": 10,
    "steps": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
