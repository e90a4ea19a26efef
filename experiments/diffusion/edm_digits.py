"""EDM (Karras et al. 2022, arXiv 2206.00364) on scikit-learn's handwritten digits, with classes.

    python -m experiments.edm_digits --workdir runs/edm_digits
    imagegen sample runs/edm_digits --n 20 --labels 3,7 --guidance 2 --model.levels.steps 32

Needs no download. The network, optimizer and length are those of `ddpm_digits`, to be compared with it.

Cost: 0.1 s a step on 2 CPU cores, so 2 minutes. Expected: with `--steps 2500`, 1,000 samples without guidance against
the 1,500 training digits have FD-classifier 0.10, coverage 0.97 and 96 % of the class asked for, by 16 evaluations of
DPM-Solver++ 2M; Heun's method needs 31 for that. It is the best from 16 evaluations on of the recipes of digits that
`benchmarks/few_evaluations.py` compares. There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import ONE_LEVEL, TINY

experiment = Experiment(
    name="edm_digits",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        levels=Karras(16),
        solver=DPMSolver(2),
        image_shape=(8, 8, 1),
        num_classes=10,
        label_dropout=0.1,
    ),
    data=Digits(),
    optim={"network": Adam(CosineDecay(2e-3, warmup=50))},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=1_000,
    log_every=25,
    sample_every=250,
    samples=100,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    **ONE_LEVEL,
    "model.network.width": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
