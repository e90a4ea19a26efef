"""MeanFlow on latents of ImageNet at 256x256 (Geng et al. 2025, arXiv 2505.13447), class-conditional, one step.

    python -m experiments.meanflow_b4_imagenet256 --data.path latents_256 --workdir runs/meanflow_b4_imagenet256

The data are those of Stable Diffusion's autoencoder for the images and for their mirror images, 32x32x4 each, in the
files that `data.Latents` describes. The authors' recipe for their ablations: batch 256, Adam with rate
1e-4 and beta2 0.95, a tenth of the labels left out, averages of decay 0.9999, 80 epochs. Guidance can be trained in:
`--model.guidance` and `--model.mixing` are omega and kappa.

Samples are latents in [-1, 1]; to decode them, ask the model for float32 and give the factor back:

    run.experiment.model.sample(run.nets, key, n, {"label": labels}) / run.experiment.data.scale

Cost of meanflow_b4_imagenet256: made for an accelerator. Expected of meanflow_b4_imagenet256: 131,165,248 parameters,
as published; by one evaluation without guidance FID 61.09 in the paper and 60.75 by the authors' code, both as its
README gives them.
"""

from imagegen_jax import Experiment
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Latents, Posterior
from imagegen_jax.diffusion.meanflow import MeanFlow
from imagegen_jax.nn.dit import dit
from imagegen_jax.recipes.smoke import TRANSFORMER, on_digits

SCALE = 0.18215  # brings these latents to a deviation of 1
LARGEST = 5.0  # that brings them to [-1, 1] again

SIZES = {  # recipe: the paper's name of the network, and steps; a further size is a line here
    "meanflow_b4_imagenet256": ("B/4", 400_000),
}

experiments = {
    name: Experiment(
        name=name,
        model=MeanFlow(network=dit(size), gain=LARGEST),
        data=Latents("latents_256", scale=SCALE / LARGEST),
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
    "model.gain": 2.0,
    "samples": 10,
}
