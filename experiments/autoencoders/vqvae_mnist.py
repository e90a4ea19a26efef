"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) on MNIST: 7x7 codes out of 128.

    python -m experiments.vqvae_mnist --workdir runs/vqvae_mnist
    python benchmarks/reconstructions.py runs/vqvae_mnist

Cost: 3 minutes on 2 CPU cores. Expected: a test PSNR of 25.8 dB (standard error 0.02), and all 128
codes used by the test images.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vqvae_mnist",
    model=VQVAE(
        image_shape=(28, 28, 1),
        network=Tokenizer(
            encoder=ResidualEncoder(width=64, hidden=32),
            quantiser=EMACodebook(codebook_size=128, dim=32),
            decoder=ResidualDecoder(width=64, hidden=32),
        ),
    ),
    data=TFDS("mnist", split="train"),
    optim={"tokenizer": Adam(CosineDecay(1e-3, warmup=100))},
    batch_size=64,
    steps=4_000,
    log_every=100,
    sample_every=1_000,
    checkpoint_every=1_000,
)

smoke = {
    **on_digits(),
    "model.network.encoder.width": 4,
    "model.network.decoder.width": 4,
    "model.network.quantiser.codebook_size": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
