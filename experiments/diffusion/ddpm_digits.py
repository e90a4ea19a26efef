"""DDPM (Ho et al. 2020, arXiv 2006.11239) on scikit-learn's handwritten digits, class-conditional, for a CPU.

    python -m experiments.ddpm_digits --workdir runs/ddpm_digits
    imagegen sample runs/ddpm_digits --n 20 --labels 3,7

Needs no download. Cost: about 2 minutes on 2 CPU cores (0.7 million parameters, 128,000 images of 8x8). Expected: with
`--steps 2500`, 1,000 samples against the 1,500 training digits have FD-classifier 0.13, coverage 0.97 and 97.7 % of the
class asked for by 64 evaluations of DDIM (`benchmarks/few_evaluations.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="ddpm_digits",
    model=DDPM(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        sampler=DDIM(steps=50),
        image_shape=(8, 8, 1),
        num_classes=10,
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
    "model.network.width": 8,
    "model.sampler.steps": 4,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
