"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) on CIFAR-10, as Sonnet's example trains it: 8x8 codes out of 512.

    python -m experiments.vqvae_cifar10 --workdir runs/vqvae_cifar10
    python benchmarks/reconstructions.py runs/vqvae_cifar10

The recipe of vqvae_example.ipynb in github.com/google-deepmind/sonnet: batches of 32, Adam at 3e-4, 10,000 steps, the
squared error over the data's variance, a book of moving averages without restarts. Images are in [-1, 1] here, where
the example has [-0.5, 0.5]; the variance, and so the first term of the loss, are scaled alike.

Cost: made for accelerators; not trained at full size here. Expected: 662,723 parameters and a book of 32,768 values,
together the example's 695,491; it gives no score.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vqvae_cifar10",
    model=VQVAE(
        image_shape=(32, 32, 3),
        network=Tokenizer(quantiser=EMACodebook(restart_below=0.0)),
        variance=0.2531,  # of the training images: four times that of values in [0, 1]
    ),
    data=TFDS("cifar10", split="train"),
    optim={"tokenizer": Adam(3e-4)},
    batch_size=32,
    steps=10_000,
    log_every=100,
    sample_every=1_000,
    checkpoint_every=1_000,
)

smoke = {
    **on_digits(8, 3),
    "model.network.encoder.width": 4,
    "model.network.decoder.width": 4,
    "model.network.quantiser.codebook_size": 8,
    "model.network.quantiser.restart_below": 0.05,  # in so few steps, all images have one code without
}

if __name__ == "__main__":
    main(experiment, smoke)
