"""Continuous-time consistency training, sCT (Lu & Song 2024, arXiv 2410.11081), on scikit-learn's digits, for a CPU.

    python -m experiments.scm_digits --workdir runs/scm_digits
    imagegen sample runs/scm_digits --n 100 --model.levels.sigmas 80 2

Needs no download. The network is that of `ddpm_digits`, to be compared with it; images are drawn in one evaluation, or
two as above.

Cost: 0.22 s a step on 2 CPU cores, so 5 minutes. Expected: 1,000 samples against the 1,500 training digits have
FD-classifier 0.35, coverage 0.91 and 97 % of the class asked for by a single evaluation; more do not help
(`benchmarks/few_evaluations.py`, one seed). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.scm import SCM
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import ONE_LEVEL, TINY

experiment = Experiment(
    name="scm_digits",
    model=SCM(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        times=LogNormal(-0.3, 1.4),  # of sigma_data tan(t), as the paper's -1.0 is for 0.5
        image_shape=(8, 8, 1),
        num_classes=10,
        warmup=500,
        sigma_data=1.0,  # digits have a root mean square of 0.85
    ),
    data=Digits(),
    optim={"network": Adam(CosineDecay(1e-3, warmup=50), b2=0.99), "weight": Adam(1e-2)},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=1_500,
    log_every=25,
    sample_every=500,
    samples=100,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    **ONE_LEVEL,
    "model.network.width": 8,
    "model.warmup": 2,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
