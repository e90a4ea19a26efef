"""ADM on ImageNet at 256x256 (Dhariwal & Nichol 2021, arXiv 2105.05233), class-conditional.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.adm_imagenet256 --workdir runs/adm_imagenet256
    imagegen sample runs/adm_imagenet256 --n 16
    imagegen sample runs/adm_imagenet256 --n 16 --guide runs/adm_classifier_imagenet256 --guidance 1

The authors' recipe (appendix of the paper, README of openai/guided-diffusion): L_hybrid of improved DDPM over 1,000
steps of the linear schedule, 1,980,000 steps of batch 256, Adam with rate 1e-4, no dropout, mirrored images, averages
of decay 0.9999; samples of 250 steps. The authors then guide them by a classifier of noisy images
(`adm_classifier_imagenet256`). Guided samples are drawn by the model's `path`, whose variance is the posterior's: the
learned one, which the authors keep, is not used there.

Cost: 252 GB of disk for the images as uint8; made for a rack of accelerators. Expected: 553,838,086 parameters, as
published; FID 10.94 without guidance and 4.59 with it, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.recipes.smoke import UNET, on_digits

experiment = Experiment(
    name="adm_imagenet256",
    model=ImprovedDDPM(
        network=ADM(),
        schedule=LinearSchedule(1000),
        image_shape=(256, 256, 3),
        num_classes=1000,
        sampling_steps=250,
    ),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    optim={"network": Adam(1e-4)},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=256,
    steps=1_980_000,
    log_every=50,
    sample_every=25_000,
    samples=16,
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
