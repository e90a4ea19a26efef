"""ADM on ImageNet at 64x64 (Dhariwal & Nichol 2021, arXiv 2105.05233), class-conditional.

    imagegen data prepare tfds:imagenet_resized/64x64
    python -m experiments.adm_imagenet64 --workdir runs/adm_imagenet64
    imagegen sample runs/adm_imagenet64 --n 64

The authors' recipe (appendix of the paper, README of openai/guided-diffusion): L_hybrid of improved DDPM over 1,000
steps of the cosine schedule, 540,000 steps of batch 2,048, Adam with rate 3e-4, dropout 0.1, mirrored images, averages
of decay 0.9999; samples of 250 steps.

The data differ: `imagenet_resized` holds the images of Chrabaszcz et al. (2017, arXiv 1707.08819), resized by box; the
authors halve by box, resize by cubic interpolation and crop the centre.

Cost: made for a rack of accelerators. Expected: 295,904,454 parameters, which are the 295,899,267 that EDM publishes of
this network and 5,187 more for the variance; FID 2.07 without guidance, as the authors report
(Table 5, "ADM (dropout)").
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule
from imagegen_jax.recipes.smoke import UNET, on_digits

experiment = Experiment(
    name="adm_imagenet64",
    model=ImprovedDDPM(
        network=ADM(192, (1, 2, 3, 4), blocks=3, dropout=0.1),
        schedule=CosineSchedule(1000),
        image_shape=(64, 64, 3),
        num_classes=1000,
        sampling_steps=250,
    ),
    data=TFDS("imagenet_resized/64x64"),
    augment=(HorizontalFlip(),),
    optim={"network": Adam(3e-4)},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=2_048,
    steps=540_000,
    log_every=50,
    sample_every=10_000,
    checkpoint_every=2_500,
)

smoke = {
    **on_digits(),
    **UNET,
    "model.num_classes": 10,
    "model.network.head_channels": 8,
    "model.sampling_steps": 4,
    "model.schedule.steps": 20,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
