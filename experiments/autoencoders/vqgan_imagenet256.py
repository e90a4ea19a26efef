"""VQGAN on ImageNet at 256x256 (Esser et al. 2021, arXiv 2012.09841): 16x16 codes out of 1,024.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.vqgan_imagenet256 --workdir runs/vqgan --pretrained.perceptual lpips_vgg.pth

The configuration imagenet_vqgan of CompVis/taming-transformers, as for eight GPUs with 12 images each: Adam with beta1
0.5, beta2 0.9 and a rate of 4.5e-6 for each of the 96 images; LPIPS, for whose file see `nn.perceptual.LPIPS`; the
discriminator from step 250,001 on. The authors name no number of steps, so that the one here is ours.

Cost: 252 GB of disk for the images as uint8; made for several accelerators, never run in full here. Expected:
72,141,699 parameters with the book, and 2,765,633 of the discriminator, as the authors' classes have; the FID of their
reconstructions of the validation set is 7.94.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.nn.perceptual import MobileNet
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vqgan_imagenet256",
    model=VQGAN(),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    optim={
        "tokenizer": Adam(96 * 4.5e-6, b1=0.5, b2=0.9),
        "discriminator": Adam(96 * 4.5e-6, b1=0.5, b2=0.9),
    },
    batch_size=96,
    steps=500_000,
    log_every=100,
    sample_every=25_000,
    samples=16,
    checkpoint_every=5_000,
)

LEVELS = {"width": 4, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,)}

smoke = {
    "model.network": Tokenizer(  # as a whole, since 8x8 pixels cannot be halved as often as 256x256
        ConvEncoder(**LEVELS, features=4), Codebook(8, 4, swapped=True), ConvDecoder(**LEVELS), post_features=4
    ),
    **on_digits(8, 3),
    "model.likeness.perceptual": MobileNet(blocks=(1,)),
    "model.adversary.discriminator.width": 4,
    "model.adversary.discriminator.halvings": 1,
    "model.adversary.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all are within it
    "model.adversary.start": 0,
    "pretrained": {"perceptual": "random"},
}

if __name__ == "__main__":
    main(experiment, smoke)
