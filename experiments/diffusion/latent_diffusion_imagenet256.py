"""Latent diffusion on ImageNet at 256x256 (Rombach et al. 2022, arXiv 2112.10752), class-conditional, in two sizes.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    imagegen import ldm vq-f4/model.ckpt --out runs/vq_f4
    python -m experiments.ldm4_imagenet256 --workdir runs/ldm4_imagenet256
    python -m experiments.ldm8_imagenet256 --workdir runs/ldm8_imagenet256
    imagegen sample runs/ldm4_imagenet256 --n 16 --guidance 1.5

To go on with the published LDM-4, `imagegen import latent-diffusion cin256-v2/model.ckpt --out runs/cin256`, and train
with `--pretrained.network runs/cin256`.

The configurations cin-ldm-vq-f8 and cin256-v2 of CompVis/latent-diffusion: noise by 1,000 steps whose root grows
linearly, its prediction by a U-Net that attends to one token, the class's; AdamW with the defaults of torch, averages
of decay 0.9999. Batches, rates and steps are those of the paper's tables for these models: LDM-8 with 1e-6 for each
image of a batch of 64, LDM-4 with 1e-4 at a batch of 1,200 and with a tenth of the labels left out, for guidance.

The frozen autoencoders are the authors' that quantise as they decode: f = 8 with 16,384 codes of 4 numbers, and f = 4
with 8,192 codes of 3. Others are named by `--pretrained.autoencoder`.

Cost of ldm8_imagenet256: made for an accelerator (the authors: one A100). Expected of ldm8_imagenet256: 394,984,196
parameters, as published, and 512,000 of the classes; FID 15.51 and inception score 79.03 without guidance, by 200 steps
of DDIM, as the authors report (Table 10; after 2.9 million steps, 17.41 and 72.92).

Cost of ldm4_imagenet256: made for several accelerators. Expected of ldm4_imagenet256: 400,920,579 parameters, and
512,512 of the classes; FID 3.60 and inception score 247.67 with guidance 1.5, 10.56 and 103.49 without.
"""

from imagegen_jax import Experiment
from imagegen_jax.autoencoders.first_stages.unquantised import F4, Unquantised
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.core.arrays import space
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.recipes.smoke import TINY

SCHEDULE = LinearSchedule(1000, start=0.0015, end=0.0195, power=2)
LEVELS = {"multipliers": (1, 2, 2, 4), "attention_levels": (3,)}
F8 = Tokenizer(ConvEncoder(**LEVELS, features=4), Codebook(16_384, 4), ConvDecoder(**LEVELS), post_features=4)

UNET8 = LatentUNet(256, (1, 2, 4), depths=(1, 1, 1), head_channels=32, class_token=512, dropped_token=False)
UNET4 = LatentUNet(192, (1, 2, 3, 5), depths=(0, 1, 1, 1), heads=1, class_token=512)

SIZES = {  # recipe: network, autoencoder and its run, share of labels dropped, batch, rate, steps, and those of DDIM
    "ldm4_imagenet256": (UNET4, F4, "runs/vq_f4", 0.1, 1200, 1e-4, 178_000, 250),
    "ldm8_imagenet256": (UNET8, F8, "runs/vq_f8", 0.0, 64, 64e-6, 4_800_000, 200),
}

experiments = {
    name: Experiment(
        name=name,
        model=Diffusion(
            network=network,
            prediction="epsilon",
            process=Discrete(SCHEDULE),
            times=WholeTimes(1000),
            levels=Spaced(SCHEDULE, drawn_in),
            solver=DPMSolver(1),
            image_shape=Unquantised(network=autoencoder).latent_shape,
            num_classes=1000,
            label_dropout=label_dropout,
            space=space.Latents(autoencoder=Unquantised(network=autoencoder)),
        ),
        data=TFDS("imagenet2012", split="train", size=256, channels=3),
        augment=(HorizontalFlip(),),
        pretrained={"autoencoder": FromRun(weights, "tokenizer")},
        optim={"network": AdamW(rate)},
        averages={"ema": FixedDecay(0.9999)},
        batch_size=batch_size,
        steps=steps,
        log_every=100,
        sample_every=10_000,
        samples=16,
        checkpoint_every=5_000,
    )
    for name, (network, autoencoder, weights, label_dropout, batch_size, rate, steps, drawn_in) in SIZES.items()
}

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}

smoke = {
    **TINY,
    "data": Digits(channels=3),
    "pretrained": {"autoencoder": "random"},
    # As a whole, since 8x8 pixels cannot be halved as often as 256x256.
    "model.space.autoencoder": Unquantised(
        (8, 8, 3), Tokenizer(ConvEncoder(**SMALL, features=2), Codebook(16, 2), ConvDecoder(**SMALL), post_features=2)
    ),
    "model.image_shape": (4, 4, 2),
    "model.num_classes": 10,
    "model.network.width": 8,
    "model.network.multipliers": (1,),
    "model.network.blocks": 1,
    "model.network.depths": (1,),
    "model.network.head_channels": None,
    "model.network.heads": 2,
    "model.network.class_token": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 10,
}
