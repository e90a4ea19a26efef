"""OT-CFM on CIFAR-10 (Tong et al. 2024, arXiv 2302.00482), unconditional, 32x32: flow matching along paired noise.

    imagegen data prepare cifar10
    python -m experiments.otcfm_cifar10 --workdir runs/otcfm_cifar10
    imagegen sample runs/otcfm_cifar10 --n 64 --model.solver RK45

The authors' recipe (examples/images/cifar10 of atong01/conditional-flow-matching): the U-Net of guided-diffusion with
attention in four heads of 64 channels at 16x16 pixels, told t in [0, 1] as it is; batch 128, Adam with rate 2e-4 after
5,000 steps of warm-up, gradients clipped to norm 1, dropout 0.1, mirrored images, 400,000 steps, averages of decay
0.9999. Their t is 1 less ours.

Cost: made for an accelerator. Expected: 35,746,307 parameters, as published; FID 3.5 with an adaptive solver (dopri5
there, RK45 here), as the authors' repository reports.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.levels import ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.recipes.smoke import UNET, on_digits

experiment = Experiment(
    name="otcfm_cifar10",
    model=Diffusion(
        network=ADM(
            128,
            (1, 2, 2, 2),
            attention_at=(16,),
            scale_shift=False,
            resample="conv",
            dropout=0.1,
            learned_variance=False,
        ),
        prediction="velocity",
        process=RectifiedFlow(),
        times=Uniform(),
        coupling="optimal",
        levels=ShiftedFlow(100),
        solver=Euler(),
    ),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={"network": Adam(WarmUp(2e-4, steps=5_000))},
    averages={"ema": FixedDecay(0.9999)},
    clip_norm=1.0,
    batch_size=128,
    steps=400_000,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    **UNET,
    "model.network.head_channels": 8,
    "model.levels.steps": 4,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
