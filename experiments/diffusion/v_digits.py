"""v-prediction (Salimans & Ho 2022, arXiv 2202.00512) on scikit-learn's handwritten digits, for a CPU.

    python -m experiments.v_digits --workdir runs/v_digits
    imagegen sample runs/v_digits --n 20 --labels 3,7 --guidance 2

Needs no download. The network, optimizer and length are those of `ddpm_digits`, to be compared with it. It is the
teacher of `progressive_digits`; its 64 steps are DDIM's, at equal times.

Cost: 0.08 s a step on 2 CPU cores, so 90 s. Expected: with `--steps 2500`, 1,000 samples against the 1,500 training
digits have FD-classifier 0.10, coverage 0.98 and 97.7 % of the class asked for by 64 evaluations, and 0.20, 0.98 and
98.5 % by 8 (`benchmarks/few_evaluations.py`, one seed). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process import variance_preserving as preserving
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="v_digits",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        prediction="v",
        process=preserving.Cosine(0.0),
        times=Uniform(),
        time_scale=1000.0,
        levels=Spaced(CosineSchedule(64, offset=0.0), None),
        solver=Euler(),
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
    "model.network.width": 8,
    "model.levels.schedule.steps": 4,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
