"""VQGAN (Esser et al. 2021, arXiv 2012.09841) on CIFAR-10: 8x8 codes out of 1,024, small enough for a CPU.

    imagegen data prepare tfds:cifar10
    python -m experiments.vqgan_cifar10 --workdir runs/vqgan_cifar10 --pretrained.perceptual mobilenet_v1.npz

The perceptual distance is that of MobileNetV1, and --pretrained.perceptual names its file, with Keras' names; without
one, --model.likeness.perceptual None leaves it out. The discriminator starts after 60 % of the steps.

Cost: 21 minutes on 2 CPU cores with other work beside it. Expected: a PSNR of 24.1 dB for test images before the
discriminator and of 21.9 at the end, while FD-MobileNet of reconstructions falls from 12.6 to 7.5; all 1,024 codes used
(`benchmarks/reconstructions.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.adversary import Adversary, Likeness
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.patch import PatchDiscriminator
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.nn.perceptual import MobileNet
from imagegen_jax.recipes.smoke import on_digits

LEVELS = {"width": 32, "multipliers": (1, 2, 2), "blocks": 1}

experiment = Experiment(
    name="vqgan_cifar10",
    model=VQGAN(
        image_shape=(32, 32, 3),
        network=Tokenizer(
            encoder=ConvEncoder(**LEVELS, features=32),
            quantiser=EMACodebook(codebook_size=1024, dim=32),
            decoder=ConvDecoder(**LEVELS),
            post_features=32,
        ),
        likeness=Likeness(perceptual=MobileNet(blocks=(1, 3, 5))),
        adversary=Adversary(PatchDiscriminator(width=32, halvings=1), start=3_600),
    ),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    optim={
        "tokenizer": Adam(5e-4, b1=0.5, b2=0.9),
        "discriminator": Adam(5e-4, b1=0.5, b2=0.9),
    },
    batch_size=16,
    steps=6_000,
    log_every=50,
    sample_every=1_200,
    samples=32,
    checkpoint_every=600,
    keep_checkpoints=10,
)

smoke = {
    **on_digits(8, 3),
    "model.network.encoder.width": 4,
    "model.network.encoder.multipliers": (1, 2),
    "model.network.encoder.features": 4,
    "model.network.decoder.width": 4,
    "model.network.decoder.multipliers": (1, 2),
    "model.network.quantiser.codebook_size": 8,
    "model.network.quantiser.dim": 4,
    "model.network.post_features": 4,
    "model.likeness.perceptual.blocks": (1,),
    "model.adversary.discriminator.width": 4,
    "model.adversary.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all are within it
    "model.adversary.start": 1,
    "optim.tokenizer.lr": 1e-4,
    "pretrained": {"perceptual": "random"},
}

if __name__ == "__main__":
    main(experiment, smoke)
