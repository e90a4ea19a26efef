"""DCGAN on CelebA at 64x64 (Radford et al. 2016, arXiv 1511.06434), in the layout of pytorch/examples/dcgan.

    python -m experiments.dcgan_celeb_a64 --workdir runs/dcgan_celeb_a64

The paper's recipe: batch 128, Adam with rate 2e-4 and beta1 0.5; 25 epochs, the default of pytorch/examples. The
centre square of each photo, 178 pixels wide, is resized to 64; most published scores are for a crop of 108 or 140
pixels, in which faces are larger, and compare with one another only.

Cost: about 2.6 s a step on 2 CPU cores, so 23 hours for its 32,000 steps: made for an accelerator. Expected: 3,576,704
parameters in the generator and 2,765,568 in the discriminator, as published. No FID is published for this very recipe;
mmgeneration has 11.93 for networks of this kind with the least-squares loss on cropped CelebA.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="dcgan_celeb_a64",
    model=DCGAN(image_shape=(64, 64, 3)),
    data=TFDS("celeb_a", split="train", size=64, channels=3),
    optim={"generator": Adam(2e-4, b1=0.5), "discriminator": Adam(2e-4, b1=0.5)},  # section 4
    steps=32_000,
    batch_size=128,
    log_every=100,
    sample_every=1_000,
    checkpoint_every=1_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.discriminator.width": 4,
    "model.latent_dim": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
