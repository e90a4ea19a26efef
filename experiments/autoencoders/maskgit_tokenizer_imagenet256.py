"""MaskGIT's tokenizer on ImageNet at 256x256 (Chang et al. 2022, arXiv 2202.04200): 16x16 codes out of 1,024.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.maskgit_tokenizer_imagenet256 --workdir runs/tokenizer --pretrained.perceptual lpips_vgg.pth

A VQGAN without attention, in the configuration vqgan_config of google-research/maskgit: batch 256, Adam with beta1 0,
beta2 0.99 and rates of 1e-4, 1 million steps, averages of decay 0.999; a codebook with commitment 0.25 and 0.1 times
the entropy loss at temperature 0.01; a StyleGAN discriminator from the start, non-saturating, whose judgement counts
0.1, with 10 times R1. They have published no training code, and their perceptual distance, of weight 0.1, is of a
ResNet: the squared error beside it is our choice, and so is LPIPS, for whose file see `nn.perceptual.LPIPS`. Their
images are in [0, 1], here they are in [-1, 1].

Cost: 252 GB of disk for the images as uint8; made for several accelerators, never run in full here. Expected:
54,515,587 parameters with the book, and 23,998,017 of the discriminator, as the authors' classes have; the FID of their
reconstructions is 2.28, as the page of their code has it.
"""

import math

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.adversary import Adversary, Likeness
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.nn.backbones.blurred_discriminator import BlurredDiscriminator
from imagegen_jax.nn.backbones.pooled_autoencoder import PooledDecoder, PooledEncoder
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.nn.perceptual import MobileNet
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="maskgit_tokenizer_imagenet256",
    model=VQGAN(
        image_shape=(256, 256, 3),
        network=Tokenizer(
            encoder=PooledEncoder(),
            # The book starts as the authors': uniform, of variance 1 / 1024.
            quantiser=Codebook(codebook_size=1024, dim=256, entropy=0.1, temperature=0.01, start=math.sqrt(3 / 1024)),
            decoder=PooledDecoder(),
        ),
        likeness=Likeness(pixels="l2", perceptual_weight=0.1),
        adversary=Adversary(
            BlurredDiscriminator(),
            NonSaturating(),
            start=0,
            weight=0.1,
            adaptive=False,
            discriminator_weight=1.0,
            penalty_weight=10.0,
        ),
    ),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    optim={
        "tokenizer": Adam(1e-4, b1=0.0, b2=0.99),
        "discriminator": Adam(1e-4, b1=0.0, b2=0.99),
    },
    averages={"ema": FixedDecay(0.999, networks=("tokenizer",))},
    batch_size=256,
    steps=1_000_000,
    log_every=100,
    sample_every=25_000,
    samples=16,
    checkpoint_every=5_000,
)

LEVELS = {"width": 4, "multipliers": (1, 2), "blocks": 1}

smoke = {
    "model.network": Tokenizer(  # as a whole, since 8x8 pixels cannot be halved as often as 256x256
        PooledEncoder(**LEVELS), Codebook(8, 4, entropy=0.1), PooledDecoder(**LEVELS)
    ),
    **on_digits(8, 3),
    "model.likeness.perceptual": MobileNet(blocks=(1,)),
    "model.adversary.discriminator.width": 4,
    "model.adversary.discriminator.widest": 8,
    "pretrained": {"perceptual": "random"},
}

if __name__ == "__main__":
    main(experiment, smoke)
