"""MeanFlow on latents of ImageNet at 256x256 (Geng et al. 2025, arXiv 2505.13447), class-conditional, one step.

    python -m experiments.meanflow_b4_imagenet256 --data.path latents_256 --workdir runs/meanflow_b4_imagenet256

The data are those of Stable Diffusion's autoencoder for the images and for their mirror images, 32x32x4 each, in the
files that `data.Latents` describes. The authors' recipe for their ablations: batch 256, Adam with rate
1e-4 and beta2 0.95, a tenth of the labels left out, averages of decay 0.9999, 80 epochs. Guidance can be trained in:
`--model.guidance` and `--model.mixing` are omega and kappa.

Samples are latents like the data, float32, for that autoencoder to decode:

    imagegen sample runs/meanflow_b4_imagenet256 --n 1000 --out latents.npz

A run that was begun with latents in [-1, 1] goes on with `--data.scale 0.036430000000000004 --model.gain 5`.

Cost of meanflow_b4_imagenet256: made for an accelerator. Expected of meanflow_b4_imagenet256: 131,165,248 parameters,
as published; by one evaluation without guidance FID 61.09 in the paper and 60.75 by the authors' code, both as its
README gives them.
"""

from imagegen_jax import Experiment
from imagegen_jax.core.arrays import space
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Latents, Posterior
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.nn.backbones.dit import dit
from imagegen_jax.recipes.smoke import TRANSFORMER, on_digits

SCALE = 0.18215  # brings these latents to a deviation of 1

SIZES = {  # recipe: the paper's name of the network, and steps; a further size is a line here
    "meanflow_b4_imagenet256": ("B/4", 400_000),
}

experiments = {
    name: Experiment(
        name=name,
        model=MeanFlow(network=dit(size), space=space.Latents(SCALE)),
        data=Latents("latents_256"),
        augment=(Posterior(),),
        optim={"network": Adam(1e-4, b2=0.95)},
        averages={"ema": FixedDecay(0.9999)},
        batch_size=256,
        steps=steps,
        log_every=100,
        sample_every=10_000,
        checkpoint_every=5_000,
    )
    for name, (size, steps) in SIZES.items()
}

smoke = {
    **on_digits(8, 4),
    **TRANSFORMER,
    "model.num_classes": 10,
    "model.network.patch": 2,
    "model.space.scale": 2.0,
    "samples": 10,
}
