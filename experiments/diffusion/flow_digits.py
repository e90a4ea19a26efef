"""Flow matching on scikit-learn's handwritten digits, class-conditional, for a CPU.

Lipman et al. (2023, arXiv 2210.02747), on the straight lines of Liu et al. (2023, arXiv 2209.03003).

    python -m experiments.flow_digits --workdir runs/flow_digits
    imagegen sample runs/flow_digits --n 20 --labels 3,7 --guidance 2 --model.levels.steps 8

Needs no download. The network, optimizer and length are those of `ddpm_digits`, to be compared with it.

Cost: 0.18 s a step on one CPU core, so 3 minutes. Expected: with `--steps 2500`, 1,000 samples against the 1,500
training digits have FD-classifier 0.18, coverage 0.98 and 98.7 % of the class asked for by 8 steps of Euler's, and
0.11, 0.97 and 97.9 % by 32 (`benchmarks/few_evaluations.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.levels import ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="flow_digits",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        prediction="velocity",
        process=RectifiedFlow(),
        times=Uniform(),
        time_scale=1000.0,
        levels=ShiftedFlow(50),
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
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
