"""ADM's classifier of noisy images on ImageNet at 256x256 (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4).

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.adm_classifier_imagenet256 --workdir runs/adm_classifier_imagenet256
    imagegen sample runs/adm_imagenet256 --n 16 --guide runs/adm_classifier_imagenet256 --guidance 1

The authors' recipe (Table 12, README of openai/guided-diffusion): images at the 1,000 times of the linear schedule,
500,000 steps of batch 256, AdamW with a rate that falls linearly from 3e-4 to 0 and weight decay 0.05, mirrored images;
samples are guided with a scale of 1. Their images are also cropped at random places, to 0.8 of the shorter side or
more, and here they are not.

Cost: 252 GB of disk for the images as uint8; made for a rack of accelerators. Expected: 54,096,360 parameters, as
published; with it the FID of `adm_imagenet256` is 4.59, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import SGD, AdamW, LinearDecay
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="adm_classifier_imagenet256",
    model=NoisyClassifier(process=Discrete(), times=WholeTimes(1000), precondition=False),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    optim={"network": AdamW(LinearDecay(3e-4), weight_decay=0.05)},
    batch_size=256,
    steps=500_000,
    log_every=50,
    checkpoint_every=2_500,
)

# As in noisy_classifier_digits: Adam would move the biases of keys, of which softmax sees nothing, by rounding.
smoke = {
    **on_digits(),
    "model.network.num_classes": 10,
    "model.network.width": 8,
    "model.network.multipliers": (1,),
    "model.network.blocks": 1,
    "model.network.attention_at": (),
    "model.network.head_channels": 8,
    "optim.network": SGD(0.3),
}

if __name__ == "__main__":
    main(experiment, smoke)
