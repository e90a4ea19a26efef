"""VAE on CIFAR-10 (Kingma & Welling 2013, arXiv 1312.6114): a convolutional pair with normal pixels.

    python -m experiments.vae_cifar10 --workdir runs/vae_cifar10
    python benchmarks/vae_nll.py runs/vae_cifar10

The decoder gives mean and deviation of each channel of each pixel, as in appendix C.2; bits per dimension are an
upper bound for the 8-bit values, by uniform dequantisation (`imagegen_jax.autoencoders.likelihood.Gaussian`).

Cost: about 0.25 s a step on 2 CPU cores, so 3 hours for its 40,000 steps (102 epochs). Expected: van den Oord et al.
2017 (arXiv 1711.00937, section 4.1) give 4.51 bits per dimension for a VAE with a larger, residual pair; there is no
published score for this one.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.likelihood import Gaussian
from imagegen_jax.autoencoders.networks import ConvDecoder, ConvEncoder
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vae_cifar10",
    model=VAE(
        image_shape=(32, 32, 3),
        encoder=ConvEncoder(width=64),
        decoder=ConvDecoder(width=64),
        likelihood=Gaussian(),
        latent_dim=128,
    ),
    data=TFDS("cifar10", split="train"),
    augment=(HorizontalFlip(),),
    optim={"encoder": Adam(CosineDecay(1e-3, warmup=500)), "decoder": Adam(CosineDecay(1e-3, warmup=500))},
    clip_norm=10_000.0,  # nats of a whole image: early gradients have a norm of some thousands
    steps=40_000,
    batch_size=128,
    log_every=100,
    sample_every=2_000,
    checkpoint_every=2_000,
)

smoke = {
    **on_digits(16, 3),
    "model.encoder.width": 4,
    "model.decoder.width": 4,
    "model.latent_dim": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
