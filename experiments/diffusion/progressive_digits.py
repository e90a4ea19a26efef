"""Progressive distillation (Salimans & Ho 2022, arXiv 2202.00512) on scikit-learn's handwritten digits, for a CPU.

    python -m experiments.v_digits --workdir runs/v_digits
    python -m experiments.progressive_digits --workdir runs/progressive_digits
    imagegen sample runs/progressive_digits --n 20 --labels 3,7

The first command trains the teacher, the second halves its 64 steps six times, down to one; `--pretrained.network
FOLDER` names a teacher elsewhere. Grids of samples on the way have as many steps as the student at that time.
Needs no download.

Cost: 0.22 s a step on 2 CPU cores, so 6 minutes. Expected: of a teacher with 2,500 steps, one evaluation for each of
1,000 samples has FD-classifier 0.24, coverage 0.98 and 98.8 % of the class asked for, against the 1,500 training digits
(`benchmarks/few_evaluations.py`, one seed). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, LinearDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.progressive import PerStage, Progressive
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.process.variance_preserving import Cosine
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule
from imagegen_jax.recipes.smoke import TINY

HALVE_EVERY = 250

experiment = Experiment(
    name="progressive_digits",
    model=Progressive(
        diffusion=Diffusion(  # as in v_digits
            network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
            prediction="v",
            process=Cosine(0.0),
            times=Uniform(),
            time_scale=1000.0,
            levels=Spaced(CosineSchedule(64, offset=0.0), None),
            solver=Euler(),
            image_shape=(8, 8, 1),
            num_classes=10,
            label_dropout=0.1,
        ),
        halvings=6,
        halve_every=HALVE_EVERY,
    ),
    data=Digits(),
    optim={"network": PerStage(Adam(LinearDecay(5e-4)), HALVE_EVERY)},
    pretrained={"network": "runs/v_digits"},
    clip_norm=1.0,
    batch_size=128,
    steps=6 * HALVE_EVERY,
    log_every=25,
    sample_every=HALVE_EVERY,
    samples=100,
    checkpoint_every=HALVE_EVERY,
)

smoke = {
    **TINY,
    "model.diffusion.network.width": 8,
    "model.diffusion.network.multipliers": (1,),
    "model.diffusion.network.attention_at": (),
    "model.halvings": 2,
    "model.diffusion.levels.schedule.steps": 4,
    "model.halve_every": 4,
    "optim.network.steps": 4,
    "optim.network.optimizer.lr": 2e-4,
    "pretrained": {},
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
