"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) on scikit-learn's handwritten digits: 4x4 codes out of 64.

    python -m experiments.vqvae_digits --workdir runs/vqvae_digits
    python benchmarks/reconstructions.py runs/vqvae_digits

Needs no download. Priors over its codes draw new digits.

Cost: a minute on 2 CPU cores. Expected: a test PSNR of 23.1 dB (standard error 0.1), and all 64 codes used by the test
digits.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="vqvae_digits",
    model=VQVAE(
        image_shape=(8, 8, 1),
        network=Tokenizer(
            encoder=ResidualEncoder(width=32, halvings=1, hidden=16),
            quantiser=EMACodebook(codebook_size=64, dim=8),
            decoder=ResidualDecoder(width=32, halvings=1, hidden=16),
            use_window=1_500,
        ),
    ),
    data=Digits(split="train"),
    optim={"tokenizer": Adam(CosineDecay(2e-3, warmup=50))},
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
    "model.network.quantiser.codebook_size": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
