"""MeanFlow (Geng et al. 2025, arXiv 2505.13447) on scikit-learn's handwritten digits, class-conditional, for a CPU.

    python -m experiments.meanflow_digits --workdir runs/meanflow_digits
    imagegen sample runs/meanflow_digits --n 100 --model.steps 2

Needs no download. A small DiT on patches of 2x2, with guidance trained in; images are drawn in one evaluation.

Cost: 0.25 s a step on 2 CPU cores, so 8 minutes. Expected: 1,000 samples against the 1,500 training digits have
FD-classifier 0.65, coverage 0.89 and 99.9 % of the class asked for by a single evaluation, and 0.54 by 64: guidance
costs variety (`benchmarks/few_evaluations.py`, one seed). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="meanflow_digits",
    model=MeanFlow(
        network=DiT(patch=2, depth=4, width=128, heads=4),
        image_shape=(8, 8, 1),
        num_classes=10,
        guidance=2.0,
    ),
    data=Digits(),
    optim={"network": Adam(CosineDecay(1e-3, warmup=50), b2=0.95)},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=2_000,
    log_every=25,
    sample_every=500,
    samples=100,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    **TRANSFORMER,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
