"""MAR-B (Li et al. 2024, arXiv 2406.11838) on ImageNet at 256x256, class-conditional, in the authors' size.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.mar_imagenet256 --workdir runs/mar_imagenet256 --pretrained.autoencoder runs/kl_f16
    imagegen sample runs/mar_imagenet256 --n 16 --guidance 2.9

The recipe is that of the authors' code for 800 epochs: batches of 2,048 images, AdamW with betas 0.9 and 0.95 and a
rate of 8e-4 after 100 epochs, decay 0.02 of all but biases, norms and the small network, gradients cut off at a norm of
3, averages of decay 0.9999; 256 passes of 100 steps each, guided by 2.9 at the end. Nothing is dropped out of the
weights of attention, and the share of masked tokens is drawn for each image, not for a batch.

The autoencoder is latent diffusion's with f = 16 and 16 channels of latents, 66,456,019 parameters, whose weights
`--pretrained.autoencoder` names. No recipe trains it: that of `kl_f8_imagenet256` does, with `KL_16` as its network.
Training on latents that are encoded once, with those of mirrored images, takes about half of the time, as the authors
say: `imagegen encode runs/kl_f16 tfds:imagenet2012 --split train --size 256 --mirror --out latents_256.npz`, and then
this experiment with `data=Latents("latents_256.npz")` and `augment=()`.

Its latents are multiplied by 0.2325, which is for the authors' weights; `imagegen encode` says the number for others.
MAR-L and MAR-H are `mar("L", autoencoder)` and `mar("H", autoencoder)` of `autoregressive.mar`: 478,326,304 and
942,403,104 parameters. The authors report 31 hours on 32 H100 for 400 epochs of a MAR-L with a smaller denoiser.

Cost: made for a rack of accelerators. Expected: 207,924,768 parameters, as published; FID 2.31 and inception score
281.7 with guidance, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.autoregressive.mar import mar
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

LEVELS = {"multipliers": (1, 1, 2, 2, 4)}
KL_16 = KLNetwork(ConvEncoder(**LEVELS, attention_levels=(4,), features=32), ConvDecoder(**LEVELS), latent_channels=16)
EPOCH = 1_281_167 // 2_048  # steps

experiment = Experiment(
    name="mar_imagenet256",
    model=mar("B", AutoencoderKL(network=KL_16, adversary=None, learned_variance=False)),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    pretrained={"autoencoder": FromRun("runs/kl_f16")},
    optim={
        "prior": AdamW(WarmUp(8e-4, 100 * EPOCH), b2=0.95, weight_decay=0.02, decay_vectors=False),
        "denoiser": AdamW(WarmUp(8e-4, 100 * EPOCH), b2=0.95, weight_decay=0.0),
    },
    averages={"ema": FixedDecay(0.9999)},
    clip_norm=3.0,
    batch_size=2_048,
    steps=800 * EPOCH,
    log_every=50,
    sample_every=10_000,
    samples=16,
    checkpoint_every=5_000,
)

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(channels=3),
    "pretrained": {"autoencoder": "random"},
    # As a whole, since 8x8 pixels cannot be halved as often as 256x256.
    "model.autoencoder": AutoencoderKL(
        (8, 8, 3), KLNetwork(ConvEncoder(**SMALL, features=4), ConvDecoder(**SMALL), latent_channels=2), adversary=None
    ),
    "model.num_classes": 10,
    "model.network.buffer": 2,
    "model.diffusion.network.depth": 1,
    "model.diffusion.network.width": 16,
    "model.diffusion.steps": 3,
    "model.steps": 3,
    "optim.prior.lr": 1e-3,
    "optim.denoiser.lr": 1e-3,  # layers that start at 0 take three steps to move
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
