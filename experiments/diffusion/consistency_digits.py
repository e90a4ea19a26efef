"""Consistency training, iCT (Song & Dhariwal 2023, arXiv 2310.14189), on scikit-learn's handwritten digits, for a CPU.

    python -m experiments.consistency_digits --workdir runs/consistency_digits
    imagegen sample runs/consistency_digits --n 100 --model.levels.sigmas 80 0.8

Needs no download. The network and its optimizer are those of `ddpm_digits`, to be compared with it; images are drawn in
one evaluation, or two as above.

Cost: 0.24 s a step on one CPU core, so 8 minutes. Expected: after 1,900 steps, 1,000 samples against the 1,500 training
digits have FD-classifier 0.20, coverage 0.95 and 98.1 % of the class asked for by a single evaluation, and 0.11, 0.97
and 98.5 % by 8: of the recipes of digits compared (`benchmarks/few_evaluations.py`), the best up to there. There is no
published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import ONE_LEVEL, TINY

experiment = Experiment(
    name="consistency_digits",
    model=Consistency(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        image_shape=(8, 8, 1),
        num_classes=10,
        last_levels=160,
        double_every=400,
    ),
    data=Digits(),
    optim={"network": Adam(CosineDecay(1e-3, warmup=50))},
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
    **ONE_LEVEL,
    "model.network.width": 8,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
