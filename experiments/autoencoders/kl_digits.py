"""The KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752) on scikit-learn's handwritten digits.

    python -m experiments.kl_digits --workdir runs/kl_digits
    imagegen encode runs/kl_digits digits --split test --out test_latents.npz    # says how good reconstructions are

Needs no download. The latents are 4x4x4; MAR draws new digits in them. There is neither a discriminator nor a
perceptual distance, for which 8x8 pixels are too few.

Cost: 2 minutes of CPU time on 2 cores with other work beside it. Expected: a test PSNR of 29.1 dB, and latents of
deviation 0.92, as `imagegen encode` says of the test digits.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.adversary import Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.recipes.smoke import TINY

LEVELS = {"width": 16, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}

experiment = Experiment(
    name="kl_digits",
    model=AutoencoderKL(
        image_shape=(8, 8, 1),
        network=KLNetwork(ConvEncoder(**LEVELS, features=8), ConvDecoder(**LEVELS)),
        likeness=Likeness("l2", perceptual=None),
        adversary=None,
        kl_weight=1e-3,
        learned_variance=False,
    ),
    data=Digits(split="train"),
    optim={"autoencoder": Adam(CosineDecay(2e-3, warmup=50))},
    batch_size=128,
    steps=1_500,
    log_every=50,
    sample_every=500,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    "model.network.encoder.width": 4,
    "model.network.decoder.width": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
