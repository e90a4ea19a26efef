"""VAR's kind of tokenizer (Tian et al. 2024, arXiv 2404.02905) on scikit-learn's handwritten digits: 1, 4, 16 codes.

    python -m experiments.vqvae_var_digits --workdir runs/vqvae_var_digits

Needs no download. `var_digits` learns its codes. The book of 64 codes follows averages, and dead codes start anew; that
of VAR's own tokenizer, whose training code was never published, is trained by gradients.

Cost: a minute on 2 CPU cores. Expected: a test PSNR of 21.7 dB (standard error 0.1), and all 64 codes used by the test
digits (`benchmarks/reconstructions.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import EMACodebook, MultiScaleCodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="vqvae_var_digits",
    model=VQVAE(
        image_shape=(8, 8, 1),
        network=Tokenizer(
            encoder=ResidualEncoder(width=32, halvings=1, hidden=16),
            quantiser=MultiScaleCodebook(EMACodebook(codebook_size=64, dim=8), sizes=(1, 2, 4), convolutions=3),
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
    "model.network.quantiser.book.codebook_size": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
