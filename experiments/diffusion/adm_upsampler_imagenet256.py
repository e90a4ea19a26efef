"""ADM's upsampler on ImageNet, from 64x64 to 256x256 (Dhariwal & Nichol 2021, arXiv 2105.05233), class-conditional.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.adm_upsampler_imagenet256 --workdir runs/adm_upsampler_imagenet256
    imagegen sample runs/adm_upsampler_imagenet256 --labels 207 --source small.png

The authors' network (README of openai/guided-diffusion, "64 -> 256"): it sees the small image, the means of 4x4 pixels,
enlarged bilinearly beside the noisy one; L_hybrid of improved DDPM over 1,000 steps of the linear schedule, samples of
250 steps. Their README does not say how it was trained: batch, rate, averages and mirrored images are those of
`adm_imagenet256`, and 500,000 steps a choice.

Cost: 252 GB of disk for the images as uint8; made for a rack of accelerators. Expected: 311,795,910 parameters, as
published; FID 3.94, precision 0.83 and recall 0.53 at 256x256 by upsampling and guidance together, as the authors
report (same README).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, Digits, HorizontalFlip, Lowered
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.recipes.smoke import ONE_LEVEL, TINY, UNET

experiment = Experiment(
    name="adm_upsampler_imagenet256",
    model=ImprovedDDPM(
        network=ADM(192, head_channels=None),
        schedule=LinearSchedule(1000),
        image_shape=(256, 256, 3),
        source_shape=(64, 64, 3),
        num_classes=1000,
        sampling_steps=250,
    ),
    data=Lowered(TFDS("imagenet2012", split="train", size=256, channels=3), factor=4),
    augment=(HorizontalFlip(),),
    optim={"network": Adam(1e-4)},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=256,
    steps=500_000,
    log_every=50,
    sample_every=25_000,
    samples=16,
    checkpoint_every=2_500,
)

smoke = {
    **TINY,
    **UNET,
    **ONE_LEVEL,
    "data": Lowered(Digits(), factor=4),
    "model.image_shape": (8, 8, 1),
    "model.source_shape": (2, 2, 1),
    "model.num_classes": 10,
    "model.network.heads": 2,
    "model.sampling_steps": 4,
    "model.schedule.steps": 20,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
