"""The autoencoder of Stable Diffusion, KL-f8 (Rombach et al. 2022, arXiv 2112.10752), on ImageNet at 256x256.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.kl_f8_imagenet256 --workdir runs/kl_f8 --pretrained.perceptual lpips_vgg.pth

The configuration autoencoder_kl_32x32x4 of CompVis/latent-diffusion, as for eight GPUs with 12 images each and two
batches for each step: Adam with beta1 0.5, beta2 0.9 and a rate of 4.5e-6 for each of the 192 images; LPIPS, for whose
file see `nn.perceptual.LPIPS`; the discriminator from step 50,001 on. The authors trained on OpenImages. The variance
of the reconstruction is 1, as it stayed there: their optimizer does not have its logarithm.

Cost: 252 GB of disk for the images as uint8; made for several accelerators, never run in full here. Expected:
83,653,863 parameters, as published; the authors report an FID of reconstructions of 0.90 and 24.19 dB after 247,000
steps on their data.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.nn.perceptual import MobileNet
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="kl_f8_imagenet256",
    model=AutoencoderKL(learned_variance=False),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    optim={
        "autoencoder": Adam(192 * 4.5e-6, b1=0.5, b2=0.9),
        "discriminator": Adam(192 * 4.5e-6, b1=0.5, b2=0.9),
    },
    batch_size=192,
    microbatches=2,
    steps=247_000,
    log_every=100,
    sample_every=25_000,
    samples=16,
    checkpoint_every=5_000,
)

LEVELS = {"width": 4, "multipliers": (1,), "blocks": 1}

smoke = {
    # As a whole, since 8x8 pixels cannot be halved as often as 256x256.
    "model.network": KLNetwork(ConvEncoder(**LEVELS, features=4), ConvDecoder(**LEVELS), latent_channels=2),
    **on_digits(8, 3),
    "model.likeness.perceptual": MobileNet(blocks=(1,)),
    "model.adversary.discriminator.width": 4,
    "model.adversary.discriminator.halvings": 1,
    "model.adversary.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all are within it
    "model.adversary.start": 1,
    "optim.autoencoder.lr": 1e-4,
    "microbatches": 1,
    "pretrained": {"perceptual": "random"},
}

if __name__ == "__main__":
    main(experiment, smoke)
