"""VQ-VAE-2 (Razavi et al. 2019, arXiv 1906.00446) on FFHQ at 256x256: 32x32 codes for the whole, 64x64 for details.

    python -m experiments.vqvae2_ffhq256 --data.path ffhq_256.zip --workdir runs/vqvae2_ffhq256
    python benchmarks/reconstructions.py runs/vqvae2_ffhq256 --split train

The first stage alone; the authors' code was never released. Networks and recipe are those of
github.com/rosinality/vq-vae-2-pytorch: squared error and 0.25 times the commitment of both levels, Adam at 3e-4,
batches of 128, 560 epochs of FFHQ.

Cost: made for accelerators; not trained at full size here. Expected: 1,388,867 parameters, as that code has, and two
books of 32,768 values each; it gives no score.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoencoders.vqvae2 import TwoLevelTokenizer
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Folder
from imagegen_jax.recipes.smoke import on_digits

BATCH = 128

experiment = Experiment(
    name="vqvae2_ffhq256",
    model=VQVAE(image_shape=(256, 256, 3), network=TwoLevelTokenizer(use_window=70_000)),
    data=Folder("ffhq_256.zip", size=256, channels=3),
    optim={"tokenizer": Adam(3e-4)},
    batch_size=BATCH,
    steps=560 * 70_000 // BATCH,
    log_every=100,
    sample_every=5_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    "model.network.width": 8,
    "model.network.hidden": 16,
    "model.network.quantiser.codebook_size": 8,
    "model.network.quantiser.restart_below": 0.05,  # in so few steps, all images have one code without
    "model.network.quantiser.dim": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
