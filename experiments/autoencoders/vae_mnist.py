"""VAE on dynamically binarised MNIST (Kingma & Welling 2013, arXiv 1312.6114), a perceptron pair 784-400-64.

    python -m experiments.vae_mnist --workdir runs/vae_mnist
    python benchmarks/vae_nll.py runs/vae_mnist

Cost: 10 minutes on 2 CPU cores for its 120,000 steps (200 epochs), 17 minutes summed over both. Expected: NLL of the
10,000 test images at most 90.5 nats, by 200 importance samples (measured: 90.09, standard error 0.22); pythae's
reproduction of a 784-400 pair has 89.78, its reference 89.9.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="vae_mnist",
    model=VAE(image_shape=(28, 28, 1), latent_dim=64),
    data=TFDS("mnist", split="train"),
    optim={"encoder": Adam(CosineDecay(1e-3)), "decoder": Adam(CosineDecay(1e-3))},
    steps=120_000,
    batch_size=100,
    log_every=600,
    sample_every=12_000,
    checkpoint_every=12_000,
)

smoke = {
    **on_digits(),
    "model.encoder.hidden": (16,),
    "model.decoder.hidden": (16,),
    "model.latent_dim": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
